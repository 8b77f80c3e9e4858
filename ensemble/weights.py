"""Rules that turn members' out-of-fold predictions into the weights of their votes.

Legend: N samples, C classes, M members, B rows of a block.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble import metrics
from ensemble.mixture import mixture_weights
from ensemble.predictions import Array, Indices

WeightRule = Callable[[Array, Indices], Array]  # (M, N, C), (N,) -> (M,)

FLOOR = float(np.finfo(np.float64).eps)  # keeps a class that every member ruled out from dividing by zero


@dataclass(frozen=True, slots=True)
class InBlocks:
    """A weight rule for any number of rows: it looks at each block of them once.

    What it saw of some rows and of others adds up with ``+``: counts add, lists lie one after the other.

    Attributes:
        look: (M, B, C) out-of-fold probabilities and (B,) true class indices -> what they say.
        weigh: What all rows say -> (M,) weights.
    """

    look: Callable[[Array, Indices], Any]
    weigh: Callable[[Any], Array]

    def __call__(self, probs: Array, targets: Indices) -> Array:
        """(M,) weights.

        Args:
            probs: (M, N, C) out-of-fold probabilities.
            targets: (N,) true class indices.

        Raises:
            EnsembleError: If there are no samples or a target is not in 0 to C-1.
        """
        return self.weigh(self.look(probs, targets))


def in_blocks(rule: WeightRule) -> InBlocks:
    """The rule as one that sees blocks; a plain function keeps all rows in memory until it is called."""
    if isinstance(rule, InBlocks):
        return rule
    return InBlocks(lambda probs, targets: [(probs.copy(), targets)], lambda seen: rule(*_joined(seen)))


def confusions(probs: Array, targets: Indices) -> Indices:
    """(M, C, C) every member's confusion matrix; rows are the truth.

    Args:
        probs: (M, B, C) probabilities.
        targets: (B,) true class indices.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    return np.stack([metrics.confusion(targets, labels, probs.shape[2]) for labels in probs.argmax(axis=2)])


def _joined(seen: Sequence[tuple[Array, Indices]]) -> tuple[Array, Indices]:
    return np.concatenate([probs for probs, _ in seen], axis=1), np.concatenate([targets for _, targets in seen])


def _ones(probs: Array, targets: Indices) -> Array:
    return np.ones(len(probs))


def _macro_f1(counts: Indices) -> Array:
    scores: Array = metrics.precision_recall_f1(counts)[..., 2].mean(axis=1)
    return _proportional(scores)


def _accuracy(counts: Indices) -> Array:
    return _proportional(np.trace(counts, axis1=1, axis2=2) / counts.sum(axis=(1, 2)))


def _given(probs: Array, targets: Indices) -> list[Array]:
    """(M, B) what every member gave to each sample's true class."""
    metrics.require_classes("targets", targets, probs.shape[2])
    given = np.take_along_axis(probs, targets[None, :, None], axis=2)[:, :, 0]
    return [np.maximum(given, FLOOR)]


def _proportional(scores: Array) -> Array:
    """(M,) scores that sum to 1; equal weights where nobody scored."""
    total = scores.sum()
    return scores / total if total > 0 else np.full(len(scores), 1 / len(scores))


uniform = InBlocks(_ones, _proportional)  # equal weights; targets are not looked at
f1 = InBlocks(confusions, _macro_f1)  # in proportion to each member's macro F1
accuracy = InBlocks(confusions, _accuracy)  # in proportion to each member's accuracy
# The soft vote with the least log-loss. A soft vote is a mixture of its members (a linear opinion pool); choosing it by
# its held-out log-loss is the stacking of Yao et al. 2018, https://doi.org/10.1214/17-BA1091.
logloss = InBlocks(_given, mixture_weights)

WEIGHT_RULES: dict[str, WeightRule] = {"uniform": uniform, "f1": f1, "accuracy": accuracy, "logloss": logloss}
