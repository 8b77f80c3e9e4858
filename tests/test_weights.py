"""Weight rules give weights, those in proportion to a score do, and the simplex rule gives the best ones.

Legend: N samples, C classes, M members.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, minimize
from sklearn.metrics import accuracy_score, f1_score
from sklearn.metrics import log_loss as sklearn_log_loss

from ensemble.metrics import log_loss
from ensemble.mixture import GAP
from ensemble.predictions import Array, EnsembleError, Indices
from ensemble.voting import soft_vote
from ensemble.weights import (
    WEIGHT_RULES,
    WeightRule,
    accuracy,
    f1,
    logloss,
    simplex,
    uniform,
)

every_rule = pytest.mark.parametrize("rule", WEIGHT_RULES.values(), ids=WEIGHT_RULES.keys())
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)  # a seed is all there is to vary


def trained(seed: int, n_members: int = 4, n: int = 80, n_classes: int = 3) -> tuple[Array, Indices]:
    """(M, N, C) probabilities of members that know more or less, and (N,) targets."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(n_classes, size=n)
    knowledge = rng.uniform(0, 4, size=(n_members, 1, 1)) * np.eye(n_classes)[targets]
    odds = np.exp(knowledge + rng.normal(size=(n_members, n, n_classes)))
    return odds / odds.sum(axis=2, keepdims=True), targets


def loss_of(weights: Array, probs: Array, targets: Indices) -> float:
    """Log-loss of a soft vote."""
    return log_loss(targets, soft_vote(probs, weights))


@every_rule
@few
@given(seed=seeds, n_members=st.integers(1, 5), n=st.integers(1, 20), n_classes=st.integers(1, 4))
def test_weights_are_shares(rule: WeightRule, seed: int, n_members: int, n: int, n_classes: int) -> None:
    weights = rule(*trained(seed, n_members, n, n_classes))
    assert weights.shape == (n_members,)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)


@every_rule
@few
@given(seed=seeds)
def test_weights_follow_their_members(rule: WeightRule, seed: int) -> None:
    probs, targets = trained(seed)
    order = np.random.default_rng(seed).permutation(len(probs))
    np.testing.assert_allclose(rule(probs[order], targets), rule(probs, targets)[order], atol=1e-9)


@every_rule
def test_equal_members_weigh_the_same(rule: WeightRule) -> None:
    probs, targets = trained(0)
    np.testing.assert_allclose(rule(probs[[0, 0, 0]], targets), 1 / 3)


@every_rule
@pytest.mark.parametrize("given_to_truth", [0.0, 1e-300])
def test_members_that_are_always_wrong_weigh_the_same(rule: WeightRule, given_to_truth: float) -> None:
    probs = np.full((2, 5, 2), [given_to_truth, 1.0])
    np.testing.assert_allclose(rule(probs, np.zeros(5, dtype=np.int64)), 0.5)


@few
@given(seed=seeds)
def test_scores_are_weights_in_proportion(seed: int) -> None:
    probs, targets = trained(seed)
    labels = probs.argmax(axis=2)
    scores = [f1_score(targets, member, labels=range(3), average="macro", zero_division=0) for member in labels]
    np.testing.assert_allclose(f1(probs, targets), np.divide(scores, sum(scores)))
    hits = [accuracy_score(targets, member) for member in labels]
    np.testing.assert_allclose(accuracy(probs, targets), np.divide(hits, sum(hits)))
    inverse = [1 / sklearn_log_loss(targets, member, labels=range(3)) for member in probs]
    np.testing.assert_allclose(logloss(probs, targets), np.divide(inverse, sum(inverse)))


def test_flawless_members_share_the_log_loss_weights() -> None:
    targets = np.array([0, 1, 1])
    flawless, doubting = np.eye(2)[targets], np.full((3, 2), 0.5)
    np.testing.assert_allclose(logloss(np.stack([flawless, doubting, flawless]), targets), [0.5, 0, 0.5], atol=1e-9)


@few
@given(seed=seeds)
def test_simplex_weights_beat_equal_weights_and_every_member_alone(seed: int) -> None:
    probs, targets = trained(seed)
    best = loss_of(simplex(probs, targets), probs, targets)
    assert best <= loss_of(uniform(probs, targets), probs, targets)
    assert best <= min(log_loss(targets, member) for member in probs) + GAP


@pytest.mark.parametrize("seed", range(10))
def test_simplex_weights_are_those_of_a_general_solver(seed: int) -> None:
    probs, targets = trained(seed, n=300)
    solved = minimize(
        loss_of,
        x0=uniform(probs, targets),
        args=(probs, targets),
        method="SLSQP",
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(np.ones((1, len(probs))), 1, 1),
        options={"ftol": 1e-12},
    )
    weights = simplex(probs, targets)
    assert loss_of(weights, probs, targets) == pytest.approx(solved.fun, abs=1e-5)
    np.testing.assert_allclose(weights, solved.x, atol=0.02)


@pytest.mark.parametrize("rule", [rule for name, rule in WEIGHT_RULES.items() if name != "uniform"])
def test_rules_that_look_at_targets_refuse_unknown_ones(rule: WeightRule) -> None:
    probs, targets = trained(0)
    with pytest.raises(EnsembleError, match="targets run from -1 to 2, outside 0 to 2; keep only samples whose class"):
        rule(probs, np.where(np.arange(80) == 5, -1, targets))
    with pytest.raises(EnsembleError, match="targets are empty"):
        rule(probs[:, :0], targets[:0])
