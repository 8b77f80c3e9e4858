"""How far probabilities mean what they say: log-loss, Brier score and class-wise calibration error.

Legend: N samples, C classes, K bins, R bootstrap rounds.
"""

import numpy as np

from ensemble.bootstrap import Draws
from ensemble.logs import FLOOR
from ensemble.metrics import require_classes
from ensemble.predictions import Array, Indices, Names

BINS = 15
ROUNDS = 300


def row_log_losses(targets: Indices, probs: Array) -> Array:
    """(N,) negative log-probability, in nats, of each true class."""
    given = np.take_along_axis(probs, targets[:, None], axis=1)[:, 0]
    losses: Array = -np.log(np.clip(given, FLOOR, 1 - FLOOR))
    return losses


def row_briers(targets: Indices, probs: Array) -> Array:
    """(N,) squared distance of each row from the truth, summed over classes: Brier 1950, 0 to 2."""
    return np.asarray(((probs - np.eye(probs.shape[1])[targets]) ** 2).sum(axis=1))


def classwise_ece(targets: Indices, probs: Array, *, bins: int = BINS) -> float:
    """Mean over classes of the gap between mean probability and share of the class, over bins of equal width.

    Kull et al. 2019, https://arxiv.org/abs/1910.12656, section 2.

    Args:
        targets: (N,) true classes.
        probs: (N, C) probabilities.
        bins: K.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    require_classes("targets", targets, probs.shape[1])
    return float(np.abs(_summed(*_gaps(targets, probs, bins), bins)).sum() / probs.size)


def curves(targets: Indices, probs: Array, *, bins: int = BINS) -> list[list[tuple[float, float, int]]]:
    """For each class the bins that are not empty: mean probability, share of the class, how many samples.

    Args:
        targets: (N,) true classes.
        probs: (N, C) probabilities.
        bins: K, of equal width.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    require_classes("targets", targets, probs.shape[1])
    cells, _ = _gaps(targets, probs, bins)
    truth = np.eye(probs.shape[1])[targets]
    given, true, counts = (_summed(cells, each, bins) for each in (probs, truth, np.ones_like(probs)))
    return [
        [(float(p / n), float(t / n), int(n)) for p, t, n in zip(*of_class, strict=True) if n]
        for of_class in zip(given, true, counts, strict=True)
    ]


def reliability(targets: Indices, probs: Array, persons: Names, *, seed: int = 0) -> dict[str, dict[str, object]]:
    """Log-loss, Brier score and class-wise ECE, each with its 95 % interval, people being drawn.

    Args:
        targets: (N,) true classes.
        probs: (N, C) probabilities.
        persons: (N,) who is in the photo.
        seed: Of the draws.
    """
    draws = Draws.of(persons, rounds=ROUNDS, seed=seed)
    log_losses, briers = row_log_losses(targets, probs), row_briers(targets, probs)
    return {
        "log_loss": _with_interval(float(log_losses.mean()), draws.mean(log_losses)),
        "brier": _with_interval(float(briers.mean()), draws.mean(briers)),
        "classwise_ece": _with_interval(classwise_ece(targets, probs), drawn_ece(targets, probs, draws)),
    }


def drawn_ece(targets: Indices, probs: Array, draws: Draws, *, bins: int = BINS) -> Array:
    """(R,) class-wise ECE when people are drawn."""
    cells, gaps = _gaps(targets, probs, bins)
    n = draws.sums(np.zeros(len(targets), dtype=np.int64), 1)[:, 0]
    total = np.zeros(draws.rounds)
    for cell, gap in zip(cells.T, gaps.T, strict=True):
        total += np.abs(draws.sums(cell, bins, gap)).sum(axis=1)
    found: Array = total / n / probs.shape[1]
    return found


def _gaps(targets: Indices, probs: Array, bins: int) -> tuple[Indices, Array]:
    """(N, C) bin of each probability, and (N, C) probability minus truth."""
    cells = np.minimum((probs * bins).astype(np.int64), bins - 1)
    return cells, probs - np.eye(probs.shape[1])[targets]


def _summed(cells: Indices, gaps: Array, bins: int) -> Array:
    """(C, K) sums of the gaps in each bin of each class."""
    return np.stack([np.bincount(c, weights=g, minlength=bins) for c, g in zip(cells.T, gaps.T, strict=True)])


def _with_interval(value: float, drawn: Array) -> dict[str, object]:
    return {"value": value, "interval_95": np.quantile(drawn, [0.025, 0.975]).tolist()}
