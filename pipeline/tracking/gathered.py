"""What trackers are told beside the epochs: answers of folds with their worst mistakes, and a finished run as a whole.

N photos, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble.combine import average_views
from ensemble.metrics import confusion
from ensemble.predictions import Predictions
from pipeline.errors import PipelineError
from pipeline.store import Run
from pipeline.tables import read_table
from pipeline.tracking.events import WHOLE, Event, Reader, begin, key_of, numbers, of_row, series_of, tell
from pipeline.tracking.pictures import SIDE

MOST = 16  # mistakes of a head and fold

if TYPE_CHECKING:
    from pipeline.plan import Plan  # torch: not needed to tell of finished runs

Answers = Mapping[str, Predictions]  # head -> held-out photos, views averaged
Paths = Mapping[str, Path]  # sample id -> its photo


def answers(series: str, step: int, at: float, held_out: Answers, paths: Paths, *, most: int = MOST) -> Event:
    """The confusion of each head, and its mistakes with the highest probability.

    Args:
        series: A fold's, or the run's.
        step: Epochs that were trained.
        at: When, in seconds since 1970.
        held_out: What each head answers.
        paths: Photos of the mistakes; those that are not there, or cannot be read, are left out.
        most: Mistakes of each head.
    """
    heads = {head: _of_head(found, paths, most) for head, found in held_out.items()}
    return {"series": series, "kind": "answers", "step": step, "time": at, "heads": heads}


def _of_head(found: Predictions, paths: Paths, most: int) -> dict[str, Any]:
    from pipeline.page.thumbnails import data_uris  # torch, by way of the photos

    wrong = np.flatnonzero(found.targets != found.labels)
    sure = found.probs[wrong, found.labels[wrong]]
    rows = [row for row in wrong[np.argsort(-sure, kind="stable")].tolist() if str(found.ids[row]) in paths][:most]
    try:
        photos = data_uris([paths[str(found.ids[row])] for row in rows], SIDE)
    except PipelineError:
        rows, photos = [], []
    captions = [
        f"true {found.classes[found.targets[row]]}, taken for {found.classes[found.labels[row]]} "
        f"{found.probs[row, found.labels[row]]:.2f}, {found.ids[row]}"
        for row in rows
    ]
    return {
        "classes": list(found.classes),
        "confusion": confusion(found.targets, found.labels, len(found.classes)).tolist(),
        "mistakes": [{"caption": c, "photo": p} for c, p in zip(captions, photos, strict=True)],
    }


def tell_fold(plan: Plan, run: Run, fold: int, at: float) -> None:
    """Tell what a fold that was just kept answers."""
    arrays, facts, samples = run.fold_arrays(fold), run.fold_facts(fold), plan.data.samples
    rows, held_out = arrays["rows"], {}
    for index, head in enumerate(plan.task.heads):
        probs = np.mean([arrays[f"oof/{head.name}/{view}"] for view in plan.config.views], axis=0)
        targets = head.labels(plan.values[:, index])[rows]
        every = Predictions(samples.ids[rows], head.classes, probs, plan.folds[rows], targets)
        held_out[head.name] = every.take(targets >= 0)
    step = len(facts["history"])
    tell(run, answers(series_of(fold, plan.config.folds), step, at, held_out, paths_of(plan)))


def paths_of(plan: Plan) -> Paths:
    """Where the photos of a plan are."""
    return dict(zip(plan.data.samples.ids.tolist(), plan.data.samples.paths, strict=True))


def tell_rest(run: Run, paths: Paths) -> None:
    """Tell what of a finished run was not told while it was trained, all of it when no tracker was asked for.

    Raises:
        PipelineError: The run is damaged.
    """
    info, reader = run.info(), Reader(run.tracking)
    begin(run, info["config"])
    known = {key_of(event) for event in reader.new()}
    at = datetime.fromisoformat(info["finished"]).timestamp()
    steps: dict[int, int] = {}
    for event in _rows(run, info["classes"], at):
        fold = int(event["series"].removeprefix("fold"))
        steps[fold] = max(steps.get(fold, 0), event["step"])
        if key_of(event) not in known:
            tell(run, event)
    views = info["config"]["views"]
    oof = {head: average_views([run.load_predictions(head, "oof", view) for view in views]) for head in info["classes"]}
    for fold, step in sorted(steps.items()):
        series = series_of(fold, info["config"]["folds"])
        if f"{series} answers {step}" not in known:
            held_out = {head: found.take(found.folds == fold) for head, found in oof.items()}
            tell(run, answers(series, step, at, held_out, paths))
    for event in _whole(info["scores"], oof, at):
        if key_of(event) not in known:
            tell(run, event)


def _rows(run: Run, heads: Mapping[str, Any], at: float) -> Iterator[Event]:
    """The epochs of all folds."""
    table = read_table(run.folder / "history.csv", ["fold", "epoch"])
    columns = {name: table[name].tolist() for name in table}
    for cells in zip(*columns.values(), strict=True):
        row = {name: float(cell) for name, cell in zip(columns, cells, strict=True) if cell}
        yield of_row(row, heads, f"fold{row['fold']:.0f}", at)


def _whole(scores: Mapping[str, Any], oof: Answers, at: float) -> Iterator[Event]:
    """The out-of-fold scores, and the answers of all folds together; their mistakes are told with the folds."""
    found = {f"{head}/oof_{name}": value for head, own in scores.items() for name, value in own.items()}
    yield numbers(WHOLE, 0, found, at)
    yield answers(WHOLE, 0, at, oof, {}, most=0)
