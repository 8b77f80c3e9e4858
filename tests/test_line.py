"""The whole chain: no fold decides on itself, plain steps are what a plain computation gives, the truth wins.

Legend: N samples, H heads, M members, V views, J joint classes, E photos to predict.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from ensemble.chain import HeadChoices, HeadMembers
from ensemble.finish import places
from ensemble.line import Choices, Outcome, run_chain
from ensemble.members import Members
from ensemble.predictions import Array, EnsembleError, Indices, MisalignedPredictions, Predictions
from heads.registry import JOINT
from pipeline.report.chain import describe

SIZES, NAMES = (3, 2, 3), ("mask", "gender", "age")
PEOPLE, SHOTS, FOLDS = 60, 7, 3
RUNS, VIEWS = ("first", "second"), ("identity", "hflip")
PLAIN = HeadChoices("soft", "none", "uniform", "equal")
few = settings(max_examples=4, deadline=None)  # a seed is all there is to vary
seeds = st.integers(0, 2**32 - 1)


@cache
def drawn(seed: int = 0, *, unknown: bool = False) -> tuple[tuple[HeadMembers, ...], Array]:
    """Three heads over the same photos, some of what they err in shared by a person's; and (H, N) the truth."""
    rng = np.random.default_rng(seed)
    gender, age = rng.choice(2, size=PEOPLE, p=[0.4, 0.6]), rng.choice(3, size=PEOPLE, p=[0.4, 0.4, 0.2])
    mask = np.tile([0, 0, 0, 0, 0, 1, 2], PEOPLE)
    truth = np.stack([mask, gender.repeat(SHOTS), age.repeat(SHOTS)])
    ids = np.asarray([f"{'e' if unknown else 't'}{row:04}" for row in range(PEOPLE * SHOTS)])
    folds = np.full(len(ids), -1) if unknown else (np.arange(PEOPLE) % FOLDS).repeat(SHOTS)
    persons = np.arange(PEOPLE).astype(np.str_).repeat(SHOTS)
    heads = []
    for name, size, targets in zip(NAMES, SIZES, truth, strict=True):
        base = 2.0 * np.eye(size)[targets] + rng.normal(size=(PEOPLE, size)).repeat(SHOTS, axis=0)
        probs = [base + rng.normal(size=base.shape) for _ in RUNS for _ in VIEWS]
        heads.append(head_of(name, [softmax(p) for p in probs], ids, folds, targets * (not unknown) - unknown, persons))
    return tuple(heads), truth


def head_of(name: str, probs: list[Array], ids: object, folds: object, targets: object, persons: object) -> HeadMembers:
    classes = tuple(f"{name}{number}" for number in range(probs[0].shape[1])) if name != "joint" else JOINT.classes
    made = [Predictions(ids, classes, p, folds, targets) for p in probs]  # type: ignore[arg-type]
    names = [run for run in RUNS for _ in VIEWS][: len(probs)]
    runs = tuple(dict.fromkeys(names))
    return HeadMembers(name, runs, VIEWS, Members.of(made, names), None, persons)  # type: ignore[arg-type]


def softmax(logits: Array) -> Array:
    odds = np.exp(logits)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def all_probs(head: HeadMembers) -> Array:
    """(M * V, N, C)."""
    return np.stack([read(slice(0, len(head.oof.ids))) for read in head.oof.readers])


def with_targets(head: HeadMembers, targets: Indices) -> HeadMembers:
    return dataclasses.replace(head, oof=dataclasses.replace(head.oof, targets=targets))


def with_photos(heads: tuple[HeadMembers, ...], seed: int = 1) -> list[HeadMembers]:
    """The heads, with photos to predict."""
    return [
        dataclasses.replace(head, test=other.oof)
        for head, other in zip(heads, drawn(seed, unknown=True)[0], strict=True)
    ]


def run(members: Any, direct: HeadMembers | None = None, /, groups: Any = None, **asked: Any) -> Outcome:
    return run_chain(members, direct, JOINT.classes, Choices(**({"joint": "product"} | asked)), groups)


def f1(truth: Array, labels: Indices) -> float:
    """Macro F1 of 18 classes, by scikit-learn."""
    targets = np.ravel_multi_index(tuple(truth), SIZES)
    return float(f1_score(targets, labels, labels=range(18), average="macro", zero_division=0))


@pytest.mark.parametrize(
    ("heads", "rest"),
    [
        # one tuned step at a time: what is fitted on votes that were themselves tuned sees a fold through the others
        (HeadChoices("soft", "temperature", "simplex", "learned"), {"decoder": "argmax"}),
        (HeadChoices("soft", "bias-corrected", "stack", "equal"), {"decoder": "argmax"}),
        (HeadChoices("hard", "none", "f1", "equal"), {"decoder": "argmax"}),
        (HeadChoices("borda", "none", "accuracy", "equal"), {"decoder": "argmax"}),
        (HeadChoices("soft", "temperature", "greedy", "equal"), {"joint": "train-joint", "decoder": "argmax"}),
        (PLAIN, {"decoder": "plug-in"}),
        (PLAIN, {"decoder": "logit-adjust"}),
        (PLAIN, {"decoder": "head-bias", "consistent": ("gender", "age")}),
        (PLAIN, {"decoder": "class-bias"}),
        (PLAIN, {"decoder": "argmax", "joint": "stacker"}),
        (PLAIN, {"decoder": "argmax", "by_state": "mask", "consistent": ("gender", "age")}),
    ],
)
@few
@given(seed=seeds, fold=st.integers(0, FOLDS - 1))
def test_a_folds_labels_do_not_depend_on_its_own_truth(
    heads: HeadChoices, rest: dict[str, object], seed: int, fold: int
) -> None:
    made, truth = drawn()
    rows, rng = made[0].oof.folds == fold, np.random.default_rng(seed)
    altered = [
        with_targets(head, np.where(rows, rng.integers(size, size=len(rows)), targets))
        for head, size, targets in zip(made, SIZES, truth, strict=True)
    ]
    before, after = (run(these, heads=heads, prior="none", **rest) for these in (made, altered))
    assert np.array_equal(before.ends.labels[rows], after.ends.labels[rows])
    np.testing.assert_array_equal(before.oof.probs[rows], after.oof.probs[rows])


@few
@given(seed=st.integers(0, 100))
def test_the_plain_chain_is_the_product_of_mean_probabilities(seed: int) -> None:
    made, truth = drawn(seed)
    means = [all_probs(head).mean(axis=0) for head in made]
    joint = np.einsum("na,nb,nc->nabc", *means).reshape(-1, 18)
    labels = joint.argmax(axis=1)
    plain: list[dict[str, Any]] = [{}, {"heads": PLAIN, "prior": "none", "decoder": "argmax"}]
    for asked in plain:
        outcome = run(with_photos(made), **asked)
        steps = {step.name: step for step in outcome.steps}
        assert np.array_equal(outcome.oof.targets, np.ravel_multi_index(tuple(truth), SIZES))
        assert np.array_equal(steps["vote"].moved, labels)
        info = describe(outcome, VIEWS, Choices(), {})
        assert info["steps"][0]["as_trained"] == pytest.approx(f1(truth, labels))
    np.testing.assert_allclose(outcome.oof.probs, joint, atol=1e-12)
    assert np.array_equal(outcome.ends.labels, labels)
    tests = [all_probs(head).mean(axis=0) for head in drawn(1, unknown=True)[0]]
    answers = np.stack([probs.argmax(axis=1) for probs in tests])
    assert np.array_equal(outcome.ends.answers, np.ravel_multi_index(tuple(answers), SIZES))
    assert outcome.test_ids.tolist() == drawn(1, unknown=True)[0][0].oof.ids.tolist()


def test_every_step_tells_the_score_of_its_labels() -> None:
    made, truth = drawn()
    outcome = run(
        with_photos(made),
        given={"age": (0.2, 0.3, 0.5)},
        prior="none",
        joint="train-joint",
        consistent=("gender",),
        groups={name: name for name in drawn(1, unknown=True)[0][0].oof.ids.tolist()},
    )
    info = describe(outcome, VIEWS, Choices(), {})
    assert [step["step"] for step in info["steps"]] == [
        "vote",
        "calibration",
        "views",
        "weights",
        "person",
        "joint",
        "prior",
        "decoder",
    ]
    targets = np.ravel_multi_index(tuple(truth), SIZES)
    train = np.bincount(truth[2], minlength=3) / len(targets)
    weights = (np.asarray([0.2, 0.3, 0.5]) / train)[truth[2]]
    before = None
    for step, told in zip(outcome.steps, info["steps"], strict=True):
        moved = f1_score(targets, step.moved, labels=range(18), average="macro", zero_division=0, sample_weight=weights)
        assert told["eval_mix"] == pytest.approx(moved)
        if step.trained is not None:
            assert told["as_trained"] == pytest.approx(f1(truth, step.trained))
        if before is not None:
            assert told["added"]["macro_f1"] == pytest.approx(moved - before)
        before = moved
    assert info["cross_fitted"]["macro_f1"] == pytest.approx(before)


def test_a_head_costs_what_its_truth_would_add() -> None:
    made, truth = drawn()
    outcome = run(made)
    costs = describe(outcome, VIEWS, Choices(), {})["attribution"]["heads"]
    parts = np.stack(np.unravel_index(outcome.ends.labels, SIZES))
    for number, name in enumerate(NAMES):
        mended = parts.copy()
        mended[number] = truth[number]
        added = f1(truth, np.ravel_multi_index(tuple(mended), SIZES)) - f1(truth, outcome.ends.labels)
        assert costs[name]["macro_f1"] == pytest.approx(added)
        low, high = costs[name]["interval_95"]
        assert low <= added <= high


@pytest.mark.parametrize("joint", ["product", "train-joint", "direct"])
def test_a_member_adds_what_the_product_loses_without_it(joint: str) -> None:
    made, truth = drawn()
    beside = truth_told(made) if joint == "direct" else None
    outcome = run(made, beside, heads=PLAIN, prior="none", decoder="argmax", joint=joint)
    means = [all_probs(head).mean(axis=0) for head in made]
    told = {(m["head"], m["run"]): m for m in describe(outcome, VIEWS, Choices(), {})["attribution"]["members"]}
    assert len(told) == len(NAMES) * len(RUNS)
    whole = f1(truth, np.einsum("na,nb,nc->nabc", *means).reshape(-1, 18).argmax(axis=1))
    for number, head in enumerate(made):
        for member, name in enumerate(RUNS):
            views = [2 * other + view for other in range(2) if other != member for view in range(2)]
            without = [all_probs(head)[views].mean(axis=0) if number == h else means[h] for h in range(3)]
            left = f1(truth, np.einsum("na,nb,nc->nabc", *without).reshape(-1, 18).argmax(axis=1))
            assert told[NAMES[number], name]["macro_f1"] == pytest.approx(whole - left)


def truth_told(made: tuple[HeadMembers, ...], share: float = 1 - 1e-6) -> HeadMembers:
    """A run over the joint classes that is nearly always sure of the truth."""
    first, targets = made[0], np.ravel_multi_index(tuple(head.oof.targets for head in made), SIZES)
    probs = np.full((len(targets), 18), (1 - share) / 17)
    probs[np.arange(len(targets)), targets] = share
    return head_of("joint", [probs, probs], first.oof.ids, first.oof.folds, targets, first.persons)


def test_a_joint_run_that_is_the_truth_wins_all_the_weight() -> None:
    made, truth = drawn()
    outcome = run(made, truth_told(made), joint="direct", prior="none")
    assert outcome.late.share == pytest.approx([0, 1], abs=1e-6)
    assert f1(truth, outcome.ends.labels) == 1
    told = describe(outcome, VIEWS, Choices(), {})["joint_runs"]
    assert [member["run"] for member in told["members"]] == ["first"]
    assert told["macro_f1_cross_fitted"] == 1
    noise = dataclasses.replace(
        truth_told(made),
        oof=dataclasses.replace(
            truth_told(made).oof, readers=(lambda rows: np.full((len(made[0].oof.ids), 18), 1 / 18)[rows],) * 2
        ),
    )
    assert run(made, noise, joint="direct", prior="none").late.share[0] > 0.9


def test_the_mix_of_training_given_changes_nothing() -> None:
    made, truth = drawn()
    given = {
        name: tuple((np.bincount(targets, minlength=size) / len(targets)).tolist())
        for name, size, targets in zip(NAMES, SIZES, truth, strict=True)
    }
    for decoder in ("argmax", "plug-in", "head-bias"):
        asked: dict[str, Any] = {"heads": PLAIN, "decoder": decoder}
        before, after = (run(with_photos(made), **asked, **more) for more in ({"prior": "none"}, {"given": given}))
        assert np.array_equal(before.ends.labels, after.ends.labels)
        assert np.array_equal(before.ends.answers, after.ends.answers)
        assert after.ends.scored.score(after.ends.labels) == pytest.approx(before.ends.scored.score(before.ends.labels))


@pytest.mark.parametrize("decoder", ["argmax", "logit-adjust", "head-bias"])  # what is rare together sways the others
def test_photos_of_one_person_agree_where_that_is_asked_for(decoder: str) -> None:
    made, _ = drawn()
    heads = with_photos(made)
    groups = {name: f"p{row // SHOTS}" for row, name in enumerate(heads[0].test.ids.tolist())}  # type: ignore[union-attr]
    asked: dict[str, Any] = {"joint": "product", "prior": "none", "decoder": decoder}
    apart, together = (run(heads, groups=groups, consistent=who, **asked) for who in ((), ("gender", "age")))
    for outcome, agree in ((apart, False), (together, True)):
        for labels in (outcome.ends.labels, outcome.ends.answers):
            people = (labels % 6).reshape(-1, SHOTS)
            assert bool((people == people[:, :1]).all()) is agree
    assert any(len(set(row)) > 1 for row in (together.ends.answers // 6).reshape(-1, SHOTS))  # masks are a photo's


def test_a_photo_of_nobody_is_refused() -> None:
    heads = with_photos(drawn()[0])
    groups = dict.fromkeys(heads[0].test.ids.tolist()[1:], "one")  # type: ignore[union-attr]
    with pytest.raises(EnsembleError, match="who is on 1 of 420 photos to predict is not known"):
        run(heads, groups=groups, consistent=("gender",))


def test_a_fold_without_labels_of_a_head_is_voted_on() -> None:
    made, truth = drawn()
    bare = made[0].oof.folds == 1
    heads = [*made[:2], with_targets(made[2], np.where(bare, -1, truth[2]))]
    outcome = run(heads)
    assert set(outcome.oof.folds.tolist()) == {0, 2}
    ages = outcome.votes[2]
    assert len(ages.fair.ids) == len(bare)
    np.testing.assert_array_equal(
        ages.fair.probs[bare], ages.fitted.probs[bare]
    )  # its fit is that of all labelled rows


def test_photos_with_one_label_count_for_that_head_alone() -> None:
    made, truth = drawn()
    whole = run(made, heads=PLAIN, prior="none", decoder="argmax")
    some = made[1].oof.ids[:300]
    shorter = [made[0], *(shortened(head, 300) for head in made[1:])]
    outcome = run(shorter, heads=PLAIN, prior="none", decoder="argmax")
    assert outcome.oof.ids.tolist() == some.tolist()
    assert np.array_equal(outcome.ends.labels, whole.ends.labels[:300])
    assert outcome.votes[0].alone == pytest.approx(whole.votes[0].alone)
    assert f1(truth[:, :300], outcome.ends.labels) == pytest.approx(outcome.ends.scored.score(outcome.ends.labels))


def shortened(head: HeadMembers, n: int) -> HeadMembers:
    probs, oof = all_probs(head)[:, :n], head.oof
    return head_of(head.name, list(probs), oof.ids[:n], oof.folds[:n], oof.targets[:n], head.persons[:n])


@few
@given(seed=seeds)
def test_the_order_of_photos_changes_nothing(seed: int) -> None:
    made, _ = drawn()
    rng = np.random.default_rng(seed)
    shuffled = []
    for head in made:  # each head in an order of its own
        order = rng.permutation(len(head.oof.ids))
        oof = head.oof
        probs = list(all_probs(head)[:, order])
        shuffled.append(
            head_of(head.name, probs, oof.ids[order], oof.folds[order], oof.targets[order], head.persons[order])
        )
    asked: dict[str, Any] = {"prior": "none", "decoder": "plug-in", "consistent": ("age",)}
    before, after = run(made, **asked), run(shuffled, **asked)
    back = places(after.oof.ids, before.oof.ids)
    np.testing.assert_allclose(before.oof.probs, after.oof.probs[back], atol=1e-5)
    assert np.mean(before.ends.labels != after.ends.labels[back]) < 0.01


def test_answers_stand_by_the_first_heads_photos() -> None:
    heads = with_photos(drawn()[0])
    asked: dict[str, Any] = {"heads": PLAIN, "prior": "none", "decoder": "argmax"}
    before = run(heads, **asked)
    turned = [dataclasses.replace(head, test=backwards(head.test)) if n else head for n, head in enumerate(heads)]
    after = run(turned, **asked)
    assert before.test_ids.tolist() == after.test_ids.tolist()
    assert np.array_equal(before.ends.answers, after.ends.answers)


def backwards(test: Members | None) -> Members:
    assert test is not None
    return Members.of(
        [
            Predictions(test.ids[::-1], test.classes, read(slice(0, None))[::-1], test.folds, test.targets)
            for read in test.readers
        ],
        ["any"] * len(test.readers),
    )


def test_samples_that_a_head_lacks_are_named() -> None:
    ids = np.asarray(["b", "a", "c"])
    assert places(ids, np.asarray(["c", "b"])).tolist() == [2, 0]
    with pytest.raises(MisalignedPredictions, match="1 of 2 samples of one head are missing in another"):
        places(ids, np.asarray(["a", "d"]))


def test_a_given_mix_and_one_over_the_joint_classes_exclude_each_other() -> None:
    with pytest.raises(
        EnsembleError, match="a mix is given for a head, so there is none to find over the joint classes"
    ):
        run(with_photos(drawn(0)[0]), given={"age": (0.4, 0.3, 0.3)}, prior_over="joint")
