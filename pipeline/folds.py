"""Who is held out when: one table for all heads, people kept whole, classes balanced. N photos, K folds."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence

import numpy as np

from heads.base import Head, IntArray, StrArray
from heads.registry import LABELS
from pipeline.errors import LayoutError
from pipeline.samples import Samples

CANDIDATES = 10


def make_folds(samples: Samples, n_folds: int, seed: int = 0) -> IntArray:
    """The (N,) fold in which each photo is held out: grouped by person, stratified by the joint class.

    Of ten shuffles the best balanced is taken, by the sum of squared differences between the folds' class counts and
    their even share. It depends on ids, people, labels, K and seed alone, so every head gets the same folds.

    Raises:
        LayoutError: There are fewer people than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    n_people = len(np.unique(samples.persons))
    if n_people < n_folds:
        raise LayoutError(f"{n_people} people cannot fill {n_folds} folds; use --folds {max(n_people, 2)} or fewer")
    strata = np.unique(samples.strata(), return_inverse=True)[1]
    if np.bincount(strata).max() < n_folds:
        strata = np.zeros_like(strata)  # every class is rarer than K: nothing to balance but the number of photos
    tables = []
    for candidate in range(CANDIDATES):
        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed * CANDIDATES + candidate)
        folds = np.empty(len(strata), dtype=np.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a class rarer than K is judged per head by `require_classes`
            for fold, (_, held_out) in enumerate(splitter.split(strata, strata, samples.persons)):
                folds[held_out] = fold
        tables.append(folds)
    return min(tables, key=lambda folds: imbalance(strata, folds, n_folds))


def grouped_part(strata: IntArray, persons: StrArray, parts: int, seed: int) -> IntArray:
    """The positions of one of so many parts of photos: people kept whole, classes balanced."""
    from sklearn.model_selection import StratifiedGroupKFold

    parts = min(parts, len(np.unique(persons)))
    if np.unique(strata, return_counts=True)[1].max() < parts:
        strata = np.zeros_like(strata)  # as in `make_folds`
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class rarer than the parts is as it is
        return np.asarray(next(splitter.split(strata, strata, persons))[1])


def imbalance(strata: IntArray, folds: IntArray, n_folds: int) -> float:
    """How far the folds' class counts are from an even share, as a sum of squares relative to each class's size."""
    counts = np.zeros((n_folds, strata.max() + 1))
    np.add.at(counts, (folds, strata), 1)
    share = counts / counts.sum(axis=0)
    return float(((share - 1 / n_folds) ** 2).sum())


def require_classes(head: Head, samples: Samples, folds: IntArray) -> None:
    """Refuse folds in which a class of the head has no photo to be judged on.

    Raises:
        LayoutError: A class is missing from a fold; the message counts the people who have it.
    """
    labels = head.labels(head.values(samples.columns))
    n_folds = int(folds.max()) + 1
    for index, name in enumerate(head.classes):
        rows = labels == index
        people = len(np.unique(samples.persons[rows]))
        if not people:
            raise LayoutError(f"no photo has class {name!r} of {head.name}; it cannot be learnt from this data")
        if empty := sorted(set(range(n_folds)) - set(folds[rows].tolist())):
            advice = (
                f"use --folds {people} or fewer"
                if 2 <= people < n_folds
                else "use fewer folds, or another fold_seed in the settings file"
            )
            raise LayoutError(
                f"fold {empty[0]} holds no {name!r} of {head.name} ({people} people, {n_folds} folds); {advice}"
            )


def fold_digest(samples: Samples, folds: IntArray) -> str:
    """A fingerprint of who is held out when."""
    return digest_of(samples.ids.tolist(), samples.persons.tolist(), folds.tolist())


def digest_of(ids: Sequence[str], persons: Sequence[str], folds: Sequence[int]) -> str:
    """The same fingerprint from the columns of a fold table."""
    rows = sorted(zip(ids, persons, folds, strict=True))
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


def share_table(samples: Samples, folds: IntArray) -> str:
    """People, photos and, of the labelled photos, the class shares of every fold, as text."""
    columns: list[tuple[str, IntArray, int]] = []
    for head in LABELS:
        if head.column in samples.columns:
            labels = head.labels(head.values(samples.columns))
            columns += [(name, labels, index) for index, name in enumerate(head.classes)]
    lines = ["fold people photos " + " ".join(f"{name:>6.6}" for name, _, _ in columns)]
    for label, rows in [*((str(fold), folds == fold) for fold in range(int(folds.max()) + 1)), ("all", folds >= 0)]:
        people = len(np.unique(samples.persons[rows]))
        known = [(labels[rows & (labels >= 0)], index) for _, labels, index in columns]
        shares = " ".join(f"{(labels == index).mean():6.1%}" if len(labels) else f"{'-':>6}" for labels, index in known)
        lines.append(f"{label:>4} {people:6d} {rows.sum():6d} {shares}")
    return "\n".join(lines)
