"""Reading runs back: whether files are as they were written, people apart, and whether scores and networks agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ensemble.combine import average_views
from ensemble.metrics import macro_f1
from ensemble.predictions import EnsembleError
from ensemble.priors import undone
from heads.base import FloatArray, HeadError, IntArray
from heads.registry import head_named
from pipeline.config import TrainConfig
from pipeline.contents import content_digest
from pipeline.errors import ArtifactError, PipelineError
from pipeline.findings import Finding, Findings, error, many, ok, said, warning
from pipeline.folds import digest_of
from pipeline.layouts import load_dataset
from pipeline.members import fold_table
from pipeline.samples import Samples, list_digest
from pipeline.schema import RunInfo
from pipeline.store import Run, Store

if TYPE_CHECKING:  # torch is loaded once the cheap checks are through
    from heads.task import Task

AGAIN = "restore the run from a copy, or train it again with --fresh"
SAMPLE = 16  # photos a fold that are predicted again
# Largest difference of a probability: rounding differs with the batch, and in bf16 numbers have eight bits
TOLERANCE = {"fp32": 1e-3, "bf16": 0.05}


def verify_runs(store: Store, names: Sequence[str], data: Path | None) -> Findings:
    """What is found wrong, or right, in these runs.

    Args:
        store: Where they are.
        names: Their names; none = all.
        data: Where the photos are; None = where each run was trained.

    Raises:
        ArtifactError: A named run is missing, or there is none.
    """
    runs = [store.run(name) for name in names] or store.runs()
    for run in runs:
        if not run.whole and not run.started:
            raise ArtifactError(f"run {run.name!r} does not exist in {store.root}")
    if not runs:
        raise ArtifactError(f"no run in {store.root}; run `pipe train-head mask` first")
    return Findings({run.name: list(_guarded(run, data, store.root / "cache")) for run in runs})


def verdict(found: Findings) -> str:
    """What it comes to, in one line."""
    bad = [name for name, findings in found.groups.items() if any(finding.status == "error" for finding in findings)]
    if bad:
        return f"{many(len(bad), 'run')} of {len(found.groups)} not as written: {', '.join(bad)}"
    return f"{many(len(found.groups), 'run')} as written"


def _guarded(run: Run, data: Path | None, memory: Path) -> Iterator[Finding]:
    """The findings on a run; what stops them is one too."""
    try:
        yield from _whole(run, data, memory) if run.whole else _begun(run)
    except (PipelineError, HeadError, EnsembleError) as reason:
        yield error(said(reason), AGAIN)


def _begun(run: Run) -> Iterator[Finding]:
    """Findings on a run that is not finished."""
    n_folds = run.settings()["config"]["folds"]
    kept = [fold for fold in range(n_folds) if run.fold_done(fold)]
    faults = [fault for fold in kept for fault in run.faults(run.fold_facts(fold)["files"])]
    for fault in faults:
        yield error(fault, "run the same `pipe train-head` again: it trains that fold anew")
    if not faults:
        yield ok(f"not finished: {len(kept)} of {many(n_folds, 'fold')}, as written; the same command goes on")


def _whole(run: Run, data: Path | None, memory: Path) -> Iterator[Finding]:
    """Findings on a finished run, the cheap ones first."""
    info = run.info()
    lacking = sorted(_needed(info) - info["files"].keys())
    faults = [f"run.json lists no {name}" for name in lacking] + run.faults(info["files"])
    if faults:
        yield from (error(fault, AGAIN) for fault in faults)
        return
    yield ok(f"{many(len(info['files']), 'file')} as written")
    yield from _people(run, info)
    yield from _scores(run, info)
    yield from _networks(run, info, data, memory)


def _needed(info: RunInfo) -> set[str]:
    """The files without which a run is not complete."""
    parts = ["oof"] + (["test"] if info["eval"] != list_digest([]) else [])
    views = info["config"]["views"]
    predictions = {f"{head}.{part}.{view}.npz" for head in info["classes"] for part in parts for view in views}
    full = "full" in info
    weights = {f"fold{fold}.safetensors" for fold in range(info["config"]["folds"] + full)}
    predictions |= {f"{head}.full.{view}.npz" for head in info["classes"] for view in views if full}
    return predictions | weights | {"folds.csv", "history.csv"}


def _people(run: Run, info: RunInfo) -> Iterator[Finding]:
    """Whether nobody stands in two folds, and table, predictions and ``run.json`` have the same folds."""
    table = fold_table(run)
    ids, persons = table["sample_id"].tolist(), table["person_id"].tolist()
    folds = [int(fold) if fold.isdecimal() else -1 for fold in table["fold"].tolist()]
    in_folds = Counter(person for person, _ in set(zip(persons, folds, strict=True)))
    torn = sorted(person for person, n in in_folds.items() if n > 1)
    if torn:
        yield error(f"{len(torn)} people in two folds, e.g. {torn[0]}", AGAIN)
        return
    if digest_of(ids, persons, folds) != info["folds"]:
        yield error("folds.csv is not the fold table that run.json tells of", AGAIN)
        return
    of_photo = dict(zip(ids, folds, strict=True))
    for head in info["classes"]:
        for view in info["config"]["views"]:
            oof = run.load_predictions(head, "oof", view)
            if [of_photo.get(name) for name in oof.ids.tolist()] != oof.folds.tolist():
                yield error(f"{head}.oof.{view}.npz has photos in other folds than folds.csv", AGAIN)
                return
    yield ok(f"{len(in_folds)} people, each in one of {many(len(set(folds)), 'fold')}")


def _scores(run: Run, info: RunInfo) -> Iterator[Finding]:
    """Whether the predictions give the scores of ``run.json``."""
    for head, classes in info["classes"].items():
        views = [run.load_predictions(head, "oof", view) for view in info["config"]["views"]]
        if mix := info.get("mix", {}).get(head):
            trained, photos = np.asarray(mix["trained"]), np.asarray(mix["photos"])
            views = [replace(view, probs=undone(view.probs, trained=trained, photos=photos)) for view in views]
        oof = average_views(views)
        found, told = macro_f1(oof.targets, oof.labels, len(classes)), info["scores"][head]["macro_f1"]
        if oof.classes != tuple(classes) or abs(found - told) > 1e-9:
            yield error(f"{head}: the predictions give macro F1 {found:.4f}, run.json says {told:.4f}", AGAIN)
        else:
            yield ok(f"{head}: macro F1 {told:.4f}, as the predictions give it")


def _networks(run: Run, info: RunInfo, data: Path | None, memory: Path) -> Iterator[Finding]:
    """Whether the stored networks predict what is stored, for some held-out photos of every fold."""
    from pipeline.plan import task_of, values_of

    config = TrainConfig.load(None, info["config"])
    root = data or Path(info["data_root"])
    try:
        found = load_dataset(root, fixes=config.fixes, no_fixes=config.no_fixes)
        samples = found.samples
        if samples.digest() != info["data"]:
            raise ArtifactError(f"the photos or labels at {root} are no longer those of the run")
        for part, paths in (("train", samples.paths), ("eval", found.test_paths)):
            told = info.get("photo_bytes", {}).get(part)
            if told and told != content_digest(paths, memory if memory.is_dir() else None):
                raise ArtifactError(f"{part} photos at {root} were changed since the run was trained")
        heads = [head_named(name) for name in info["classes"]]
        task = task_of(heads, config, values_of(heads, samples))  # extra photos have no say in it
    except PipelineError as reason:
        yield warning(f"networks not checked: {said(reason)}", "say where the photos of the run are with --data")
        return
    worst, count = 0.0, 0
    for fold in range(config.folds):
        rows, stored = _sample(run, info, samples, fold)
        given = _predicted(run, task, config, [samples.paths[row] for row in rows], fold)
        worst = max(worst, *(float(np.abs(a - b).max()) for a, b in zip(given, stored, strict=True)))
        count += len(rows)
    exact = config.precision.startswith("fp32") and info["device"] == ["cpu"]
    limit = TOLERANCE["fp32" if exact else "bf16"]
    text = f"{many(count, 'photo')} predicted again by the stored networks: probabilities at most {worst:.1g} apart"
    if worst > limit or not np.isfinite(worst):
        yield error(f"{text}, more than {limit:g}", AGAIN)
    else:
        yield ok(text)


def _sample(run: Run, info: RunInfo, samples: Samples, fold: int) -> tuple[IntArray, list[FloatArray]]:
    """Rows of held-out photos that all heads predicted, evenly over the fold, and each head's stored probabilities."""
    oofs = [run.load_predictions(head, "oof", info["config"]["views"][0]) for head in info["classes"]]
    shared = set.intersection(*(set(oof.ids[oof.folds == fold].tolist()) for oof in oofs))
    known = np.flatnonzero(np.isin(samples.ids, sorted(shared)))
    rows = known[np.unique(np.linspace(0, len(known) - 1, min(SAMPLE, len(known))).astype(int))]
    where = [dict(zip(oof.ids.tolist(), oof.probs, strict=True)) for oof in oofs]
    return rows, [np.stack([probs[name] for name in samples.ids[rows].tolist()]) for probs in where]


def _predicted(run: Run, task: Task, config: TrainConfig, photos: list[Path], fold: int) -> tuple[FloatArray, ...]:
    """What the network of a fold says of these photos in the first view, for every head."""
    import torch

    from pipeline.engine import outputs_of, probabilities
    from pipeline.images import PhotoSet, load_steps, stacked
    from pipeline.network import build_network, load_trained

    network = build_network(replace(config, weights="none"), task.n_outputs)
    load_trained(network, run.folder / f"fold{fold}.safetensors")
    pixels = stacked(photos, config.image_size)
    batches = load_steps(PhotoSet(pixels, np.zeros((len(pixels), 1))), [(0, np.arange(len(pixels)))], workers=0)
    view, cpu = config.views[0], torch.device("cpu")
    outputs = outputs_of(network, batches, [view], config=config, device=cpu, done=lambda n: None)[view]
    return probabilities(task, outputs)
