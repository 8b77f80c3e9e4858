"""What an objective is: a loss, and the decoding into class probabilities that belongs to it.

N samples, K outputs, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

from heads.base import FloatArray, Head
from heads.cuts import scale_of
from heads.recipe import Recipe

HUBER = 5.0  # years from which on an auxiliary error counts linearly


def unchanged(photos: FloatArray) -> FloatArray:
    """The mix of the photos: the loss is as if every photo counted alike."""
    return photos


@dataclass(frozen=True, slots=True)
class Objective:
    """What one kind of target needs, kept in one place.

    Attributes:
        n_outputs: K, the outputs that the network gives for it.
        loss: (N, K) outputs, (N,) values of the head, all labelled, and the share of the training that is done -> (N,)
            loss of each sample.
        decode: (N, K) outputs -> (N, C) class probabilities, rows sum to 1.
        expect: (N, K) outputs -> (N,) expected value in the label's unit (years), where the objective has one.
        mix: (C,) class mix in which the network sees photos -> (C,) that the decoded probabilities are under.
    """

    n_outputs: int
    loss: Callable[[Tensor, Tensor, float], Tensor]
    decode: Callable[[Tensor], Tensor]
    expect: Callable[[Tensor], Tensor] | None = None
    mix: Callable[[FloatArray], FloatArray] = unchanged


def with_auxiliary(objective: Objective, head: Head, recipe: Recipe) -> Objective:
    """The objective with one more output, which regresses the quantity and takes no part in decoding.

    The features that tell years help to tell classes (multi-task learning, Caruana 1997, section 1,
    https://doi.org/10.1023/A:1007379606734). Its loss is Huber's (1964, https://doi.org/10.1214/aoms/1177703732,
    section 1) divided by its bound, in units of half the range of the bins.
    """
    centre, scale = scale_of(head, recipe)
    inner, decode, expect, weight = objective.loss, objective.decode, objective.expect, recipe.auxiliary

    def loss(outputs: Tensor, values: Tensor, done: float) -> Tensor:
        target = (values - centre) / scale
        beside = F.smooth_l1_loss(outputs[:, -1], target, reduction="none", beta=HUBER / scale)
        return inner(outputs[:, :-1], values, done) + weight * beside

    return replace(
        objective,
        n_outputs=objective.n_outputs + 1,
        loss=loss,
        decode=lambda outputs: decode(outputs[:, :-1]),
        expect=(lambda outputs: expect(outputs[:, :-1])) if expect else None,
    )
