"""How many photos and people are of each class, of each two classes, of each year of age, and in each fold.

N photos, H heads with labels, J joint classes, K folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from heads.base import Head, IntArray
from heads.registry import LABELS
from pipeline.check import Count
from pipeline.samples import Samples


@dataclass(frozen=True, slots=True)
class Labels:
    """The classes of N photos.

    Attributes:
        heads: The H heads of which there is any label.
        index: Head name -> (N,) class, -1 = not labelled.
        names: J joint classes of these heads, the first head varying slowest.
        joint: (N,) joint class, -1 = a label lacks.
        persons: (N,) number of the person.
    """

    heads: tuple[Head, ...]
    index: dict[str, IntArray]
    names: tuple[str, ...]
    joint: IntArray
    persons: IntArray


def labels_of(samples: Samples) -> Labels:
    """The classes of the samples."""
    index = {head.name: head.labels(head.values(samples.columns)) for head in LABELS if head.column in samples.columns}
    heads = tuple(head for head in LABELS if head.name in index and (index[head.name] >= 0).any())
    joint, complete = np.zeros(len(samples.ids), dtype=np.int64), np.full(len(samples.ids), bool(heads))
    for head in heads:
        joint = joint * len(head.classes) + index[head.name]
        complete &= index[head.name] >= 0
    names = tuple(map("/".join, product(*(head.classes for head in heads)))) if heads else ()
    persons = np.unique(samples.persons, return_inverse=True)[1].astype(np.int64)
    return Labels(heads, {h.name: index[h.name] for h in heads}, names, np.where(complete, joint, -1), persons)


def tally(classes: IntArray, persons: IntArray, names: Sequence[str]) -> dict[str, Count]:
    """Class -> its photos and people.

    Args:
        classes: (N,) class of each photo, -1 = none.
        persons: (N,) who is on it.
        names: Of the classes.
    """
    known = classes >= 0
    photos = np.bincount(classes[known], minlength=len(names))
    people = np.bincount(np.unique(np.column_stack([classes, persons])[known], axis=0)[:, 0], minlength=len(names))
    return {name: Count(int(photos[k]), int(people[k])) for k, name in enumerate(names)}


def crossings(labels: Labels) -> dict[str, dict[str, dict[str, Count]]]:
    """For every two heads (``gender x age``), class of the first -> class of the second -> photos and people."""
    found = {}
    for one, two in combinations(labels.heads, 2):
        first, second = labels.index[one.name], labels.index[two.name]
        both = np.where((first >= 0) & (second >= 0), first * len(two.classes) + second, -1)
        names = [f"{a}/{b}" for a, b in product(one.classes, two.classes)]
        counts = tally(both, labels.persons, names)
        found[f"{one.name} x {two.name}"] = {a: {b: counts[f"{a}/{b}"] for b in two.classes} for a in one.classes}
    return found


@dataclass(frozen=True, slots=True)
class Quantity:
    """How a head's quantity is spread over people.

    Attributes:
        edges: Where its classes are cut.
        people: Quantity, in order -> people.
        near: Edge -> people at most two below it, and people from it to less than two above.
    """

    edges: tuple[float, ...]
    people: dict[float, int]
    near: dict[float, tuple[int, int]]


NEAR = 2  # years


def quantities(samples: Samples, labels: Labels) -> dict[str, Quantity]:
    """Head -> how its quantity is spread, of heads that have one."""
    found = {}
    for head in labels.heads:
        if head.edges:
            values = head.values(samples.columns)
            pairs = np.unique(np.column_stack([labels.persons, values])[~np.isnan(values)], axis=0)[:, 1]
            years, people = np.unique(pairs, return_counts=True)
            near = {
                edge: (
                    int(((edge - NEAR <= pairs) & (pairs < edge)).sum()),
                    int(((edge <= pairs) & (pairs < edge + NEAR)).sum()),
                )
                for edge in head.edges
            }
            found[head.name] = Quantity(head.edges, dict(zip(years.tolist(), people.tolist(), strict=True)), near)
    return found


@dataclass(frozen=True, slots=True)
class Folds:
    """Who is held out when, counted.

    Attributes:
        people: (K) people of each fold.
        photos: (K) photos of each fold.
        classes: Joint class -> (K) photos of it in each fold.
        shares: Head -> class -> (K) its share of the fold's labelled photos, 0 to 1.
        spread: Largest distance of such a share from the share in all folds.
        widest: The class and fold that it is of.
    """

    people: tuple[int, ...]
    photos: tuple[int, ...]
    classes: dict[str, tuple[int, ...]]
    shares: dict[str, dict[str, tuple[float, ...]]]
    spread: float
    widest: str


def count_folds(folds: IntArray, labels: Labels) -> Folds:
    """The fold table, counted.

    Args:
        folds: (N,) fold in which each photo is held out.
        labels: The photos' classes.
    """
    k = int(folds.max()) + 1
    people = np.unique(np.column_stack([folds, labels.persons]), axis=0)[:, 0]
    shares: dict[str, dict[str, tuple[float, ...]]] = {}
    spread, widest = 0.0, ""
    for head in labels.heads:
        counts = _by_fold(labels.index[head.name], folds, len(head.classes), k)
        inside = counts / np.maximum(counts.sum(axis=0), 1)
        apart = np.abs(inside - counts.sum(axis=1, keepdims=True) / max(counts.sum(), 1))
        shares[head.name] = {name: tuple(inside[c].tolist()) for c, name in enumerate(head.classes)}
        if apart.max() > spread:
            worst, fold = np.unravel_index(apart.argmax(), apart.shape)
            spread, widest = float(apart.max()), f"{head.classes[worst]} in fold {fold}"
    joint = _by_fold(labels.joint, folds, len(labels.names), k)
    return Folds(
        tuple(np.bincount(people, minlength=k).tolist()),
        tuple(np.bincount(folds, minlength=k).tolist()),
        {name: tuple(joint[c].tolist()) for c, name in enumerate(labels.names)},
        shares,
        spread,
        widest,
    )


def _by_fold(classes: IntArray, folds: IntArray, n_classes: int, k: int) -> IntArray:
    """(C, K) photos of each class in each fold."""
    counts = np.zeros((n_classes, k), dtype=np.int64)
    np.add.at(counts, (classes[classes >= 0], folds[classes >= 0]), 1)
    return counts
