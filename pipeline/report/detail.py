"""Where a head's mistakes lie: by how the mask is worn, by fold, by age in years; what its probabilities are worth.

N photos, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ensemble.bootstrap import Draws, person_interval
from ensemble.metrics import accuracy, confusion, macro_f1
from ensemble.predictions import Mask
from ensemble.reliability import curves, reliability
from heads.base import FloatArray
from heads.registry import JOINT
from pipeline.report.oof import class_table
from pipeline.report.shown import Seen, Shown, by_id

STATE = "mask"  # the head whose true class the others are split by
FEWEST = 2  # people of a group, below which it has no interval


def make_detail(shown: Shown) -> dict[str, Any]:
    """All of it as JSON knows it."""
    return {
        "runs": {head: run.name for head, (run, _) in shown.runs.items()},
        "heads": {head: _head(seen) for head, seen in shown.heads.items()},
        "by_state": list(_by_state(shown)),
        "by_fold": list(_by_fold(shown)),
    }


def _head(seen: Seen) -> dict[str, Any]:
    oof = seen.oof
    drawn = curves(oof.targets, oof.probs)
    n = len(oof.classes)
    return {
        "photos": len(oof.ids),
        "people": len(np.unique(seen.persons)),
        "macro_f1": macro_f1(oof.targets, oof.labels, n),
        "interval_95": person_interval(oof.targets, oof.labels, seen.persons, n),
        "classes": class_table(seen),
        "confusion": confusion(oof.targets, oof.labels, n).tolist(),
        "reliability": reliability(oof.targets, oof.probs, seen.persons),
        "curves": {
            name: [{"probability": p, "share": share, "photos": n} for p, share, n in points]
            for name, points in zip(oof.classes, drawn, strict=True)
        },
    }


def _by_state(shown: Shown) -> Iterator[dict[str, Any]]:
    """Each head on the photos of each true state of the mask; of the mask itself only the share that is right."""
    if STATE not in shown.heads:
        return
    states = shown.heads[STATE].oof.classes
    for head, seen in shown.heads.items():
        found = by_id(shown.heads, STATE, seen.oof.ids)
        for number, state in enumerate(states):
            if (rows := found == number).any():
                yield {"head": head, "state": state} | _scores(seen, rows, with_f1=head != STATE)


def _scores(seen: Seen, rows: Mask, *, with_f1: bool) -> dict[str, Any]:
    """Share right and macro F1 of some rows, with intervals where there are people enough."""
    targets, labels, n = seen.oof.targets[rows], seen.oof.labels[rows], len(seen.oof.classes)
    draws = Draws.of(seen.persons[rows])
    found: dict[str, Any] = {
        "photos": len(targets),
        "accuracy": accuracy(targets, labels, n),
        "accuracy_95": None,
        "macro_f1": macro_f1(targets, labels, n) if with_f1 else None,
        "macro_f1_95": None,
    }
    if draws.n_persons >= FEWEST:
        found["accuracy_95"] = np.quantile(draws.mean((targets == labels).astype(float)), [0.025, 0.975]).tolist()
        if with_f1:
            found["macro_f1_95"] = np.quantile(draws.macro_f1(targets * n + labels, n), [0.025, 0.975]).tolist()
    return found


def _by_fold(shown: Shown) -> Iterator[dict[str, Any]]:
    """Macro F1 of each fold's photos, for the spread."""
    columns = dict(shown.heads) | ({JOINT.name: shown.joint} if shown.joint else {})
    first = next(iter(columns.values()))
    for fold in np.unique(first.oof.folds).tolist():
        rows = first.oof.folds == fold
        yield {
            "fold": fold,
            "photos": int(rows.sum()),
            "people": len(np.unique(first.persons[rows])),
            "macro_f1": {name: _of_fold(seen, fold) for name, seen in columns.items()},
        }


def _of_fold(seen: Seen, fold: int) -> float | None:
    rows = seen.oof.folds == fold
    n = len(seen.oof.classes)
    return macro_f1(seen.oof.targets[rows], seen.oof.labels[rows], n) if rows.any() else None


def by_value(seen: Seen, values: FloatArray, *, most: int = 40) -> list[dict[str, Any]]:
    """What photos are taken for, by the true quantity behind a head's classes (age in years).

    Args:
        seen: Of the head.
        values: (N,) the quantities, NaN = not known.
        most: Points; with more different quantities, neighbours share one.
    """
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return []
    width = max(1.0, np.ceil((values[known].max() - values[known].min() + 1) / most))
    starts = np.floor(values[known] / width) * width
    points = []
    for start in np.unique(starts):
        rows = known[starts == start]
        taken = np.bincount(seen.oof.labels[rows], minlength=len(seen.oof.classes))
        wrong = seen.oof.labels[rows] != seen.oof.targets[rows]
        points.append(
            {
                "from": float(start),
                "to": float(start + width),
                "photos": len(rows),
                "taken_for": dict(zip(seen.oof.classes, taken.tolist(), strict=True)),
                "wrong": int(wrong.sum()),
            }
        )
    return points
