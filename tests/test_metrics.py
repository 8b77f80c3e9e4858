"""Scores agree with scikit-learn's over all classes, and the interval with a plain bootstrap of people.

Legend: N samples, C classes.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from ensemble.bootstrap import person_interval
from ensemble.metrics import accuracy, confusion, log_loss, macro_f1, precision_recall_f1
from ensemble.predictions import EnsembleError, Indices, Names


@st.composite
def outcomes(draw: st.DrawFn) -> tuple[Indices, Indices, int]:
    """(N,) targets, (N,) labels and C; some classes never appear."""
    n_classes = draw(st.integers(2, 6))  # scikit-learn warns of a single class
    pairs = draw(st.lists(st.tuples(*[st.integers(0, n_classes - 1)] * 2), min_size=1, max_size=20))
    targets, labels = np.array(pairs, dtype=np.int64).T
    return targets, labels, n_classes


def photographed(n_people: int, photos: int, seed: int = 0, n_classes: int = 4) -> tuple[Indices, Indices, Names]:
    """Targets, labels of which some three in four are right, and persons."""
    rng = np.random.default_rng(seed)
    n = n_people * photos
    targets = rng.integers(n_classes, size=n)
    labels = np.where(rng.random(n) < 0.7, targets, rng.integers(n_classes, size=n))
    return targets, labels, np.repeat(np.arange(n_people), photos).astype(np.str_)


@given(outcome=outcomes())
def test_scores_are_those_of_scikit_learn_over_all_classes(outcome: tuple[Indices, Indices, int]) -> None:
    targets, labels, n_classes = outcome
    every = range(n_classes)
    matrix = confusion(targets, labels, n_classes)
    assert np.array_equal(matrix, oracle.confusion_matrix(targets, labels, labels=every))
    scores = oracle.precision_recall_fscore_support(targets, labels, labels=every, zero_division=0)[:3]
    np.testing.assert_allclose(precision_recall_f1(matrix), np.transpose(scores))
    expected = oracle.f1_score(targets, labels, labels=every, average="macro", zero_division=0)
    assert macro_f1(targets, labels, n_classes) == pytest.approx(expected)
    assert accuracy(targets, labels, n_classes) == pytest.approx(oracle.accuracy_score(targets, labels))


@given(outcome=outcomes(), seed=st.integers(0, 99), sharp=st.sampled_from([0.01, 1.0]))
def test_log_loss_is_that_of_scikit_learn(outcome: tuple[Indices, Indices, int], seed: int, sharp: float) -> None:
    targets, _, n_classes = outcome
    probs = np.random.default_rng(seed).dirichlet(np.full(n_classes, sharp), size=len(targets))
    expected = oracle.log_loss(targets, probs, labels=range(n_classes))
    assert log_loss(targets, probs) == pytest.approx(expected)


@given(outcome=outcomes(), seed=st.integers(0, 99))
def test_weighted_scores_are_those_of_scikit_learn(outcome: tuple[Indices, Indices, int], seed: int) -> None:
    targets, labels, n_classes = outcome
    rng = np.random.default_rng(seed)
    weights = rng.exponential(size=len(targets)) * (rng.random(len(targets)) < 0.8) + 1e-3
    every, probs = range(n_classes), rng.dirichlet(np.ones(n_classes), size=len(targets))
    matrix = confusion(targets, labels, n_classes, weights)
    np.testing.assert_allclose(matrix, oracle.confusion_matrix(targets, labels, labels=every, sample_weight=weights))
    expected = oracle.f1_score(targets, labels, labels=every, average="macro", zero_division=0, sample_weight=weights)
    assert macro_f1(targets, labels, n_classes, weights) == pytest.approx(expected)
    expected = oracle.accuracy_score(targets, labels, sample_weight=weights)
    assert accuracy(targets, labels, n_classes, weights) == pytest.approx(expected)
    expected = oracle.log_loss(targets, probs, labels=every, sample_weight=weights)
    assert log_loss(targets, probs, weights) == pytest.approx(expected)


@given(outcome=outcomes(), times=st.integers(1, 9))
def test_a_row_of_weight_n_is_n_rows(outcome: tuple[Indices, Indices, int], times: int) -> None:
    targets, labels, n_classes = outcome
    each = 1 + np.arange(len(targets)) % times
    repeated = confusion(np.repeat(targets, each), np.repeat(labels, each), n_classes)
    assert np.array_equal(confusion(targets, labels, n_classes, each.astype(float)), repeated)


def test_counts_are_whole_unless_weighted() -> None:
    targets = np.array([0, 1])
    assert confusion(targets, targets, 2).dtype == np.int64
    assert confusion(targets, targets, 2, np.array([0.5, 1])).tolist() == [[0.5, 0], [0, 1]]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"weights have shape \(1,\) for 2 samples; give one weight a sample"),
        ([0.0, 0.0], "weights run from 0 to 0; give finite, non-negative weights that are not all zero"),
        ([1.0, -1.0], "weights run from -1 to 1; give finite"),
        ([1.0, np.inf], "weights run from 1 to inf; give finite"),
        ([1.0, np.nan], "weights run from nan to nan; give finite"),
    ],
)
def test_weights_that_count_nothing_are_refused(weights: list[float], message: str) -> None:
    targets = np.array([0, 1])
    for score in (confusion, macro_f1, accuracy):
        with pytest.raises(EnsembleError, match=message):
            score(targets, targets, 2, np.array(weights))
    with pytest.raises(EnsembleError, match=message):
        log_loss(targets, np.full((2, 2), 0.5), np.array(weights))


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    assert log_loss(np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(-np.log(np.finfo(float).eps))


@given(outcome=outcomes())
def test_many_confusion_matrices_are_scored_at_once(outcome: tuple[Indices, Indices, int]) -> None:
    targets, labels, n_classes = outcome
    pair = np.stack([confusion(targets, labels, n_classes), confusion(labels, targets, n_classes)])
    assert np.array_equal(precision_recall_f1(pair), [precision_recall_f1(matrix) for matrix in pair])


def test_a_single_class_is_always_right() -> None:
    targets = np.zeros(3, dtype=np.int64)
    assert macro_f1(targets, targets, 1) == accuracy(targets, targets, 1) == 1
    assert log_loss(targets, np.ones((3, 1))) == pytest.approx(0)


def test_a_class_that_never_appears_counts_nothing() -> None:
    targets = np.array([0, 1])
    assert macro_f1(targets, targets, 4) == 0.5


@pytest.mark.parametrize(
    ("targets", "labels", "message"),
    [
        ([0, 1], [0], "got 2 targets and 1 predictions"),
        ([0, -1], [0, 1], r"targets run from -1 to 0, outside 0 to 2; keep only samples whose class is known"),
        ([0, 1], [0, 3], "labels run from 0 to 3, outside 0 to 2"),
        ([], [], "targets are empty; give at least one sample"),
    ],
)
def test_what_cannot_be_scored_is_refused(targets: list[int], labels: list[int], message: str) -> None:
    truth, called = np.array(targets, dtype=np.int64), np.array(labels, dtype=np.int64)
    for score in (confusion, macro_f1, accuracy):
        with pytest.raises(EnsembleError, match=message):
            score(truth, called, 3)
    with pytest.raises(EnsembleError, match=message):
        person_interval(truth, called, truth.astype(np.str_), 3)


def test_log_loss_of_unknown_targets_is_refused() -> None:
    with pytest.raises(EnsembleError, match="targets run from -1 to 0"):
        log_loss(np.array([0, -1]), np.full((2, 3), 1 / 3))


def test_every_sample_has_a_person() -> None:
    targets, labels, persons = photographed(5, 2)
    with pytest.raises(EnsembleError, match="got 9 persons for 10 targets"):
        person_interval(targets, labels, persons[1:], 4)


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_holds_the_score_and_nests(seed: int) -> None:
    targets, labels, persons = photographed(200, 5, seed)
    low, high = person_interval(targets, labels, persons, 4, seed=seed)
    inner_low, inner_high = person_interval(targets, labels, persons, 4, seed=seed, level=0.5)
    assert low < inner_low < macro_f1(targets, labels, 4) < inner_high < high


def test_the_interval_is_a_function_of_its_seed_and_not_of_the_order_of_rows() -> None:
    targets, labels, persons = photographed(50, 3)
    order = np.random.default_rng(1).permutation(len(targets))
    first = person_interval(targets, labels, persons, 4, rounds=50)
    assert person_interval(targets[order], labels[order], persons[order], 4, rounds=50) == first
    assert person_interval(targets, labels, persons, 4, rounds=50, seed=1) != first


def test_copies_of_a_photo_teach_nothing() -> None:
    targets, labels, persons = photographed(150, 1)
    honest = person_interval(targets, labels, persons, 4)
    targets, labels, persons = np.repeat(targets, 7), np.repeat(labels, 7), np.repeat(persons, 7)
    assert person_interval(targets, labels, persons, 4) == pytest.approx(honest)
    photos = np.arange(len(targets)).astype(np.str_)
    low, high = person_interval(targets, labels, photos, 4)
    assert honest[1] - honest[0] > 2 * (high - low)


def test_the_interval_is_that_of_drawing_people_one_by_one() -> None:
    targets, labels, persons = photographed(40, 3)
    rng = np.random.default_rng(7)
    rows = {person: np.flatnonzero(persons == person) for person in np.unique(persons)}
    scores = []
    for _ in range(1500):
        drawn = np.concatenate([rows[person] for person in rng.choice(list(rows), size=len(rows))])
        scores.append(macro_f1(targets[drawn], labels[drawn], 4))
    expected = np.quantile(scores, [0.025, 0.975])
    np.testing.assert_allclose(person_interval(targets, labels, persons, 4, rounds=6000), expected, atol=0.015)
