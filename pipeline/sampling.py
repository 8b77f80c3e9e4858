"""Which photos make each training step. N photos."""

from __future__ import annotations

import numpy as np

from heads.base import IntArray

Steps = list[tuple[int, IntArray]]  # (epoch, row numbers) each


def training_steps(rows: IntArray, *, batch_size: int, epochs: range, key: tuple[int, ...]) -> Steps:
    """Every step of a training as (epoch, row numbers): each epoch a new order, a function of the key alone.

    A last batch of one photo is merged into the one before it: batch normalisation needs two.
    """
    steps: Steps = []
    for epoch in epochs:
        order = np.random.default_rng([*key, epoch]).permutation(rows)
        cuts = list(range(batch_size, len(order), batch_size))
        if cuts and len(order) - cuts[-1] == 1:
            cuts.pop()
        steps += [(epoch, batch) for batch in np.split(order, cuts)]
    return steps
