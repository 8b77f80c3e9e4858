"""The stack is scikit-learn's logistic regression where they can be compared, and the geometric mean at its other end.

Legend: N samples, C classes, M members.
"""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from ensemble import stacking
from ensemble.metrics import log_loss
from ensemble.predictions import Array, EnsembleError, Indices
from ensemble.stacking import RIDGE, RIDGES, Stack, ridge_logistic, stacked
from tests.test_weights import trained

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=15, deadline=None)


def persons(n: int, photos: int = 4) -> np.ndarray:
    """(N,) names of people of a few photos each."""
    return np.array([f"p{row // photos:04}" for row in range(n)])


def geometric_mean(probs: Array) -> Array:
    """(N, C) the members' normalised geometric mean."""
    pooled = np.exp(np.log(probs).mean(axis=0))
    mean: Array = pooled / pooled.sum(axis=1, keepdims=True)
    return mean


def penalised(stack: Stack, probs: Array, targets: Indices) -> float:
    """What a stack has least of, written down anew."""
    n_members, _, n_classes = probs.shape
    moved = stack.coefficients - np.eye(n_classes) / n_members
    distance = (moved**2).sum() + (stack.intercept**2).sum()
    return len(targets) * log_loss(targets, stack(probs)) + stack.ridge / 2 * float(distance)


@few
@given(seed=seeds, ridge=st.sampled_from([0.1, 1.0, 30.0, 1000.0]), n_classes=st.integers(3, 4))
def test_without_an_offset_it_is_the_logistic_regression_of_scikit_learn(
    seed: int, ridge: float, n_classes: int
) -> None:
    probs, targets = trained(seed, 3, 200, n_classes)
    features = np.column_stack([*np.log(probs), np.ones(200)])
    oracle = LogisticRegression(C=1 / ridge, fit_intercept=False, tol=1e-9, solver="newton-cholesky").fit(
        features, targets
    )
    found = ridge_logistic(features, targets, np.zeros((200, n_classes)), ridge)
    np.testing.assert_allclose(found, oracle.coef_.T, atol=1e-4)


@few
@given(seed=seeds, n_members=st.integers(1, 5))
def test_a_strong_ridge_gives_the_geometric_mean(seed: int, n_members: int) -> None:
    probs, targets = trained(seed, n_members)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stacking, "RIDGE", 1e12)
        np.testing.assert_allclose(stacked(probs, targets)(probs), geometric_mean(probs), atol=1e-7)


@few
@given(seed=seeds)
def test_nothing_beside_it_has_less_penalised_loss(seed: int) -> None:
    probs, targets = trained(seed)
    stack, rng = stacked(probs, targets), np.random.default_rng(seed)
    least = penalised(stack, probs, targets)
    assert least <= len(targets) * log_loss(targets, geometric_mean(probs)) + 1e-6
    for size in (1e-3, 1e-2, 1e-1):
        aside = stack.coefficients + rng.normal(scale=size, size=stack.coefficients.shape)
        assert least <= penalised(Stack(aside, stack.intercept, stack.ridge), probs, targets) + 1e-9


@few
@given(seed=seeds)
def test_a_stack_gives_distributions_and_does_not_know_the_order_of_members(seed: int) -> None:
    probs, targets = trained(seed)
    order = np.random.default_rng(seed).permutation(len(probs))
    first, second = stacked(probs, targets, persons(80)), stacked(probs[order], targets, persons(80))
    new, _ = trained(seed + 1, n=30)
    assert first.ridge == second.ridge
    np.testing.assert_allclose(first(new).sum(axis=1), 1)
    np.testing.assert_allclose(first(new), second(new[order]), atol=1e-5)


def test_the_order_of_samples_does_not_matter() -> None:
    probs, targets = trained(0)
    order = np.random.default_rng(0).permutation(80)
    first = stacked(probs, targets, persons(80))
    second = stacked(probs[:, order], targets[order], persons(80)[order])
    assert first.ridge == second.ridge
    np.testing.assert_allclose(first(probs), second(probs), atol=1e-5)


def test_the_ridge_follows_what_the_members_know() -> None:
    rng = np.random.default_rng(0)
    groups = persons(600)
    calibrated = rng.dirichlet(np.ones(3), size=600)  # what it says is true, so that nothing is to be gained
    drawn = (rng.random((600, 1)) > calibrated.cumsum(axis=1)).sum(axis=1)
    assert stacked(calibrated[None], drawn, groups).ridge == max(RIDGES)
    probs, targets = trained(0, 3, 600)
    mistaken = np.roll(probs, 1, axis=2)  # knows much, but calls each class by the name of the next
    assert stacked(mistaken, targets, groups).ridge == min(RIDGES)


def test_one_person_or_none_leaves_the_ridge_as_it_is() -> None:
    probs, targets = trained(0)
    assert stacked(probs, targets).ridge == RIDGE
    assert stacked(probs, targets, np.full(80, "a")).ridge == RIDGE


def test_a_class_that_is_ruled_out_or_missing_is_not_an_error() -> None:
    probs = np.full((2, 6, 3), [0.0, 1.0, 0.0])
    answers = stacked(probs, np.array([0, 0, 0, 1, 1, 1]))(probs)
    assert np.isfinite(answers).all()
    np.testing.assert_allclose(answers.sum(axis=1), 1)


def test_a_stack_can_be_written_down() -> None:
    probs, targets = trained(0)
    stack = stacked(probs, targets)
    read = json.loads(json.dumps(stack.as_dict()))
    assert read["kind"] == "stack"
    again = Stack(np.array(read["coefficients"]), np.array(read["intercept"]), read["ridge"])
    assert np.array_equal(again(probs), stack(probs))


def test_what_cannot_be_fitted_is_refused() -> None:
    probs, targets = trained(0)
    with pytest.raises(EnsembleError, match="targets run from -1 to 2, outside 0 to 2"):
        stacked(probs, np.where(np.arange(80) == 5, -1, targets))
    with pytest.raises(EnsembleError, match="got 3 groups for 80 targets; give one group a sample"):
        stacked(probs, targets, persons(3))
