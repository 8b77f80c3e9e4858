"""Scores of predictions against the truth, all but the log-loss from one confusion matrix.

Row weights say how many samples a row stands for: to judge a set under another mix of classes than its own.

Legend: N samples, C classes.
"""

from typing import Any, overload

import numpy as np

from ensemble.predictions import Array, EnsembleError, Indices


@overload
def confusion(targets: Indices, labels: Indices, n_classes: int, weights: None = None) -> Indices: ...


@overload
def confusion(targets: Indices, labels: Indices, n_classes: int, weights: Array) -> Array: ...


def confusion(targets: Indices, labels: Indices, n_classes: int, weights: Array | None = None) -> Indices | Array:
    """(C, C) how often each true class (row) was called each class (column); whole numbers without weights.

    Args:
        targets: (N,) true class indices.
        labels: (N,) predicted class indices.
        n_classes: C.
        weights: (N,) how many samples each row counts for; 1 each by default.

    Raises:
        EnsembleError: If lengths differ, there are no samples, an index is not in 0 to C-1, or the weights
            are not finite, non-negative numbers with a positive sum.
    """
    require_pairs(targets, labels, n_classes)
    if weights is not None:
        require_weights(weights, len(targets))
    cells = np.bincount(targets * n_classes + labels, weights, minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes)


def precision_recall_f1(confusion: Indices | Array) -> Array:
    """(..., C, 3) precision, recall and F1 of each class; 0 where they are undefined.

    Args:
        confusion: (..., C, C) counts; rows are the truth.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    return scores_of(hits, confusion.sum(axis=-2), confusion.sum(axis=-1))


def scores_of(hits: Array, called: Indices | Array, true: Indices | Array) -> Array:
    """(..., C, 3) precision, recall and F1 of each class; 0 where they are undefined.

    Args:
        hits: (..., C) how many samples of the class were called so.
        called: (..., C) how many samples were called so.
        true: (..., C) how many samples are of the class.
    """
    pairs: tuple[tuple[Array, Any], ...] = ((hits, called), (hits, true), (2 * hits, called + true))
    return np.stack([_ratio(above, below) for above, below in pairs], axis=-1)


def macro_f1(targets: Indices, labels: Indices, n_classes: int, weights: Array | None = None) -> float:
    """Mean F1 over all C classes; a class that is neither true nor called counts 0.

    Args:
        targets: (N,) true class indices.
        labels: (N,) predicted class indices.
        n_classes: C.
        weights: (N,) how many samples each row counts for; 1 each by default.

    Raises:
        EnsembleError: If lengths differ, there are no samples, an index is not in 0 to C-1, or the weights
            are not finite, non-negative numbers with a positive sum.
    """
    return float(macro_f1_of(confusion(targets, labels, n_classes, weights)))


def accuracy(targets: Indices, labels: Indices, n_classes: int, weights: Array | None = None) -> float:
    """Share of the samples that were called what they are.

    Args:
        targets: (N,) true class indices.
        labels: (N,) predicted class indices.
        n_classes: C.
        weights: (N,) how many samples each row counts for; 1 each by default.

    Raises:
        EnsembleError: If lengths differ, there are no samples, an index is not in 0 to C-1, or the weights
            are not finite, non-negative numbers with a positive sum.
    """
    counts = confusion(targets, labels, n_classes, weights)
    return float(np.trace(counts) / counts.sum())


def log_loss(targets: Indices, probs: Array, weights: Array | None = None) -> float:
    """Mean negative log-probability, in nats, that was given to the true class.

    Probabilities are clipped by the machine epsilon at both ends, so that a single zero does not cost infinity.

    Args:
        targets: (N,) true class indices.
        probs: (N, C) probabilities.
        weights: (N,) how many samples each row counts for; 1 each by default.

    Raises:
        EnsembleError: If lengths differ, there are no samples, a target is not in 0 to C-1, or the weights
            are not finite, non-negative numbers with a positive sum.
    """
    require_pairs(targets, probs.argmax(axis=1), probs.shape[1])
    epsilon = np.finfo(np.float64).eps
    given = np.take_along_axis(probs, targets[:, None], axis=1)
    losses = -np.log(np.clip(given, epsilon, 1 - epsilon))
    if weights is None:
        return float(losses.mean())
    require_weights(weights, len(targets))
    return float(np.average(losses[:, 0], weights=weights))


def require_classes(name: str, values: Indices, n_classes: int) -> None:
    """Refuse what cannot be scored.

    Args:
        name: What a message calls the values.
        values: (N,) class indices.
        n_classes: C.

    Raises:
        EnsembleError: If there are no values, or one is not in 0 to C-1.
    """
    if len(values) == 0:
        raise EnsembleError(f"{name} are empty; give at least one sample")
    if ((values < 0) | (values >= n_classes)).any():
        raise EnsembleError(
            f"{name} run from {values.min()} to {values.max()}, outside 0 to {n_classes - 1}; "
            "keep only samples whose class is known"
        )


def require_weights(weights: Array, n_samples: int) -> None:
    """Refuse row weights that count nothing.

    Args:
        weights: (N,) how many samples each row counts for.
        n_samples: N.

    Raises:
        EnsembleError: If the weights are not N finite, non-negative numbers with a positive sum.
    """
    if weights.shape != (n_samples,):
        raise EnsembleError(f"weights have shape {weights.shape} for {n_samples} samples; give one weight a sample")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        low, high = weights.min(), weights.max()
        raise EnsembleError(
            f"weights run from {low:.6g} to {high:.6g}; give finite, non-negative weights that are not all zero"
        )


def macro_f1_of(confusion: Indices | Array) -> Array:
    """(...) macro F1 of (..., C, C) counts."""
    return np.asarray(precision_recall_f1(confusion)[..., 2].mean(axis=-1))


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def require_pairs(targets: Indices, labels: Indices, n_classes: int) -> None:
    """Refuse truth and labels that are not of the same samples, or not of the classes."""
    if len(targets) != len(labels):
        raise EnsembleError(f"got {len(targets)} targets and {len(labels)} predictions; give one of each a sample")
    require_classes("targets", targets, n_classes)
    require_classes("labels", labels, n_classes)
