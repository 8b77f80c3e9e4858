"""Probabilities made to mean what they say: fitted on out-of-fold predictions, applied to any.

Legend: N samples, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ensemble.logs import log, softmax
from ensemble.metrics import require_classes
from ensemble.predictions import Array, Indices

COLDEST, HOTTEST = 0.05, 20.0  # temperatures that are believed
PRIOR = 1.0  # how far biases (nats) and log-scales spread about 0, as a standard deviation, before rows are looked at
NEWTON_STEPS = 50
FLAT = 1e-12  # nats; a slope below it is rounding


class Calibration(Protocol):
    """A fitted calibration."""

    def __call__(self, probs: Array) -> Array:
        """(..., N, C) calibrated probabilities of the same shape."""

    def as_dict(self) -> dict[str, Any]:
        """What was fitted, for JSON."""


CalibrationFit = Callable[[Array, Indices], Calibration]  # (N, C), (N,) -> a fitted calibration


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Probabilities as they are."""

    def __call__(self, probs: Array) -> Array:
        """The same (..., N, C) probabilities."""
        return probs

    def as_dict(self) -> dict[str, Any]:
        """What was fitted, for JSON."""
        return {"kind": "none"}


@dataclass(frozen=True, slots=True)
class Temperature:
    """Log-probabilities divided by one number; the most probable class stays.

    Attributes:
        temperature: Above 1 makes probabilities less extreme.
    """

    temperature: float

    def __call__(self, probs: Array) -> Array:
        """(..., N, C) calibrated probabilities."""
        return softmax(log(probs) / self.temperature)

    def as_dict(self) -> dict[str, Any]:
        """What was fitted, for JSON."""
        return {"kind": "temperature", "temperature": self.temperature}


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """Log-probabilities times a scale and plus a bias of each class.

    Attributes:
        kind: Key of ``CALIBRATIONS``.
        scales: (C,) factors.
        biases: (C,) nats.
    """

    kind: str
    scales: Array
    biases: Array

    def __call__(self, probs: Array) -> Array:
        """(..., N, C) calibrated probabilities."""
        return softmax(log(probs) * self.scales + self.biases)

    def as_dict(self) -> dict[str, Any]:
        """What was fitted, for JSON."""
        return {"kind": self.kind, "scales": self.scales.tolist(), "biases": self.biases.tolist()}


@dataclass(frozen=True, slots=True, eq=False)
class Isotonic:
    """A rising step function for each class, normalised.

    Attributes:
        places: C arrays of probabilities at which the functions bend.
        values: C arrays of what they become there.
    """

    places: tuple[Array, ...]
    values: tuple[Array, ...]

    def __call__(self, probs: Array) -> Array:
        """(..., N, C) calibrated probabilities."""
        curves = enumerate(zip(self.places, self.values, strict=True))
        columns = [np.interp(probs[..., c], x, y) for c, (x, y) in curves]
        raised = np.maximum(np.stack(columns, axis=-1), 1e-6)  # a class that was never seen there is not impossible
        made: Array = raised / raised.sum(axis=-1, keepdims=True)
        return made

    def as_dict(self) -> dict[str, Any]:
        """What was fitted, for JSON."""
        curves = [{"places": x.tolist(), "values": y.tolist()} for x, y in zip(self.places, self.values, strict=True)]
        return {"kind": "isotonic", "curves": curves}


def unchanged(probs: Array, targets: Indices) -> Calibration:
    """No calibration."""
    return Unchanged()


def temperature(probs: Array, targets: Indices) -> Calibration:
    """The temperature with the least log-loss: Guo et al. 2017, https://arxiv.org/abs/1706.04599, equation 9.

    The loss is convex in the inverse temperature. Newton's steps are kept inside a bracket that shrinks.

    Args:
        probs: (N, C) out-of-fold probabilities.
        targets: (N,) true classes.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    require_classes("targets", targets, probs.shape[1])
    logits = np.ascontiguousarray(log(probs).T)  # (C, N): sums over few classes are many times faster down columns
    truth = logits[targets, np.arange(len(targets))].mean()
    low, high = 1 / HOTTEST, 1 / COLDEST
    inverse = 1.0
    for _ in range(NEWTON_STEPS):
        slope, curvature = _slopes(logits, truth, inverse)
        if abs(slope) <= FLAT:  # also where no temperature changes anything, as for equal probabilities: it stays 1
            break
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        step = inverse - slope / curvature if curvature > 0 else low
        step = step if low < step < high else (low + high) / 2
        if abs(step - inverse) <= 1e-10 * inverse:
            break
        inverse = step
    return Temperature(float(1 / inverse))


def _slopes(logits: Array, truth: float, inverse: float) -> tuple[float, float]:
    """First and second derivative of the mean log-loss by the inverse temperature.

    Args:
        logits: (C, N) log-probabilities.
        truth: Mean logit of the true class.
        inverse: The inverse temperature.
    """
    odds = np.exp(inverse * logits)
    expected = odds / odds.sum(axis=0) * logits
    mean = expected.sum(axis=0)
    return float(mean.mean() - truth), float(((expected * logits).sum(axis=0) - mean**2).mean())


def bias_corrected(probs: Array, targets: Indices) -> Calibration:
    """One temperature and a bias for each class: BCTS of Alexandari et al. 2020, https://arxiv.org/abs/1901.06852.

    Args:
        probs: (N, C) out-of-fold probabilities.
        targets: (N,) true classes.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    n_classes = probs.shape[1]
    best = _least(probs, targets, lambda given: (np.full(n_classes, given[0]), given[1:]), 1 + n_classes)
    return Scaling("bias-corrected", np.full(n_classes, np.exp(best[0])), best[1:] - best[1:].mean())


def vector(probs: Array, targets: Indices) -> Calibration:
    """A scale and a bias for each class: vector scaling of Guo et al. 2017, section 4.2.

    Args:
        probs: (N, C) out-of-fold probabilities.
        targets: (N,) true classes.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    n_classes = probs.shape[1]
    best = _least(probs, targets, lambda given: (given[:n_classes], given[n_classes:]), 2 * n_classes)
    biases = best[n_classes:]
    return Scaling("vector", np.exp(best[:n_classes]), biases - biases.mean())


def isotonic(probs: Array, targets: Indices) -> Calibration:
    """A rising function for each class against the others, normalised: Zadrozny & Elkan 2002.

    https://doi.org/10.1145/775047.775151; least squares by pool adjacent violators, as scikit-learn has it.

    Args:
        probs: (N, C) out-of-fold probabilities.
        targets: (N,) true classes.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    from sklearn.isotonic import IsotonicRegression  # a second that other calibrations need not wait

    require_classes("targets", targets, probs.shape[1])
    fits = [
        IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(probs[:, c], targets == c)
        for c in range(probs.shape[1])
    ]
    return Isotonic(tuple(fit.X_thresholds_ for fit in fits), tuple(fit.y_thresholds_ for fit in fits))


def _least(probs: Array, targets: Indices, split: Callable[[Array], tuple[Array, Array]], size: int) -> Array:
    """(size,) the most probable log-scales and biases: least log-loss plus the ridge of a normal prior.

    The prior counts once however many rows there are, so that it binds few rows and lets many speak.

    Args:
        probs: (N, C) probabilities.
        targets: (N,) true classes.
        split: Parameters -> (C,) log-scales and (C,) biases, linear.
        size: How many parameters there are.

    Raises:
        EnsembleError: If there are no samples or a target is not in 0 to C-1.
    """
    from scipy.optimize import minimize  # half a second that other calibrations need not wait

    require_classes("targets", targets, probs.shape[1])
    ridge = 1 / (len(probs) * PRIOR**2)
    logits, truth = log(probs), np.eye(probs.shape[1])[targets]
    parts = np.stack([np.concatenate(split(unit)) for unit in np.eye(size)])  # (size, 2 C) of the linear map

    def loss(given: Array) -> tuple[float, Array]:
        log_scales, biases = split(given)
        scaled = logits * np.exp(log_scales)
        above = scaled + biases
        above -= above.max(axis=1, keepdims=True)
        odds = np.exp(above)
        total = odds.sum(axis=1, keepdims=True)
        rest = (odds / total - truth) / len(odds)
        slopes = np.concatenate([(rest * scaled).sum(axis=0), rest.sum(axis=0)])
        losses = np.log(total[:, 0]) - (above * truth).sum(axis=1)  # not clipped: it must agree with its slopes
        return float(losses.mean() + ridge / 2 * given @ given), parts @ slopes + ridge * given

    bounds = [(np.log(1 / HOTTEST), np.log(1 / COLDEST))] * (size - probs.shape[1]) + [(-20, 20)] * probs.shape[1]
    found: Array = minimize(loss, np.zeros(size), jac=True, method="L-BFGS-B", bounds=bounds).x
    return found


CALIBRATIONS: dict[str, CalibrationFit] = {
    "none": unchanged,
    "temperature": temperature,
    "bias-corrected": bias_corrected,
    "vector": vector,
    "isotonic": isotonic,
}
