"""Votes over answers without probabilities: one class a sample from every file, ties settled by rules that are counted.

Legend: N samples, M files, C classes, H heads; J joint classes, whose index counts the heads' class indices with the
last head varying fastest.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ensemble.predictions import Array, EnsembleError, Indices, Mask
from ensemble.voting import TIE

# what settled a row: ballots alone, or the last of the further rules that was needed
SETTLED_BY = ("ballots", "heads", "first file", "lower index")
HEADS, FIRST, LOWER = 1, 2, 3


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a vote decided, and how.

    Attributes:
        labels: (N,) joint classes.
        settled: (L, N) index into ``SETTLED_BY``; one row for a vote on joint classes, H for a vote head by head.
    """

    labels: Indices
    settled: Indices

    @property
    def tied(self) -> Mask:
        """(N,) whether ballots alone did not decide."""
        return np.asarray((self.settled > 0).any(axis=0))


def class_vote(labels: Indices, weights: Array, sizes: tuple[int, ...]) -> Outcome:
    """The joint class with the most ballots.

    Of classes that tie, the one whose parts (mask, gender, age) got the most ballots, added over the heads; then the
    first file's answer if it is still among them, then the lowest index.

    Args:
        labels: (M, N) joint classes.
        weights: (M,) non-negative, not all zero; their scale does not matter.
        sizes: (H,) classes of each head.

    Raises:
        EnsembleError: If shapes do not fit, a label is out of range, or weights are none.
    """
    n_classes = int(np.prod(sizes))
    ballots = count_ballots(labels, weights, n_classes)
    heads = [count_ballots(part, weights, size) for part, size in zip(parts_of(labels, sizes), sizes, strict=True)]
    classes = parts_of(np.arange(n_classes), sizes)  # (H, J)
    support = np.sum([votes[:, part] for votes, part in zip(heads, classes, strict=True)], axis=0)
    chosen, settled = _decide(ballots, {HEADS: support, **_last_rules(labels[0], n_classes)})
    return Outcome(chosen, settled[None])


def head_vote(labels: Indices, weights: Array, sizes: tuple[int, ...]) -> Outcome:
    """Every head's class with the most ballots, put together; the outcome may be a class that no file gave.

    Of a head's classes that tie, the first file's if it is among them, else the lowest index.

    Args:
        labels: (M, N) joint classes.
        weights: (M,) non-negative, not all zero; their scale does not matter.
        sizes: (H,) classes of each head.

    Raises:
        EnsembleError: If shapes do not fit, a label is out of range, or weights are none.
    """
    _require_labels(labels, int(np.prod(sizes)))
    chosen, settled = [], []
    for part, size in zip(parts_of(labels, sizes), sizes, strict=True):
        winners, how = _decide(count_ballots(part, weights, size), _last_rules(part[0], size))
        chosen.append(winners)
        settled.append(how)
    return Outcome(np.ravel_multi_index(tuple(chosen), sizes).astype(np.int64), np.stack(settled))


def parts_of(labels: Indices, sizes: tuple[int, ...]) -> Indices:
    """(H, ...) class index in each head of (...) joint classes."""
    return np.stack(np.unravel_index(labels, sizes)).astype(np.int64)


def count_ballots(labels: Indices, weights: Array, n_classes: int) -> Array:
    """(N, C) share of the weighted ballots that each class got.

    Args:
        labels: (M, N) class indices.
        weights: (M,) non-negative, not all zero.
        n_classes: C.

    Raises:
        EnsembleError: If shapes do not fit, a label is out of range, or weights are none.
    """
    _require_labels(labels, n_classes)
    n = labels.shape[1]
    cells = np.arange(n) * n_classes + labels  # (M, N)
    counts = np.bincount(cells.ravel(), np.repeat(_shares(weights, len(labels)), n), n * n_classes)
    return np.asarray(counts, dtype=np.float64).reshape(n, n_classes)


def without_majority(labels: Indices, weights: Array, n_classes: int) -> Mask:
    """(N,) whether no class got more than half of the weighted ballots; arguments and errors as in `count_ballots`."""
    most: Mask = count_ballots(labels, weights, n_classes).max(axis=1) <= 0.5 + TIE
    return most


def all_differ(labels: Indices) -> Mask:
    """(N,) whether every one of two or more files gave another answer; ``labels`` is (M, N)."""
    ordered = np.sort(labels, axis=0)
    return np.asarray((ordered[1:] != ordered[:-1]).all(axis=0) & (len(labels) > 1))


def agreement(labels: Indices) -> Array:
    """(M, M) share of the samples on which two files give the same answer.

    Args:
        labels: (M, N) class indices.
    """
    same = np.eye(len(labels))
    for a in range(len(labels)):
        for b in range(a):
            same[a, b] = same[b, a] = (labels[a] == labels[b]).mean()
    return same


def correlation(labels: Indices, n_classes: int) -> Array:
    """(M, M) correlation of the files' answers: 1 = copies, 0 = as often equal as by chance.

    The K-category coefficient R_K of Gorodkin 2004, https://doi.org/10.1016/j.compbiolchem.2004.09.006, which is the
    correlation of one-hot answers. It is undefined for a file that always answers the same: its correlation is then 1
    with its copies and 0 with all others.

    Args:
        labels: (M, N) class indices.
        n_classes: C.
    """
    same = agreement(labels)
    mix = np.stack([np.bincount(row, minlength=n_classes) for row in labels]) / labels.shape[1]  # (M, C)
    spread = np.sqrt(np.maximum(1 - (mix**2).sum(axis=1), 0))
    scale = np.outer(spread, spread)
    found: Array = np.divide(same - mix @ mix.T, scale, out=np.floor(same), where=scale > 0)
    np.fill_diagonal(found, 1.0)
    return found


def effective_number(correlation: Array) -> float:
    """How many uncorrelated members would be as different as these: 1 = copies, M = uncorrelated.

    ``(sum_i l_i)^2 / sum_i l_i^2`` over the eigenvalues ``l`` of the correlation matrix, the participation ratio; the
    eigenvalue formula of Bretherton et al. 1999, https://doi.org/10.1175/1520-0442(1999)012<1990:TENOSD>2.0.CO;2. Both
    sums are traces, so no eigenvalue has to be computed.

    Args:
        correlation: (M, M) symmetric, ones on the diagonal.
    """
    return float(np.trace(correlation) ** 2 / (correlation**2).sum())


def _decide(ballots: Array, rules: Mapping[int, Array]) -> tuple[Indices, Indices]:
    """(N,) winners, and (N,) the last rule that each row needed; rules, (N, C) or (C,) scores, come in order."""
    leaders = _leading(ballots)
    settled = np.zeros(len(ballots), dtype=np.int64)
    for number, scores in rules.items():
        unsettled = leaders.sum(axis=1) > 1
        settled[unsettled] = number
        leaders &= _leading(np.where(leaders, scores, -np.inf))
    winners: Indices = leaders.argmax(axis=1)
    return winners, settled


def _last_rules(first: Indices, n_classes: int) -> dict[int, Array]:
    """The rules that every vote ends in: the (N,) answers of the first file, then the lowest index."""
    return {FIRST: np.eye(n_classes)[first], LOWER: -np.arange(n_classes, dtype=np.float64)}


def _leading(scores: Array) -> Mask:
    """(N, C) mask of the classes that nobody beats, rounding aside."""
    leads: Mask = scores >= scores.max(axis=1, keepdims=True) - TIE
    return leads


def _shares(weights: Array, n_files: int) -> Array:
    """(M,) weights that sum to 1."""
    if weights.shape != (n_files,):
        raise EnsembleError(f"got {weights.size} weights for {n_files} files; give one weight a file, in their order")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        said = ", ".join(f"{weight:g}" for weight in weights)
        raise EnsembleError(f"weights are {said}; give finite, non-negative weights that are not all zero")
    shares: Array = weights / weights.max()  # first, so that no sum overflows
    shares /= shares.sum()
    return shares


def _require_labels(labels: Indices, n_classes: int) -> None:
    if labels.ndim != 2 or not labels.size:
        raise EnsembleError(f"labels have shape {labels.shape}; give (M, N) labels of one or more files and samples")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise EnsembleError(f"labels run from {labels.min()} to {labels.max()}, outside 0 to {n_classes - 1}")


BALLOTS: dict[str, Callable[[Indices, Array, tuple[int, ...]], Outcome]] = {"class": class_vote, "head": head_vote}
