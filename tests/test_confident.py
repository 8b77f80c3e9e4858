"""Confident learning against cleanlab and against the equations written out, on random predictions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.confident import (
    confident_classes,
    confident_joint,
    contradicted,
    margins,
    self_confidence,
    thresholds,
)
from ensemble.predictions import Array, EnsembleError, Indices

SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed: int, n_classes: int) -> tuple[Array, Indices]:
    """Probabilities that are more or less sure, and labels that follow them, but for some; every class occurs."""
    rng = np.random.default_rng(seed)
    mix = rng.dirichlet(np.full(n_classes, 2.0))
    truth = np.concatenate([np.arange(n_classes), rng.choice(n_classes, 40, p=mix)])
    probs = np.stack([rng.dirichlet(0.2 + rng.uniform(0, 4) * np.eye(n_classes)[label]) for label in truth])
    noise = rng.random(len(truth)) < 0.2
    noise[:n_classes] = False
    return probs, np.where(noise, rng.integers(n_classes, size=len(truth)), truth)


def by_the_paper(probs: Array, targets: Indices) -> Indices:
    """The confident class of every row, equations 1 and 2 written out; -1 = none."""
    found = []
    means = [probs[targets == k, k].mean() for k in range(probs.shape[1])]
    for row in probs:
        sure = [k for k in range(len(row)) if row[k] >= means[k] - 1e-6]
        found.append(max(sure, key=lambda k: row[k]) if sure else -1)
    return np.asarray(found)


@settings(max_examples=20)
@given(SEEDS, st.integers(2, 5))
def test_classes_are_those_of_the_paper(seed: int, n_classes: int) -> None:
    probs, targets = drawn(seed, n_classes)
    expected = by_the_paper(probs, targets)
    np.testing.assert_array_equal(confident_classes(probs, targets), expected)
    joint = confident_joint(probs, targets)
    assert joint.sum() == (expected >= 0).sum()
    assert all(joint[i, j] == ((targets == i) & (expected == j)).sum() for i, j in np.ndindex(joint.shape))


@settings(max_examples=12)
@given(SEEDS, st.integers(2, 4))
def test_suspects_are_those_of_cleanlab(seed: int, n_classes: int) -> None:
    from cleanlab.filter import find_label_issues

    probs, targets = drawn(seed, n_classes)
    theirs = find_label_issues(targets, probs, filter_by="confident_learning", n_jobs=1)
    ours = contradicted(probs, targets)
    # of several confident classes the paper takes the most probable one, cleanlab the most probable class of all
    reached = probs >= thresholds(probs, targets) - 1e-6
    same = (reached.sum(axis=1) < 2) | reached[np.arange(len(probs)), probs.argmax(axis=1)]
    np.testing.assert_array_equal(ours[same], theirs[same])
    assert n_classes > 2 or same.all()


@settings(max_examples=20)
@given(SEEDS, st.integers(2, 5))
def test_scores_are_those_of_cleanlab(seed: int, n_classes: int) -> None:
    from cleanlab.rank import get_label_quality_scores

    probs, targets = drawn(seed, n_classes)
    theirs = get_label_quality_scores(targets, probs, method="self_confidence")
    np.testing.assert_allclose(self_confidence(probs, targets), theirs)
    theirs = get_label_quality_scores(targets, probs, method="normalized_margin")
    np.testing.assert_allclose((margins(probs, targets) + 1) / 2, theirs)


@settings(max_examples=20)
@given(SEEDS, st.integers(2, 5))
def test_no_label_that_is_the_most_probable_class_is_contradicted(seed: int, n_classes: int) -> None:
    probs, _ = drawn(seed, n_classes)
    assert not contradicted(probs, probs.argmax(axis=1)).any()


def test_a_class_that_nobody_is_labelled_as_is_suggested_to_nobody() -> None:
    probs = np.asarray([[0.1, 0.1, 0.8], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    targets = np.asarray([0, 0, 1])
    assert thresholds(probs, targets)[2] == np.inf
    assert 2 not in confident_classes(probs, targets)


@pytest.mark.parametrize("targets", [[0, -1], [0, 2], [0]])
def test_labels_that_are_none_are_refused(targets: list[int]) -> None:
    with pytest.raises(EnsembleError, match="labels of 0 to 1"):
        thresholds(np.full((2, 2), 0.5), np.asarray(targets))
