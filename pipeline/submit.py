"""The ensemble stage: load members, fit weights on out-of-fold predictions, vote, compose, write the submission.

No torch here: three 5-fold runs are voted in under a second. Members are read in blocks of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.combine import (
    RowWise,
    compose,
    fold_weights,
    row_by_row,
    seen_by_fold,
    voted,
    voted_by_fold,
    weights_of,
)
from ensemble.members import Members
from ensemble.metrics import accuracy, macro_f1, person_interval, precision_recall_f1
from ensemble.predictions import MisalignedPredictions, Predictions
from ensemble.voting import VOTERS, tied
from ensemble.weights import WEIGHT_RULES, confusions, in_blocks
from heads.base import FloatArray, Head
from heads.registry import JOINT
from pipeline.competition import template
from pipeline.errors import ArtifactError
from pipeline.files import SCHEMA, remove, write_csv, write_json
from pipeline.members import head_members, persons_in, predicts
from pipeline.samples import list_digest
from pipeline.schema import RunInfo
from pipeline.store import Run, Store, save_predictions

Infos = dict[str, RunInfo]
FILES = ("ensemble.json", "submission.csv", "joint.oof.npz", "joint.test.npz")


@dataclass(frozen=True, slots=True)
class HeadVote:
    """What the members say of one head together.

    Attributes:
        head: The head.
        members: Names of the runs.
        weights: (M,) their weights, fitted on all out-of-fold rows.
        alone: (M,) macro F1 of each member by itself.
        fitted: The out-of-fold vote under ``weights``, which have seen these very rows.
        fair: The out-of-fold vote, each fold under weights fitted without it.
        test: The vote on the photos to predict, where there are any.
        ties: Hard votes that were tied, out-of-fold and on the photos to predict.
    """

    head: Head
    members: tuple[str, ...]
    weights: FloatArray
    alone: FloatArray
    fitted: Predictions
    fair: Predictions
    test: Predictions | None
    ties: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Ensemble:
    """A finished vote: its folder and everything that ``ensemble.json`` holds."""

    folder: Path
    votes: tuple[HeadVote, ...]
    info: dict[str, Any]


def f1_of(predictions: Predictions) -> float:
    """Macro F1 over all classes, once over all rows."""
    return macro_f1(predictions.targets, predictions.labels, len(predictions.classes))


def vote_on_head(
    head: Head, runs: Sequence[Run], infos: Infos, *, strategy: str, rule: str, views: Sequence[str]
) -> HeadVote:
    """Let every run that predicts ``head`` vote on it.

    Raises:
        ArtifactError: No run predicts it, or one lacks a view or the photos to predict.
        MisalignedPredictions: Members differ in photos, folds, classes or labels.
    """
    able = [run for run in runs if predicts(infos[run.name], head.name)]
    if not able:
        asked = ", ".join(run.name for run in runs)
        raise ArtifactError(f"no run predicts {head.name!r} (runs: {asked}); run `pipe train-head {head.name}`")
    names = [run.name for run in able]
    try:
        oof = Members.align(head_members(able, infos, head, "oof", views), names)
    except MisalignedPredictions as error:
        raise MisalignedPredictions(f"{error}; choose runs that fit with --run") from error
    voter, blockwise = VOTERS[strategy], in_blocks(WEIGHT_RULES[rule])
    counts, seen = seen_by_fold(oof, confusions, blockwise.look)
    weights = weights_of(blockwise, seen)
    by_fold = fold_weights(oof, blockwise, seen)
    test, test_ties = None, 0
    if infos[runs[0].name]["eval"] != list_digest([]):
        parts = Members.align(head_members(able, infos, head, "test", views), names)
        answers, ties = row_by_row(parts, voted(voter, weights), _ties(strategy, weights))
        test, test_ties = parts.decided(answers), int(ties.sum())
    fair, fitted, oof_ties = row_by_row(
        oof, voted_by_fold(voter, by_fold, oof.folds), voted(voter, weights), _ties(strategy, weights)
    )
    return HeadVote(
        head,
        tuple(names),
        weights,
        precision_recall_f1(sum(counts.values()))[..., 2].mean(axis=1),
        oof.decided(fitted),
        oof.decided(fair),
        test,
        (int(oof_ties.sum()), test_ties),
    )


def _ties(strategy: str, weights: FloatArray) -> RowWise:
    """Which rows of a hard vote are tied; in other votes none is."""
    if strategy == "hard":
        return lambda rows, probs: tied(probs, weights)
    return lambda rows, probs: np.zeros(probs.shape[1], dtype=bool)


def joint_scores(composed: Predictions, run: Run) -> dict[str, Any]:
    """Macro F1 of the 18 classes with its 95 % interval over people, and accuracy."""
    known = composed.take(composed.targets >= 0)
    n = len(known.classes)
    low, high = person_interval(known.targets, known.labels, persons_in(run, known.ids), n)
    score = accuracy(known.targets, known.labels, n)
    return {"macro_f1": f1_of(known), "interval_95": [low, high], "accuracy": score, "photos": len(known.ids)}


def make_ensemble(
    store: Store,
    names: Sequence[str],
    *,
    strategy: str,
    rule: str,
    views: Sequence[str],
    name: str,
    data: Path | None = None,
) -> Ensemble:
    """Vote over runs and keep the vote, its scores and, when there are photos to predict, the submission.

    Args:
        store: Where runs are.
        names: Runs that vote; none = all that are finished.
        strategy: Key of ``VOTERS``.
        rule: Key of ``WEIGHT_RULES``.
        views: Test-time views that are averaged.
        name: Under which the ensemble is kept.
        data: The folder whose template the submission must match; None = where the runs were trained, if still there.

    Raises:
        ArtifactError: A run is missing or lacks something, or the template differs from what was predicted.
        EnsembleError: Members do not fit together.
    """
    runs = store.finished(names)
    infos = {run.name: run.info() for run in runs}
    for other in runs[1:]:
        if infos[other.name]["eval"] != infos[runs[0].name]["eval"]:
            pair = f"runs {runs[0].name!r} and {other.name!r}"
            raise ArtifactError(f"{pair} predicted different eval lists; choose runs of one list with --run")
    votes = tuple(vote_on_head(h, runs, infos, strategy=strategy, rule=rule, views=views) for h in JOINT.parts)
    fair = compose([vote.fair for vote in votes], classes=JOINT.classes)
    fitted = compose([vote.fitted for vote in votes], classes=JOINT.classes)
    tests = [vote.test for vote in votes if vote.test is not None]
    answers = compose(tests, classes=JOINT.classes) if tests else None
    if answers is not None and list_digest(answers.ids.tolist()) != infos[runs[0].name]["eval"]:
        raise ArtifactError("the votes are not on the eval list that the runs were trained for; train the runs again")
    if answers is not None:
        require_template(answers, data or Path(next(iter(infos.values()))["data_root"]), asked=data is not None)
    elif data is not None:
        raise ArtifactError(f"the runs predicted no eval photos, so there is nothing to submit for {data}")
    info = {
        "schema": SCHEMA,
        "strategy": strategy,
        "weights_rule": rule,
        "views": list(views),
        "runs": [run.name for run in runs],
        "heads": {vote.head.name: _head_info(vote) for vote in votes},
        "cross_fitted": joint_scores(fair, runs[0]),
        "in_sample": joint_scores(fitted, runs[0]),
        "submission_rows": 0 if answers is None else len(answers.ids),
    }
    folder = store.ensemble_folder(name)
    remove(folder / file for file in FILES)  # nothing of an earlier ensemble of this name may stand beside this one
    save_predictions(folder / "joint.oof.npz", fair)
    if answers is not None:
        save_predictions(folder / "joint.test.npz", answers)
        write_csv(folder / "submission.csv", ["ImageID", "ans"], zip(answers.ids, answers.labels, strict=True))
        info["submission_mix"] = np.bincount(answers.labels, minlength=len(JOINT.classes)).tolist()
    write_json(folder / "ensemble.json", info)
    return Ensemble(folder, votes, info)


def _head_info(vote: HeadVote) -> dict[str, Any]:
    return {
        "members": [
            {"run": run, "weight": float(weight), "macro_f1": float(alone)}
            for run, weight, alone in zip(vote.members, vote.weights, vote.alone, strict=True)
        ],
        "macro_f1_cross_fitted": f1_of(vote.fair),
        "macro_f1_in_sample": f1_of(vote.fitted),
        "ties": {"oof": vote.ties[0], "test": vote.ties[1]},
    }


def require_template(answers: Predictions, root: Path, *, asked: bool) -> None:
    """Refuse answers that are not for exactly the template's ids, in its order.

    Raises:
        ArtifactError: They differ, or the template that was asked for is not there.
    """
    if not asked and not (root / "eval" / "info.csv").is_file():
        return
    file = root / "eval" / "info.csv"
    wanted, got = list(template(root)), answers.ids.tolist()
    if wanted == got:
        return
    if not wanted:
        raise ArtifactError(f"no file {file}; --data takes the competition's folder")
    missing, surplus = sorted(set(wanted) - set(got)), sorted(set(got) - set(wanted))
    if not missing and not surplus:
        raise ArtifactError(
            f"{file} lists the photos in another order than the runs predicted them; train the runs again"
        )
    example = (missing or surplus)[0]
    raise ArtifactError(
        f"{file} does not list what the runs predicted: {len(missing)} ids were not predicted, "
        f"{len(surplus)} are not listed, e.g. {example}; restore the list or train the runs again"
    )


def render(ensemble: Ensemble) -> str:
    """The vote as text for a terminal of 80 columns."""
    info = ensemble.info
    lines = [f"{info['strategy']} vote, weights {info['weights_rule']}, views {'+'.join(info['views'])}", ""]
    lines.append("head    member                          weight   macro F1 alone")
    for name, head in info["heads"].items():
        for member in head["members"]:
            lines.append(f"{name:<7} {member['run']:<30.30} {member['weight']:7.3f} {member['macro_f1']:16.4f}")
        vote = f"vote: cross-fitted {head['macro_f1_cross_fitted']:.4f}, in-sample {head['macro_f1_in_sample']:.4f}"
        ties = (
            f", ties {head['ties']['oof']} out-of-fold, {head['ties']['test']} eval"
            if info["strategy"] == "hard"
            else ""
        )
        lines.append(f"{'':7} {vote}{ties}")
    fair, fitted = info["cross_fitted"], info["in_sample"]
    low, high = fair["interval_95"]
    lines += [
        "",
        f"18 classes, {fair['photos']} photos",
        f"  macro F1 {fair['macro_f1']:.4f} cross-fitted, 95 % {low:.3f}-{high:.3f} over people",
        f"  macro F1 {fitted['macro_f1']:.4f} in-sample, accuracy {fair['accuracy']:.4f} cross-fitted",
    ]
    if info["submission_rows"]:
        lines.append(f"submission: {ensemble.folder / 'submission.csv'} ({info['submission_rows']} rows)")
    else:
        lines.append(f"no photos to predict, so no submission; the vote is in {ensemble.folder}")
    return "\n".join(lines)
