"""Ways to train a head: each pairs a loss with the decoding into class probabilities that belongs to it.

N samples, K outputs, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from heads.base import Head, HeadError


@dataclass(frozen=True, slots=True)
class Objective:
    """What one kind of target needs, kept in one place.

    Attributes:
        n_outputs: K, the outputs that the network gives for it.
        loss: (N, K) outputs and (N,) values of the head -> (N,) loss of each sample.
        decode: (N, K) outputs -> (N, C) class probabilities, rows sum to 1.
        expect: (N, K) outputs -> (N,) expected value in the label's unit (years), where the objective has one.
    """

    n_outputs: int
    loss: Callable[[Tensor, Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    expect: Callable[[Tensor], Tensor] | None = None


def above(values: Tensor, edges: Sequence[float]) -> Tensor:
    """How many of the increasing ``edges`` each of the (N,) values reaches: its class or bin index."""
    return torch.bucketize(values, torch.tensor(edges, dtype=values.dtype, device=values.device), right=True)


def classes(head: Head, bins: Sequence[float] = ()) -> Objective:
    """Softmax cross-entropy over the head's own classes; ``bins`` is not used."""

    def loss(outputs: Tensor, values: Tensor) -> Tensor:
        targets = above(values, head.edges) if head.edges else values.long()
        return F.cross_entropy(outputs, targets, reduction="none")

    return Objective(len(head.classes), loss, lambda outputs: outputs.softmax(dim=1))


def binned(head: Head, bins: Sequence[float] = ()) -> Objective:
    """Softmax cross-entropy over fine bins of the quantity; a class gets the probability mass of its bins.

    The expected value is the mean of the bins' centres under that mass (DEX, Rothe et al. 2018, equation 3,
    https://doi.org/10.1007/s11263-016-0940-3). Quantities beyond the outer edges count to the outer bins.

    Args:
        head: A head with class edges.
        bins: K + 1 increasing edges; the head's own edges must be among the inner ones. Empty = the head's default.

    Raises:
        HeadError: The edges do not increase, or a class edge is missing.
    """
    edges = increasing(bins or head.bins)
    if missing := [edge for edge in head.edges if edge not in edges[1:-1]]:
        raise HeadError(
            f"bin edges {_listed(edges)} lack {_listed(missing)} inside, where the classes of {head.name} meet"
        )
    inner = edges[1:-1]
    n_bins = len(edges) - 1
    owner = above(torch.tensor(edges[:-1]), head.edges)  # (K,) class of each bin
    member = F.one_hot(owner, len(head.classes)).float()  # (K, C)
    centres = torch.tensor([(low + high) / 2 for low, high in pairwise(edges)])

    def loss(outputs: Tensor, values: Tensor) -> Tensor:
        return F.cross_entropy(outputs, above(values, inner), reduction="none")

    return Objective(
        n_bins,
        loss,
        lambda outputs: outputs.softmax(dim=1) @ member.to(outputs),
        lambda outputs: outputs.softmax(dim=1) @ centres.to(outputs),
    )


def regression(head: Head, bins: Sequence[float] = ()) -> Objective:
    """A normal distribution over the quantity, its mean and its spread both predicted.

    Trained by the beta-weighted Gaussian likelihood with beta = 0.5 (Seitzer et al. 2022, equation 5,
    https://arxiv.org/abs/2203.09168), which keeps hard samples in play. A class gets the mass between its edges; years
    are whole numbers, so mass is cut half a year below an edge. ``bins`` only sets the scale of the outputs.

    Args:
        head: A head with class edges.
        bins: Edges whose range the outputs are scaled to. Empty = the head's default.

    Raises:
        HeadError: The edges do not increase.
    """
    edges = increasing(bins or head.bins)
    centre, scale = (edges[0] + edges[-1]) / 2, (edges[-1] - edges[0]) / 2

    def spread(outputs: Tensor) -> tuple[Tensor, Tensor]:
        # a floor of 2 % of the scale: no label is known better than that
        return centre + scale * outputs[:, 0], scale * (F.softplus(outputs[:, 1]) + 0.02)

    def loss(outputs: Tensor, values: Tensor) -> Tensor:
        mean, sigma = spread(outputs)
        likelihood = 0.5 * ((values - mean) / sigma) ** 2 + (sigma / scale).log()
        return likelihood * (sigma / scale).detach()  # sigma ** (2 * beta)

    def decode(outputs: Tensor) -> Tensor:
        mean, sigma = spread(outputs)
        cuts = torch.tensor(head.edges, dtype=outputs.dtype, device=outputs.device) - 0.5
        below = 0.5 * torch.special.erfc((mean[:, None] - cuts) / (sigma[:, None] * math.sqrt(2)))  # (N, C - 1)
        ends = torch.cat([torch.zeros_like(mean)[:, None], below, torch.ones_like(mean)[:, None]], dim=1)
        return ends.diff(dim=1)

    return Objective(2, loss, decode, lambda outputs: spread(outputs)[0])


def increasing(edges: Sequence[float]) -> tuple[float, ...]:
    """The edges, when there are at least two, all finite, and each is above the one before.

    Raises:
        HeadError: They are not.
    """
    if len(edges) < 2 or not all(-math.inf < low < high < math.inf for low, high in pairwise(edges)):
        raise HeadError(f"bin edges must be two or more and increase, all finite, got {_listed(edges)}")
    return tuple(float(edge) for edge in edges)


def _listed(edges: Sequence[float]) -> str:
    return ", ".join(f"{edge:g}" for edge in edges)


OBJECTIVES: dict[str, Callable[[Head, Sequence[float]], Objective]] = {
    "bins": binned,
    "classes": classes,
    "regression": regression,
}
