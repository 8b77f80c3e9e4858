"""Objectives that ask, for every edge between two bins, whether the quantity lies above it.

N samples, K bins, C classes. There are K - 1 logits, over the fine bins rather than the classes: three classes would
leave two questions, and the order of years is what these methods live on.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from heads.base import FloatArray, Head
from heads.cuts import Bins, above, bins_of
from heads.objective import Objective
from heads.recipe import PLAIN, UNKNOWN, Recipe, numbers

Loss = Callable[[Tensor, Tensor, float], Tensor]


def coral(head: Head, recipe: Recipe = PLAIN, values: FloatArray = UNKNOWN) -> Objective:
    """Independent questions whose logits fall from edge to edge, so that the probabilities agree.

    Cao, Mirjalili and Raschka 2020, section 3.3, all edges weighing alike, https://arxiv.org/abs/1901.07884. There the
    logits share one weight vector and fall since biases, which only the last layer has, come out in order. Here the
    first output is the first logit and each further one lowers it by its softplus: in order whatever the network says.

    Raises:
        HeadError: Bins or arguments do not fit.
    """
    numbers("objective coral", recipe.objective_args)
    bins = bins_of(head, recipe, values)

    def logits(outputs: Tensor) -> Tensor:
        steps = torch.cat([outputs[:, :1], -F.softplus(outputs[:, 1:])], dim=1)
        return _running(steps, operator.add)

    def loss(outputs: Tensor, values: Tensor, done: float) -> Tensor:
        truth = _passed(bins, values).to(outputs)
        return F.binary_cross_entropy_with_logits(logits(outputs), truth, reduction="none").sum(dim=1)

    return _between(bins, loss, lambda outputs: logits(outputs).sigmoid())


def corn(head: Head, recipe: Recipe = PLAIN, values: FloatArray = UNKNOWN) -> Objective:
    """Questions that are only asked when the one before was answered yes: P(above k | above k - 1).

    Shi, Cao and Raschka 2021, section 3, https://arxiv.org/abs/2111.08851. The losses of a sample's questions
    are added up, which makes its loss the negative logarithm of its bin's probability.

    Raises:
        HeadError: Bins or arguments do not fit.
    """
    numbers("objective corn", recipe.objective_args)
    bins = bins_of(head, recipe, values)

    def loss(outputs: Tensor, values: Tensor, done: float) -> Tensor:
        truth = _passed(bins, values).to(outputs)
        asked = F.pad(truth[:, :-1], (1, 0), value=1.0)
        return (F.binary_cross_entropy_with_logits(outputs, truth, reduction="none") * asked).sum(dim=1)

    return _between(bins, loss, lambda outputs: _running(outputs.sigmoid(), operator.mul))


def _running(columns: Tensor, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Columns combined from the left, one by one: a parallel scan rounds each otherwise, and they might rise."""
    return torch.stack(list(accumulate(columns.unbind(dim=1), combine)), dim=1)


def _passed(bins: Bins, values: Tensor) -> Tensor:
    """(N, K - 1) whether the values reach each inner edge."""
    return above(values, bins.inner)[:, None] > torch.arange(len(bins) - 1, device=values.device)


def _between(bins: Bins, loss: Loss, passing: Callable[[Tensor], Tensor]) -> Objective:
    """The objective of a loss; ``passing`` makes of outputs the (N, K - 1) falling probabilities of being above."""
    member, years = bins.member, bins.years

    def mass(outputs: Tensor) -> Tensor:
        return -F.pad(F.pad(passing(outputs), (1, 0), value=1.0), (0, 1)).diff(dim=1)  # (N, K)

    return Objective(
        len(bins) - 1,
        loss,
        lambda outputs: mass(outputs) @ member.to(outputs),
        lambda outputs: mass(outputs) @ years.to(outputs),
    )
