"""The mixture of members that gives the truth the highest likelihood, found exactly and in few looks at the data.

Legend: N samples, M members. Samples come in pieces, (M, B) each: what every member gave to each sample's true class.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ensemble.predictions import Array

GAP = 1e-8  # nats above the least log-loss that are good enough
STEPS = 100  # far more than are needed: each Newton step mostly adds digits
HALVINGS = 12
RIDGE = 1e-8  # of the mean curvature, so that members that are equal get equal weights
INNER_STEPS = 60


class Look(NamedTuple):
    """The log-loss of a mixture in nats, ``mean(p_m / mix)`` of every member (M,), and the curvature (M, M)."""

    loss: float
    gain: Array
    curvature: Array


def mixture_weights(pieces: Sequence[Array]) -> Array:
    """(M,) the weights of the mixture with the least log-loss ``-mean_n log sum_m w_m p_mn``.

    The loss is convex. Each step goes to the least of its second-order model, all weights non-negative: the method of
    Kim, Carbonetto, Stephens & Anitescu 2020, https://doi.org/10.1080/10618600.2019.1689985. A step that does not
    lower the loss is halved. It ends when ``max_m mean_n(p_mn / mix_n) - 1`` is below ``GAP``; the distance to the
    least loss is never more than that (Lindsay 1983, https://doi.org/10.1214/aos/1176346059).

    Args:
        pieces: (M, B) positive probabilities each, N columns in all.
    """
    weights = np.full(len(pieces[0]), 1 / len(pieces[0]))
    for _ in range(STEPS):
        now = _look(pieces, weights)
        if now.gain.max() - 1 <= GAP:
            break
        # sum(w) is added to the loss in place of the constraint sum(w) = 1, which then holds at the optimum by itself
        aim = _least_quadratic(now.curvature, 2 * now.gain - 1)
        better = _downhill(pieces, weights, aim / aim.sum(), now)
        if better is None:
            break  # rounding is all that is left
        weights = better
    shares: Array = weights / weights.sum()
    return shares


def _downhill(pieces: Sequence[Array], weights: Array, aim: Array, now: Look) -> Array | None:
    """A point between ``weights`` and ``aim`` with less loss; None when there is none."""
    for halved in range(HALVINGS):
        tried = weights + 0.5**halved * (aim - weights)
        if _loss(pieces, tried) < now.loss:
            return tried
    return None


def _loss(pieces: Sequence[Array], weights: Array) -> float:
    return float(-sum(np.log(weights @ piece).sum() for piece in pieces) / _count(pieces))


def _look(pieces: Sequence[Array], weights: Array) -> Look:
    n_members = len(weights)
    loss, gain, curvature = 0.0, np.zeros(n_members), np.zeros((n_members, n_members))
    for piece in pieces:
        mix = weights @ piece
        share = piece / mix  # (M, B)
        loss -= float(np.log(mix).sum())
        gain += share.sum(axis=1)
        curvature += share @ share.T
    n = _count(pieces)
    return Look(loss / n, gain / n, curvature / n)


def _least_quadratic(curvature: Array, slope: Array) -> Array:
    """(M,) the ``y >= 0`` with the least ``y Q y / 2 - slope y``, by a primal-dual interior point method.

    Nocedal & Wright 2006, algorithm 16.4, without the corrector; ``Q`` is the curvature and a little ridge.
    """
    n = len(slope)
    matrix = curvature + RIDGE * np.trace(curvature) / n * np.eye(n)
    y, dual = np.full(n, 1 / n), np.ones(n)
    for _ in range(INNER_STEPS):
        gradient = matrix @ y - slope
        centre = 0.1 * float(y @ dual) / n
        if centre < 1e-16 and np.abs(gradient - dual).max() < 1e-12:
            break
        move = np.linalg.solve(matrix + np.diag(dual / y), centre / y - gradient)
        dual_move = (centre - dual * move) / y - dual
        y, dual = y + _room(y, move) * move, dual + _room(dual, dual_move) * dual_move
    return y


def _room(values: Array, move: Array) -> float:
    """How far, at most all the way, positive values can move and stay positive."""
    shrinks = move < 0
    return min(1.0, 0.995 * float((values[shrinks] / -move[shrinks]).min())) if shrinks.any() else 1.0


def _count(pieces: Sequence[Array]) -> int:
    return sum(piece.shape[1] for piece in pieces)
