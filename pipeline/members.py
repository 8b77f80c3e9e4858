"""Who may vote on a head: every finished run that predicts it, alone, beside others or as part of the 18 classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensemble.combine import average_views, marginal
from ensemble.predictions import Predictions
from heads.base import Head, StrArray
from heads.registry import JOINT
from pipeline.errors import ArtifactError, LayoutError
from pipeline.schema import RunInfo
from pipeline.store import Run
from pipeline.tables import Table, read_table

PARTS = tuple(head.name for head in JOINT.parts)


def predicts(info: RunInfo, head: str) -> bool:
    """Whether a run of this ``run.json`` has a say on ``head``."""
    return head in info["classes"] or (JOINT.name in info["classes"] and head in PARTS)


def head_predictions(run: Run, info: RunInfo, head: Head, part: str, views: Sequence[str]) -> Predictions:
    """A run's predictions of ``head``, averaged over ``views``; a joint run gives its marginal.

    Args:
        run: A finished run.
        info: Its ``run.json``.
        head: One that it predicts.
        part: ``oof`` or ``test``.
        views: Names of views.

    Raises:
        ArtifactError: The run lacks a view or has other classes than the head; the message names the run.
    """
    if head.name in info["classes"]:
        found = average_views([run.load_predictions(head.name, part, view) for view in views])
        if found.classes != head.classes:
            raise ArtifactError(f"run {run.name!r} has classes {found.classes} for {head.name!r}, not {head.classes}")
        return found
    joint = average_views([run.load_predictions(JOINT.name, part, view) for view in views])
    if joint.classes != JOINT.classes:
        raise ArtifactError(f"run {run.name!r} has other classes for {JOINT.name!r} than this version")
    sizes = tuple(len(other.classes) for other in JOINT.parts)
    return marginal(joint, sizes, PARTS.index(head.name), head.classes)


def fold_table(run: Run) -> Table:
    """``folds.csv``: photo, person and fold as text.

    Raises:
        ArtifactError: It is damaged or lists a photo twice.
    """
    try:
        table = read_table(run.folder / "folds.csv", ["sample_id", "person_id", "fold"])
    except LayoutError as error:
        raise ArtifactError(f"run {run.name!r}: {error}; train it again with --fresh") from error
    if len(set(table["sample_id"].tolist())) < len(table["sample_id"]):
        raise ArtifactError(f"run {run.name!r}: folds.csv lists a photo twice; train it again with --fresh")
    return table


def persons_in(run: Run, ids: StrArray) -> StrArray:
    """The (N,) people on the photos ``ids``, as the run's fold table has them.

    Raises:
        ArtifactError: The table is damaged or lacks a photo.
    """
    table = fold_table(run)
    person = dict(zip(table["sample_id"].tolist(), table["person_id"].tolist(), strict=True))
    try:
        return np.asarray([person[name] for name in ids.tolist()])
    except KeyError as error:
        raise ArtifactError(f"run {run.name!r}: folds.csv lacks the photo {error}") from None
