"""CSV files of labels, read as text: ids keep their zeros and suffixes, and nothing is guessed."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heads.base import StrArray
from pipeline.errors import LayoutError
from pipeline.reading import read_limited
from pipeline.terminal import listed

Table = dict[str, StrArray]
Row = tuple[int, list[str]]  # line number, cells

# far above any table of photos, far below what would fill the memory
MOST_BYTES = 32 * 2**20
MOST_ROWS = 1_000_000
MOST_COLUMNS = 1_000
MOST_LETTERS = 1_000  # in a cell
MOST_MEMORY = 2**30  # bytes: NumPy gives every cell of a column the room of its longest


def read_table(file: Path, required: Sequence[str] = ()) -> Table:
    """The columns of a CSV as stripped text, each (N,); an empty cell is the empty text.

    Raises:
        LayoutError: The file is missing, unreadable, empty, ragged, oversized or lacks a required column.
    """
    header, rows = read_rows(file, required)
    columns = list(zip(*(row for _, row in rows), strict=True))
    memory = sum(4 * len(cells) * max(map(len, cells)) for cells in columns)
    if memory > MOST_MEMORY:
        raise LayoutError(f"{file}: takes {memory / 2**30:.0f} GiB in memory; shorten its longest cells or split it")
    return {name: np.asarray(cells) for name, cells in zip(header, columns, strict=True)}


def read_rows(file: Path, required: Sequence[str] = ()) -> tuple[list[str], list[Row]]:
    """The header of a CSV and its rows with their line numbers, cells stripped; lines of empty cells are left out.

    Raises:
        LayoutError: The file is missing, unreadable, empty, ragged or lacks a required column.
    """
    lines = _lines(file)
    if not lines:
        raise LayoutError(f"{file}: is empty; it must hold a header and one row for every photo or person")
    header, rows = lines[0][1], lines[1:]
    if doubled := sorted(name for name, count in Counter(header).items() if count > 1):
        raise LayoutError(f"{file}: has the column {doubled[0]!r} twice")
    for column in required:
        if column not in header:
            raise LayoutError(f"{file}: has no column {column!r}; its columns are: {listed(header)}")
    if not rows:
        raise LayoutError(f"{file}: has a header but no rows")
    for number, row in rows:
        if len(row) != len(header):
            raise LayoutError(f"{file}: line {number} has {len(row):,} cells, the header has {len(header):,}")
    return header, rows


def _lines(file: Path) -> list[Row]:
    """The lines that are not empty, header first, their cells stripped.

    Raises:
        LayoutError: The file cannot be read, or holds what no table of photos does.
    """
    lines: list[Row] = []
    try:
        text = read_limited(file, MOST_BYTES).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)  # strict: a quote that never closes is refused
        for row in filter(any, reader):
            if fault := _fault(row, len(lines)):
                raise LayoutError(f"{file}: line {reader.line_num:,} {fault}")
            lines.append((reader.line_num, [cell.strip() for cell in row]))
    except FileNotFoundError:
        raise LayoutError(f"{file}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise LayoutError(f"{file}: cannot be read as a CSV in UTF-8: {why}") from error
    return lines


def _fault(row: list[str], n_before: int) -> str:
    """What no table of photos has, in words; empty when the row is fine."""
    if n_before > MOST_ROWS:
        return f"is beyond {MOST_ROWS:,} rows; split the table"
    if len(row) > MOST_COLUMNS:
        return f"has {len(row):,} columns; a table of photos has at most {MOST_COLUMNS:,}"
    longest = max(row, key=len)
    if len(longest) > MOST_LETTERS:
        return f"has a cell of {len(longest):,} characters; it starts with {longest[:20]!r}; is a quote not closed?"
    return "holds a NUL byte; save the table as CSV in UTF-8" if any("\0" in cell for cell in row) else ""
