"""CSV files of labels, read as text: ids keep their zeros and suffixes, and nothing is guessed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heads.base import StrArray
from pipeline.errors import LayoutError

Table = dict[str, StrArray]


def read_table(file: Path, required: Sequence[str] = ()) -> Table:
    """The columns of a CSV as stripped text, each (N,); an empty cell is the empty text.

    Raises:
        LayoutError: The file is missing, unreadable, empty, ragged or lacks a required column.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            lines = [(reader.line_num, row) for reader in [csv.reader(stream)] for row in reader if any(row)]
    except FileNotFoundError:
        raise LayoutError(f"{file}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LayoutError(f"{file}: cannot be read as a CSV in UTF-8: {error}") from error
    if not lines:
        raise LayoutError(f"{file}: is empty; it must hold a header and one row for every photo or person")
    header = [name.strip() for name in lines[0][1]]
    if doubled := sorted({name for name in header if header.count(name) > 1}):
        raise LayoutError(f"{file}: has the column {doubled[0]!r} twice")
    for column in required:
        if column not in header:
            raise LayoutError(f"{file}: has no column {column!r}; its columns are: {', '.join(header)}")
    rows = lines[1:]
    if not rows:
        raise LayoutError(f"{file}: has a header but no rows")
    for number, row in rows:
        if len(row) != len(header):
            raise LayoutError(f"{file}: line {number} has {len(row)} cells, the header has {len(header)}")
    columns = zip(*(row for _, row in rows), strict=True)
    return {name: np.asarray([cell.strip() for cell in cells]) for name, cells in zip(header, columns, strict=True)}
