"""Cutting a quantity: edges of bins, which class a bin lies in, and how many photos lie in each.

N samples, K bins, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from heads.base import FloatArray, Head, HeadError, IntArray
from heads.recipe import Recipe


def above(values: Tensor, edges: Sequence[float]) -> Tensor:
    """How many of the increasing ``edges`` each of the (N,) values reaches: its class or bin index."""
    return torch.bucketize(values, torch.tensor(edges, dtype=values.dtype, device=values.device), right=True)


def increasing(edges: Sequence[float]) -> tuple[float, ...]:
    """The edges, when there are at least two, all finite, and each is above the one before.

    Raises:
        HeadError: They are not.
    """
    if len(edges) < 2 or not all(-math.inf < low < high < math.inf for low, high in pairwise(edges)):
        raise HeadError(f"bin edges must be two or more and increase, all finite, got {listed(edges)}")
    return tuple(float(edge) for edge in edges)


def listed(edges: Sequence[float]) -> str:
    """The edges as messages show them."""
    return ", ".join(f"{edge:g}" for edge in edges)


@dataclass(frozen=True, slots=True)
class Bins:
    """Fine bins of a head's quantity; those beyond the outer edges count to the outer bins.

    Attributes:
        edges: K + 1 increasing edges.
        owner: (K,) class in which each bin lies.
        n_classes: C.
    """

    edges: tuple[float, ...]
    owner: IntArray
    n_classes: int

    def __len__(self) -> int:
        return len(self.owner)

    @property
    def inner(self) -> tuple[float, ...]:
        """The K - 1 edges between two bins."""
        return self.edges[1:-1]

    @property
    def centres(self) -> Tensor:
        """(K,) middle of each bin."""
        return torch.tensor([(low + high) / 2 for low, high in pairwise(self.edges)])

    @property
    def years(self) -> Tensor:
        """(K,) mean of the whole numbers in each bin: half a year below its middle."""
        return self.centres - 0.5

    @property
    def member(self) -> Tensor:
        """(K, C) 1 where a bin lies in a class, else 0."""
        return F.one_hot(torch.from_numpy(self.owner), self.n_classes).float()

    def counts(self, values: FloatArray) -> FloatArray:
        """(K,) how many of the values lie in each bin."""
        return np.bincount(np.digitize(values, self.inner), minlength=len(self)).astype(np.float64)


def bins_of(head: Head, recipe: Recipe, values: FloatArray, *, fallback: Sequence[float] = ()) -> Bins:
    """The bins that a recipe asks for.

    Args:
        head: A head with class edges, which must be among the inner edges of its bins.
        recipe: Its ``bins``, or ``bin_count`` of equal width or frequency.
        values: (N,) values of the labelled training photos, for bins of equal frequency.
        fallback: Edges where the recipe names none; empty = the head's.

    Raises:
        HeadError: The edges do not increase, a class edge is missing, or there are fewer bins than classes.
    """
    edges = increasing(recipe.bins or fallback or head.bins)
    if recipe.bin_rule != "edges":
        edges = increasing(_ruled(head, recipe, values))
    if missing := [edge for edge in head.edges if edge not in edges[1:-1]]:
        raise HeadError(
            f"bin edges {listed(edges)} lack {listed(missing)} inside, where the classes of {head.name} meet"
        )
    return Bins(edges, np.digitize(edges[:-1], head.edges).astype(np.int64), len(head.classes))


def single_years(head: Head, recipe: Recipe, values: FloatArray) -> Bins:
    """One bin a year over the range of the head's bins, unless the recipe asks for others."""
    low, high = (head.bins[0], head.bins[-1]) if head.bins else (0.0, 0.0)
    return bins_of(head, recipe, values, fallback=tuple(np.arange(low, high + 1)))


def scale_of(head: Head, recipe: Recipe) -> tuple[float, float]:
    """Middle and half the range of the bins, by which outputs are scaled to years."""
    edges = increasing(recipe.bins or head.bins)
    return (edges[0] + edges[-1]) / 2, (edges[-1] - edges[0]) / 2


def _ruled(head: Head, recipe: Recipe, values: FloatArray) -> list[float]:
    """Edges of equal width or frequency between the head's outer ones; class edges replace the nearest inner ones.

    Photos of one year cannot be parted, so of equal frequency there may be fewer bins than asked for.
    """
    low, high = head.bins[0], head.bins[-1]
    inner = np.linspace(low, high, recipe.bin_count + 1)[1:-1]
    if recipe.bin_rule == "frequency" and len(values):
        cuts = np.quantile(values, np.arange(1, recipe.bin_count) / recipe.bin_count, method="inverted_cdf")
        inner = np.unique(cuts[(cuts > low) & (cuts < high)])
    if recipe.bin_count < len(head.classes):
        raise HeadError(f"bin_count = {recipe.bin_count} gives too few bins for the classes of {head.name}; use more")
    left = inner.tolist()
    for edge in head.edges[: len(left)]:
        left.pop(int(np.abs(np.subtract(left, edge)).argmin()))
    return [low, *sorted([*left, *head.edges]), high]
