"""Extra data: photos that every fold trains on and none holds out, so that out-of-fold scores stay those of the data.

E extra photos, H heads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from heads.base import FloatArray, Head, IntArray
from heads.registry import LABELS
from pipeline.contents import file_digest
from pipeline.errors import LayoutError
from pipeline.findings import many
from pipeline.layouts import LAYOUTS, load_dataset
from pipeline.samples import Samples


def _none() -> Samples:
    return Samples(np.empty(0, dtype=np.str_), (), np.empty(0, dtype=np.str_), {})


@dataclass(frozen=True, slots=True)
class Extra:
    """Photos to train on beside the data.

    Attributes:
        samples: E of them, each with a label of the run's heads; no id or person is one of the data.
        values: (E, H) values of the heads, NaN = not labelled; E rows of no column when there are none.
        remarks: Lines to tell the user.
    """

    samples: Samples = field(default_factory=_none)
    values: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples.ids)

    @property
    def people(self) -> int:
        """How many people they show."""
        return len(np.unique(self.samples.persons))

    def take(self, rows: IntArray) -> Extra:
        """Those of these row numbers."""
        return Extra(self.samples.take(rows), self.values[rows], self.remarks)


def load_extra(sources: Sequence[str], heads: Sequence[Head], data: Samples, *, no_fixes: bool = False) -> Extra:
    """The photos of all sources that carry a label of the heads and show nobody of the data.

    Args:
        sources: ``PATH`` or ``LAYOUT:PATH`` each.
        heads: The heads of the network.
        data: The photos that are held out in turn.
        no_fixes: Leave labels as they are.

    Raises:
        LayoutError: A source is not there, or not as training needs it.
    """
    if not sources:
        return Extra()
    found, remarks = [], []
    for number, source in enumerate(sources):
        samples, known = _without_known_people(_labelled(_loaded(source, no_fixes=no_fixes), heads), data)
        remarks.append(
            f"extra {source}: {len(np.unique(samples.persons))} people, "
            f"{many(len(samples.ids), 'photo')} with labels of {'+'.join(head.name for head in heads)}"
            + (f"; {many(known, 'photo')} of people who are in the data left out" if known else "")
        )
        found.append(_prefixed(samples, f"extra{number}"))
    samples = _joined(found)
    values = np.stack([head.values(samples.columns) for head in heads], axis=1)
    return Extra(samples, values, tuple(remarks))


def _loaded(source: str, *, no_fixes: bool) -> Samples:
    """The photos of one source, with all label columns."""
    layout, colon, rest = source.partition(":")
    layout, path = (layout, Path(rest)) if colon and layout in LAYOUTS else ("", Path(source))
    if not os.path.exists(path):
        raise LayoutError(
            f"no extra data at {path}; extra takes PATH or LAYOUT:PATH with one of the layouts {', '.join(LAYOUTS)}"
        )
    samples = load_dataset(path, no_fixes=no_fixes, layout=layout).samples
    empty = np.full(len(samples.ids), "", dtype=np.str_)
    columns = {head.column: samples.columns.get(head.column, empty) for head in LABELS}
    return Samples(samples.ids, samples.paths, samples.persons, columns)


def _labelled(samples: Samples, heads: Sequence[Head]) -> Samples:
    values = np.stack([head.values(samples.columns) for head in heads], axis=1)
    return samples.take(np.flatnonzero(~np.isnan(values).all(axis=1)))


def _without_known_people(samples: Samples, data: Samples) -> tuple[Samples, int]:
    """The photos of people none of whose photos is, byte for byte, one of the data; and how many others there were."""
    of_size: dict[int, list[Path]] = {}
    for path in data.paths:
        of_size.setdefault(_size(path), []).append(path)
    alike = [row for row, path in enumerate(samples.paths) if _size(path) in of_size]  # others cannot be equal
    sizes = {_size(samples.paths[row]) for row in alike}
    there = {file_digest(path) for size in sizes for path in of_size[size]}
    twins = [row for row in alike if file_digest(samples.paths[row]) in there]
    known = np.isin(samples.persons, samples.persons[twins])
    return samples.take(np.flatnonzero(~known)), int(known.sum())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise LayoutError(f"cannot read the image {path}: {error.strerror}") from error


def _prefixed(samples: Samples, prefix: str) -> Samples:
    ids, persons = (np.char.add(f"{prefix}:", names) for names in (samples.ids, samples.persons))
    return Samples(ids, samples.paths, persons, samples.columns)


def _joined(parts: Sequence[Samples]) -> Samples:
    return Samples(
        np.concatenate([part.ids for part in parts]),
        tuple(path for part in parts for path in part.paths),
        np.concatenate([part.persons for part in parts]),
        {head.column: np.concatenate([part.columns[head.column] for part in parts]) for head in LABELS},
    )
