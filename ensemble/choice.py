"""Whether a step pays: judged on out-of-fold rows, and for each fold by the rows of the other folds.

Legend: N samples, K folds. A *key* is a fold, or None for all rows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from ensemble.bootstrap import gain
from ensemble.predictions import Array, Indices, Mask, Names

Key = int | None
Candidate = TypeVar("Candidate")


@dataclass(frozen=True, slots=True)
class Trial(Generic[Candidate]):
    """A candidate beside the one that it had to beat.

    Attributes:
        candidate: What was tried.
        gain: Mean log-loss in nats that it saves a row, cross-fitted.
        error: Standard error of the gain, people being drawn.
        kept: Whether it took the place of the one before.
    """

    candidate: Candidate
    gain: float
    error: float
    kept: bool


def keys(folds: Indices) -> list[Key]:
    """All rows first, then each fold."""
    return [None, *np.unique(folds).tolist()]


def rows_for(key: Key, folds: Indices) -> Mask:
    """(N,) the rows that may be looked at for this key: all, or all but the fold's."""
    return np.ones(len(folds), dtype=bool) if key is None else folds != key


def best_of(
    candidates: Sequence[Candidate],
    losses: Callable[[Candidate], Array],
    persons: Names,
    rows: Mask,
    *,
    errors: float | None,
) -> tuple[Candidate, list[Trial[Candidate]]]:
    """The candidate that pays, and what each but the first one gained.

    A candidate takes the place of the best before it when it saves more than so many standard errors: the rule of one
    standard error of Breiman et al. 1984, towards the simpler, for ``errors`` of 1.

    Args:
        candidates: From the simplest to the least simple.
        losses: Candidate -> (N,) cross-fitted log-loss of each row.
        persons: (N,) who is in the photo.
        rows: (N,) the rows that are looked at.
        errors: How many standard errors a gain must exceed; None = the last candidate was asked for, gain or not.
    """
    best, trials = candidates[0], []
    for candidate in candidates[1:]:
        saved, error = gain(losses(best)[rows], losses(candidate)[rows], persons[rows])
        kept = errors is None or saved > errors * error
        trials.append(Trial(candidate, saved, error, kept))
        best = candidate if kept else best
    return best, trials


def assembled(parts: Mapping[Key, Array], folds: Indices) -> Array:
    """(N, ...) where each row comes from the part of its fold.

    Args:
        parts: Fold -> (N, ...) values of all rows.
        folds: (N,) folds.
    """
    made = np.empty_like(next(iter(parts.values())))
    for fold in np.unique(folds).tolist():
        made[folds == fold] = parts[fold][folds == fold]
    return made


def distinct(values: Iterable[Candidate]) -> list[Candidate]:
    """The values, each once, in the order in which they first stand."""
    return list(dict.fromkeys(values))
