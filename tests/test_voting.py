"""Voters agree with scikit-learn's, with exact arithmetic on ties, and with what a vote has to obey.

Legend: N samples, C classes, M members.
"""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator

from ensemble.predictions import Array, EnsembleError, Indices
from ensemble.voting import VOTERS, Voter, borda_vote, count_ties, hard_vote, soft_vote

every_voter = pytest.mark.parametrize("voter", VOTERS.values(), ids=VOTERS.keys())
few = settings(max_examples=20, deadline=None)  # scikit-learn takes a while


@st.composite
def ballots(draw: st.DrawFn) -> tuple[Indices, Indices]:
    """(M, N, C) whole numbers in proportion to probabilities, and (M,) whole weights: full of ties."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4)))
    parts = draw(arrays(np.int64, shape, elements=st.integers(1, 4)))
    weights = draw(arrays(np.int64, shape[0], elements=st.integers(0, 3)).filter(np.any))
    return parts, weights


@st.composite
def votes(draw: st.DrawFn) -> tuple[Array, Array]:
    """(M, N, C) probabilities and (M,) weights."""
    n_members, n_classes, seed = draw(st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**32 - 1)))
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(n_classes), size=(n_members, 12)), rng.uniform(0.1, 1, size=n_members)


class Fixed(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted classifier that gives row ``i`` of its probabilities to the sample ``[i]``."""

    def __init__(self, probs: Array) -> None:
        self.probs = probs
        self.classes_ = np.arange(probs.shape[1])

    def fit(self, rows: Indices, targets: Indices) -> "Fixed":
        return self

    def predict_proba(self, rows: Indices) -> Array:
        chosen: Array = self.probs[rows[:, 0]]
        return chosen

    def predict(self, rows: Indices) -> Indices:
        labels: Indices = self.predict_proba(rows).argmax(axis=1)
        return labels


def sklearn_vote(probs: Array, weights: Array, kind: str) -> VotingClassifier:
    """Scikit-learn's vote of the same members."""
    members = [(str(number), FrozenEstimator(Fixed(member))) for number, member in enumerate(probs)]
    classes = np.arange(probs.shape[2])
    return VotingClassifier(members, voting=kind, weights=list(weights)).fit(classes[:, None], classes)


def shares_of(parts: Indices) -> Array:
    """Whole numbers as probabilities."""
    shares: Array = parts / parts.sum(axis=2, keepdims=True)
    return shares


def exact_decision(parts: Indices, weights: Indices) -> tuple[int, bool]:
    """One sample's decision in exact arithmetic, and whether ballots alone left it open: ``parts`` is (M, C)."""
    classes = range(parts.shape[1])
    cast = [sum(int(w) for row, w in zip(parts, weights, strict=True) if row.argmax() == c) for c in classes]
    sums = [
        sum(int(w) * Fraction(int(row[c]), int(row.sum())) for row, w in zip(parts, weights, strict=True))
        for c in classes
    ]
    winner = max(classes, key=lambda c: (cast[c], sums[c], -c))
    return winner, cast.count(max(cast)) > 1


@few
@given(vote=votes())
def test_soft_vote_is_that_of_scikit_learn(vote: tuple[Array, Array]) -> None:
    probs, weights = vote
    oracle = sklearn_vote(probs, weights, "soft").predict_proba(np.arange(12)[:, None])
    np.testing.assert_allclose(soft_vote(probs, weights), oracle, atol=1e-12)


@few
@given(vote=votes().filter(lambda vote: count_ties(*vote) == 0))
def test_hard_vote_is_that_of_scikit_learn_where_there_is_no_tie(vote: tuple[Array, Array]) -> None:
    probs, weights = vote
    oracle = sklearn_vote(probs, weights, "hard").predict(np.arange(12)[:, None])
    assert np.array_equal(hard_vote(probs, weights).argmax(axis=1), oracle)


@given(cast=ballots())
def test_a_tie_goes_to_the_larger_sum_of_probabilities(cast: tuple[Indices, Indices]) -> None:
    parts, weights = cast
    expected = [exact_decision(parts[:, row], weights) for row in range(parts.shape[1])]
    probs, as_float = shares_of(parts), weights.astype(np.float64)
    assert hard_vote(probs, as_float).argmax(axis=1).tolist() == [winner for winner, _ in expected]
    assert count_ties(probs, as_float) == sum(tied for _, tied in expected)


def test_a_tie_in_three_tenths_is_a_tie() -> None:
    probs = np.array([[[0.9, 0.1]], [[0.9, 0.1]], [[0.2, 0.8]]])
    weights = np.array([0.1, 0.2, 0.3])  # 0.1 + 0.2 is not 0.3 in floating point
    assert count_ties(probs, weights) == 1
    assert hard_vote(probs, weights).argmax() == 0


def test_sums_that_differ_by_rounding_tie_too_and_go_to_the_lower_index() -> None:
    first = np.array([0.7, 0.4, 0.2])
    probs, weights = np.stack([first, 1 - first], axis=1)[:, None], np.array([2.0, 1.0, 1.0])
    assert hard_vote(probs, weights).argmax() == 0


def exact_borda_winner(parts: Indices, weights: Indices) -> int:
    """One sample's decision in exact arithmetic; ``parts`` is (M, C)."""
    classes = range(parts.shape[1])
    pairs = [
        ([Fraction(int(part), int(row.sum())) for part in row], int(w)) for row, w in zip(parts, weights, strict=True)
    ]
    points = [sum(w * (2 * sum(p < row[c] for p in row) + row.count(row[c]) - 1) for row, w in pairs) for c in classes]
    sums = [sum(w * row[c] for row, w in pairs) for c in classes]
    return max(classes, key=lambda c: (points[c], sums[c], -c))


@given(cast=ballots())
def test_borda_decisions_are_exact_and_ties_go_to_the_larger_sum(cast: tuple[Indices, Indices]) -> None:
    parts, weights = cast
    winners = borda_vote(shares_of(parts), weights.astype(np.float64)).argmax(axis=1)
    assert winners.tolist() == [exact_borda_winner(parts[:, row], weights) for row in range(parts.shape[1])]


@given(cast=ballots().filter(lambda cast: cast[0].shape[2] > 1))
def test_borda_points_are_ranks(cast: tuple[Indices, Indices]) -> None:
    probs, weights = shares_of(cast[0]), cast[1].astype(np.float64)
    points = np.tensordot(weights, rankdata(probs, axis=2) - 1, axes=1)
    shares = points / points.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(borda_vote(probs, weights), shares, atol=2e-9)  # a billionth goes to the winner


@given(vote=votes())
def test_borda_with_two_classes_is_the_hard_vote(vote: tuple[Array, Array]) -> None:
    probs, weights = vote
    two = np.stack([probs[:, :, 0], 1 - probs[:, :, 0]], axis=2)
    np.testing.assert_allclose(borda_vote(two, weights), hard_vote(two, weights), atol=1e-12)


@given(vote=votes(), power=st.floats(0.2, 5))
def test_borda_does_not_hear_how_sure_a_member_is(vote: tuple[Array, Array], power: float) -> None:
    probs, weights = vote
    sharper = probs**power
    sharper /= sharper.sum(axis=2, keepdims=True)
    np.testing.assert_allclose(borda_vote(sharper, weights), borda_vote(probs, weights), atol=2e-9)


@every_voter
@given(vote=votes())
def test_a_vote_is_a_distribution(voter: Voter, vote: tuple[Array, Array]) -> None:
    probs, weights = vote
    result = voter(probs, weights)
    assert result.shape == probs.shape[1:]
    assert (result >= 0).all()
    np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-12)


@every_voter
@given(cast=ballots(), seed=st.integers(0, 99))
def test_the_order_of_members_does_not_matter(voter: Voter, cast: tuple[Indices, Indices], seed: int) -> None:
    probs, weights = shares_of(cast[0]), cast[1].astype(np.float64)
    order = np.random.default_rng(seed).permutation(len(probs))
    np.testing.assert_allclose(voter(probs[order], weights[order]), voter(probs, weights), atol=1e-12)


@every_voter
@given(cast=ballots(), scale=st.floats(1e-3, 1e3))
def test_the_scale_of_weights_does_not_matter(voter: Voter, cast: tuple[Indices, Indices], scale: float) -> None:
    probs, weights = shares_of(cast[0]), cast[1].astype(np.float64)
    np.testing.assert_allclose(voter(probs, scale * weights), voter(probs, weights), atol=1e-12)


@every_voter
@given(vote=votes())
def test_a_member_without_weight_does_not_matter(voter: Voter, vote: tuple[Array, Array]) -> None:
    probs, weights = vote
    more, zero = np.concatenate([probs, probs[:1, ::-1]]), np.append(weights, 0.0)
    np.testing.assert_allclose(voter(more, zero), voter(probs, weights), atol=1e-12)


@every_voter
@given(vote=votes())
def test_one_member_decides_alone(voter: Voter, vote: tuple[Array, Array]) -> None:
    member = vote[0][:1]
    assert np.array_equal(voter(member, np.array([3.0])).argmax(axis=1), member[0].argmax(axis=1))
    assert np.array_equal(soft_vote(member, np.array([3.0])), member[0])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"shape \(1,\) for 2 members; give one weight a member"),
        ([1.0, -1.0], r"weights are \[1\.0, -1\.0\]; give finite, non-negative"),
        ([0.0, 0.0], r"not all zero"),
        ([1.0, np.nan], r"weights are \[1\.0, nan\]"),
        ([1.0, np.inf], r"weights are \[1\.0, inf\]"),
    ],
)
@pytest.mark.parametrize("vote", [*VOTERS.values(), count_ties], ids=[*VOTERS, "count_ties"])
def test_weights_that_cannot_weigh_are_refused(vote: Voter, weights: list[float], message: str) -> None:
    with pytest.raises(EnsembleError, match=message):
        vote(np.full((2, 3, 4), 0.25), np.array(weights))
