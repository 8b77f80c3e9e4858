"""Checks of the folders: whether artifacts can be written, how much will be, what is there already."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.doctor.case import Case
from pipeline.errors import ArtifactError, LayoutError, NetworkError
from pipeline.findings import Finding, error, ok, said, size, warning

ELSEWHERE = "choose another folder with --artifacts"
CHECKPOINTS = 3  # two are kept, a third is written
TRAINING_STATE = 3  # a checkpoint over its weights: AdamW keeps two numbers a parameter
ROW = 200 + 18 * 8  # bytes of a predicted photo in one view: its id, and at most 18 probabilities


def writable(case: Case) -> Iterator[Finding]:
    """Whether files can be written, made safe, locked and renamed where artifacts go; nothing of it stays."""
    place = nearest(case.artifacts)
    if not place.is_dir():
        yield error(f"artifacts cannot be kept in {case.artifacts}: {place} is no folder", ELSEWHERE)
        return
    where = f"{place}" if place == case.artifacts else f"{place}, where {case.artifacts} will be made"
    try:
        _try_to_write(place)
    except OSError as reason:
        yield error(f"files cannot be written in {where}: {reason.strerror or reason}", ELSEWHERE)
        return
    try:
        _try_to_lock(place)
    except OSError as reason:
        yield warning(
            f"files cannot be locked in {where} ({reason.strerror or reason}), so nothing keeps two commands on two "
            "computers from training one run",
            f"train a run on one computer at a time, or {ELSEWHERE}, on a local disk",
        )
        return
    yield ok(f"files can be written and locked in {where}")


def nearest(path: Path) -> Path:
    """The path itself when it is there, else the nearest that is above it."""
    return next((place for place in (path, *path.absolute().parents) if os.path.lexists(place)), Path("/"))


def _try_to_write(folder: Path) -> None:
    handle, name = tempfile.mkstemp(prefix=".doctor-", dir=folder)
    renamed = f"{name}.renamed"
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(b"x" * 4096)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, renamed)
    finally:
        _remove(name, renamed)


def _try_to_lock(folder: Path) -> None:
    if sys.platform == "win32":
        return  # runs are not locked there
    import fcntl

    handle, name = tempfile.mkstemp(prefix=".doctor-", dir=folder)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(handle)
        _remove(name)


def _remove(*files: str) -> None:
    for file in files:
        with contextlib.suppress(OSError):
            os.unlink(file)


def disk(case: Case) -> Iterator[Finding]:
    """The disk against what a run will write there, as far as that is known."""
    place = nearest(case.artifacts)
    if not place.is_dir():
        return  # told already
    parts = to_write(case)
    need, free = sum(parts.values()), shutil.disk_usage(place).free
    listed = ", ".join(f"{what} {size(n_bytes)}" for what, n_bytes in parts.items() if n_bytes)
    text = f"disk: a run writes about {size(need)} ({listed or 'its size is not known'}), {size(free)} are free"
    if need * 1.05 > free:
        yield error(
            text, "free some space, choose another disk with --artifacts, or use a smaller --backbone or --image-size"
        )
    else:
        yield ok(text)


def to_write(case: Case) -> dict[str, int]:
    """What a run is made of -> bytes."""
    folds, views, side = case.config.folds, len(case.config.views), case.config.image_size
    parts = {}
    try:
        data = case.dataset
    except (LayoutError, OSError):
        data = None  # told by the check of the data
    if data is not None:
        lists = [len(data.samples.ids), len(data.test_ids)]
        parts["resized photos"] = sum(n * side * side * 3 for n in lists if not _cached(case, n))
        parts["predictions"] = (lists[0] + lists[1] * folds) * views * ROW
    try:
        weights = case.parameters * 4
    except NetworkError:
        return parts  # told by the check of the network
    return parts | {"weights": folds * weights, "checkpoints": CHECKPOINTS * TRAINING_STATE * weights}


def _cached(case: Case, n_photos: int) -> bool:
    """Whether as many photos of this size are already kept, or will be kept elsewhere."""
    from pipeline.entries import entries

    if case.config.cache != "auto":
        return True
    known = (entry.facts for entry in entries(case.artifacts / "cache"))
    return any(facts and (facts["photos"], facts["pixels"]) == (n_photos, case.config.image_size) for facts in known)


def runs(case: Case) -> Iterator[Finding]:
    """What was trained there before, and what of it is not finished."""
    from pipeline.store import Store

    found = Store(case.artifacts).runs()
    unfinished = [run for run in found if not run.whole]
    yield ok(f"runs: {len(found) - len(unfinished)} finished, {len(unfinished)} begun" if found else "runs: none yet")
    for run in unfinished:
        try:
            folds = int(run.settings()["config"]["folds"])
        except (ArtifactError, KeyError, TypeError, ValueError) as reason:
            yield warning(
                f"run {run.name!r} is damaged: {said(reason)}",
                f"delete {run.folder}, or train it anew with --fresh",
            )
            continue
        done = sum(run.fold_done(fold) for fold in range(folds))
        yield ok(f"run {run.name!r}: {done} of {folds} folds are there; the same command goes on")
