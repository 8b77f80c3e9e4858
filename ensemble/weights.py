"""Rules that turn members' out-of-fold predictions into the weights of their votes.

Legend: N samples, C classes, M members, B rows of a block.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble.bootstrap import gain
from ensemble.greedy import greedy_weights, macro_f1_loss, mean_log_loss
from ensemble.metrics import confusion, precision_recall_f1, require_classes
from ensemble.mixture import mixture_weights
from ensemble.predictions import Array, Indices, Names
from ensemble.voting import Voter, soft_vote

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


def gain_over_uniform(
    probs: Array, targets: Indices, persons: Names, weights: Array, *, voter: Voter = soft_vote
) -> tuple[float, float]:
    """What a vote under weights saves against equal ones: log-loss in nats a row, and its standard error.

    Weights whose gain is within two standard errors of 0 cannot be told from equal ones.

    Args:
        probs: (M, N, C) out-of-fold probabilities, of rows that the weights were not fitted on.
        targets: (N,) true class indices.
        persons: (N,) who is in the photo; the error counts people, not photos, see `gain`.
        weights: (M,) weights.
        voter: How members vote.

    Raises:
        EnsembleError: If there are no samples, a target is not in 0 to C-1, or the weights cannot weigh.
    """
    votes = np.stack([voter(probs, np.ones(len(probs))), voter(probs, weights)])
    before, after = -np.log(given_to_truth(votes, targets))
    return gain(before, after, persons)


def f1_gain_over_uniform(
    probs: Array, targets: Indices, persons: Names, weights: Array, *, voter: Voter = soft_vote
) -> tuple[float, float]:
    """The macro F1 that a vote under weights has more than one under equal weights, and its standard error.

    Args:
        probs: (M, N, C) out-of-fold probabilities, of rows that the weights were not fitted on.
        targets: (N,) true class indices.
        persons: (N,) who is in the photo; the error counts people, not photos, see `gain`.
        weights: (M,) weights.
        voter: How members vote.

    Raises:
        EnsembleError: If there are no samples, a target is not in 0 to C-1, or the weights cannot weigh.
    """
    n_classes = probs.shape[2]
    before, after = (
        _f1_pieces(targets, voter(probs, these).argmax(axis=1), n_classes) for these in (np.ones(len(probs)), weights)
    )
    return gain(-before, -after, persons)


def _f1_pieces(targets: Indices, labels: Indices, n_classes: int) -> Array:
    """(N,) pieces whose mean is the macro F1 and whose spread is its spread: macro F1 + its influence function.

    A class's F1 is 2 hits / (true + called), a ratio of sums over rows; a row moves it by (2 hit - F1 (true + called))
    / (true + called), to the first order.
    """
    counts = confusion(targets, labels, n_classes)
    scores = precision_recall_f1(counts)[:, 2]
    worth = len(targets) / n_classes / np.maximum(counts.sum(axis=0) + counts.sum(axis=1), 1)
    hits = 2 * worth[labels] * (targets == labels)
    pieces: Array = scores.mean() + hits - (scores * worth)[targets] - (scores * worth)[labels]
    return pieces


def _joined(seen: Sequence[tuple[Array, Indices]]) -> tuple[Array, Indices]:
    return np.concatenate([probs for probs, _ in seen], axis=1), np.concatenate([targets for _, targets in seen])


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
