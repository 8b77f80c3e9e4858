"""Ways in which members vote on every sample.

Legend: N samples, C classes, M members.
"""

from collections.abc import Callable

import numpy as np

from ensemble.predictions import Array, EnsembleError, Mask

Voter = Callable[[Array, Array], Array]  # (M, N, C), (M,) -> (N, C)

TIE = 1e-12  # sums that differ by less are equal but for the order of addition
DECISION_SHARE = 1e-9  # well above TIE, far below any ballot that counts


def soft_vote(probs: Array, weights: Array) -> Array:
    """The members' probabilities, averaged with weights.

    Args:
        probs: (M, N, C) probabilities.
        weights: (M,) non-negative, not all zero; their scale does not matter.

    Returns:
        (N, C) probabilities.

    Raises:
        EnsembleError: If the weights are not M finite, non-negative numbers with a positive sum.
    """
    return np.tensordot(_shares(probs, weights), probs, axes=1)


def hard_vote(probs: Array, weights: Array) -> Array:
    """The shares of the ballots, when every member casts one, weighted, for its most probable class.

    A tie goes to the class with the larger weighted sum of probabilities, then to the lower index. A
    billionth of the ballots is moved to the winner, so that ``argmax`` of a row *is* the decision.

    Args:
        probs: (M, N, C) probabilities.
        weights: (M,) non-negative, not all zero; their scale does not matter.

    Returns:
        (N, C) shares; rows sum to 1.

    Raises:
        EnsembleError: If the weights are not M finite, non-negative numbers with a positive sum.
    """
    ballots = _ballots(probs, weights)
    sums = np.where(_leaders(ballots), soft_vote(probs, weights), -1.0)
    winners = np.eye(probs.shape[2])[_leaders(sums).argmax(axis=1)]
    decided: Array = (1 - DECISION_SHARE) * ballots + DECISION_SHARE * winners
    return decided


def count_ties(probs: Array, weights: Array) -> int:
    """How many samples a hard vote could not decide by ballots alone.

    Args:
        probs: (M, N, C) probabilities.
        weights: (M,) non-negative, not all zero.

    Raises:
        EnsembleError: If the weights are not M finite, non-negative numbers with a positive sum.
    """
    return int(tied(probs, weights).sum())


def tied(probs: Array, weights: Array) -> Mask:
    """(N,) whether a hard vote could not decide by ballots alone; raises what `count_ties` raises."""
    found: Mask = _leaders(_ballots(probs, weights)).sum(axis=1) > 1
    return found


def _ballots(probs: Array, weights: Array) -> Array:
    """(N, C) share of the weighted ballots that each class got."""
    n_samples, n_classes = probs.shape[1:]
    cells = np.arange(n_samples) * n_classes + probs.argmax(axis=2)  # (M, N)
    cast = np.repeat(_shares(probs, weights), n_samples)
    ballots = np.bincount(cells.ravel(), weights=cast, minlength=n_samples * n_classes)
    return np.asarray(ballots, dtype=np.float64).reshape(n_samples, n_classes)


def _leaders(scores: Array) -> Mask:
    """(N, C) mask of the classes that nobody beats, rounding aside."""
    leads: Mask = scores >= scores.max(axis=1, keepdims=True) - TIE
    return leads


def _shares(probs: Array, weights: Array) -> Array:
    """(M,) weights that sum to 1."""
    if weights.shape != (len(probs),):
        raise EnsembleError(f"weights have shape {weights.shape} for {len(probs)} members; give one weight a member")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise EnsembleError(f"weights are {weights.tolist()}; give finite, non-negative weights that are not all zero")
    shares: Array = weights / weights.max()  # first, so that no sum overflows
    shares /= shares.sum()
    return shares


VOTERS: dict[str, Voter] = {"soft": soft_vote, "hard": hard_vote}
