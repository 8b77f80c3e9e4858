"""What stands in ``artifacts/``: runs and ensembles. A run's last file marks it whole."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.predictions import EnsembleError, Predictions
from pipeline.errors import ArtifactError, hint
from pipeline.files import Arrays, file_checksum, read_arrays, reason, remove, write_arrays
from pipeline.locks import locked
from pipeline.schema import FoldFacts, RunInfo, Settings, read_checked, read_run

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
PREDICTIONS = {"ids": "U1", "classes": "U1", "probs": "f2", "folds": "i1", "targets": "i1"}  # kind and dimensions


def save_predictions(file: Path, predictions: Predictions) -> None:
    """Keep predictions as npz, every field by its name."""
    arrays = {name: getattr(predictions, name) for name in ("ids", "probs", "folds", "targets")}
    write_arrays(file, arrays | {"classes": np.asarray(predictions.classes)})


@dataclass(frozen=True, slots=True)
class Run:
    """One training in ``artifacts/runs/<name>``; whole once ``run.json`` stands."""

    folder: Path

    @property
    def name(self) -> str:
        """The run's name, as ``--run`` takes it."""
        return self.folder.name

    @property
    def whole(self) -> bool:
        """Whether all folds are trained."""
        return (self.folder / "run.json").is_file()

    @property
    def started(self) -> bool:
        """Whether something was trained under this name."""
        return (self.folder / "settings.json").is_file()

    @property
    def checkpoints(self) -> Path:
        """Where folds in training are kept."""
        return self.folder / "checkpoints"

    @property
    def progress(self) -> Path:
        """Where a command and the processes that train its folds tell each other how it goes."""
        return self.folder / "progress"

    @property
    def tracking(self) -> Path:
        """Where stands what trackers are told; outside the folder, which is the same without them."""
        return self.folder.parent.parent / "tracking" / "events" / self.name

    @property
    def has_work(self) -> bool:
        """Whether a fold or a checkpoint is kept here, which other settings must not touch."""
        return any(self.folder.glob("fold*.json")) or any(self.checkpoints.glob("*.json"))

    def info(self) -> RunInfo:
        """What ``run.json`` says."""
        return read_run(self.folder / "run.json")

    def settings(self) -> dict[str, Any]:
        """The settings under which its folds are trained."""
        return dict(read_checked(self.folder / "settings.json", Settings))

    def fold_facts(self, fold: int) -> FoldFacts:
        """What is known of one fold until all are there."""
        return read_checked(self.folder / f"fold{fold}.json", FoldFacts)

    def fold_arrays(self, fold: int) -> Arrays:
        """What one fold predicted, until all are there."""
        return read_arrays(self.folder / f"fold{fold}.npz")

    def drop_parts(self, folds: Iterable[int]) -> None:
        """Remove what ``run.json`` and the joined predictions now hold of these folds, and their checkpoints."""
        for fold in folds:
            remove(self.folder / f"fold{fold}.{suffix}" for suffix in ("json", "npz"))
            remove([self.fold_lock(fold), *self.checkpoints.glob(f"fold{fold}.*")])
        with contextlib.suppress(OSError):
            self.checkpoints.rmdir()  # another fold's checkpoints stay

    def fold_done(self, fold: int) -> bool:
        """Whether this fold is trained and kept."""
        return (self.folder / f"fold{fold}.json").is_file()

    def folds_done(self, n_folds: int) -> int:
        """How many folds are trained and kept."""
        return sum(self.fold_done(fold) for fold in range(n_folds))

    def fold_lock(self, fold: int) -> Path:
        """What the process holds that trains this fold; outside the folder, which ``--fresh`` removes."""
        return self.folder.with_name(f".{self.name}.fold{fold}.lock")

    def drop_fold(self, fold: int) -> None:
        """Remove one fold."""
        remove(self.folder / f"fold{fold}.{suffix}" for suffix in ("json", "npz", "safetensors"))

    def faults(self, checksums: Mapping[str, str]) -> list[str]:
        """What is wrong with the files of this folder that have these SHA-256, a line each."""
        found = []
        for name, expected in checksums.items():
            try:
                if file_checksum(self.folder / name) != expected:
                    found.append(f"{name} is damaged: its checksum differs")
            except ArtifactError as error:
                found.append(str(error))
        return found

    def checksums(self, names: Iterable[str]) -> dict[str, str]:
        """File name -> SHA-256 of these files of the run."""
        return {name: file_checksum(self.folder / name) for name in names}

    def save_predictions(self, head: str, part: str, view: str, predictions: Predictions) -> None:
        """Keep the predictions of one head for ``oof`` or ``test`` in one view."""
        save_predictions(self.folder / f"{head}.{part}.{view}.npz", predictions)

    def load_predictions(self, head: str, part: str, view: str) -> Predictions:
        """The predictions kept under these names.

        Raises:
            ArtifactError: They are missing or damaged; the message names the run.
        """
        file = self.folder / f"{head}.{part}.{view}.npz"
        if not file.is_file():
            raise ArtifactError(
                f"run {self.name!r} has no {part} predictions of {head!r} in view {view!r}; see --views and --run"
            )
        arrays = read_arrays(file)
        kinds = {name: f"{array.dtype.kind}{array.ndim}" for name, array in arrays.items()}
        if any(kinds.get(name) != kind for name, kind in PREDICTIONS.items()) or not len(arrays["ids"]):
            found = ", ".join(f"{name} {kind}" for name, kind in list(kinds.items())[: len(PREDICTIONS)])
            raise ArtifactError(f"run {self.name!r}: {file.name} is damaged: no predictions, but {found or 'nothing'}")
        try:
            classes = tuple(arrays["classes"].tolist())
            return Predictions(arrays["ids"], classes, arrays["probs"], arrays["folds"], arrays["targets"])
        except EnsembleError as error:
            raise ArtifactError(f"run {self.name!r}: {file.name} is damaged: {error}") from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[str]:
        """Hold the run for one command, and sweep up what a killed one left; gives a line about it, or the empty text.

        Raises:
            ArtifactError: Another command trains it, or the folder cannot be written.
        """
        with locked(self.folder.with_name(f".{self.name}.lock"), f"run {self.name!r}") as former:
            remove(file for folder in (self.folder, self.checkpoints) for file in folder.glob(".*") if file.is_file())
            for removed in self.folder.parent.glob(f".{glob.escape(self.name)}.removed-*"):
                shutil.rmtree(removed, ignore_errors=True)
            shutil.rmtree(self.progress, ignore_errors=True)  # folds of a killed command stop when it is gone
            yield former

    def clear(self) -> None:
        """Remove everything; a kill in the middle leaves nothing under this name.

        Raises:
            ArtifactError: The folder cannot be removed.
        """
        try:
            if self.folder.exists():
                removed = self.folder.with_name(f".{self.name}.removed-{os.getpid()}")
                self.folder.rename(removed)
                shutil.rmtree(removed)
        except OSError as error:
            raise ArtifactError(f"cannot remove {self.folder}: {reason(error)}") from error


@dataclass(frozen=True, slots=True)
class Store:
    """The folder ``artifacts/``."""

    root: Path

    def run(self, name: str) -> Run:
        """The run called ``name``, there or not.

        Raises:
            ArtifactError: The name could lead out of the folder.
        """
        return Run(self.root / "runs" / plain_name(name))

    def runs(self) -> list[Run]:
        """All runs that were started, oldest result first, unfinished ones last."""
        folder = self.root / "runs"
        found = (
            [Run(path) for path in sorted(folder.iterdir()) if PLAIN.fullmatch(path.name)] if folder.is_dir() else []
        )
        return sorted((run for run in found if run.whole or run.started), key=_age)

    def finished(self, names: Iterable[str] = ()) -> list[Run]:
        """The finished runs, oldest first; those named, in that order, when names are given.

        Raises:
            ArtifactError: A named run is missing or not finished, or there is none at all.
        """
        wanted = list(names)
        if doubled := sorted({name for name in wanted if wanted.count(name) > 1}):
            raise ArtifactError(f"run {doubled[0]!r} is named twice")
        chosen = [self.run(name) for name in wanted]
        for run in chosen:
            if not run.whole:
                there = [other.name for other in self.runs() if other.whole]
                state = "is not finished" if run.started else "does not exist"
                advice = hint(run.name, () if run.started else there, f"finished runs: {', '.join(there) or 'none'}")
                raise ArtifactError(f"run {run.name!r} {state} in {self.root}; {advice}")
        chosen = chosen or [run for run in self.runs() if run.whole]
        if not chosen:
            lacks = f"no finished run in {self.root}" if self.root.is_dir() else f"there is no folder {self.root}"
            raise ArtifactError(f"{lacks}; run `pipe train-head mask`, or name another folder with --artifacts")
        return chosen

    def ensemble_folder(self, name: str) -> Path:
        """Where the ensemble called ``name`` is kept."""
        return self.root / "ensembles" / plain_name(name)

    @contextlib.contextmanager
    def new_ensemble(self, name: str) -> Iterator[Path]:
        """An empty folder that takes the place of the ensemble of this name once all is written.

        Raises:
            ArtifactError: Something cannot be written.
        """
        folder = self.ensemble_folder(name)
        fresh, former = (folder.with_name(f".{folder.name}.{state}") for state in ("new", "old"))
        with locked(folder.with_name(f".{folder.name}.lock"), f"ensemble {name!r}", doing="written"):
            try:
                if former.exists() and not folder.exists():  # a killed command came no further
                    former.rename(folder)
                for left in (fresh, former):
                    shutil.rmtree(left, ignore_errors=True)
                fresh.mkdir(parents=True)
                yield fresh
                if folder.exists():
                    folder.rename(former)
                fresh.rename(folder)
            except OSError as error:
                raise ArtifactError(f"cannot write {folder}: {reason(error)}") from error
            finally:
                if former.exists() and not folder.exists():
                    former.rename(folder)
                for left in (fresh, former):
                    shutil.rmtree(left, ignore_errors=True)


def plain_name(name: str) -> str:
    """``name`` when it can name a folder.

    Raises:
        ArtifactError: It cannot.
    """
    if not PLAIN.fullmatch(name):
        raise ArtifactError(
            f"name {name!r} must be letters, digits, '.', '_', '+' or '-', at most 100, no '/' and no space"
        )
    return name


def _age(run: Run) -> tuple[str, str]:
    try:
        return (run.info()["finished"] if run.whole else "unfinished"), run.name
    except (ArtifactError, KeyError):  # whoever reads the run is told
        return "unfinished", run.name
