"""Objectives that regress the quantity: a normal distribution, whose mass between the edges is a class's probability.

N samples, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from heads.base import FloatArray, Head
from heads.cuts import scale_of
from heads.objective import Objective
from heads.recipe import PLAIN, UNKNOWN, Recipe, numbers

Normal = Callable[[Tensor], tuple[Tensor, Tensor]]


def regression(head: Head, recipe: Recipe = PLAIN, values: FloatArray = UNKNOWN) -> Objective:
    """Mean and spread of a normal distribution, both trained by the beta-weighted likelihood with beta = 0.5.

    Seitzer et al. 2022, equation 5, https://arxiv.org/abs/2203.09168; it keeps hard samples in play. A class gets the
    mass between its edges; years are whole numbers, so mass is cut half a year below an edge. Bins only set the scale
    of the outputs.

    Raises:
        HeadError: The edges of the bins do not increase.
    """
    numbers("objective regression", recipe.objective_args)
    return _likelihood(head, recipe, beta=0.5)


def gaussian(head: Head, recipe: Recipe = PLAIN, values: FloatArray = UNKNOWN) -> Objective:
    """As ``regression``, by the plain likelihood (Nix and Weigend 1994, equation 3): beta = 0.

    https://doi.org/10.1109/ICNN.1994.374138.
    """
    numbers("objective gaussian", recipe.objective_args)
    return _likelihood(head, recipe, beta=0.0)


def l1(head: Head, recipe: Recipe = PLAIN, values: FloatArray = UNKNOWN) -> Objective:
    """The mean is taught by its absolute error; the optimum is the median (Koenker and Bassett 1978, section 2).

    https://doi.org/10.2307/1913643. The spread learns by the likelihood with the mean held still (Nix and Weigend
    1994, equation 3), so that there are class probabilities.
    """
    numbers("objective l1", recipe.objective_args)
    return _pointwise(head, recipe, lambda mean, target: F.l1_loss(mean, target, reduction="none"))


def huber(head: Head, recipe: Recipe = PLAIN, values: FloatArray = UNKNOWN) -> Objective:
    """The mean is taught by Huber's loss, divided by its bound: errors beyond ``delta`` years count linearly.

    Huber 1964, section 1, https://doi.org/10.1214/aoms/1177703732. The spread learns as with ``l1``.
    """
    (delta,) = numbers("objective huber", recipe.objective_args, delta=(5.0, 1e-3, 1e3))
    beta = delta / scale_of(head, recipe)[1]
    return _pointwise(head, recipe, lambda mean, target: F.smooth_l1_loss(mean, target, reduction="none", beta=beta))


def _normal(centre: float, scale: float) -> Normal:
    """(N, 2) outputs -> (N,) mean and (N,) standard deviation in years."""

    def normal(outputs: Tensor) -> tuple[Tensor, Tensor]:
        # a floor of 2 % of the scale: no label is known better than that
        return centre + scale * outputs[:, 0], scale * (F.softplus(outputs[:, 1]) + 0.02)

    return normal


def _likelihood(head: Head, recipe: Recipe, beta: float) -> Objective:
    centre, scale = scale_of(head, recipe)
    normal = _normal(centre, scale)

    def loss(outputs: Tensor, values: Tensor, done: float) -> Tensor:
        mean, sigma = normal(outputs)
        likelihood = 0.5 * ((values - mean) / sigma) ** 2 + (sigma / scale).log()
        return likelihood * (sigma / scale).detach() ** (2 * beta)

    return _decoded(head, normal, loss)


def _pointwise(head: Head, recipe: Recipe, point: Callable[[Tensor, Tensor], Tensor]) -> Objective:
    centre, scale = scale_of(head, recipe)
    normal = _normal(centre, scale)

    def loss(outputs: Tensor, values: Tensor, done: float) -> Tensor:
        mean, sigma = normal(outputs)
        spread = 0.5 * ((values - mean.detach()) / sigma) ** 2 + (sigma / scale).log()
        return point((mean - centre) / scale, (values - centre) / scale) + spread

    return _decoded(head, normal, loss)


def _decoded(head: Head, normal: Normal, loss: Callable[[Tensor, Tensor, float], Tensor]) -> Objective:
    """The objective of a loss of the outputs that ``normal`` reads."""

    def decode(outputs: Tensor) -> Tensor:
        mean, sigma = normal(outputs)
        cuts = torch.tensor(head.edges, dtype=outputs.dtype, device=outputs.device) - 0.5
        below = 0.5 * torch.special.erfc((mean[:, None] - cuts) / (sigma[:, None] * math.sqrt(2)))  # (N, C - 1)
        ends = torch.cat([torch.zeros_like(mean)[:, None], below, torch.ones_like(mean)[:, None]], dim=1)
        return ends.diff(dim=1)

    return Objective(2, loss, decode, lambda outputs: normal(outputs)[0])
