"""The label-fix table that keeps decisions on suspects: fixes where a label is wrong, and what was said of others.

Rows that somebody else wrote, and their further columns, stay as they are and where they are.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from heads.registry import head_named
from pipeline.audit.suspects import Suspect
from pipeline.errors import ConfigError
from pipeline.files import remove, write_bytes
from pipeline.fixes import DECISIONS, SWAP, WRONG, read_fixes
from pipeline.tables import read_rows

FIELDS = ("path", "column", "value", "decision", "given")
Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody says of a suspect: one of ``DECISIONS``, and the right label should it be wrong."""

    word: str
    value: str


def read_overlay(file: Path) -> list[Row]:
    """The rows of a label-fix table; none when it is not there. Rows without a column for decisions are all fixes.

    Raises:
        LayoutError: It is no such table.
    """
    if not file.exists():
        return []
    read_fixes(file)  # refuses what a training would
    header, rows = read_rows(file, FIELDS[:3])
    plain = {name: WRONG if name == "decision" else "" for name in FIELDS}
    return [plain | dict(zip(header, cells, strict=True)) for _, cells in rows]


def overlay_text(rows: Sequence[Row]) -> str:
    """The table as CSV."""
    header = [*FIELDS, *(name for row in rows for name in row if name not in FIELDS)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(header)), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_overlay(file: Path, rows: Sequence[Row]) -> None:
    """Write the table whole; one without rows is no table, so there is none then.

    Raises:
        ArtifactError: It cannot be written.
    """
    if rows:
        write_bytes(file, overlay_text(rows).encode())
    else:
        remove([file])


def decision_in(rows: Sequence[Row], suspect: Suspect) -> Decision | None:
    """What the table says of a suspect; None when nobody has decided."""
    row = next((row for row in rows if speaks_of(row, suspect) and row["decision"] in DECISIONS), None)
    return Decision(row["decision"], row["value"]) if row else None


def with_decision(rows: Sequence[Row], suspect: Suspect, decision: Decision | None) -> list[Row]:
    """The rows with a decision in the place of the one before it, at the end when there was none; None takes it back.

    Raises:
        ConfigError: The decision is none, or its value no label.
    """
    if decision is None:
        return [row for row in rows if not speaks_of(row, suspect)]
    _require_label(suspect, decision)
    path, column = suspect.path, suspect.column
    new = dict(zip(FIELDS, (path, column, decision.value, decision.word, suspect.given), strict=True))
    if any(speaks_of(row, suspect) for row in rows):
        return [row | new if speaks_of(row, suspect) else row for row in rows]
    return [*rows, new]


def speaks_of(row: Row, suspect: Suspect) -> bool:
    """Whether a row speaks of this label: the one before, with the same ``given``, or it is about an earlier label."""
    return (row["path"], row["column"], row["given"]) == (suspect.path, suspect.column, suspect.given)


def _require_label(suspect: Suspect, decision: Decision) -> None:
    if decision.word not in DECISIONS:
        raise ConfigError(f"decision {decision.word!r} is none; decisions are: {', '.join(DECISIONS)}")
    if suspect.column == SWAP:
        problem = "" if decision.value == suspect.value else f"the swap is of {suspect.value!r}, got {decision.value!r}"
    else:
        head = head_named(suspect.head)
        problem = (
            head.problem(decision.value) if decision.value.strip() else f"{head.column} needs a label, got nothing"
        )
    if problem:
        raise ConfigError(f"{suspect.path}: {problem}")
