"""The end of the chain: decoders and the strength of a correction are chosen by what pays, for a fold by the others.

Legend: N samples, J joint classes.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ensemble.bootstrap import Draws
from ensemble.decoding import DECODERS
from ensemble.ends import at, ends
from ensemble.final import CANDIDATES, ERRORS, Scored, decode, outer
from ensemble.metrics import macro_f1
from ensemble.mix import STRENGTHS, Mix, under
from ensemble.predictions import Array, Indices
from ensemble.priors import corrected
from ensemble.shift import Shift

SIZES = (2, 3)
J, PHOTOS = 6, 3
TRAINED = np.array([0.40, 0.35, 0.05, 0.10, 0.07, 0.03])


def rows(seed: int, *, people: int = 400, mix: Array = TRAINED, sharp: float = 1.5) -> tuple[Array, Scored]:
    """(N, J) exact probabilities of people who show three photos each, and their truth."""
    rng = np.random.default_rng(seed)
    person = np.arange(people).repeat(PHOTOS)
    targets = rng.choice(J, size=people, p=mix).repeat(PHOTOS)
    seen = sharp * np.eye(J)[targets] + rng.normal(size=(len(targets), J))
    odds = np.exp(sharp * seen) * mix  # Bayes' theorem for normal errors around unit vectors
    names = person.astype(np.str_)
    many, few = Draws.of(names, rounds=300), Draws.of(names, rounds=100)
    scored = Scored(targets, person % 4, many, few, np.ones(len(targets)), SIZES)
    return odds / odds.sum(axis=1, keepdims=True), scored


def mix_of_ratio(ratio: Array, strengths: tuple[float, ...] = STRENGTHS) -> Mix:
    return Mix(dict[str, Shift](), ratio, strengths)


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_of_a_fold_is_fitted_on_the_others(name: str) -> None:
    probs, scored = rows(0)
    found = decode(probs, scored, name)
    for fold in range(4):
        fit = scored.folds != fold
        decoder = DECODERS[name](probs[fit], scored.targets[fit], scored.weights[fit], SIZES)
        held_out = scored.folds == fold
        assert np.array_equal(found.labels[held_out], decoder(probs, scored.weights)[held_out])
    assert found.name == name


@pytest.mark.parametrize("name", DECODERS)
def test_labels_of_a_fold_do_not_look_at_its_targets(name: str) -> None:
    probs, scored = rows(1)
    fold = scored.folds == 2
    other = np.where(fold, np.random.default_rng(0).integers(J, size=len(fold)), scored.targets)
    altered = decode(probs, dataclasses.replace(scored, targets=other), name)
    assert np.array_equal(decode(probs, scored, name).labels[fold], altered.labels[fold])


@pytest.mark.parametrize("seed", range(6))
def test_a_decoder_must_beat_those_before_it_by_two_standard_errors(seed: int) -> None:
    probs, scored = rows(seed)
    found = decode(probs, scored, "auto")
    assert tuple(found.trials) == CANDIDATES
    labels = {name: decode(probs, scored, name).labels for name in CANDIDATES}
    every, place = np.ones(len(probs), dtype=bool), CANDIDATES.index(found.name)
    scores = {name: scored.score(called) for name, called in labels.items()}
    if place:
        error = ERRORS * scored.error(labels["plug-in"], labels[found.name], every)
        assert place > 1 or scores[found.name] - scores["plug-in"] > error
        assert scores[found.name] > scores["plug-in"]
    for name in CANDIDATES[place + 1 :]:
        error = ERRORS * scored.error(labels[found.name], labels[name], every)
        assert scores[name] - scores[found.name] <= error


def test_the_bayes_rule_is_kept_where_probabilities_are_right() -> None:
    probs, scored = rows(0, people=3000, sharp=1.0)
    found = decode(probs, scored, "auto")
    assert found.name == "plug-in"
    assert scored.score(found.labels) > scored.score(probs.argmax(axis=1)) + 0.05


def test_another_decoder_takes_over_where_they_are_not() -> None:
    probs, scored = rows(0, people=3000, sharp=2.0)
    flat = probs**0.1 / (probs**0.1).sum(axis=1, keepdims=True)  # far too unsure: the rule sees rare classes everywhere
    found = decode(flat, scored, "auto")
    assert found.name != "plug-in"
    assert scored.score(found.labels) > scored.score(decode(flat, scored, "plug-in").labels) + 0.02


def test_scores_in_another_mix_are_those_of_repeated_rows() -> None:
    probs, scored = rows(2)
    ratio = np.array([1.0, 2.0, 3.0, 1.0, 4.0, 2.0])
    labels: Indices = probs.argmax(axis=1)
    copies = np.repeat(np.arange(len(labels)), ratio[scored.targets].astype(int))
    there = under(scored, ratio)
    assert there.score(labels) == pytest.approx(macro_f1(scored.targets[copies], labels[copies], J))
    assert there.summary(labels)["accuracy"] == pytest.approx((scored.targets == labels)[copies].mean())


SHIFTED = np.array([0.10, 0.15, 0.25, 0.10, 0.10, 0.30])


def test_a_real_shift_is_corrected_and_answers_become_better() -> None:
    probs, scored = rows(3, people=1000)
    test, truth = rows(4, people=1000, mix=SHIFTED)
    asked = test * TRAINED / SHIFTED  # what networks trained in the other mix would say
    asked /= asked.sum(axis=1, keepdims=True)
    mix = mix_of_ratio(SHIFTED / TRAINED)
    found = ends(probs, probs, asked, scored, mix, "auto")
    assert found.strength == 1.0
    np.testing.assert_allclose(found.test, corrected(asked, SHIFTED / TRAINED))
    np.testing.assert_allclose(found.test, test, atol=1e-9)  # the exact probabilities are back
    assert truth.score(found.answers) > truth.score(found.uncorrected) + 0.05
    assert found.scored.score(found.labels) == pytest.approx(truth.score(found.answers), abs=0.03)


def test_a_correction_that_harms_is_not_made() -> None:
    probs, scored = rows(5)
    sure = np.where(np.eye(J)[scored.targets] > 0, 0.6, 0.4 / (J - 1))  # right, and less sure than it could be
    wrong = np.where(np.arange(J) == 2, 5000.0, 1.0)  # a mix that is not there: it would call everything class 2
    found = ends(sure, sure, probs, scored, mix_of_ratio(wrong), "argmax")
    assert found.strength == 0.0
    np.testing.assert_array_equal(found.test, probs)


def test_what_the_user_knows_is_applied_in_full() -> None:
    probs, scored = rows(6)
    found = ends(probs, probs, probs, scored, mix_of_ratio(SHIFTED / TRAINED, (1.0,)), "argmax")
    assert found.strength == 1.0
    assert np.array_equal(found.answers, corrected(probs, SHIFTED / TRAINED).argmax(axis=1))


def test_without_another_mix_there_is_one_score() -> None:
    probs, scored = rows(7)
    found = ends(probs, probs, probs[:0], scored, mix_of_ratio(np.ones(J)), "auto")
    assert found.scored is found.trained
    assert np.array_equal(found.labels, found.as_trained.labels)
    assert len(found.answers) == len(found.test) == 0


def test_half_a_correction_is_its_square_root() -> None:
    probs, _ = rows(8, people=20)
    mix = mix_of_ratio(SHIFTED / TRAINED)
    np.testing.assert_allclose(at(at(probs, mix, 0.5), mix, 0.5), at(probs, mix, 1.0))
    assert at(probs, mix, 0.0) is probs


def test_a_joint_ratio_is_the_product_of_the_heads() -> None:
    first, second = np.array([1.0, 2.0]), np.array([1.0, 3.0, 5.0])
    np.testing.assert_array_equal(outer([first, second]), [1, 3, 5, 2, 6, 10])
