"""Rules that turn members' out-of-fold predictions into the weights of their votes.

Legend: N samples, C classes, M members.
"""

from collections.abc import Callable

import numpy as np

from ensemble import metrics
from ensemble.predictions import Array, Indices

WeightRule = Callable[[Array, Indices], Array]  # (M, N, C), (N,) -> (M,)

FLOOR = float(np.finfo(np.float64).eps)  # keeps a class that every member ruled out from dividing by zero
ROUNDS = 1000
STILL = 1e-8  # a round that moves no weight by more than this is the last


def uniform(probs: Array, targets: Indices) -> Array:
    """(M,) equal weights.

    Args:
        probs: (M, N, C) out-of-fold probabilities.
        targets: (N,) true class indices; not looked at.
    """
    return np.full(len(probs), 1 / len(probs))


def f1(probs: Array, targets: Indices) -> Array:
    """(M,) weights proportional to each member's macro F1.

    Args:
        probs: (M, N, C) out-of-fold probabilities.
        targets: (N,) true class indices.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    n_classes = probs.shape[2]
    return _proportional([metrics.macro_f1(targets, member.argmax(axis=1), n_classes) for member in probs])


def accuracy(probs: Array, targets: Indices) -> Array:
    """(M,) weights proportional to each member's accuracy.

    Args:
        probs: (M, N, C) out-of-fold probabilities.
        targets: (N,) true class indices.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    n_classes = probs.shape[2]
    return _proportional([metrics.accuracy(targets, member.argmax(axis=1), n_classes) for member in probs])


def logloss(probs: Array, targets: Indices) -> Array:
    """(M,) weights of the soft vote with the least log-loss.

    A soft vote is a mixture of its members (a linear opinion pool), so its log-loss is convex in the
    weights, and EM for mixture proportions never raises it: from equal weights,
    ``w_m <- mean_n(w_m p_mn / sum_k w_k p_kn)``, where ``p_mn`` is what member m gave to sample n's class.
    Round T is within ln(M)/T nats of the least log-loss, mostly far closer.
    Dempster, Laird & Rubin 1977, https://doi.org/10.1111/j.2517-6161.1977.tb01600.x, section 4.3. Choosing
    a pool by its held-out log-loss is the stacking of Yao et al. 2018, https://doi.org/10.1214/17-BA1091.

    Args:
        probs: (M, N, C) out-of-fold probabilities.
        targets: (N,) true class indices.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    metrics.require_classes("targets", targets, probs.shape[2])
    given = np.take_along_axis(probs, targets[None, :, None], axis=2)[:, :, 0]  # (M, N)
    given = np.maximum(given, FLOOR)
    weights = uniform(probs, targets)
    for _ in range(ROUNDS):
        before, weights = weights, weights * (given @ (1 / (weights @ given))) / len(targets)
        if np.abs(weights - before).max() < STILL:
            break
    weights /= weights.sum()
    return weights


def _proportional(scores: list[float]) -> Array:
    """(M,) scores that sum to 1; equal weights where nobody scored."""
    total = sum(scores)
    return np.array(scores) / total if total > 0 else np.full(len(scores), 1 / len(scores))


WEIGHT_RULES: dict[str, WeightRule] = {"uniform": uniform, "f1": f1, "accuracy": accuracy, "logloss": logloss}
