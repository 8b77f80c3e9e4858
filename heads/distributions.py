"""Objectives of a softmax over fine bins whose targets, or penalties, know that years lie on a line.

N samples, K bins, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from heads.base import FloatArray, Head
from heads.cuts import Bins, above, single_years
from heads.objective import Objective
from heads.recipe import PLAIN, UNKNOWN, Recipe, numbers

Loss = Callable[[Tensor, Tensor, float], Tensor]


def dldl(head: Head, recipe: Recipe = PLAIN, values: FloatArray = UNKNOWN) -> Objective:
    """Divergence of the bins' probabilities from a normal distribution of ``sigma`` years around the label.

    Gao et al. 2017, section III, https://arxiv.org/abs/1611.01731 (deep label distribution learning). Bins are single
    years unless others are asked for; each gets the mass between its edges, half a year below which years are cut, and
    the outer bins the tails.

    Raises:
        HeadError: Bins or arguments do not fit.
    """
    (sigma,) = numbers("objective dldl", recipe.objective_args, sigma=(2.0, 0.01, 100.0))
    bins = single_years(head, recipe, values)

    def loss(outputs: Tensor, values: Tensor, done: float) -> Tensor:
        cuts = torch.tensor(bins.inner, dtype=outputs.dtype, device=outputs.device) - 0.5
        below = 0.5 * torch.special.erfc((values[:, None] - cuts) / (sigma * math.sqrt(2)))  # (N, K - 1)
        target = F.pad(F.pad(below, (0, 1), value=1.0), (1, 0)).diff(dim=1)
        return F.kl_div(outputs.log_softmax(dim=1), target, reduction="none").sum(dim=1)

    return _over(bins, loss)


def sord(head: Head, recipe: Recipe = PLAIN, values: FloatArray = UNKNOWN) -> Objective:
    """Cross-entropy with soft targets that fall with the distance to the label's bin: softmax(-|i - y| ** power).

    Diaz and Marathe 2019, equation 1, https://doi.org/10.1109/CVPR.2019.00487. Bins are single years unless
    others are asked for.

    Raises:
        HeadError: Bins or arguments do not fit.
    """
    (power,) = numbers("objective sord", recipe.objective_args, power=(1.0, 0.1, 10.0))
    bins = single_years(head, recipe, values)

    def loss(outputs: Tensor, values: Tensor, done: float) -> Tensor:
        ranks = torch.arange(len(bins), device=outputs.device)
        apart = (ranks - above(values, bins.inner)[:, None]).abs().to(outputs)  # (N, K)
        return F.cross_entropy(outputs, (-(apart**power)).softmax(dim=1), reduction="none")

    return _over(bins, loss)


def mean_variance(head: Head, recipe: Recipe = PLAIN, values: FloatArray = UNKNOWN) -> Objective:
    """Cross-entropy, and penalties of the mean's squared error and of the variance, both in years.

    Pan et al. 2018, section 3, https://doi.org/10.1109/CVPR.2018.00554; ``mean`` and ``variance`` are their
    lambda 1 and 2, both 0 is cross-entropy. Bins are single years unless others are asked for: the mean could not be
    right with coarse ones. Labels beyond the middles of the outer bins count as those.

    Raises:
        HeadError: Bins or arguments do not fit.
    """
    of_mean, of_variance = numbers(
        "objective mean-variance", recipe.objective_args, mean=(0.2, 0.0, 1e3), variance=(0.05, 0.0, 1e3)
    )
    bins = single_years(head, recipe, values)

    def loss(outputs: Tensor, values: Tensor, done: float) -> Tensor:
        probs, years = outputs.softmax(dim=1), bins.years.to(outputs)
        mean = probs @ years
        variance = (probs * (years - mean[:, None]) ** 2).sum(dim=1)
        error = mean - values.clamp(float(bins.years[0]), float(bins.years[-1]))
        plain = F.cross_entropy(outputs, above(values, bins.inner), reduction="none")
        return plain + of_mean * 0.5 * error**2 + of_variance * variance

    return _over(bins, loss)


def _over(bins: Bins, loss: Loss) -> Objective:
    """The objective of a loss of the bins' logits: a class gets the mass of its bins, the mean is expected."""
    member, years = bins.member, bins.years
    return Objective(
        len(bins),
        loss,
        lambda outputs: outputs.softmax(dim=1) @ member.to(outputs),
        lambda outputs: outputs.softmax(dim=1) @ years.to(outputs),
    )
