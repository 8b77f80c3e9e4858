"""Votes over bare answers agree with scikit-learn's and SciPy's, with the rule spelled out, and with their laws.

Legend: N samples, M files, C classes.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import VotingClassifier
from sklearn.metrics import matthews_corrcoef

from ensemble.ballots import (
    BALLOTS,
    SETTLED_BY,
    agreement,
    all_differ,
    class_vote,
    correlation,
    effective_number,
    head_vote,
    parts_of,
    without_majority,
)
from ensemble.predictions import EnsembleError, Indices

SIZES = (3, 2, 3)
every_vote = pytest.mark.parametrize("vote", BALLOTS.values(), ids=BALLOTS)


@st.composite
def answers(draw: st.DrawFn) -> tuple[Indices, Indices]:
    """(M, N) joint classes out of a few, so that ties abound, and (M,) whole weights."""
    n_files, n = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    few = draw(st.lists(st.integers(0, 17), min_size=1, max_size=5, unique=True))
    labels = draw(arrays(np.int64, (n_files, n), elements=st.sampled_from(few)))
    weights = draw(arrays(np.int64, n_files, elements=st.integers(0, 3)).filter(np.any))
    return labels, weights


class Column(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Answers with one column of what it is shown."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def fit(self, rows: Indices, targets: Indices) -> Column:
        self.classes_ = np.unique(targets)
        return self

    def predict(self, rows: Indices) -> Indices:
        column: Indices = rows[:, self.number]
        return column


@given(answers())
def test_untied_rows_are_those_of_scikit_learn_and_ties_are_the_same_rows(case: tuple[Indices, Indices]) -> None:
    labels, weights = case
    voter = VotingClassifier([(str(m), Column(m)) for m in range(len(labels))], voting="hard", weights=weights)
    voter.fit(np.resize(labels.T, (18, len(labels))), np.arange(18))  # so that class k is number k
    expected = voter.predict(labels.T)
    outcome = class_vote(labels, weights.astype(float), SIZES)
    np.testing.assert_array_equal(outcome.labels[~outcome.tied], expected[~outcome.tied])
    counts = np.stack([np.bincount(column, weights, 18) for column in labels.T])
    np.testing.assert_array_equal(outcome.tied, (counts == counts.max(axis=1, keepdims=True)).sum(axis=1) > 1)


@given(answers())
def test_equal_weights_give_the_mode(case: tuple[Indices, Indices]) -> None:
    labels, _ = case
    outcome = class_vote(labels, np.ones(len(labels)), SIZES)
    plain = ~outcome.tied
    np.testing.assert_array_equal(outcome.labels[plain], stats.mode(labels, axis=0).mode[plain])


def spelled_out(column: list[int], weights: list[int]) -> tuple[int, str]:
    """The rule for ties in exact arithmetic, one row at a time."""
    parts = list(product(*map(range, SIZES)))
    ballots = {k: sum(w for answer, w in zip(column, weights, strict=True) if answer == k) for k in range(18)}
    best = [k for k in range(18) if ballots[k] == max(ballots.values())]
    if len(best) == 1:
        return best[0], "ballots"

    def support(k: int) -> int:
        pairs = zip(column, weights, strict=True)
        return sum(w for answer, w in pairs for h in range(3) if parts[answer][h] == parts[k][h])

    best = [k for k in best if support(k) == max(map(support, best))]
    if len(best) == 1:
        return best[0], "heads"
    return (column[0], "first file") if column[0] in best else (best[0], "lower index")


@given(answers())
def test_ties_follow_the_rule_spelled_out(case: tuple[Indices, Indices]) -> None:
    labels, weights = case
    outcome = class_vote(labels, weights / 7, SIZES)
    expected = [spelled_out(column.tolist(), weights.tolist()) for column in labels.T]
    assert list(zip(outcome.labels.tolist(), (SETTLED_BY[k] for k in outcome.settled[0]), strict=True)) == expected


@given(answers())
def test_each_head_is_voted_by_itself(case: tuple[Indices, Indices]) -> None:
    labels, weights = case
    outcome = head_vote(labels, weights / 7, SIZES)
    for part, chosen, size in zip(parts_of(labels, SIZES), parts_of(outcome.labels, SIZES), SIZES, strict=True):
        for column, winner in zip(part.T.tolist(), chosen.tolist(), strict=True):
            ballots = [sum(w for a, w in zip(column, weights, strict=True) if a == k) for k in range(size)]
            best = [k for k in range(size) if ballots[k] == max(ballots)]
            assert winner == (column[0] if column[0] in best else best[0])


@every_vote
@given(case=answers(), data=st.data())
def test_laws(vote: object, case: tuple[Indices, Indices], data: st.DataObject) -> None:
    assert callable(vote)
    labels, whole = case
    weights = whole.astype(float)
    outcome = vote(labels, weights, SIZES)
    rows = data.draw(st.permutations(range(labels.shape[1])))
    np.testing.assert_array_equal(vote(labels[:, rows], weights, SIZES).labels, outcome.labels[rows])
    np.testing.assert_array_equal(vote(labels, weights * 5e307, SIZES).labels, outcome.labels)
    for order in list(permutations(range(len(labels))))[:24]:  # who comes first matters where a tie is left to it
        other = vote(labels[list(order)], weights[list(order)], SIZES)
        plain = (outcome.settled < SETTLED_BY.index("first file")).all(axis=0)
        np.testing.assert_array_equal(other.labels[plain], outcome.labels[plain])
        np.testing.assert_array_equal(other.tied, outcome.tied)
    twice = np.repeat(labels, whole, axis=0)  # a weight of 2 is the same file twice
    if whole[0]:
        np.testing.assert_array_equal(vote(twice, np.ones(len(twice)), SIZES).labels, outcome.labels)
    unanimous = (labels == labels[0]).all(axis=0)
    np.testing.assert_array_equal(outcome.labels[unanimous], labels[0, unanimous])
    assert not outcome.tied[unanimous].any()


@given(answers())
def test_two_equal_files_leave_the_first_as_it_is(case: tuple[Indices, Indices]) -> None:
    labels = np.resize(case[0], (2, case[0].shape[1]))
    for vote in BALLOTS.values():
        outcome = vote(labels, np.ones(2), SIZES)
        np.testing.assert_array_equal(outcome.labels, labels[0])
        np.testing.assert_array_equal(outcome.tied, labels[0] != labels[1])


def test_weights_that_are_equal_only_on_paper_tie() -> None:
    labels = np.array([[0], [1], [1]])
    assert class_vote(labels, np.array([0.3, 0.1, 0.2]), SIZES).tied.all()  # 0.1 + 0.2 > 0.3 in floating point


@given(answers())
def test_rows_nobody_agrees_on(case: tuple[Indices, Indices]) -> None:
    labels, weights = case
    total = Fraction(int(weights.sum()))
    for column, differ, lacking in zip(
        labels.T.tolist(), all_differ(labels), without_majority(labels, weights / 7, 18), strict=True
    ):
        assert differ == (len(column) > 1 and len(set(column)) == len(column))
        most = max(sum(int(w) for a, w in zip(column, weights, strict=True) if a == k) for k in column)
        assert lacking == (most / total <= Fraction(1, 2))


@given(answers())
def test_agreement_and_correlation_are_what_scikit_learn_says(case: tuple[Indices, Indices]) -> None:
    labels, _ = case
    same, found = agreement(labels), correlation(labels, 18)
    for a, b in product(range(len(labels)), repeat=2):
        assert same[a, b] == np.mean(labels[a] == labels[b])
        if len(set(labels[a])) > 1 and len(set(labels[b])) > 1:
            assert found[a, b] == pytest.approx(matthews_corrcoef(labels[a], labels[b]))
        else:
            assert found[a, b] == float((labels[a] == labels[b]).all())


@given(answers())
def test_the_effective_number_is_the_participation_ratio_of_the_eigenvalues(case: tuple[Indices, Indices]) -> None:
    matrix = correlation(case[0], 18)
    values = np.linalg.eigvalsh(matrix)
    assert values.min() > -1e-9
    assert effective_number(matrix) == pytest.approx(values.sum() ** 2 / (values**2).sum())
    assert 1 - 1e-9 <= effective_number(matrix) <= len(matrix) + 1e-9


def test_copies_count_as_one_and_unrelated_files_each() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(18, size=(3, 20_000))
    assert effective_number(correlation(labels, 18)) == pytest.approx(3, abs=0.01)
    assert effective_number(correlation(np.repeat(labels[:1], 5, axis=0), 18)) == pytest.approx(1)
    assert effective_number(correlation(np.repeat(labels[:2], 4, axis=0), 18)) == pytest.approx(2, abs=0.01)


@every_vote
@pytest.mark.parametrize(
    ("labels", "weights", "message"),
    [
        ([[0], [18]], [1, 1], "labels run from 0 to 18, outside 0 to 17"),
        ([[0], [-1]], [1, 1], "labels run from -1 to 0"),
        ([[], []], [1, 1], "shape"),
        ([[0], [1]], [1], "got 1 weights for 2 files"),
        ([[0], [1]], [0, 0], "weights are 0, 0; give finite, non-negative"),
        ([[0], [1]], [1, -1], "weights are 1, -1"),
        ([[0], [1]], [1, np.nan], "weights are 1, nan"),
    ],
)
def test_what_is_no_vote_is_refused(vote: object, labels: object, weights: object, message: str) -> None:
    assert callable(vote)
    with pytest.raises(EnsembleError, match=message):
        vote(np.asarray(labels, dtype=np.int64), np.asarray(weights, dtype=float), SIZES)
