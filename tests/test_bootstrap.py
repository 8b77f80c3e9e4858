"""Scores of drawn people are those of repeated rows, and the closed-form error is the bootstrap's.

Legend: N samples, P persons, C classes, R rounds.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import sem

from ensemble import bootstrap
from ensemble.bootstrap import Draws, gain
from ensemble.metrics import macro_f1
from ensemble.predictions import Array, Indices, Names

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=12, deadline=None)  # a seed is all there is to vary


def photographed(seed: int, n_persons: int = 20, n_classes: int = 4) -> tuple[Indices, Indices, Names]:
    """(N,) truth, labels and persons, with one to five photos of each person, in any order."""
    rng = np.random.default_rng(seed)
    persons = rng.permutation(np.repeat(np.arange(n_persons), rng.integers(1, 6, size=n_persons)))
    targets = rng.integers(n_classes, size=len(persons))
    labels = np.where(rng.random(len(persons)) < 0.6, targets, rng.integers(n_classes, size=len(persons)))
    return targets, labels, persons.astype(np.str_)


def repeated(draws: Draws) -> list[Indices]:
    """For each round the rows of the people drawn, each as often as its person."""
    n = np.arange(len(draws.person))
    return [np.repeat(n, times[draws.person].astype(np.int64)) for some in draws.times() for times in some]


def losses(seed: int, n_persons: int, n_photos: int) -> tuple[Array, Array, Names]:
    """(N,) two losses that people share a part of, and (N,) persons."""
    rng = np.random.default_rng(seed)
    persons = np.repeat(np.arange(n_persons), n_photos)
    shared = rng.normal(size=(n_persons, 2))[persons]
    before, after = (shared + rng.normal(size=shared.shape)).T
    return before, after, persons.astype(np.str_)


@few
@given(seed=seeds)
def test_scores_are_those_of_repeated_rows(seed: int) -> None:
    targets, labels, persons = photographed(seed)
    draws = Draws.of(persons, rounds=8, seed=seed)
    values = np.random.default_rng(seed).normal(size=len(persons))
    rows = repeated(draws)
    np.testing.assert_allclose(draws.mean(values), [values[drawn].mean() for drawn in rows])
    counts = [np.bincount(targets[drawn], minlength=4) for drawn in rows]
    assert np.array_equal(draws.sums(targets, 4), counts)
    expected = [macro_f1(targets[drawn], labels[drawn], 4) for drawn in rows]
    np.testing.assert_allclose(draws.macro_f1(targets * 4 + labels, 4), expected)


@few
@given(seed=seeds)
def test_weights_are_those_of_repeated_rows(seed: int) -> None:
    targets, labels, persons = photographed(seed)
    weights = np.random.default_rng(seed).uniform(0.1, 3, size=len(persons))
    values = targets - labels / 3
    draws = Draws.of(persons, rounds=8, seed=seed)
    rows = repeated(draws)
    expected = [macro_f1(targets[drawn], labels[drawn], 4, weights[drawn]) for drawn in rows]
    np.testing.assert_allclose(draws.macro_f1(targets * 4 + labels, 4, weights), expected)
    expected = [np.average(values[drawn], weights=weights[drawn]) for drawn in rows]
    np.testing.assert_allclose(draws.mean(values, weights), expected, atol=1e-12)
    sums = [np.bincount(targets[drawn], weights[drawn], minlength=4) for drawn in rows]
    np.testing.assert_allclose(draws.sums(targets, 4, weights), sums)


@few
@given(seed=seeds)
def test_a_weight_of_two_is_a_row_that_stands_twice(seed: int) -> None:
    targets, labels, persons = photographed(seed)
    weights = np.random.default_rng(seed).integers(1, 4, size=len(persons))
    cells, rows = targets * 4 + labels, np.repeat(np.arange(len(persons)), weights)
    weighted = Draws.of(persons, rounds=20).macro_f1(cells, 4, weights.astype(np.float64))
    np.testing.assert_allclose(Draws.of(persons[rows], rounds=20).macro_f1(cells[rows], 4), weighted)


def test_rounds_in_small_blocks_draw_the_same_people(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, labels, persons = photographed(0)
    draws = Draws.of(persons, rounds=50, seed=3)
    whole = draws.macro_f1(targets * 4 + labels, 4)
    assert len(list(draws.times())) == 1
    for most in (1, 7 * draws.n_persons):
        monkeypatch.setattr(bootstrap, "CELLS", most)
        assert next(len(times) for times in draws.times()) == max(1, most // draws.n_persons)
        assert np.array_equal(draws.macro_f1(targets * 4 + labels, 4), whole)


def test_every_round_draws_as_many_people_as_there_are() -> None:
    draws = Draws.of(np.arange(200).astype(np.str_), rounds=2000)
    times = np.concatenate(list(draws.times()))
    assert times.shape == (2000, 200)
    assert (times.sum(axis=1) == 200).all()
    np.testing.assert_allclose(times.mean(axis=0), 1, atol=5 / np.sqrt(2000))
    assert times.var() == pytest.approx(1 - 1 / 200, abs=0.02)  # of a binomial


def test_draws_are_a_function_of_the_seed_and_of_people_not_of_rows() -> None:
    targets, labels, persons = photographed(1)
    order = np.random.default_rng(0).permutation(len(persons))
    cells = targets * 4 + labels
    first = Draws.of(persons, rounds=30).macro_f1(cells, 4)
    assert np.array_equal(Draws.of(persons[order], rounds=30).macro_f1(cells[order], 4), first)
    assert not np.array_equal(Draws.of(persons, rounds=30, seed=1).macro_f1(cells, 4), first)


def test_intervals_over_people_hold_the_truth_as_often_as_they_say() -> None:
    held = {"people": 0, "photos": 0}
    for seed in range(300):
        values, _, persons = losses(seed, 60, 7)
        for name, drawn in (("people", persons), ("photos", np.arange(len(persons)).astype(np.str_))):
            low, high = np.quantile(Draws.of(drawn, rounds=200, seed=seed).mean(values), [0.025, 0.975])
            held[name] += low < 0 < high
    assert 0.91 < held["people"] / 300 < 0.98
    assert held["photos"] / 300 < 0.8  # the reason to draw people


@pytest.mark.parametrize("seed", range(5))
def test_the_error_of_a_gain_is_that_of_a_bootstrap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, after, persons = losses(seed, 150, 7)
    kept = rng.random(len(persons)) < 0.5  # some people with more photos than others
    before, after, persons = before[kept], after[kept], persons[kept]
    saved, error = gain(before, after, persons)
    assert saved == pytest.approx((before - after).mean())
    drawn = Draws.of(persons, rounds=4000, seed=seed).mean(before - after)
    assert error == pytest.approx(drawn.std(), rel=0.06)


@few
@given(seed=seeds, n_persons=st.integers(2, 50), n_photos=st.integers(1, 6))
def test_with_as_many_photos_of_each_the_error_is_that_of_peoples_means(
    seed: int, n_persons: int, n_photos: int
) -> None:
    before, after, persons = losses(seed, n_persons, n_photos)
    means = (before - after).reshape(n_persons, n_photos).mean(axis=1)
    assert gain(before, after, persons)[1] == pytest.approx(sem(means))


@few
@given(seed=seeds)
def test_a_gain_turns_round_with_its_sides_and_not_with_the_order_of_rows(seed: int) -> None:
    before, after, persons = losses(seed, 20, 3)
    saved, error = gain(before, after, persons)
    assert gain(after, before, persons) == pytest.approx((-saved, error))
    order = np.random.default_rng(seed).permutation(len(persons))
    assert gain(before[order], after[order], persons[order]) == pytest.approx((saved, error))
    assert gain(before, before, persons) == (0, 0)


def test_one_person_says_nothing_of_others() -> None:
    assert gain(np.array([1.0, 2.0]), np.zeros(2), np.array(["a", "a"])) == (1.5, np.inf)
