"""Who may vote on a head: every finished run that predicts it, alone, beside others or as part of the 18 classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from ensemble.combine import average, marginal_of
from ensemble.members import Member
from ensemble.predictions import Predictions, are_distributions
from ensemble.priors import undone
from heads.base import Head, StrArray
from heads.registry import JOINT
from pipeline.errors import ArtifactError, LayoutError
from pipeline.schema import RunInfo
from pipeline.store import PREDICTIONS, Run
from pipeline.stored import open_arrays
from pipeline.tables import Table, read_table

BESIDE_PROBS = {name: kind for name, kind in PREDICTIONS.items() if name != "probs"}
LOADERS = 2  # files that are checked at the same time
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
    return average(head_views(run, info, head, part, views, {})).predictions()


def head_members(
    runs: Sequence[Run], infos: Mapping[str, RunInfo], head: Head, part: str, views: Sequence[str]
) -> Iterator[Member]:
    """Each run's predictions of ``head`` in each view, the views of a run side by side; probabilities stay on disk."""
    known: dict[str, Member] = {}
    with ThreadPoolExecutor(LOADERS) as pool:
        for start in range(0, len(runs), LOADERS):  # few at a time, so that only few tables of ids are in memory
            some = runs[start : start + LOADERS]
            for found in pool.map(lambda run: head_views(run, infos[run.name], head, part, views, known), some):
                yield from found


def head_views(
    run: Run, info: RunInfo, head: Head, part: str, views: Sequence[str], known: dict[str, Member]
) -> list[Member]:
    """A run's predictions of ``head`` in each view; files of samples that are ``known`` by their head share their ids.

    Raises:
        ArtifactError: The run lacks a view or has other classes than the head; the message names the run.
    """
    source = head.name if head.name in info["classes"] else JOINT.name
    found = [_undone(_whole_member(run, info, source, part, view, known), info, source) for view in views]
    if source == head.name:
        if found[0].classes != head.classes:
            raise ArtifactError(
                f"run {run.name!r} has classes {found[0].classes} for {head.name!r}, not {head.classes}"
            )
        return found
    if found[0].classes != JOINT.classes:
        raise ArtifactError(f"run {run.name!r} has other classes for {JOINT.name!r} than this version")
    sizes = tuple(len(other.classes) for other in JOINT.parts)
    return [marginal_of(joint, sizes, PARTS.index(head.name), head.classes) for joint in found]


def _whole_member(run: Run, info: RunInfo, head: str, part: str, view: str, known: dict[str, Member]) -> Member:
    """The predictions of a run; those of eval photos are the mean over its folds' networks and that of the full fit."""
    folds = _kept_member(run, head, part, view, known)
    if part != "test" or "full" not in info:
        return folds
    full, n_folds = _kept_member(run, head, "full", view, known), info["config"]["folds"]
    return replace(folds, read=lambda rows: (n_folds * folds.read(rows) + full.read(rows)) / (n_folds + 1))


def _undone(member: Member, info: RunInfo, head: str) -> Member:
    """The member with the class mix that its sampler or loss pretended taken back to that of the photos."""
    if (mix := info.get("mix", {}).get(head)) is None:
        return member
    trained, photos = (np.asarray(mix[name], dtype=np.float64) for name in ("trained", "photos"))
    return replace(member, read=lambda rows: undone(member.read(rows), trained=trained, photos=photos))


def _kept_member(run: Run, head: str, part: str, view: str, known: dict[str, Member]) -> Member:
    """The predictions in one file; what is not of the samples that are known is checked in memory, in full."""
    file, stored = run.folder / f"{head}.{part}.{view}.npz", None
    if file.is_file():
        arrays, stored = open_arrays(file, "probs", are_distributions)
        kinds = {name: f"{array.dtype.kind}{array.ndim}" for name, array in arrays.items()}
        like = known.get(head)
        if like and stored and kinds.items() >= BESIDE_PROBS.items():
            ids, classes = arrays["ids"], tuple(arrays["classes"].tolist())
            same = like.same_samples(ids, classes, arrays["folds"], arrays["targets"])
            if same and stored.shape == (len(ids), len(classes)):
                return Member(like.ids, like.classes, like.folds, like.targets, stored.__getitem__)
    found = run.load_predictions(head, part, view)
    read = stored.__getitem__ if stored else found.probs.__getitem__
    known[head] = Member(found.ids, found.classes, found.folds, found.targets, read)
    return known[head]


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
