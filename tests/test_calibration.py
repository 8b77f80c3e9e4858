"""Calibrations give probabilities, lower the loss they minimise, and agree with scikit-learn, SciPy and a known truth.

Legend: N samples, C classes.
"""

import json
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from ensemble.calibration import (
    CALIBRATIONS,
    COLDEST,
    HOTTEST,
    PRIOR,
    CalibrationFit,
    Scaling,
    Temperature,
    bias_corrected,
    isotonic,
    temperature,
    vector,
)
from ensemble.logs import log, softmax
from ensemble.metrics import log_loss
from ensemble.predictions import Array, EnsembleError, Indices

FITTED = {name: fit for name, fit in CALIBRATIONS.items() if name != "none"}
every_fit = pytest.mark.parametrize("fit", CALIBRATIONS.values(), ids=CALIBRATIONS.keys())
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)  # a seed is all there is to vary


class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier whose input are its scores."""

    def fit(self, scores: Array, targets: Indices) -> "Given":
        self.classes_ = np.unique(targets)
        return self

    def decision_function(self, scores: Array) -> Array:
        return scores

    def predict(self, scores: Array) -> Indices:
        labels: Indices = self.classes_[scores.argmax(axis=1)]
        return labels


def by_scikit_learn(method: str, scores: Array, targets: Indices) -> CalibratedClassifierCV:
    """Its calibration of a classifier that is not trained again, so that all rows are calibrated on."""
    frozen = FrozenEstimator(Given().fit(scores, targets))
    return CalibratedClassifierCV(frozen, method=method).fit(scores, targets)


def drawn(seed: int, n: int = 300, n_classes: int = 3) -> tuple[Array, Indices]:
    """(N, C) logits, and (N,) classes drawn with just the probabilities that the logits stand for."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(n, n_classes))
    logits -= logits.mean(axis=1, keepdims=True)
    targets = (softmax(logits).cumsum(axis=1)[:, :-1] < rng.random((n, 1))).sum(axis=1)
    return logits, targets


def degenerate() -> dict[str, tuple[Array, Indices]]:
    """(N, C) probabilities and (N,) targets that carry little or misleading information."""
    logits, targets = drawn(0, n=40)
    probs = softmax(logits)
    cut = np.where(probs < 0.1, 0, probs)
    return {
        "one class": (probs, np.zeros_like(targets)),
        "all right": (np.eye(3)[targets], targets),
        "all wrong": (np.eye(3)[(targets + 1) % 3], targets),
        "right, not sure": (0.7 * np.eye(3)[targets] + 0.1, targets),
        "zeros": (cut / cut.sum(axis=1, keepdims=True), targets),
        "equal": (np.full((40, 3), 1 / 3), targets),
        "always the same": (np.tile([0.7, 0.2, 0.1], (40, 1)), targets),
        "one row": (probs[:1], targets[:1]),
        "one column": (np.ones((40, 1)), np.zeros_like(targets)),
    }


@every_fit
@few
@given(seed=seeds, n=st.integers(1, 30), n_classes=st.integers(1, 5))
def test_calibrated_blocks_of_any_shape_are_probabilities(
    fit: CalibrationFit, seed: int, n: int, n_classes: int
) -> None:
    logits, targets = drawn(seed, n, n_classes)
    fitted = fit(softmax(logits), targets)
    block = np.random.default_rng(seed).dirichlet(np.ones(n_classes), size=(2, 4, 7))
    made = fitted(block)
    assert made.shape == block.shape
    assert (made >= 0).all()
    np.testing.assert_allclose(made.sum(axis=-1), 1)
    np.testing.assert_allclose(made[1, 2], fitted(block[1, 2]))


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_what_was_fitted_can_be_written_and_says_its_kind(name: str) -> None:
    logits, targets = drawn(1)
    told = json.loads(json.dumps(CALIBRATIONS[name](softmax(logits), targets).as_dict(), allow_nan=False))
    assert told["kind"] == name


@every_fit
@pytest.mark.parametrize("case", degenerate())
def test_poor_input_gives_finite_probabilities_that_are_no_worse(fit: CalibrationFit, case: str) -> None:
    probs, targets = degenerate()[case]
    fitted = fit(probs, targets)
    assert log_loss(targets, fitted(probs)) <= log_loss(targets, probs) + 1e-5
    other = np.random.default_rng(0).dirichlet(np.ones(probs.shape[1]), size=50)
    for made in (fitted(probs), fitted(other)):
        assert np.isfinite(made).all()
        np.testing.assert_allclose(made.sum(axis=1), 1)


@pytest.mark.parametrize("n_classes", range(2, 19))
def test_a_temperature_that_changes_nothing_stays_one(n_classes: int) -> None:
    targets = np.arange(60) % n_classes
    assert temperature(np.full((60, n_classes), 1 / n_classes), targets) == Temperature(1.0)
    assert temperature(np.eye(n_classes)[targets], targets) == Temperature(1.0)


@pytest.mark.parametrize("fit", FITTED.values(), ids=FITTED.keys())
@pytest.mark.parametrize(
    ("targets", "message"),
    [([], "targets are empty"), ([0, -1], "targets run from -1 to 0"), ([0, 3], "targets run from 0 to 3")],
)
def test_what_cannot_be_calibrated_on_is_refused(fit: CalibrationFit, targets: list[int], message: str) -> None:
    with pytest.raises(EnsembleError, match=message):
        fit(np.full((len(targets), 3), 1 / 3), np.array(targets, dtype=np.int64))


@settings(max_examples=8, deadline=None)  # theirs takes a tenth of a second
@given(seed=seeds, heat=st.floats(0.2, 5), n_classes=st.integers(3, 6))
def test_temperature_agrees_with_scikit_learn(seed: int, heat: float, n_classes: int) -> None:
    logits, targets = drawn(seed, 300, n_classes)
    probs = softmax(logits * heat)
    theirs = by_scikit_learn("temperature", log(probs), targets)
    fitted = temperature(probs, targets)
    expected = 1 / theirs.calibrated_classifiers_[0].calibrators[0].beta_
    assert fitted.as_dict()["temperature"] == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(fitted(probs), theirs.predict_proba(log(probs)), atol=1e-5)


@few
@given(seed=seeds, heat=st.floats(0.01, 100), n=st.integers(2, 200))
def test_temperature_is_the_best_of_those_that_are_believed(seed: int, heat: float, n: int) -> None:
    logits, targets = drawn(seed, n)
    probs = softmax(logits * heat)

    def loss(inverse: float) -> float:
        return float(-log_softmax(inverse * log(probs), axis=1)[np.arange(n), targets].mean())

    found = temperature(probs, targets).as_dict()["temperature"]
    assert COLDEST <= found <= HOTTEST
    bounds = (1 / HOTTEST, 1 / COLDEST)
    best = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    assert loss(1 / found) <= min(best.fun, loss(bounds[0]), loss(bounds[1])) + 1e-9


@few
@given(seed=seeds, heat=st.floats(0.1, 10))
def test_temperature_keeps_the_most_probable_class(seed: int, heat: float) -> None:
    logits, targets = drawn(seed)
    probs = softmax(logits * heat)
    assert np.array_equal(temperature(probs, targets)(probs).argmax(axis=1), probs.argmax(axis=1))


@pytest.mark.parametrize("fit", [temperature, bias_corrected, vector])
@few
@given(seed=seeds, heat=st.floats(0.1, 10), n=st.integers(1, 100))
def test_on_the_rows_fitted_on_the_log_loss_never_grows(fit: CalibrationFit, seed: int, heat: float, n: int) -> None:
    logits, targets = drawn(seed, n)
    probs = softmax(logits * heat + np.random.default_rng(seed).normal(size=3))
    assert log_loss(targets, fit(probs, targets)(probs)) <= log_loss(targets, probs) + 1e-9


@pytest.mark.parametrize("fit", FITTED.values(), ids=FITTED.keys())
def test_what_means_what_it_says_stays_nearly_as_it_is(fit: CalibrationFit) -> None:
    logits, targets = drawn(2, n=20_000)
    probs = softmax(logits)
    assert np.abs(fit(probs, targets)(probs) - probs).mean() < 0.01


@pytest.mark.parametrize("fit", [temperature, bias_corrected, vector])
@pytest.mark.parametrize("heat", [0.3, 1.0, 3.0])
def test_the_true_temperature_is_found(fit: CalibrationFit, heat: float) -> None:
    logits, targets = drawn(3, n=20_000)
    probs = softmax(logits)
    np.testing.assert_allclose(fit(softmax(logits * heat), targets)(softmax(logits * heat)), probs, atol=0.03)


def test_true_biases_and_scales_are_found() -> None:
    logits, targets = drawn(4, n=20_000)
    biases = np.array([0.6, -0.9, 0.3])
    found = bias_corrected(softmax((logits - biases) * 2), targets)
    assert isinstance(found, Scaling)
    np.testing.assert_allclose(found.scales, 1 / 2, atol=0.02)
    np.testing.assert_allclose(found.biases, biases, atol=0.08)
    scales = np.array([0.5, 1.0, 1.5])
    distorted = softmax((logits - biases) / scales)
    np.testing.assert_allclose(
        vector(distorted, targets)(distorted).mean(axis=0), np.eye(3)[targets].mean(axis=0), atol=1e-3
    )


@pytest.mark.parametrize("n_scales", [1, 3], ids=["bias-corrected", "vector"])
@pytest.mark.parametrize("seed", range(4))
def test_scales_and_biases_are_the_most_probable_ones(n_scales: int, seed: int) -> None:
    logits, targets = drawn(seed, n=60)
    probs = softmax(1.7 * logits + np.array([0.5, 0, -1]))

    def cost(given: Array) -> float:
        scaled = log(probs) * np.exp(given[:n_scales]) + given[n_scales:]
        losses = -log_softmax(scaled, axis=1)[np.arange(60), targets]
        return float(losses.sum() + (given**2).sum() / (2 * PRIOR**2))

    best = minimize(
        cost,
        np.zeros(n_scales + 3),
        method="Nelder-Mead",
        options={"maxiter": 20_000, "fatol": 1e-9, "xatol": 1e-6, "initial_simplex": simplex(n_scales + 3)},
    )
    expected = softmax(log(probs) * np.exp(best.x[:n_scales]) + best.x[n_scales:])
    fit = bias_corrected if n_scales == 1 else vector
    np.testing.assert_allclose(fit(probs, targets)(probs), expected, atol=2e-3)


def simplex(size: int) -> Array:
    """(size + 1, size) corners to start from: at 0, SciPy's own would be too small to move."""
    return np.concatenate([np.zeros((1, size)), np.eye(size)])


@pytest.mark.parametrize("seed", range(4))
def test_isotonic_agrees_with_scikit_learn(seed: int) -> None:
    logits, targets = drawn(seed)
    probs = softmax(2 * logits)
    fresh = softmax(2 * drawn(seed + 100)[0])
    theirs = by_scikit_learn("isotonic", probs, targets).predict_proba(fresh)
    np.testing.assert_allclose(isotonic(probs, targets)(fresh), theirs, atol=1e-5)


def test_isotonic_rules_nothing_out() -> None:
    targets = np.arange(60) % 3
    fitted = isotonic(np.eye(3)[targets], targets)
    assert (fitted(np.eye(3)) > 0).all()
    assert (isotonic(np.eye(3)[targets], np.zeros_like(targets))(np.eye(3)) > 0).all()


@pytest.mark.parametrize("fit", FITTED.values(), ids=FITTED.keys())
@few
@given(seed=seeds)
def test_neither_the_order_of_classes_nor_of_rows_matters(fit: CalibrationFit, seed: int) -> None:
    logits, targets = drawn(seed, n=120)
    probs = softmax(1.5 * logits + np.array([0.4, 0, -0.8]))
    rng = np.random.default_rng(seed)
    classes, rows = rng.permutation(3), rng.permutation(120)
    made = fit(probs[rows][:, classes], np.argsort(classes)[targets[rows]])(probs[:, classes])
    np.testing.assert_allclose(made, fit(probs, targets)(probs)[:, classes], atol=2e-3)


@pytest.mark.parametrize("fit", [bias_corrected, vector])
def test_few_rows_cannot_carry_many_parameters_far(fit: Callable[[Array, Indices], Scaling]) -> None:
    logits, targets = drawn(5, n=4)
    found = fit(softmax(logits), targets)
    assert (np.abs(np.log(found.scales)) < 2).all()
    assert (np.abs(found.biases) < 2).all()


def test_the_default_waits_for_neither_scipy_nor_scikit_learn() -> None:
    code = """
import sys, numpy
from ensemble.calibration import CALIBRATIONS
probs = numpy.full((4, 2), 0.5)
for name in ("none", "temperature"):
    CALIBRATIONS[name](probs, numpy.array([0, 1, 1, 0]))(probs)
print({"scipy", "sklearn"} & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
