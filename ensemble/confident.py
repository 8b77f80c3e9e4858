"""Labels that out-of-fold predictions contradict: confident learning.

Northcutt, Jiang, Chuang 2021, https://arxiv.org/abs/1911.00068. A sample counts as confidently of a class when its
probability is at least the mean that samples *labelled* so get; that makes up for classes of which networks are rarely
sure. Probabilities must be out-of-fold: a network that has learnt a wrong label agrees with it.

Legend: N samples, C classes.
"""

from __future__ import annotations

import numpy as np

from ensemble.predictions import Array, EnsembleError, Indices, Mask

ROUNDING = 1e-6  # a class that all its samples get with one probability reaches its own mean


def thresholds(probs: Array, targets: Indices) -> Array:
    """(C,) mean probability of a class over the samples labelled so, equation 2; infinity for a class without samples.

    Args:
        probs: (N, C) probabilities.
        targets: (N,) labels as they stand.

    Raises:
        EnsembleError: A label is missing or out of range.
    """
    n_classes = probs.shape[1]
    if len(targets) != len(probs) or not ((targets >= 0) & (targets < n_classes)).all():
        raise EnsembleError(f"{len(probs)} rows need as many labels of 0 to {n_classes - 1}, got {targets}")
    counts = np.bincount(targets, minlength=n_classes)
    sums = np.bincount(targets, weights=self_confidence(probs, targets), minlength=n_classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def confident_classes(probs: Array, targets: Indices) -> Indices:
    """(N,) the most probable one of the classes that a sample confidently is of; -1 where there is none."""
    reached = probs >= thresholds(probs, targets) - ROUNDING
    found = np.where(reached, probs, -1.0).argmax(axis=1)
    return np.where(reached.any(axis=1), found, -1)


def confident_joint(probs: Array, targets: Indices) -> Indices:
    """(C, C) how many samples labelled as the row are confidently of the column's class, equation 1."""
    found, n_classes = confident_classes(probs, targets), probs.shape[1]
    sure = found >= 0
    cells = np.bincount(targets[sure] * n_classes + found[sure], minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes).astype(np.int64)


def contradicted(probs: Array, targets: Indices) -> Mask:
    """(N,) whether a sample is confidently of another class than its label, which is not the most probable one either.

    The samples off the diagonal of the confident joint; ``find_label_issues(filter_by="confident_learning")`` of
    cleanlab finds the same.
    """
    found = confident_classes(probs, targets)
    made: Mask = (found >= 0) & (found != targets) & (margins(probs, targets) < 0)
    return made


def self_confidence(probs: Array, targets: Indices) -> Array:
    """(N,) the probability of the label."""
    made: Array = probs[np.arange(len(probs)), targets]
    return made


def margins(probs: Array, targets: Indices) -> Array:
    """(N,) the label's probability less that of the most probable other class: from -1, surely wrong, to 1."""
    others = probs.copy()
    others[np.arange(len(probs)), targets] = -np.inf
    made: Array = self_confidence(probs, targets) - others.max(axis=1)
    return made
