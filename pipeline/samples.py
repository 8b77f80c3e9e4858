"""What a layout gives: the table of photos that are known, and the list of photos to predict."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from heads.base import Head, IntArray, StrArray
from heads.registry import LABELS
from pipeline.errors import LayoutError

PERSON_COLUMNS = ("person", "person_id", "group", "subject", "identity")  # of a table, any of them


@dataclass(frozen=True, slots=True)
class Samples:
    """A table, one row a photo; N photos.

    Attributes:
        ids: (N,) unique ids.
        paths: N files.
        persons: (N,) who is on it; all photos of a person stay in one fold.
        columns: Label column -> (N,) raw labels; the empty text = not labelled.
    """

    ids: StrArray
    paths: tuple[Path, ...]
    persons: StrArray
    columns: dict[str, StrArray]

    def take(self, rows: IntArray) -> Samples:
        """The samples of these row numbers."""
        columns = {name: cells[rows] for name, cells in self.columns.items()}
        return Samples(self.ids[rows], tuple(self.paths[row] for row in rows), self.persons[rows], columns)

    def strata(self) -> IntArray:
        """The (N,) joint class of all labels, *not labelled* being a class too: what folds are balanced by."""
        strata = np.zeros(len(self.ids), dtype=np.int64)
        for head in LABELS:
            if head.column in self.columns:
                strata = strata * (len(head.classes) + 1) + 1 + head.labels(head.values(self.columns))
        return strata

    def digest(self) -> str:
        """A fingerprint of ids, people, labels and file sizes; contents are not read.

        Raises:
            LayoutError: A photo is not there.
        """
        table = [self.ids.tolist(), self.persons.tolist(), {k: v.tolist() for k, v in sorted(self.columns.items())}]
        try:
            sizes = [path.stat().st_size for path in self.paths]
        except OSError as error:
            raise LayoutError(f"cannot read the image {error.filename}: {error.strerror}") from error
        return hashlib.sha256(json.dumps([table, sizes]).encode()).hexdigest()[:16]


def list_digest(ids: Sequence[str]) -> str:
    """A fingerprint of a list of ids in its order."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Everything that was found under ``--data``.

    Attributes:
        root: The folder or file that was loaded.
        layout: Name of the layout that read it.
        samples: Photos with labels.
        test_ids: Ids to predict, in the template's order; empty when the layout has no eval set.
        test_paths: Their files.
        fixed: How many label fixes were applied.
        remarks: Lines to tell the user (ignored files, fixes that match nothing).
    """

    root: Path
    layout: str
    samples: Samples
    test_ids: tuple[str, ...] = ()
    test_paths: tuple[Path, ...] = ()
    fixed: int = 0
    remarks: tuple[str, ...] = field(default=())

    def with_samples(self, samples: Samples, *, fixed: int, remarks: tuple[str, ...]) -> Dataset:
        """The same data with other labels."""
        return replace(self, samples=samples, fixed=fixed, remarks=self.remarks + remarks)


def check_labels(samples: Samples, source: Path) -> None:
    """Refuse labels that are none.

    Raises:
        LayoutError: A label is not of its head; the message names the photo.
    """
    for head in LABELS:
        if head.column in samples.columns:
            for raw in np.unique(samples.columns[head.column]):
                if problem := head.problem(str(raw)):
                    photo = samples.ids[samples.columns[head.column] == raw][0]
                    raise LayoutError(f"{source}: {problem} ({photo})")


def labelled_rows(head: Head, samples: Samples) -> IntArray:
    """Row numbers of the samples that carry the head's label.

    Raises:
        LayoutError: No sample does.
    """
    if all(column in samples.columns for column in head.columns):
        rows = np.flatnonzero(head.labels(head.values(samples.columns)) >= 0)
        if len(rows):
            return rows
    raise LayoutError(f"no photo carries a label for {head.name!r}; label columns found: {', '.join(samples.columns)}")
