"""What a layout finds on disk, faults and all: loading refuses the first fault, the data check reports every one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.errors import LayoutError
from pipeline.samples import Dataset, Samples


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the data.

    Attributes:
        severity: "error" = training would be wrong or impossible.
        kind: What sort of problem, a short name for scripts.
        file: The file or folder to look at.
        message: What is wrong there.
    """

    severity: Literal["error", "warning"]
    kind: str
    file: str
    message: str


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo to learn from; the empty text is a label that is not given."""

    id: str
    file: Path
    person: str
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything found at one place.

    Attributes:
        root: The folder or file that was given.
        layout: Name of the layout that read it.
        table: The CSV with the labels.
        photos: Photos to learn from, listed and laid out well enough to be looked at.
        eval_photos: (id, file) of the photos to predict, in the template's order.
        problems: What is wrong with tables, names and folders; no photo has been opened.
        litter: Files that are no photos and are left aside.
        remarks: Lines to tell whoever loads it.
    """

    root: Path
    layout: str
    table: Path
    photos: tuple[Photo, ...] = ()
    eval_photos: tuple[tuple[str, Path], ...] = ()
    problems: tuple[Problem, ...] = ()
    litter: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def files(self) -> list[Path]:
        """The photos to learn from, then those to predict."""
        return [photo.file for photo in self.photos] + [file for _, file in self.eval_photos]

    def dataset(self) -> Dataset:
        """The data for training.

        Raises:
            LayoutError: There is an error among the problems; the message is the first one's.
        """
        errors = [problem for problem in self.problems if problem.severity == "error"]
        if errors:
            more = f" ({len(errors) - 1} more errors: `pipe data check {self.root}`)" if len(errors) > 1 else ""
            raise LayoutError(f"{errors[0].file}: {errors[0].message}{more}")
        if not self.photos:
            raise LayoutError(f"{self.root}: no photo found")
        samples = Samples(
            ids=np.asarray([photo.id for photo in self.photos]),
            paths=tuple(photo.file for photo in self.photos),
            persons=np.asarray([photo.person for photo in self.photos]),
            columns={name: np.asarray([photo.labels[name] for photo in self.photos]) for name in self.photos[0].labels},
        )
        return Dataset(
            self.root,
            self.layout,
            samples,
            test_ids=tuple(name for name, _ in self.eval_photos),
            test_paths=tuple(file for _, file in self.eval_photos),
            remarks=self.remarks,
        )


def error(kind: str, file: Path, message: str) -> Problem:
    """A problem that makes training wrong or impossible."""
    return Problem("error", kind, str(file), message)


def warning(kind: str, file: Path, message: str) -> Problem:
    """A problem that training survives."""
    return Problem("warning", kind, str(file), message)


def table_error(file: Path, reason: LayoutError) -> Problem:
    """The problem of a table that cannot be read."""
    return error("table", file, str(reason).removeprefix(f"{file}: "))
