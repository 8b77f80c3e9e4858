"""The drawn people and networks obey the laws that the harness relies on, and the harness keeps what it has run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import simulated, ways
from benchmarks.people_model import Side, draw, draw_people, errors, posterior
from benchmarks.scenarios import (
    AGE_SHARES,
    CLASSES,
    FOLDS,
    MEMBERS,
    SCENARIOS,
    SHOTS,
    SIZES,
    STRONG,
    TRAIN_AGE,
    TRAIN_MALE,
    VIEWS,
    YEARS,
    HeadModel,
    MemberModel,
    Scenario,
)
from ensemble.bootstrap import gain
from ensemble.calibration import CALIBRATIONS
from ensemble.metrics import log_loss
from ensemble.predictions import Array, Indices
from ensemble.priors import mix_of

# errors twice as large, so that there are enough of them to fit a temperature on
HONEST = {head: replace(m, shared=2 * m.shared, spread=0.0, by_mask=(1.0, 1.0, 1.0)) for head, m in STRONG.items()}
seeds = st.integers(0, 2**31)


def single(side: Side, head: str, member: int = 0, view: int = 0) -> Array:
    return side.members[head][member][view].probs


def class_means(side: Side, head: str) -> tuple[Array, Array]:
    """(C, C) mean probabilities of each true class and their standard errors over persons."""
    probs, truth = single(side, head), side.truth[head]
    means, spreads = [], []
    for label in range(len(CLASSES[head])):
        rows = truth == label
        persons = side.persons[rows]
        columns = [gain(column, np.zeros(rows.sum()), persons) for column in probs[rows].T]
        means.append([mean for mean, _ in columns])
        spreads.append([error for _, error in columns])
    return np.asarray(means), np.asarray(spreads)


@given(seed=seeds, people=st.integers(FOLDS, 30), members=st.integers(1, 7))
@settings(max_examples=15, deadline=None)
def test_predictions_are_of_everyone_in_every_member_and_view(seed: int, people: int, members: int) -> None:
    drawn = draw(Scenario(), people=people, eval_people=4, members=members, seed=seed)
    for side, n, known in ((drawn.oof, people, True), (drawn.eval, 4, False)):
        assert [len(rows) for rows in side.members.values()] == [members] * 3
        assert len(side.persons) == len(side.joint) == n * len(SHOTS)
        assert list(np.unique(side.persons, return_counts=True)[1]) == [len(SHOTS)] * n
        for head, of_head in side.members.items():
            for prediction in (view for views in of_head for view in views):
                assert prediction.classes == CLASSES[head]
                np.testing.assert_array_equal(prediction.ids, of_head[0][0].ids)
                np.testing.assert_array_equal(prediction.folds >= 0, known)
                np.testing.assert_array_equal(prediction.targets, side.truth[head] if known else -1)
            assert {len(views) for views in of_head} == {len(VIEWS)}
    assert not set(drawn.oof.persons) & set(drawn.eval.persons)


@given(seed=seeds, people=st.integers(FOLDS, 60))
@settings(max_examples=15, deadline=None)
def test_folds_hold_whole_people_and_are_alike(seed: int, people: int) -> None:
    oof = draw(Scenario(), people=people, eval_people=1, members=1, seed=seed).oof
    folds = oof.members["age"][0][0].folds
    of_person = {person: set(folds[oof.persons == person].tolist()) for person in oof.persons.tolist()}
    assert {len(fold) for fold in of_person.values()} == {1}
    for head in ("gender", "age"):
        for label in range(len(CLASSES[head])):
            counts = np.bincount(folds[oof.truth[head] == label], minlength=FOLDS) // len(SHOTS)
            # people lie in order of age and gender; a class is one run of them (age), or one run in each age
            assert counts.max() - counts.min() <= (1 if head == "age" else 3)


@given(seed=seeds)
@settings(max_examples=5, deadline=None)
def test_a_draw_repeats_and_more_members_leave_the_others_alone(seed: int) -> None:
    few, more = (draw(Scenario(), people=9, eval_people=5, members=m, seed=seed) for m in (2, 4))
    other = draw(Scenario(), people=9, eval_people=5, members=2, seed=seed + 1)
    for side, same, differs in ((few.oof, more.oof, other.oof), (few.eval, more.eval, other.eval)):
        for head in CLASSES:
            for member in range(2):
                for view in range(2):
                    np.testing.assert_array_equal(single(side, head, member, view), single(same, head, member, view))
                    assert (single(side, head, member, view) != single(differs, head, member, view)).any()


@pytest.mark.parametrize("name", SCENARIOS)
def test_people_come_in_the_mix_asked_for(name: str) -> None:
    scenario, n = SCENARIOS[name], 20_000
    people = draw_people(np.random.default_rng(0), n, scenario.age, scenario.male, "e", oldest=scenario.oldest)
    np.testing.assert_array_equal(np.digitize(people.years, (30, 60)), people.age)
    for found, asked in (
        (mix_of(people.age, 3), np.asarray(scenario.age)),
        (mix_of(people.gender, 2), np.asarray([scenario.male, 1 - scenario.male])),
    ):
        assert (np.abs(found - asked) < 5 * np.sqrt(asked * (1 - asked) / n)).all()


def test_ages_follow_the_shares_of_their_class() -> None:
    np.testing.assert_allclose(AGE_SHARES.sum(axis=1), 1)
    people = draw_people(np.random.default_rng(1), 40_000, TRAIN_AGE, TRAIN_MALE, "p")
    for band, shares in enumerate(AGE_SHARES):
        found = mix_of(people.years[people.age == band] - YEARS[0], len(YEARS))
        assert (np.abs(found - shares) <= 5 * np.sqrt(shares / (people.age == band).sum())).all()


@pytest.mark.parametrize("by_person", [0.0, 0.4, 1.0])
def test_errors_of_a_person_are_as_alike_as_asked_for(by_person: float) -> None:
    made = errors(np.random.default_rng(0), 20_000, 2, by_person)
    correlations = np.asarray(np.corrcoef(made[:, :, 0].T))
    np.testing.assert_allclose(correlations[~np.eye(len(SHOTS), dtype=bool)], by_person, atol=0.04)
    np.testing.assert_allclose(made.var(axis=0), 1, atol=0.06)
    assert abs(np.asarray(np.corrcoef(made[:, 0].T))[0, 1]) < 0.04


@pytest.mark.parametrize("deviation", [0.5, 1.7, 6.0])
@pytest.mark.parametrize("head", ["gender", "age"])
def test_the_posterior_is_bayes_rule(head: str, deviation: float) -> None:
    from scipy.stats import norm

    rng = np.random.default_rng(3)
    if head == "age":
        seen = rng.uniform(10, 80, size=(4, 7, 1))
        given_age = norm.pdf(seen.reshape(-1, 1), YEARS, deviation)  # (N, years)
        joint = np.stack([given_age @ shares * p for shares, p in zip(AGE_SHARES, TRAIN_AGE, strict=True)], axis=1)
    else:
        seen = rng.normal(0.5, deviation, size=(4, 7, 2))
        flat = seen.reshape(-1, 2)
        mix = (TRAIN_MALE, 1 - TRAIN_MALE)
        joint = np.stack([norm.pdf(flat, np.eye(2)[c], deviation).prod(axis=1) * mix[c] for c in (0, 1)], axis=1)
    made = posterior(head, seen, deviation, 1.0, np.zeros(len(CLASSES[head])))
    far = joint.sum(axis=1) > 1e-200  # elsewhere the oracle runs out of numbers
    np.testing.assert_allclose(made[far], (joint / joint.sum(axis=1, keepdims=True))[far], atol=2e-3)


@pytest.mark.parametrize("head", CLASSES)
def test_networks_without_temperature_are_calibrated_and_others_are_not(
    head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Scenario(heads=HONEST, bias=0.0, fold_bias=0.0)
    members = (MemberModel(1.0, 1.0), MemberModel(1.0, 0.5), MemberModel(1.0, 2.0))
    monkeypatch.setattr("benchmarks.people_model.MEMBERS", members)
    oof = draw(honest, people=1500, eval_people=1, members=3, seed=0).oof
    truth = oof.truth[head]
    right = single(oof, head)
    unit = np.eye(right.shape[1])[truth]
    for power in (1, 2):  # the error is uncorrelated with what was stated
        excess = ((unit - right) * right ** (power - 1)).T
        for column in excess:
            mean, error = gain(column, np.zeros(len(column)), oof.persons)
            assert abs(mean) < 5 * error + 1e-6
    slopes = [CALIBRATIONS["temperature"](single(oof, head, m), truth).as_dict()["temperature"] for m in range(3)]
    np.testing.assert_allclose(slopes, [1, 2, 0.5], rtol=0.15)  # a calibration finds what each member was given


def test_members_share_the_part_of_their_errors_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.people_model.MEMBERS", (MemberModel(1.0, 1.0),))
    oof = draw(Scenario(heads=HONEST, bias=0.0, fold_bias=0.0), people=2000, eval_people=1, members=3, seed=1).oof
    model, truth = HONEST["gender"], oof.truth["gender"]
    odds = np.stack([np.log(probs[:, 1] / probs[:, 0]) for probs in (single(oof, "gender", m) for m in range(3))])
    for label in (0, 1):  # the evidence is the truth plus errors, and the odds are linear in it
        found = np.asarray(np.corrcoef(odds[:, truth == label]))[~np.eye(3, dtype=bool)]
        np.testing.assert_allclose(found, model.shared**2 / model.believed(MemberModel(1.0, 1.0)) ** 2, atol=0.05)


@pytest.mark.parametrize("head", CLASSES)
def test_photos_of_a_class_look_alike_in_training_and_eval_but_where_that_is_broken(head: str) -> None:
    differs = {}
    for name in ("extreme", "broken"):
        one = {h: replace(m, network=0.0) for h, m in STRONG.items()}  # a mean over folds is one network
        scenario = replace(SCENARIOS[name], heads=one, fold_bias=0.0)
        drawn = draw(scenario, people=1500, eval_people=1500, members=1, seed=4)
        (known, error), (unknown, other) = class_means(drawn.oof, head), class_means(drawn.eval, head)
        differs[name] = (np.abs(known - unknown) / np.hypot(error, other)).max()
    assert differs["extreme"] < 5
    assert (differs["broken"] > 5) == (head == "age")


def test_what_should_make_predictions_worse_does() -> None:
    usual = draw(Scenario(), people=400, eval_people=200, members=4, seed=5)
    harmed = draw(SCENARIOS["harmful-view"], people=400, eval_people=200, members=4, seed=5)
    weak = draw(SCENARIOS["weak"], people=400, eval_people=200, members=4, seed=5)

    def loss(side: Side, head: str, member: int, view: int) -> float:
        return log_loss(side.truth[head], single(side, head, member, view))

    for head in CLASSES:
        np.testing.assert_array_equal(single(usual.oof, head), single(harmed.oof, head))  # the first view stays
        assert loss(harmed.oof, head, 0, 1) > loss(usual.oof, head, 0, 1)
        assert loss(weak.oof, head, 0, 0) > loss(usual.oof, head, 0, 0)
        assert MEMBERS[3].noise > MEMBERS[0].noise
        assert MEMBERS[3].temperature == MEMBERS[0].temperature
        assert loss(usual.oof, head, 3, 0) > loss(usual.oof, head, 0, 0)
    masked, bare = (usual.oof.truth["mask"] == state for state in (0, 2))
    probs, truth = single(usual.oof, "age"), usual.oof.truth["age"]
    assert log_loss(truth[masked], probs[masked]) > log_loss(truth[bare], probs[bare])


def test_what_networks_believe_of_their_errors_is_true_on_average() -> None:
    model, member = HeadModel(2.0, 1.5, 1.0, 0.5, by_mask=(1.2, 1.0, 0.7)), MemberModel(1.3, 1.0)
    rng = np.random.default_rng(0)
    parts = (2.0, 1.3 * 1.5, 1.0)
    made = np.sum([sd * errors(rng, 20_000, 1, 0.7) for sd in parts], axis=0) + 0.5 * errors(rng, 20_000, 1, 0.0)
    made = made * np.asarray(model.by_mask)[SHOTS][:, None]
    assert model.believed(member) == pytest.approx(float(np.sqrt((made**2).mean())), rel=0.03)


@pytest.fixture(scope="module")
def case() -> ways.Case:
    return ways.Case(draw(SCENARIOS["competition"], people=60, eval_people=60, members=2, seed=0))


def test_weights_bring_out_of_fold_rows_to_the_true_mix(case: ways.Case) -> None:
    for head, truth in case.drawn.oof.truth.items():
        # gender and age are not quite independent among 60 people, so their product only nearly is the mix
        found = np.bincount(truth, case.weights, minlength=len(CLASSES[head])) / case.weights.sum()
        np.testing.assert_allclose(found, mix_of(case.drawn.eval.truth[head], len(CLASSES[head])), atol=0.15)


def test_joint_probabilities_stand_where_joint_classes_do(case: ways.Case) -> None:
    certain = {head: np.eye(len(CLASSES[head]))[truth] for head, truth in case.drawn.eval.truth.items()}
    np.testing.assert_array_equal(ways.composed(certain).argmax(axis=1), case.drawn.eval.joint)
    assert ways.J == np.prod(SIZES) == 18


def test_perfect_labels_score_one_and_are_no_optimism(case: ways.Case) -> None:
    present = [np.unique(side.joint) for side in (case.drawn.oof, case.drawn.eval)]
    outcome = case.outcome(case.drawn.oof.joint, case.drawn.eval.joint, knows_mix=False)
    assert outcome.estimate == outcome.oracle == pytest.approx(len(present[0]) / 18)
    assert outcome.test == pytest.approx(len(present[1]) / 18)


def test_calibration_of_a_fold_does_not_look_at_it() -> None:
    oof = draw(Scenario(), people=40, eval_people=1, members=2, seed=2)
    folds = oof.oof.members["gender"][0][0].folds
    targets: Indices = np.where(folds == 1, 1 - oof.oof.truth["gender"], oof.oof.truth["gender"])
    lied = [
        [type(view)(view.ids, view.classes, view.probs, view.folds, targets) for view in views]
        for views in oof.oof.members["gender"]
    ]
    honest, _ = ways.calibrated_vote(oof.oof.members["gender"], oof.eval.members["gender"])
    told, _ = ways.calibrated_vote(lied, oof.eval.members["gender"])
    np.testing.assert_array_equal(honest[folds == 1], told[folds == 1])
    assert (honest[folds != 1] != told[folds != 1]).any()


@pytest.mark.slow
def test_a_second_run_adds_only_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.csv"
    given = argparse.Namespace(people=20, members=1, seeds=2, steps=list(ways.WAYS))
    some = list(ways.WAYS)[:2]
    simulated.append_rows(file, simulated.run_draw("none", 20, 1, 0, some))
    before = file.read_text()
    file.write_text(before + "none,20,1,1,pla")  # as if killed while writing
    assert len(simulated.read_rows(file)) == 2
    jobs = simulated.missing(simulated.read_rows(file), ["none"], given)
    assert [(job[3], job[4]) for job in jobs] == [(0, list(ways.WAYS)[2:]), (1, list(ways.WAYS))]
    for job in jobs:
        simulated.append_rows(file, simulated.run_draw(*job))
    assert file.read_text().startswith(before)
    rows = simulated.read_rows(file)
    assert not simulated.missing(rows, ["none"], given)
    keys = [tuple(row[name] for name in simulated.KEY) for row in rows]
    assert len(set(keys)) == len(keys) == 2 * len(ways.WAYS)


def row(scenario: str, step: str, seed: int, **values: float | str) -> simulated.Row:
    given: Mapping[str, object] = dict.fromkeys(simulated.COLUMNS, "") | {"scenario": scenario, "step": step}
    return {**given, "seed": seed, "estimate": 0, "oracle": 0, **values}


@pytest.mark.parametrize(
    ("moved", "test", "unmoved", "true_gain", "right"),
    [(1, 0.6, 0.5, 0.1, 1), (1, 0.4, 0.5, 0.1, 0), (0, 0.5, 0.5, 0.1, 0), (0, 0.5, 0.5, -0.1, 1), (0, 0.5, 0.5, 0, 1)],
)
def test_a_safeguard_is_right_where_it_gains_or_spares_harm(
    moved: int, test: float, unmoved: float, true_gain: float, right: int
) -> None:
    rows = [
        row("none", ways.PLAIN, 0, test=0.5),
        row("none", ways.CALIBRATED, 0, test=0.5),
        row("none", ways.CORRECTED, 0, test=0.5 + true_gain),
        row("none", "chain", 0, test=test, moved=str(moved), unmoved=unmoved),
    ]
    lines = list(simulated.table(rows, ["none"]))
    assert lines[-1].endswith(f"corrected in {moved} of 1 draws, right in {right}")
