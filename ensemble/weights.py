"""Rules that turn members' out-of-fold predictions into the weights of their votes.

Legend: N samples, C classes, M members, B rows of a block.
"""

from collections.abc import Callable

import numpy as np

from ensemble.greedy import greedy_weights, macro_f1_loss, mean_log_loss
from ensemble.logs import FLOOR
from ensemble.metrics import confusion, precision_recall_f1, require_classes
from ensemble.mixture import mixture_weights
from ensemble.predictions import Array, Indices

WeightRule = Callable[[Array, Indices], Array]  # (M, N, C), (N,) -> (M,)


def confusions(probs: Array, targets: Indices) -> Indices:
    """(M, C, C) every member's confusion matrix; rows are the truth.

    Args:
        probs: (M, B, C) probabilities.
        targets: (B,) true class indices.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    return np.stack([confusion(targets, labels, probs.shape[2]) for labels in probs.argmax(axis=2)])


def given_to_truth(probs: Array, targets: Indices) -> Array:
    """(M, N) what every member gave to each sample's true class, never 0.

    Args:
        probs: (M, N, C) probabilities.
        targets: (N,) true class indices.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    require_classes("targets", targets, probs.shape[2])
    given = np.take_along_axis(probs, targets[None, :, None], axis=2)[:, :, 0]
    return np.maximum(given, FLOOR)


def uniform(probs: Array, targets: Indices) -> Array:
    """(M,) equal weights; the targets are not looked at."""
    return np.full(len(probs), 1 / len(probs))


def f1(probs: Array, targets: Indices) -> Array:
    """(M,) weights in proportion to each member's macro F1.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    scores: Array = precision_recall_f1(confusions(probs, targets))[..., 2].mean(axis=1)
    return _proportional(scores)


def accuracy(probs: Array, targets: Indices) -> Array:
    """(M,) weights in proportion to each member's accuracy.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    return _proportional(np.trace(confusions(probs, targets), axis1=1, axis2=2) / len(targets))


def logloss(probs: Array, targets: Indices) -> Array:
    """(M,) weights in proportion to 1 / log-loss of each member; a flawless one leaves the others next to nothing.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    given = np.minimum(given_to_truth(probs, targets), 1 - FLOOR)
    return _proportional(1 / -np.log(given).mean(axis=1))


def greedy(probs: Array, targets: Indices) -> Array:
    """(M,) weights of a soft vote that is selected greedily for its log-loss, see `greedy_weights`.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    return greedy_weights(given_to_truth(probs, targets), mean_log_loss)


def greedy_f1(probs: Array, targets: Indices) -> Array:
    """(M,) weights of a soft vote that is selected greedily for its macro F1, see `greedy_weights`.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    require_classes("targets", targets, probs.shape[2])
    by_class = np.maximum(probs.swapaxes(1, 2), FLOOR)  # (M, C, N)
    return greedy_weights(by_class, macro_f1_loss(targets))


def simplex(probs: Array, targets: Indices) -> Array:
    """(M,) weights of the soft vote with the least log-loss.

    A soft vote is a mixture of its members (a linear opinion pool); choosing it by its held-out log-loss is the
    stacking of Yao et al. 2018, https://doi.org/10.1214/17-BA1091.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    return mixture_weights([given_to_truth(probs, targets)])


def _proportional(scores: Array) -> Array:
    """(M,) scores that sum to 1; equal weights where nobody scored."""
    total = scores.sum()
    return scores / total if total > 0 else np.full(len(scores), 1 / len(scores))


WEIGHT_RULES: dict[str, WeightRule] = {
    "uniform": uniform,
    "f1": f1,
    "accuracy": accuracy,
    "logloss": logloss,
    "greedy": greedy,
    "greedy-f1": greedy_f1,
    "simplex": simplex,
}
