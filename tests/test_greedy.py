"""Greedy selection is near the best multiset of members and never below the best member; its losses are the usual ones.

Legend: N samples, C classes, M members.
"""

from collections.abc import Callable
from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from sklearn.metrics import log_loss as sklearn_log_loss

from ensemble.greedy import STEPS, greedy_weights, macro_f1_loss, mean_log_loss
from ensemble.metrics import log_loss, macro_f1
from ensemble.predictions import Array, Indices
from ensemble.voting import soft_vote
from ensemble.weights import given_to_truth, greedy, greedy_f1, simplex
from tests.test_weights import trained

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=15, deadline=None)


def loss_of(weights: Array, probs: Array, targets: Indices) -> float:
    """Log-loss of a soft vote."""
    return log_loss(targets, soft_vote(probs, weights))


def f1_of(weights: Array, probs: Array, targets: Indices) -> float:
    """Macro F1 of a soft vote."""
    return macro_f1(targets, soft_vote(probs, weights).argmax(axis=1), probs.shape[2])


def multisets(n_members: int, size: int) -> list[Array]:
    """Every way to select at most ``size`` times, as (M,) counts."""
    return [
        np.bincount(chosen, minlength=n_members).astype(np.float64)
        for n in range(1, size + 1)
        for chosen in combinations_with_replacement(range(n_members), n)
    ]


def selected(probs: Array, targets: Indices) -> Array:
    """(M,) shares of the selections for log-loss from all members, without bags."""
    return greedy_weights(given_to_truth(probs, targets), mean_log_loss, bags=1)


def selected_for_f1(probs: Array, targets: Indices) -> Array:
    """(M,) shares of the selections for macro F1 from all members, without bags."""
    return greedy_weights(probs.swapaxes(1, 2), macro_f1_loss(targets), bags=1)


@few
@given(seed=seeds, n_members=st.integers(1, 4))
def test_log_loss_is_near_that_of_the_best_multiset(seed: int, n_members: int) -> None:
    probs, targets = trained(seed, n_members)
    found = loss_of(selected(probs, targets), probs, targets)
    best = min(loss_of(counts, probs, targets) for counts in multisets(n_members, 6))
    assert found <= best + 0.001
    assert found <= loss_of(simplex(probs, targets), probs, targets) + 0.005


@few
@given(seed=seeds, n_members=st.integers(1, 3))
def test_macro_f1_is_near_that_of_the_best_multiset(seed: int, n_members: int) -> None:
    probs, targets = trained(seed, n_members)
    best = max(f1_of(counts, probs, targets) for counts in multisets(n_members, 6))
    assert f1_of(selected_for_f1(probs, targets), probs, targets) >= best - 0.05


@pytest.mark.parametrize("rule", [greedy, selected])
@few
@given(seed=seeds, n_members=st.integers(1, 9), n=st.integers(1, 60))
def test_no_member_has_less_log_loss(
    rule: Callable[[Array, Indices], Array], seed: int, n_members: int, n: int
) -> None:
    probs, targets = trained(seed, n_members, n)
    alone = min(log_loss(targets, member) for member in probs)
    assert loss_of(rule(probs, targets), probs, targets) <= alone + 1e-9


@pytest.mark.parametrize("rule", [greedy_f1, selected_for_f1])
@few
@given(seed=seeds, n_members=st.integers(1, 9), n=st.integers(1, 60))
def test_no_member_has_more_macro_f1(
    rule: Callable[[Array, Indices], Array], seed: int, n_members: int, n: int
) -> None:
    probs, targets = trained(seed, n_members, n)
    alone = max(macro_f1(targets, member.argmax(axis=1), 3) for member in probs)
    assert f1_of(rule(probs, targets), probs, targets) >= alone - 1e-4


@few
@given(seed=seeds)
def test_shares_without_bags_are_whole_selections(seed: int) -> None:
    shares = selected(*trained(seed, 5))
    sizes = np.arange(1, 5 + STEPS + 1)[:, None]
    assert np.isclose(shares * sizes, np.round(shares * sizes)).all(axis=1).any()


@few
@given(seed=seeds, n_members=st.integers(2, 6))
def test_copies_of_a_member_share_its_weight(seed: int, n_members: int) -> None:
    probs, targets = trained(seed, n_members)
    once, twice = greedy(probs, targets), greedy(np.concatenate([probs, probs[:1]]), targets)
    np.testing.assert_allclose(twice[:-1], [once[0] / 2, *once[1:]])
    assert twice[-1] == twice[0]


@few
@given(seed=seeds)
def test_the_order_of_samples_does_not_matter(seed: int) -> None:
    probs, targets = trained(seed, 6)
    order = np.random.default_rng(seed).permutation(len(targets))
    for rule in (greedy, greedy_f1):
        np.testing.assert_allclose(rule(probs[:, order], targets[order]), rule(probs, targets))


def test_a_seed_draws_the_bags() -> None:
    members = np.random.default_rng(0).beta(3, 1, size=(12, 200))  # what equally good members gave to the truth
    first, again, other = (greedy_weights(members, mean_log_loss, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@few
@given(seed=seeds, n=st.integers(1, 70), n_classes=st.integers(2, 5))
def test_losses_are_those_of_scikit_learn(seed: int, n: int, n_classes: int) -> None:
    probs, targets = trained(seed, 3, n, n_classes)
    classes = range(n_classes)
    logs = [sklearn_log_loss(targets, member, labels=classes) for member in probs]
    np.testing.assert_allclose(mean_log_loss(given_to_truth(probs, targets)), logs)
    labels = probs.argmax(axis=2)
    scores = [f1_score(targets, member, labels=classes, average="macro", zero_division=0) for member in labels]
    np.testing.assert_allclose(macro_f1_loss(targets)(probs.swapaxes(1, 2)), 1 - np.array(scores), atol=1e-4)


def test_log_loss_of_members_that_are_always_wrong_is_finite() -> None:
    floor = np.finfo(np.float64).eps
    np.testing.assert_allclose(mean_log_loss(np.full((2, 100), floor)), -np.log(floor))
