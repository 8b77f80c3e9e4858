"""The experiments as one wide table, a row a run: a page to sort and filter, and a CSV for spreadsheets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.files import write_csv
from pipeline.report.text import defused
from pipeline.terminal import one_line

Row = dict[str, Any]  # as `pipeline.report.runs.table` gives it
# settings that always have a column; any other gets one when runs differ in it
SHOWN = (
    "seed",
    "image_size",
    "backbone",
    "weights",
    "freeze",
    "neck",
    "folds",
    "epochs",
    "batch_size",
    "optimizer",
    "lr",
    "schedule",
    "loss",
    "objective",
    "augment",
)
TOLD_BESIDE = ("note",)  # has a column of its own
SCORE = "macro_f1 "


def columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Name of a column -> its cells, one a run: text, a number, or None where there is nothing.

    Args:
        rows: One a run.
    """
    scored = dict.fromkeys(head for row in rows for head in row["macro_f1"])
    settings = [*SHOWN, *(name for name in _settings_of(rows) if name not in SHOWN and _differs(rows, name))]
    return {
        "run": [row["name"] for row in rows],
        "note": [row["note"] for row in rows],
        "state": [row["state"] for row in rows],
        "heads": ["+".join(row["heads"]) for row in rows],
        **{f"{SCORE}{head}": [row["macro_f1"].get(head) for row in rows] for head in scored},
        "minutes": [_rounded(row["seconds"], 60) for row in rows],
        "memory GiB": [_rounded(row["peak_memory"], 2**30) for row in rows],
        "finished": [row["finished"][:16].replace("T", " ") for row in rows],
        **{name: [_setting(row, name) for row in rows] for name in settings},
    }


def write_table(file: Path, rows: Sequence[Row]) -> None:
    """Write the table as CSV; no cell is taken for a formula.

    Raises:
        ArtifactError: It cannot be written.
    """
    table = columns(rows)
    cells = ([_safe(cell) for cell in row] for row in zip(*table.values(), strict=True))
    write_csv(file, [_safe(name) for name in table], cells)


def write_html(file: Path, rows: Sequence[Row]) -> None:
    """Write the table as a page.

    Raises:
        ArtifactError: It cannot be written.
    """
    from pipeline.page.render import write_page  # jinja2: only for pages

    table = columns(rows)
    numbers = {name for name, cells in table.items() if any(isinstance(cell, int | float) for cell in cells)}
    heads = [name for name in table if name.startswith(SCORE)]
    results = {*heads, "run", "minutes", "memory GiB", "finished"}
    settings = [place for place, name in enumerate(table) if name not in results]
    same = [place for place in settings if len(rows) > 1 and _equal([*table.values()][place])]
    cells = zip(*table.values(), strict=True)
    write_page(
        file,
        "runs.html",
        title="Experiments",
        command="pipe runs --html",
        columns=[(one_line(name), "number" if name in numbers else "text") for name in table],
        same=same,
        rows=[[_shown(name, cell) for name, cell in zip(table, row, strict=True)] for row in cells],
        best=[_best(name, rows) for name in heads],
        unfinished=sum(not row["macro_f1"] for row in rows),
    )


def _best(column: str, rows: Sequence[Row]) -> tuple[str, str, float, int]:
    """Head, its best run, the score, and of how many runs."""
    head = column.removeprefix(SCORE)
    scores = {row["name"]: row["macro_f1"][head] for row in rows if head in row["macro_f1"]}
    name = max(scores, key=lambda run: scores[run])
    return head, name, scores[name], len(scores)


def _settings_of(rows: Sequence[Row]) -> list[str]:
    return [name for name in dict.fromkeys(key for row in rows for key in row["config"]) if name not in TOLD_BESIDE]


def _differs(rows: Sequence[Row], name: str) -> bool:
    return not _equal([_setting(row, name) for row in rows])


def _equal(cells: Sequence[Any]) -> bool:
    """Whether all runs that know a setting have it alike; an unfinished run does not know all."""
    known = [cell for cell in cells if cell is not None]
    return all(cell == known[0] for cell in known)


def _setting(row: Row, name: str) -> Any:
    if name == "objective":  # what came of the setting, for every head
        each = row["heads"]
        alike = len(set(each.values())) == 1
        return next(iter(each.values())) if alike else ", ".join(f"{head} {one}" for head, one in each.items()) or None
    return _plain(row["config"].get(name))


def _plain(value: Any) -> Any:
    """A setting as a cell: tables and lists as JSON, yes or no as words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return json.dumps(value) if isinstance(value, dict | list) else value


def _rounded(value: float | None, unit: float) -> float | None:
    return None if value is None else round(value / unit, 2)


def _safe(cell: Any) -> Any:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return defused(one_line(cell))
    return f"{cell:.6g}" if isinstance(cell, float) else cell


def _shown(name: str, cell: Any) -> Any:
    """A cell of the page: what stands there, and what it is sorted by."""
    if cell is None:
        return ("", "")
    if isinstance(cell, float):
        return (f"{cell:.4f}" if name.startswith(SCORE) else f"{cell:g}", repr(cell))
    if name == "weights":
        return (one_line(str(cell).rsplit("/", 1)[-1]), one_line(str(cell)))
    return one_line(str(cell))
