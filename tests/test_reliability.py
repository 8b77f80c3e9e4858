"""Scores of probabilities agree with scikit-learn's and with loops, and their intervals with repeated rows.

Legend: N samples, C classes, K bins.
"""

from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from ensemble.bootstrap import Draws
from ensemble.calibration import temperature
from ensemble.logs import log, softmax
from ensemble.metrics import log_loss
from ensemble.predictions import Array, EnsembleError, Indices, Names
from ensemble.reliability import classwise_ece, drawn_ece, reliability, row_briers, row_log_losses

SCORES = ("log_loss", "brier", "classwise_ece")
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=12, deadline=None)  # a seed is all there is to vary


def drawn(seed: int, n: int = 200, n_classes: int = 3) -> tuple[Indices, Array]:
    """(N,) classes drawn with just the (N, C) probabilities."""
    rng = np.random.default_rng(seed)
    probs = softmax(rng.normal(scale=2, size=(n, n_classes)))
    return (probs.cumsum(axis=1)[:, :-1] < rng.random((n, 1))).sum(axis=1), probs


def people(n: int, n_photos: int) -> Names:
    """(N,) persons with so many photos each."""
    return (np.arange(n) // n_photos).astype(np.str_)


def slow_ece(targets: Indices, probs: Array, bins: int) -> float:
    """Class-wise ECE by its definition."""
    n, n_classes = probs.shape
    total = 0.0
    for c in range(n_classes):
        for k in range(bins):
            last = k == bins - 1
            rows = [i for i in range(n) if k <= probs[i, c] * bins and (last or probs[i, c] * bins < k + 1)]
            if rows:
                share = sum(targets[i] == c for i in rows) / len(rows)
                total += len(rows) / n * abs(share - probs[rows, c].mean())
    return float(total / n_classes)


def told(found: dict[str, dict[str, object]], score: str) -> tuple[float, list[float]]:
    """A score and its interval."""
    return cast(float, found[score]["value"]), cast(list[float], found[score]["interval_95"])


@few
@given(seed=seeds, n_classes=st.integers(2, 6))
def test_scores_agree_with_scikit_learn(seed: int, n_classes: int) -> None:
    targets, probs = drawn(seed, n_classes=n_classes)
    labels = np.arange(n_classes)
    brier = brier_score_loss(targets, probs, labels=labels, scale_by_half=False)
    assert row_briers(targets, probs).mean() == pytest.approx(brier)
    assert row_log_losses(targets, probs).mean() == pytest.approx(sklearn_log_loss(targets, probs, labels=labels))


def test_scores_of_zeros_and_ones_are_finite_and_those_of_the_report() -> None:
    targets, probs = np.array([0, 1, 2]), np.eye(3)[[0, 1, 1]]
    assert row_log_losses(targets, probs).mean() == log_loss(targets, probs)
    assert row_briers(targets, probs).tolist() == [0, 0, 2]


@few
@given(seed=seeds, n=st.integers(1, 40), n_classes=st.integers(1, 4), bins=st.integers(1, 20))
def test_class_wise_ece_is_what_its_definition_says(seed: int, n: int, n_classes: int, bins: int) -> None:
    targets, probs = drawn(seed, n, n_classes)
    probs[::3] = np.eye(n_classes)[probs[::3].argmax(axis=1)]  # 0 and 1 belong to the outer bins
    assert classwise_ece(targets, probs, bins=bins) == pytest.approx(slow_ece(targets, probs, bins))


@pytest.mark.parametrize("n_classes", [2, 3, 18])
def test_class_wise_ece_at_its_ends(n_classes: int) -> None:
    targets = np.arange(90) % n_classes
    hard = np.eye(n_classes)
    assert classwise_ece(targets, hard[targets]) == 0
    assert classwise_ece(targets, hard[(targets + 1) % n_classes]) == pytest.approx(2 / n_classes)
    assert classwise_ece(targets, np.full((90, n_classes), 1 / n_classes)) == pytest.approx(0)


def test_with_one_bin_only_the_mix_of_classes_counts() -> None:
    targets, probs = drawn(0)
    gaps = probs.mean(axis=0) - np.bincount(targets, minlength=3) / len(targets)
    assert classwise_ece(targets, probs, bins=1) == pytest.approx(np.abs(gaps).mean())


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(EnsembleError, match="targets are empty"):
        classwise_ece(np.array([], dtype=np.int64), np.ones((0, 3)))
    with pytest.raises(EnsembleError, match="targets run from 0 to 3, outside 0 to 2"):
        classwise_ece(np.array([0, 3]), np.full((2, 3), 1 / 3))


@few
@given(seed=seeds, bins=st.integers(1, 20))
def test_drawn_ece_is_that_of_repeated_rows(seed: int, bins: int) -> None:
    targets, probs = drawn(seed, n=60)
    persons = np.random.default_rng(seed).integers(20, size=60).astype(np.str_)  # more photos of some than of others
    draws = Draws.of(persons, rounds=6, seed=seed)
    found = drawn_ece(targets, probs, draws, bins=bins)
    for times, ece in zip(np.concatenate(list(draws.times())), found, strict=True):
        rows = np.repeat(np.arange(60), times[draws.person].astype(np.int64))
        assert ece == pytest.approx(classwise_ece(targets[rows], probs[rows], bins=bins))


@pytest.mark.parametrize("seed", range(5))
def test_a_report_says_what_calibration_did(seed: int) -> None:
    targets, probs = drawn(seed, n=2100)
    bold = softmax(4 * log(probs))
    mild = temperature(bold, targets)(bold)
    before, after = (reliability(targets, shown, people(2100, 7)) for shown in (bold, mild))
    for score in SCORES:
        (worse, (lowest, _)), (better, (_, highest)) = told(before, score), told(after, score)
        assert better < worse
        assert highest < lowest


@pytest.mark.parametrize("seed", range(5))
def test_intervals_of_means_hold_them_and_copies_teach_nothing(seed: int) -> None:
    targets, probs = drawn(seed, n=150)
    once = reliability(targets, probs, people(150, 1))
    copies = np.repeat(np.arange(150), 7)
    again = reliability(targets[copies], probs[copies], people(150, 1)[copies])
    for score in SCORES:
        value, interval = told(once, score)
        assert (value, *interval) == pytest.approx((told(again, score)[0], *told(again, score)[1]))
        if score != "classwise_ece":  # a sum of absolute values only grows by noise, so its draws lie higher
            assert interval[0] < value < interval[1]


def test_a_report_is_a_function_of_its_seed_and_not_of_the_order_of_rows() -> None:
    targets, probs = drawn(0)
    persons = people(200, 4)
    order = np.random.default_rng(1).permutation(200)
    first = reliability(targets, probs, persons)
    again = reliability(targets[order], probs[order], persons[order])
    other = reliability(targets, probs, persons, seed=1)
    for score in SCORES:
        assert told(again, score)[1] == pytest.approx(told(first, score)[1])
        assert told(other, score)[1] != told(first, score)[1]
