"""One head's vote: every fold is decided on by fits of the others, and a step that does not pay is left out.

Legend: N samples, C classes, M members, V views.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ensemble.head_vote
import ensemble.members
from ensemble.blends import BLENDS
from ensemble.calibration import CALIBRATIONS
from ensemble.chain import STEPS, HeadChoices, HeadMembers, HeadVote, vote_on_head
from ensemble.members import Members
from ensemble.metrics import log_loss, macro_f1
from ensemble.predictions import Array, EnsembleError, Predictions
from ensemble.voting import VOTERS

NAMES, VIEWS = ("first", "second", "third"), ("identity", "hflip")
PEOPLE, SHOTS, FOLDS = 30, 3, 3
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=3, deadline=None)  # a seed is all there is to vary
every_voter = pytest.mark.parametrize("strategy", VOTERS)
every_blend = pytest.mark.parametrize("weights", BLENDS)


def drawn(seed: int, *, people: int = PEOPLE, heat: float = 1.0, sharp: float = 1.5) -> list[Predictions]:
    """M * V predictions of the same photos, the views of one member side by side, some of it errors that they share."""
    rng = np.random.default_rng(seed)
    n = people * SHOTS
    targets = rng.integers(3, size=people).repeat(SHOTS)
    base = sharp * np.eye(3)[targets] + rng.normal(size=(people, 3)).repeat(SHOTS, axis=0)
    folds = (np.arange(people) % FOLDS).repeat(SHOTS)
    ids = np.asarray([f"p{row:04}" for row in range(n)])
    made = []
    for _ in NAMES:
        own = base + 0.7 * rng.normal(size=(n, 3))
        for _ in VIEWS:
            odds = np.exp(heat * (own + 0.3 * rng.normal(size=(n, 3))))
            made.append(Predictions(ids, ("a", "b", "c"), odds / odds.sum(axis=1, keepdims=True), folds, targets))
    return made


def head_of(made: list[Predictions], *, test: list[Predictions] | None = None) -> HeadMembers:
    names = [name for name in NAMES[: len(made) // len(VIEWS)] for _ in VIEWS]
    persons = np.arange(len(made[0].ids) // SHOTS).astype(np.str_).repeat(SHOTS)
    runs = tuple(dict.fromkeys(names))
    photos = None if test is None else Members.of(test, names)
    return HeadMembers("head", runs, VIEWS, Members.of(made, names), photos, persons)


def voted(made: list[Predictions], **choices: str) -> HeadVote:
    return vote_on_head(head_of(made), HeadChoices(**choices))


def stacked(made: list[Predictions]) -> Array:
    return np.stack([member.probs for member in made]).reshape(-1, len(VIEWS), *made[0].probs.shape)


@every_voter
@pytest.mark.parametrize("weights", ["uniform", "f1", "simplex", "greedy"])
def test_a_fold_is_voted_on_as_fitted_on_the_other_folds(strategy: str, weights: str) -> None:
    made = drawn(0)
    vote = voted(made, strategy=strategy, weights=weights, calibration="temperature", view_weights="equal")
    targets, folds = made[0].targets, made[0].folds
    seen = stacked(made).mean(axis=1)
    for fold in range(FOLDS):
        fit, held_out = folds != fold, folds == fold
        calibrations = [CALIBRATIONS["temperature"](member[fit], targets[fit]) for member in seen]
        members = np.stack([c(member) for c, member in zip(calibrations, seen, strict=True)])
        persons = vote.members.persons
        blend = BLENDS[weights](VOTERS[strategy], members[:, fit], targets[fit], persons[fit])
        after = CALIBRATIONS["temperature"](blend(members[:, fit]), targets[fit])
        np.testing.assert_allclose(vote.fair.probs[held_out], after(blend(members[:, held_out])), atol=1e-12)


@every_voter
@every_blend
@few
@given(seed=seeds, fold=st.integers(0, FOLDS - 1))
def test_a_fold_does_not_look_at_its_own_targets(strategy: str, weights: str, seed: int, fold: int) -> None:
    if weights == "stack" and strategy != "soft":
        return
    made = drawn(seed)
    rows = made[0].folds == fold
    other = np.where(rows, np.random.default_rng(seed).integers(3, size=len(rows)), made[0].targets)
    altered = [dataclasses.replace(member, targets=other) for member in made]
    asked = {"strategy": strategy, "weights": weights, "calibration": "temperature", "view_weights": "learned"}
    before, after = (voted(these, **asked).fair.probs[rows] for these in (made, altered))
    assert np.array_equal(before, after)


def test_other_folds_targets_do_matter() -> None:
    made = drawn(0)
    rows = made[0].folds == 1
    altered = [dataclasses.replace(member, targets=np.where(rows, 0, member.targets)) for member in made]
    before, after = (voted(these).fair.probs[~rows] for these in (made, altered))
    assert not np.allclose(before, after)


@every_voter
@every_blend
def test_a_row_does_not_look_at_its_neighbours_in_the_fold(strategy: str, weights: str) -> None:
    if weights == "stack" and strategy != "soft":
        return
    made = drawn(1)
    altered = [
        dataclasses.replace(
            member, probs=np.where(np.arange(len(member.ids))[:, None] == 1, [0.0, 0.0, 1.0], member.probs)
        )
        for member in made
    ]
    before, after = (
        voted(these, strategy=strategy, weights=weights, calibration="none").fair.probs[0] for these in (made, altered)
    )
    np.testing.assert_allclose(before, after, atol=1e-12)


def test_the_first_step_is_the_plain_vote_of_all_views() -> None:
    made = drawn(2)
    vote = voted(made)
    np.testing.assert_allclose(vote.steps["vote"].probs, stacked(made).mean(axis=(0, 1)), atol=1e-12)


def test_a_calibration_is_kept_only_where_it_pays() -> None:
    hot, right = voted(drawn(3, people=300, heat=4.0)), voted(drawn(3, people=300, heat=0.0))
    assert hot.plan.calibration == "temperature"
    assert hot.trials["calibration"][0].gain > 2 * hot.trials["calibration"][0].error
    assert right.plan.calibration == "none"  # probabilities that are all equal cannot be mended


def test_a_view_that_harms_is_left_out() -> None:
    made = drawn(4, people=200)
    rng = np.random.default_rng(0)
    noise = [dataclasses.replace(made[0], probs=rng.dirichlet(np.ones(3) / 4, size=len(made[0].ids))) for _ in NAMES]
    spoilt = [view for number, view in enumerate(noise) for view in (made[2 * number], view)]
    vote = voted(spoilt)
    assert vote.plan.views == (0,)
    assert vote.fit.views.tolist() == [1, 0]
    learned = voted(spoilt, view_weights="learned")
    assert learned.fit.views[0] > 0.9
    assert voted(made).plan.views == (0, 1)


def test_greedy_weights_are_kept_only_where_they_pay() -> None:
    made = drawn(5, people=300)
    rng = np.random.default_rng(0)
    bad = [dataclasses.replace(made[0], probs=rng.dirichlet(np.ones(3), size=len(made[0].ids))) for _ in range(4)]
    assert voted([*made[:2], *bad]).plan.weights == "greedy"
    assert voted([*made[:2]] * 3).plan.weights == "uniform"  # the same member three times


def test_what_was_asked_for_is_done_and_its_gain_still_told() -> None:
    vote = voted(drawn(6), weights="f1", calibration="isotonic", view_weights="learned")
    assert (vote.plan.weights, vote.plan.calibration, vote.plan.learned) == ("f1", "isotonic", True)
    assert [trials[-1].kept for trials in vote.trials.values()] == [True, True, True]
    losses = [log_loss(p.targets, p.probs) for p in vote.steps.values()]
    gains = [vote.trials[step][-1].gain for step in STEPS[1:]]
    np.testing.assert_allclose(gains, -np.diff(losses), atol=1e-9)


def test_members_alone_and_without_each_other() -> None:
    made = drawn(7)
    vote = voted(made, weights="uniform", calibration="none", view_weights="equal")
    seen = stacked(made).mean(axis=1)
    scores = [macro_f1(made[0].targets, member.argmax(axis=1), 3) for member in seen]
    np.testing.assert_allclose(vote.alone, scores)
    np.testing.assert_allclose(vote.left_out[1].probs, seen[[0, 2]].mean(axis=0), atol=1e-12)
    assert not voted(made[:2]).left_out  # a member alone cannot be left out


def test_ties_of_a_hard_vote_are_counted() -> None:
    made = drawn(8)[:4]
    swapped = [dataclasses.replace(member, probs=np.roll(member.probs, 1, axis=1)) for member in made[:2]]
    vote = voted([*made[:2], *swapped], strategy="hard", weights="uniform", calibration="none")
    assert vote.ties == (len(made[0].ids), 0)


def test_the_stack_casts_no_ballots() -> None:
    with pytest.raises(EnsembleError, match="stack learns from probabilities and casts no ballots"):
        voted(drawn(9), strategy="hard", weights="stack")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": np.zeros(90)}, r"takes 2 or more folds, got \[0\]; train with more folds"),
        ({"folds": np.arange(90) % 3 - 1}, "30 of 90 samples are test samples; give out-of-fold predictions"),
        ({"targets": np.where(np.arange(90) // 3 % 3 == 0, 1, -1)}, "no sample outside fold 0 has a target"),
    ],
)
def test_what_cannot_be_cross_fitted_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EnsembleError, match=message):
        voted([dataclasses.replace(member, **changes) for member in drawn(0)])


def test_too_many_rows_are_fitted_on_whole_people(monkeypatch: pytest.MonkeyPatch) -> None:
    made = drawn(10)
    head = head_of(made)
    monkeypatch.setattr(ensemble.head_vote, "FIT_BYTES", 8 * 6 * 3 * 40)  # forty rows of ninety
    rows = ensemble.head_vote.rows_to_fit(head.oof, head.persons, 2)
    assert 30 <= len(rows.targets) <= 40
    people, photos = np.unique(rows.persons, return_counts=True)
    assert set(photos) == {SHOTS}
    kept = np.isin(head.persons, people)
    assert np.array_equal(rows.probs, stacked(made)[:, :, kept])
    assert np.isfinite(vote_on_head(head, HeadChoices()).fair.probs).all()  # all rows are voted on


def test_small_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = drawn(11)
    whole = vote_on_head(head_of(made, test=made), HeadChoices())
    monkeypatch.setattr(ensemble.members, "BLOCK", 6 * 3 * 8 * 7)  # seven rows
    parts = vote_on_head(head_of(made, test=made), HeadChoices())
    for field in ("fair", "fitted", "test", "plain_test"):
        np.testing.assert_allclose(getattr(parts, field).probs, getattr(whole, field).probs, atol=1e-12)
    np.testing.assert_allclose(parts.alone, whole.alone)


def test_photos_to_predict_are_voted_on_by_the_fit_of_all_rows() -> None:
    made = drawn(12)
    vote = vote_on_head(head_of(made, test=made), HeadChoices())
    assert vote.test is not None
    np.testing.assert_array_equal(vote.test.probs, vote.fitted.probs)
