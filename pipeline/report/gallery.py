"""Photos that a head gets wrong, the most confident mistakes first. N photos, C classes, R runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ensemble.predictions import Indices
from heads.base import IntArray
from pipeline.members import predicts
from pipeline.report.shown import Known, Seen, Shown, alike, seen

EXAMPLES = 3  # of a cell of the confusion of 18 classes


def wrong_photos(shown: Shown, runs: Sequence[Known], most: int) -> dict[str, list[dict[str, Any]]]:
    """Head -> its most confident mistakes, as JSON knows them.

    ``wrong_in`` of ``runs`` says in how many of the runs that predict the photo's head it is wrong, all on the same
    photos, labels and folds.

    Args:
        shown: The runs whose mistakes these are.
        runs: All runs of the report.
        most: Of each head.
    """
    return {head: _of_head(head, found, shown.runs[head], runs, most) for head, found in shown.heads.items()}


def _of_head(head: str, found: Seen, own: Known, runs: Sequence[Known], most: int) -> list[dict[str, Any]]:
    rows = most_confident(found, most)
    wrong, of = _wrong_in(head, found, own, runs, rows)
    oof = found.oof
    return [
        {
            "photo": str(oof.ids[row]),
            "person": str(found.persons[row]),
            "fold": int(oof.folds[row]),
            "true": int(oof.targets[row]),
            "taken": int(oof.labels[row]),
            "probs": [round(float(p), 4) for p in oof.probs[row]],
            "wrong_in": int(times),
            "runs": int(n),
        }
        for row, times, n in zip(rows.tolist(), wrong, of, strict=True)
    ]


def most_confident(found: Seen, most: int) -> IntArray:
    """Rows of the mistakes, the one with the highest probability for its wrong answer first."""
    wrong = np.flatnonzero(found.oof.targets != found.oof.labels)
    confidence = found.oof.probs[wrong, found.oof.labels[wrong]]
    return np.asarray(wrong[np.argsort(-confidence, kind="stable")][:most])


def _wrong_in(head: str, found: Seen, own: Known, runs: Sequence[Known], rows: IntArray) -> tuple[Indices, Indices]:
    """In how many runs each of these photos is wrong, and of how many."""
    wrong, of = np.ones(len(rows), dtype=np.int64), np.ones(len(rows), dtype=np.int64)
    ids = found.oof.ids[rows].tolist()
    for run, info in alike(runs, own[1]):
        if run.name == own[0].name or not predicts(info, head):
            continue
        other = seen(run, info, head).oof
        is_wrong = dict(zip(other.ids.tolist(), (other.targets != other.labels).tolist(), strict=True))
        wrong += np.asarray([is_wrong.get(name, False) for name in ids], dtype=np.int64)
        of += np.asarray([name in is_wrong for name in ids], dtype=np.int64)
    return wrong, of


def examples(joint: Seen) -> dict[tuple[int, int], list[str]]:
    """(truth, taken for) -> photos of that cell, the most confident mistakes first."""
    found: dict[tuple[int, int], list[str]] = {}
    for row in most_confident(joint, len(joint.oof.ids)).tolist():
        cell = found.setdefault((int(joint.oof.targets[row]), int(joint.oof.labels[row])), [])
        if len(cell) < EXAMPLES:
            cell.append(str(joint.oof.ids[row]))
    return found
