"""Whether a shift is believed: people whose truth is known, and the error that estimates make on them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.predictions import Array, EnsembleError, Indices, Names
from ensemble.priors import ESTIMATORS, bbse_soft, mix_of
from ensemble.shift import (
    FEWEST_PEOPLE,
    FEWEST_PHOTOS,
    Known,
    errors,
    given_mix,
    judge,
    squared_length,
    total_variation,
)

TRAINED, SHIFTED = np.array([0.47, 0.45, 0.08]), np.array([0.43, 0.30, 0.27])
SEEDS = st.integers(0, 10_000)
PHOTOS = 7


def photos_of(
    rng: np.random.Generator, number: int, mix: Array, sharpness: float = 3.0, shared: float = 0.7
) -> tuple[Array, Indices, Names]:
    """Probabilities that are exact under ``TRAINED``, truth and persons, whose photos share most of their error."""
    places = sharpness * np.arange(3)
    truth = rng.permutation(np.repeat(np.arange(3), np.diff(np.rint(np.append(0, number * mix.cumsum())).astype(int))))
    error = np.sqrt(shared) * rng.normal(size=(number, 1)) + np.sqrt(1 - shared) * rng.normal(size=(number, PHOTOS))
    targets, persons = np.repeat(truth, PHOTOS), np.repeat(np.arange(number), PHOTOS)
    joint = np.exp(-0.5 * ((places[targets] + error.ravel())[:, None] - places) ** 2) * TRAINED
    return joint / joint.sum(axis=1, keepdims=True), targets, np.char.add("p", persons.astype(np.str_))


def case(seed: int, mix: Array, people: int = 300, sharpness: float = 3.0) -> tuple[Array, Indices, Names, Array]:
    """Known people, and the probabilities of as many unknown ones."""
    rng = np.random.default_rng(seed)
    return *photos_of(rng, people, TRAINED, sharpness), photos_of(rng, people, mix, sharpness)[0]


def test_a_large_shift_is_found_and_nearly_all_of_it_is_used() -> None:
    verdict = judge(*case(0, SHIFTED))
    assert verdict.reason == ""
    assert total_variation(verdict.used, SHIFTED) < 0.06
    assert total_variation(verdict.used, verdict.train) < total_variation(verdict.estimate, verdict.train)
    assert (verdict.interval[:, 0] < verdict.estimate).all()
    assert (verdict.estimate < verdict.interval[:, 1]).all()
    np.testing.assert_allclose(verdict.ratio, verdict.used / verdict.train)
    assert set(verdict.others) == set(ESTIMATORS) - {"bbse-soft"}


def test_photos_like_those_of_training_are_mostly_left_alone_and_the_reason_is_given() -> None:
    verdicts = [judge(*case(seed, TRAINED, sharpness=1.5), rounds=60) for seed in range(20)]
    left = [verdict for verdict in verdicts if verdict.reason]
    assert len(left) >= 16  # at 95 % it is less in one of four hundred
    for verdict in left:
        assert verdict.reason == "the shift is within what drawing other people would give"
        np.testing.assert_array_equal(verdict.used, verdict.train)
        np.testing.assert_array_equal(verdict.ratio, np.ones(3))


def test_soft_bbse_speaks_against_em_where_networks_were_averaged_for_the_photos_to_predict() -> None:
    rng = np.random.default_rng(0)
    places, own = 2.0 * np.arange(3), 1.0

    def told(seen: Array) -> Array:
        joint = np.exp(-0.5 * (seen[:, None] - places) ** 2 / (1 + own**2)) * TRAINED
        probs: Array = joint / joint.sum(axis=1, keepdims=True)
        return probs

    targets, truth = (rng.choice(3, size=6000, p=mix) for mix in (TRAINED, SHIFTED))
    at, shown = places[targets] + rng.normal(size=6000), places[truth] + rng.normal(size=6000)
    probs = told(at + own * rng.normal(size=6000))
    averaged = np.mean([told(shown + own * rng.normal(size=6000)) for _ in range(10)], axis=0)
    persons = np.arange(6000).astype(np.str_)
    soft = judge(probs, targets, persons, averaged, rounds=60)
    far = judge(probs, targets, persons, averaged, estimator="em", rounds=20)
    assert soft.reason == ""
    assert total_variation(soft.used, mix_of(truth, 3)) < 0.05
    assert "soft BBSE disagrees" in far.reason
    np.testing.assert_array_equal(far.used, far.train)


def test_a_head_that_knows_nothing_is_not_believed() -> None:
    verdict = judge(*case(0, SHIFTED, sharpness=0.05), rounds=20)
    assert verdict.reason.startswith("the head tells the classes apart too badly: the estimate is off by ")


def test_too_few_photos_or_people_stop_before_anything_is_estimated() -> None:
    probs, targets, persons, shown = case(0, TRAINED)
    few = judge(probs, targets, persons, shown[: FEWEST_PHOTOS - 1])
    assert few.reason == f"only {FEWEST_PHOTOS - 1} photos to predict; an estimate takes {FEWEST_PHOTOS}"
    old = np.unique(persons[targets == 2])
    kept = ~np.isin(persons, old[FEWEST_PEOPLE - 1 :])
    lone = judge(probs[kept], targets[kept], persons[kept], shown)
    assert lone.reason == f"only {FEWEST_PEOPLE - 1} people of one class are known; an estimate takes {FEWEST_PEOPLE}"
    for verdict in (few, lone):
        np.testing.assert_array_equal(verdict.used, verdict.train)
        np.testing.assert_array_equal(verdict.ratio, np.ones(3))
        assert verdict.interval.size == 0


def test_the_same_seed_gives_the_same_verdict_and_other_seeds_nearly_the_same() -> None:
    given_rows = case(1, SHIFTED)
    one, same, other = (judge(*given_rows, rounds=100, seed=seed) for seed in (0, 0, 1))
    assert one.as_dict() == same.as_dict()
    np.testing.assert_allclose(one.estimate, other.estimate, atol=1e-12)
    np.testing.assert_allclose(one.interval, other.interval, atol=0.03)


def test_a_verdict_forgets_the_names_of_people() -> None:
    probs, targets, persons, shown = case(1, SHIFTED)
    renamed = judge(probs, targets, np.char.add("a", persons), shown, rounds=20)
    assert renamed.as_dict() == judge(probs, targets, persons, shown, rounds=20).as_dict()


def test_an_estimator_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(EnsembleError, match="no estimator 'bbse'; estimators are: bbse-soft, bbse-hard, em"):
        judge(*case(0, TRAINED), estimator="bbse")


@pytest.mark.slow
def test_the_region_covers_the_truth_about_as_often_as_it_says() -> None:
    """With the errors of a person's photos shared; rows drawn alone would cover far less."""
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        probs, targets, persons = photos_of(rng, 300, TRAINED, 2.0)
        shown, truth, _ = photos_of(rng, 300, SHIFTED, 2.0)
        estimate = bbse_soft(probs, targets, shown)
        known = Known(probs, targets, np.unique(persons, return_inverse=True)[1])
        wrong = errors(bbse_soft, known, estimate, n_photos=len(shown), rounds=60, rng=rng)
        covered += squared_length(estimate - mix_of(truth, 3), wrong) < 5.99  # chi-square, two degrees of freedom
    assert covered >= 51  # of 60; at 95 % it is less in one of a thousand


def test_photos_that_share_their_error_make_estimates_less_sure() -> None:
    spread = {}
    for shared in (0.0, 1.0):
        probs, targets, persons = photos_of(np.random.default_rng(0), 600, TRAINED, 3.0, shared)
        known = Known(probs, targets, np.unique(persons, return_inverse=True)[1])
        wrong = errors(bbse_soft, known, SHIFTED, n_photos=4200, rounds=100, rng=np.random.default_rng(0))
        spread[shared] = wrong.var(axis=0).sum()
    assert 4 < spread[1.0] / spread[0.0] < 12  # seven photos with one error are worth one photo


@given(seed=SEEDS)
@settings(max_examples=30)
def test_the_length_is_that_of_the_whitened_shift_and_no_class_is_special(seed: int) -> None:
    rng = np.random.default_rng(seed)
    draws = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4))
    draws -= draws.mean(axis=1, keepdims=True)
    moved = rng.normal(size=4)
    moved -= moved.mean()
    length = squared_length(moved, draws)
    whole = moved @ np.linalg.pinv(np.cov(draws.T), rcond=1e-9, hermitian=True) @ moved
    order = rng.permutation(4)
    np.testing.assert_allclose(length, whole, rtol=1e-5)
    np.testing.assert_allclose(squared_length(moved[order], draws[:, order]), length, rtol=1e-5)


def test_what_the_user_knows_is_believed_as_it_is() -> None:
    targets = np.repeat(np.arange(3), [5, 4, 1])
    verdict = given_mix("age", targets, 3, [0.43, 0.30, 0.27])
    np.testing.assert_allclose(verdict.ratio, SHIFTED / np.array([0.5, 0.4, 0.1]))
    assert verdict.reason == ""
    with pytest.raises(EnsembleError, match="class mix given for 'age'"):
        given_mix("age", targets, 3, [0.5, 0.5])
