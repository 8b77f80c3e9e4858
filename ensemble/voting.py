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
    return _decided(_ballots(probs, weights), soft_vote(probs, weights))


def borda_vote(probs: Array, weights: Array) -> Array:
    """The shares of the points, when every member ranks the classes and gives them C-1 to 0 points, weighted.

    Classes to which a member gives the same probability share their points. Only the order of a member's
    probabilities counts, so a member that is too sure of itself has no louder voice; with two classes it is the hard
    vote. Ties are broken, and the winner marked, as in `hard_vote`.

    Args:
        probs: (M, N, C) probabilities.
        weights: (M,) non-negative, not all zero; their scale does not matter.

    Returns:
        (N, C) shares; rows sum to 1.

    Raises:
        EnsembleError: If the weights are not M finite, non-negative numbers with a positive sum.
    """
    likely = soft_vote(probs, weights)
    points = np.tensordot(_shares(probs, weights), _points(probs), axes=1)
    return _decided(points, likely)


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


def _points(probs: Array) -> Array:
    """(M, N, C) share of a member's points that each class gets: one for a class behind it, half for one beside it."""
    n_classes = probs.shape[2]
    if n_classes == 1:
        return np.ones_like(probs)
    points = np.full(probs.shape, -0.5)  # a class stands beside itself
    for label in range(n_classes):
        rival = probs[:, :, label, None]
        points += 0.5 * (probs > rival) + 0.5 * (probs >= rival)
    points /= n_classes * (n_classes - 1) / 2
    return points


def _decided(shares: Array, likely: Array) -> Array:
    """(N, C) shares with a little moved to the winner; among leaders the more likely class wins, then the lower."""
    sums = np.where(_leaders(shares), likely, -1.0)
    winners = np.eye(shares.shape[1])[_leaders(sums).argmax(axis=1)]
    decided: Array = (1 - DECISION_SHARE) * shares + DECISION_SHARE * winners
    return decided


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


VOTERS: dict[str, Voter] = {"soft": soft_vote, "hard": hard_vote, "borda": borda_vote}
