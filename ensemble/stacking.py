"""A logistic regression on the members' log-probabilities that starts from their geometric mean.

Legend: N samples, C classes, M members, F = M C + 1 features, B rows of a block.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble.logs import log
from ensemble.metrics import require_classes
from ensemble.predictions import Array, EnsembleError, Indices, Names

RIDGE = 3_000.0  # near the best for 3 to 15 simulated members x 100 to 1,800 people of seven photos
RIDGES = (100_000.0, 10_000.0, 3_000.0, 1_000.0)  # strongest first: each fit starts where the one before ended
SPLITS = 4
TOLERANCE = 1e-9  # the slope, in nats a row, at which a fit has arrived


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """A fitted logistic regression from M members to one distribution.

    Attributes:
        coefficients: (M, C, C) from a member's log-probability of a class to the logit of a class.
        intercept: (C,) logits.
        ridge: How strongly it was held to the geometric mean.
    """

    coefficients: Array
    intercept: Array
    ridge: float

    def __call__(self, probs: Array) -> Array:
        """(B, C) probabilities of (M, B, C)."""
        logits = np.tensordot(log(probs), self.coefficients, axes=([0, 2], [0, 1])) + self.intercept
        return np.exp(_log_softmax(logits))

    def as_dict(self) -> dict[str, Any]:
        """What was fitted, for JSON."""
        return {
            "kind": "stack",
            "ridge": self.ridge,
            "coefficients": self.coefficients.tolist(),
            "intercept": self.intercept.tolist(),
        }


def stacked(probs: Array, targets: Indices, groups: Names | None = None) -> Stack:
    """The stacked generalisation of M members (Wolpert 1992, https://doi.org/10.1016/S0893-6080(05)80023-1).

    A multinomial logistic regression on all log-probabilities. Its ridge pulls the weight of a member's log-probability
    in the logit of the same class towards 1 / M and all else towards 0: the stronger it is, the closer the stack is to
    the normalised geometric mean of the members. Losses are summed over rows and the ridge is not, so that more rows
    move the stack further from that mean.

    Args:
        probs: (M, N, C) out-of-fold probabilities.
        targets: (N,) true class indices.
        groups: (N,) who is in the photo. With at least two of them the ridge is the one with the least log-loss over
            people who were held out; otherwise it is ``RIDGE``.

    Raises:
        EnsembleError: If there are no samples, a target is not in 0 to C-1, or groups are not N.
    """
    require_classes("targets", targets, probs.shape[2])
    if groups is not None and len(groups) != len(targets):
        raise EnsembleError(f"got {len(groups)} groups for {len(targets)} targets; give one group a sample")
    n_members, n_samples, n_classes = probs.shape
    logs = log(probs)
    features = np.column_stack([*logs, np.ones(n_samples)])  # (N, F)
    offset = logs.mean(axis=0)
    ridge = RIDGE if groups is None else _best_ridge(features, targets, offset, groups)
    moved = ridge_logistic(features, targets, offset, ridge)
    coefficients = moved[:-1].reshape(n_members, n_classes, n_classes) + np.eye(n_classes) / n_members
    return Stack(coefficients, moved[-1], ridge)


def ridge_logistic(features: Array, targets: Indices, offset: Array, ridge: float, start: Array | None = None) -> Array:
    """(F, C) coefficients with the least sum of log-losses + ridge / 2 x sum of squared coefficients.

    Members that agree make features that hardly differ, and the loss a narrow valley. So it is minimised by L-BFGS in
    coordinates in which the bound on its curvature of Böhning 1992, https://doi.org/10.1007/BF00048682, is the same in
    all directions; some 20 steps do, whatever the ridge.

    Args:
        features: (N, F) features; no standardisation is needed.
        targets: (N,) true class indices.
        offset: (N, C) logits that are there without any feature.
        ridge: Positive.
        start: (F, C) coefficients to start from; zeros if not given.
    """
    from scipy.optimize import minimize  # here, since the command must start quickly

    truth = np.eye(offset.shape[1])[targets]
    curvature, axes = np.linalg.eigh(features.T @ features)
    scale = 1 / np.sqrt(np.maximum(curvature, 0) / 2 + ridge)
    round_features, n = features @ (axes * scale), len(features)

    def loss(flat: Array) -> tuple[float, Array]:
        moved = flat.reshape(-1, offset.shape[1])
        log_p = _log_softmax(offset + round_features @ moved)
        pulled = ridge * scale[:, None] ** 2 * moved
        slope = round_features.T @ (np.exp(log_p) - truth) + pulled
        return float(-log_p[truth > 0].sum() + (moved * pulled).sum() / 2) / n, slope.ravel() / n

    first = np.zeros((features.shape[1], offset.shape[1])) if start is None else axes.T @ start / scale[:, None]
    found = minimize(loss, first.ravel(), jac=True, method="L-BFGS-B", options={"gtol": TOLERANCE, "ftol": 0.0})
    coefficients: Array = (axes * scale) @ found.x.reshape(first.shape)
    return coefficients


def _best_ridge(features: Array, targets: Indices, offset: Array, groups: Names) -> float:
    """The ridge with the least log-loss over rows whose group was held out."""
    people, person = np.unique(groups, return_inverse=True)
    if len(people) < 2:
        return RIDGE
    sums = np.zeros(len(RIDGES))
    for split in range(min(SPLITS, len(people))):
        held_out = person % SPLITS == split
        fit, chosen = ~held_out, targets[held_out]
        start = None
        for place, ridge in enumerate(RIDGES):
            start = ridge_logistic(features[fit], targets[fit], offset[fit], ridge, start)
            log_p = _log_softmax(offset[held_out] + features[held_out] @ start)
            sums[place] -= log_p[np.arange(len(chosen)), chosen].sum()
    return RIDGES[int(sums.argmin())]


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_p
