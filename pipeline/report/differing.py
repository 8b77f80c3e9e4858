"""What was set differently in several runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.schema import RunInfo
from pipeline.store import Run

FINGERPRINTS = {"weights": "weights, by content", "code": "code", "data": "data", "folds": "fold table"}
Found = tuple[Run, RunInfo]


def differing(found: Sequence[Found]) -> dict[str, dict[str, Any]]:
    """What differs -> run -> its value: settings, objectives, fingerprints; None = the run does not know it.

    The setting ``objective`` is told head by head.
    """
    known = {run.name: _known(info) for run, info in found}
    names = dict.fromkeys(name for values in known.values() for name in values if name != "objective")
    table = {name: {run: values.get(name) for run, values in known.items()} for name in names}
    return {name: row for name, row in table.items() if any(value != row[found[0][0].name] for value in row.values())}


def _known(info: RunInfo) -> dict[str, Any]:
    stored: dict[str, Any] = {**info}
    objectives = {f"objective of {head}": objective for head, objective in info["heads"].items()}
    prints = {label: stored.get(name) for name, label in FINGERPRINTS.items()}
    photos = {"photos, by content": info.get("photo_bytes", {}).get("train")}
    return {"heads": list(info["heads"])} | objectives | dict(info["config"]) | prints | photos
