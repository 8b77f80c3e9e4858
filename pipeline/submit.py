"""The ensemble stage: load members, let the chain combine them, write the submission and how it came about.

No torch here: three 5-fold runs are combined in seconds. Members are read in blocks of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.blends import BLENDS
from ensemble.calibration import CALIBRATIONS
from ensemble.chain import AUTO, HeadMembers
from ensemble.decoding import DECODERS
from ensemble.joint import JOINT_RULES
from ensemble.late import DIRECT
from ensemble.line import Choices, Outcome, run_chain
from ensemble.members import Members
from ensemble.predictions import MisalignedPredictions, Predictions
from ensemble.priors import ESTIMATORS
from ensemble.voting import VOTERS
from heads.base import Head
from heads.registry import JOINT
from pipeline.competition import eval_groups, template
from pipeline.errors import ArtifactError
from pipeline.files import Arrays, file_checksum, write_arrays, write_csv, write_json
from pipeline.members import head_members, persons_in, predicts
from pipeline.report.chain import describe
from pipeline.rules import VIEW_NAMES, chosen_word, chosen_words
from pipeline.samples import list_digest
from pipeline.schema import RunInfo
from pipeline.store import Run, Store

Infos = dict[str, RunInfo]


@dataclass(frozen=True, slots=True)
class Asked:
    """What ``pipe ensemble`` was asked for.

    Attributes:
        runs: Names of the runs that vote.
        views: Test-time views that are read.
        choices: How they are combined.
        data: The folder whose template the submission must match; None = where the runs were trained, if still there.
    """

    runs: tuple[str, ...]
    views: tuple[str, ...]
    choices: Choices
    data: Path | None = None


@dataclass(frozen=True, slots=True)
class Ensemble:
    """A finished vote: its folder and everything that ``ensemble.json`` holds."""

    folder: Path
    outcome: Outcome
    info: dict[str, Any]


def make_ensemble(store: Store, asked: Asked, *, name: str) -> Ensemble:
    """Combine runs and keep the outcome, its scores and, when there are photos to predict, the submission.

    Args:
        store: Where runs are.
        asked: Which runs, and how.
        name: Under which the ensemble is kept.

    Raises:
        ConfigError: A choice is none of the words it may be.
        ArtifactError: A run is missing or lacks something, or the template differs from what was predicted.
        EnsembleError: Members or choices do not fit together.
    """
    require_words(asked)
    folder = store.ensemble_folder(name)
    runs = store.finished(asked.runs)
    infos = {run.name: run.info() for run in runs}
    require_one_list(runs, infos)
    root = asked.data or Path(infos[runs[0].name]["data_root"])
    groups = _groups(root, asked.choices) if has_test(runs, infos) else None
    heads = [members_of(head, runs, infos, asked.views) for head in JOINT.parts]
    direct = [run for run in runs if JOINT.name in infos[run.name]["classes"]]
    joint = members_of(JOINT, direct, infos, asked.views) if direct and asked.choices.joint == "direct" else None
    outcome = run_chain(heads, joint, JOINT.classes, asked.choices, groups)
    if has_test(runs, infos):
        if list_digest(outcome.test_ids.tolist()) != infos[runs[0].name]["eval"]:
            raise ArtifactError(
                "the votes are not on the eval list that the runs were trained for; train the runs again"
            )
        require_template(outcome.test_ids.tolist(), root, asked=asked.data is not None)
    elif asked.data is not None:
        raise ArtifactError(f"the runs predicted no eval photos, so there is nothing to submit for {asked.data}")
    digests = {run.name: file_checksum(run.folder / "run.json") for run in runs}
    info = describe(outcome, asked.views, asked.choices, digests)
    with store.new_ensemble(name) as fresh:
        _write(fresh, outcome, info)
    return Ensemble(folder, outcome, info)


def require_words(asked: Asked) -> None:
    """Refuse choices that are none of the words they may be, whether they come from flags or from a file.

    Raises:
        ConfigError: One is not, or a view stands there twice.
    """
    heads, rest = asked.choices.heads, asked.choices
    chosen_word("strategy", heads.strategy, VOTERS)
    chosen_word("weights", heads.weights, [AUTO, *BLENDS])
    chosen_word("calibration", heads.calibration, [AUTO, *CALIBRATIONS])
    chosen_word("view weights", heads.view_weights, [AUTO, "equal", "learned"])
    chosen_words("views", ",".join(asked.views), VIEW_NAMES)
    chosen_word("joint", rest.joint, [AUTO, *JOINT_RULES, DIRECT])
    chosen_word("prior", rest.prior, [AUTO, "none", *ESTIMATORS])
    chosen_word("prior over", rest.prior_over, ["heads", "joint"])
    chosen_word("decoder", rest.decoder, [AUTO, *DECODERS])


def require_one_list(runs: Sequence[Run], infos: Infos) -> None:
    """Refuse runs that predicted other photos.

    Raises:
        ArtifactError: They did.
    """
    for other in runs[1:]:
        if infos[other.name]["eval"] != infos[runs[0].name]["eval"]:
            pair = f"runs {runs[0].name!r} and {other.name!r}"
            raise ArtifactError(f"{pair} predicted different eval lists; choose runs of one list with --run")


def has_test(runs: Sequence[Run], infos: Infos) -> bool:
    """Whether the runs predicted photos without labels."""
    return infos[runs[0].name]["eval"] != list_digest([])


def members_of(head: Head, runs: Sequence[Run], infos: Infos, views: Sequence[str]) -> HeadMembers:
    """Every run that predicts ``head``, in all views.

    Raises:
        ArtifactError: No run predicts it, or one lacks a view or the photos to predict.
        MisalignedPredictions: Members differ in photos, folds, classes or labels.
    """
    able = [run for run in runs if predicts(infos[run.name], head.name)]
    if not able:
        asked = ", ".join(run.name for run in runs)
        raise ArtifactError(f"no run predicts {head.name!r} (runs: {asked}); run `pipe train-head {head.name}`")
    names = [run.name for run in able for _ in views]
    try:
        oof = Members.align(head_members(able, infos, head, "oof", views), names)
        test = Members.align(head_members(able, infos, head, "test", views), names) if has_test(runs, infos) else None
    except MisalignedPredictions as error:
        raise MisalignedPredictions(f"{error}; choose runs that fit with --run") from error
    return HeadMembers(
        name=head.name,
        runs=tuple(run.name for run in able),
        views=tuple(views),
        oof=oof,
        test=test,
        persons=persons_in(able[0], oof.ids),
    )


def _groups(root: Path, choices: Choices) -> Mapping[str, str] | None:
    """Photo to predict -> person, when photos of one person shall agree.

    Raises:
        ArtifactError: The eval table does not say who is on the photos.
    """
    if not choices.consistent:
        return None
    groups = eval_groups(root)
    if groups is None:
        raise ArtifactError(
            f"{root / 'eval' / 'info.csv'} has no column that says who is on each photo (person or group), and nobody "
            "is guessed; leave --group-consistent out"
        )
    return groups


def _write(folder: Path, outcome: Outcome, info: dict[str, Any]) -> None:
    """Fill the folder of an ensemble; ``ensemble.json`` comes last."""
    end = outcome.ends
    write_arrays(folder / "joint.oof.npz", _arrays(outcome.oof) | {"labels": end.labels})
    if len(outcome.test_ids):
        none = np.full(len(outcome.test_ids), -1)
        test = Predictions(outcome.test_ids, JOINT.classes, end.test, none, none)
        write_arrays(folder / "joint.test.npz", _arrays(test) | {"labels": end.answers})
        write_csv(folder / "submission.csv", ["ImageID", "ans"], zip(test.ids, end.answers, strict=True))
    write_json(folder / "ensemble.json", info)


def _arrays(predictions: Predictions) -> Arrays:
    arrays = {name: getattr(predictions, name) for name in ("ids", "probs", "folds", "targets")}
    return arrays | {"classes": np.asarray(predictions.classes)}


def require_template(got: list[str], root: Path, *, asked: bool) -> None:
    """Refuse answers that are not for exactly the template's ids, in its order.

    Raises:
        ArtifactError: They differ, or the template that was asked for is not there.
    """
    file = root / "eval" / "info.csv"
    if not asked and not file.is_file():
        return
    wanted = list(template(root))
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
