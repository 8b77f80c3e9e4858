"""What two submissions answer differently: by head, by pair of classes, and by how sure an ensemble was of the rows."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.ballots import parts_of
from ensemble.predictions import Mask, MisalignedPredictions, are_distributions, order_of, repeated
from heads.base import FloatArray
from heads.registry import JOINT
from pipeline.errors import ArtifactError
from pipeline.files import read_arrays
from pipeline.submissions import N_CLASSES, SIZES, Submission, joined, located, read_submission
from pipeline.terminal import one_line, shortened

PROBS = "joint.test.npz"
EDGES = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)  # of the bins of the top probability
MOST_PAIRS = 20  # that are shown


@dataclass(frozen=True, slots=True)
class Difference:
    """What ``--json`` prints."""

    info: dict[str, Any]


def compare(first: Path, second: Path, *, probs: str | None = None, artifacts: Path) -> Difference:
    """What the second submission answers differently.

    Args:
        first: The one that is changed.
        second: The one that it is changed into.
        probs: An ensemble, its folder or its file, whose probabilities group the rows; None = what stands beside the
            first or second, if anything.
        artifacts: Where ensembles are kept.

    Raises:
        LayoutError: A file is no submission, they do not answer the same photos, or there are no such probabilities.
        ArtifactError: The probabilities that were asked for are damaged or of other photos.
    """
    pair = [read_submission(first), read_submission(second)]
    before, after = joined(pair)
    changed = before != after
    heads = parts_of(before, SIZES) != parts_of(after, SIZES)  # (H, N)
    moves = Counter(zip(before[changed].tolist(), after[changed].tolist(), strict=True))
    ids = pair[0].ids
    return Difference(
        {
            "a": str(first),
            "b": str(second),
            "rows": len(ids),
            "changed": int(changed.sum()),
            "by_head": {part.name: int(moved.sum()) for part, moved in zip(JOINT.parts, heads, strict=True)},
            "by_classes": [
                {"from": a, "to": b, "rows": count}
                for (a, b), count in sorted(moves.items(), key=lambda m: (-m[1], m[0]))
            ],
            "by_confidence": _by_confidence(pair[0], changed, _chosen(probs, first, second, artifacts)),
            "changed_ids": [ids[row] for row in np.flatnonzero(changed).tolist()],
        }
    )


@dataclass(frozen=True, slots=True)
class _Choice:
    """A file of probabilities, if any, and whether the user asked for it."""

    file: Path | None
    asked: bool


def _chosen(probs: str | None, first: Path, second: Path, artifacts: Path) -> _Choice:
    if probs is not None:
        return _Choice(located(probs, artifacts, PROBS), True)
    beside = (file.with_name(PROBS) for file in (first, second))
    return _Choice(next((file for file in beside if file.is_file()), None), False)


def _by_confidence(answers: Submission, changed: Mask, choice: _Choice) -> dict[str, Any]:
    """Rows and changed rows in bins of the top probability; or why there are none."""
    if choice.file is None:
        return {"file": None, "reason": f"no {PROBS} beside either file; name an ensemble with --probs", "bins": []}
    try:
        top = _top_probabilities(choice.file, answers)
    except (ArtifactError, MisalignedPredictions) as reason:
        if choice.asked:
            raise
        return {"file": str(choice.file), "reason": str(reason), "bins": []}
    place = np.digitize(top, EDGES[1:-1])
    rows = np.bincount(place, minlength=len(EDGES) - 1).tolist()
    moved = np.bincount(place[changed], minlength=len(EDGES) - 1).tolist()
    bins = [
        {"from": low, "to": high, "rows": n, "changed": n_changed}
        for low, high, n, n_changed in zip(EDGES[:-1], EDGES[1:], rows, moved, strict=True)
    ]
    return {"file": str(choice.file), "reason": "", "bins": bins}


def _top_probabilities(file: Path, answers: Submission) -> FloatArray:
    """(N,) the largest of each row's 18 probabilities, in the order of the answers.

    Raises:
        ArtifactError: The file holds no probabilities of joint classes.
        MisalignedPredictions: They are of other photos.
    """
    arrays = read_arrays(file)
    ids, probs = arrays.get("ids"), arrays.get("probs")
    if ids is None or probs is None or (ids.dtype.kind, ids.ndim) != ("U", 1) or probs.dtype.kind != "f":
        raise ArtifactError(f"{file} holds no predictions; give the name of an ensemble")
    table = probs.astype(np.float64)
    if table.shape != (len(ids), N_CLASSES) or len(repeated(ids)) or not are_distributions(table):
        raise ArtifactError(f"{file} holds no probabilities of the {N_CLASSES} classes; make the ensemble again")
    try:
        top: FloatArray = table[order_of(ids, np.asarray(answers.ids))].max(axis=1)
    except MisalignedPredictions as error:
        raise MisalignedPredictions(f"{file} is of other photos than {answers.file}: {error}") from error
    return top


def render(difference: Difference) -> str:
    """The difference as text for a terminal of 80 columns."""
    info = difference.info
    n, changed = info["rows"], info["changed"]
    lines = [
        f"A: {shortened(info['a'], 76)}",
        f"B: {shortened(info['b'], 76)}",
        f"changed: {changed:,} of {n:,} rows ({changed / n:.1%})",
    ]
    if not changed:
        return "\n".join(lines)
    heads = ", ".join(f"{name} {count:,}" for name, count in info["by_head"].items())
    lines += [f"by head: {heads}; a row may change in several", ""]
    lines.append(f"{'from A':<27} {'to B':<27} {'rows':>7} {'of changed':>11}")
    for pair in info["by_classes"][:MOST_PAIRS]:
        before, after = (f"{number:>2} {JOINT.classes[number]}" for number in (pair["from"], pair["to"]))
        lines.append(f"{before:<27} {after:<27} {pair['rows']:>7,} {pair['rows'] / changed:>11.1%}")
    if (more := len(info["by_classes"]) - MOST_PAIRS) > 0:
        lines.append(f"... and {more} more pairs (see --json)")
    return "\n".join([*lines, "", *_confidence_rows(info["by_confidence"])])


def _confidence_rows(found: dict[str, Any]) -> list[str]:
    if found["reason"]:
        return textwrap.wrap(f"no confidence: {one_line(found['reason'])}", 80)
    lines = [f"top probability in {shortened(found['file'], 60)}", f"{'':<12} {'rows':>8} {'changed':>8} {'share':>8}"]
    for part in found["bins"]:
        share = f"{part['changed'] / part['rows']:.1%}" if part["rows"] else "-"
        lines.append(f"{part['from']:.1f} to {part['to']:.1f}   {part['rows']:>8,} {part['changed']:>8,} {share:>8}")
    return lines
