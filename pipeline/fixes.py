"""Corrections of wrong labels, laid over the table at load; the data itself is never touched.

A fix is a row ``path,column,value``. ``path`` is a person (the folder) or one photo (its id). ``column`` is a label
column and ``value`` the right label, or ``swap`` and the names of two shots of the person whose labels change places.
Where there is a column ``decision``, as in the files of `pipe review`, only rows of the decision *wrong* are fixes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path, PurePosixPath

import numpy as np

from pipeline.errors import LayoutError
from pipeline.samples import Samples
from pipeline.tables import read_table

SWAP = "swap"
WRONG, RIGHT, UNSURE = DECISIONS = ("wrong", "right", "unsure")  # what somebody says of a label


@dataclass(frozen=True, slots=True)
class Fix:
    """One correction: of ``path``, set ``column`` to ``value``, or swap two shots."""

    path: str
    column: str
    value: str


def read_fixes(file: Path) -> list[Fix]:
    """The fixes of a CSV.

    Raises:
        LayoutError: The file is no such table, or a decision is none.
    """
    table = read_table(file, ["path", "column", "value"])
    decisions = table.get("decision", np.full(len(table["path"]), WRONG)).tolist()
    if unknown := sorted(set(decisions) - {"", *DECISIONS}):
        raise LayoutError(f"{file}: decision {unknown[0]!r} is none; decisions are: {', '.join(DECISIONS)}, or nothing")
    rows = zip(table["path"].tolist(), table["column"].tolist(), table["value"].tolist(), decisions, strict=True)
    return [Fix(path, column, value) for path, column, value, decision in rows if decision == WRONG]


def known_fixes() -> list[Fix]:
    """The well-known wrong labels of the competition; they bite only where those very folders exist."""
    return read_fixes(Path(str(files("pipeline") / "fixes.csv")))


def fits(samples: Samples, fix: Fix) -> bool:
    """Whether a fix can be applied: its photos may be there while a shot or a column that it names is not."""
    try:
        return bool(apply_fixes(samples, [fix])[1])
    except LayoutError:
        return False


def apply_fixes(samples: Samples, fixes: list[Fix]) -> tuple[Samples, list[Fix]]:
    """The samples with corrected labels, and the fixes that matched a photo.

    Raises:
        LayoutError: A fix names a column that the data lacks, or a swap does not name two shots of its person.
    """
    columns = {name: cells.astype(object) for name, cells in samples.columns.items()}
    applied = []
    for fix in fixes:
        rows = np.flatnonzero((samples.persons == fix.path) | (samples.ids == fix.path))
        if not len(rows):
            continue
        if fix.column == SWAP:
            first, second = _two_shots(samples, fix, rows)
            for cells in columns.values():
                cells[first], cells[second] = cells[second], cells[first]
        elif fix.column in columns:
            columns[fix.column][rows] = fix.value
        else:
            raise LayoutError(
                f"fix of {fix.path}: no label column {fix.column!r}; there are: swap, {', '.join(columns)}"
            )
        applied.append(fix)
    fixed = {name: np.asarray(cells.tolist(), dtype=np.str_) for name, cells in columns.items()}
    return replace(samples, columns=fixed), applied


def _two_shots(samples: Samples, fix: Fix, rows: np.typing.NDArray[np.int64]) -> tuple[int, int]:
    stems = {PurePosixPath(str(samples.ids[row])).stem: int(row) for row in rows}
    names = fix.value.split()
    if len(set(names)) != 2 or len(names) != 2 or not all(name in stems for name in names):
        raise LayoutError(
            f"fix of {fix.path}: swap needs two different ones of its shots ({', '.join(stems)}), got {fix.value!r}"
        )
    return stems[names[0]], stems[names[1]]
