"""Joining the folds of a run: out-of-fold predictions, eval predictions, history, scores, ``run.json`` last."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from ensemble.combine import average_views
from ensemble.metrics import accuracy, macro_f1
from ensemble.predictions import Predictions
from ensemble.priors import mix_of, undone
from heads.base import FloatArray, Head
from pipeline.errors import ArtifactError
from pipeline.files import Arrays, write_csv, write_json
from pipeline.layouts import persons_of
from pipeline.plan import Plan
from pipeline.sampling import counted, groups_of, seen_mix, weights_of
from pipeline.schema import FoldFacts
from pipeline.store import Run

Facts = Sequence[FoldFacts]
LIBRARIES = ("torch", "timm", "albumentations", "numpy", "opencv-python-headless", "pillow")


def finish(plan: Plan, run: Run) -> None:
    """Join the folds' predictions, score them, and write ``run.json``, which makes the run whole.

    Raises:
        ArtifactError: A fold is damaged, was trained with other settings, or files cannot be written.
    """
    facts = [run.fold_facts(fold) for fold in range(plan.config.folds)]
    parts = [run.fold_arrays(fold) for fold in range(plan.config.folds)]
    for fact in facts:
        if fact["settings"] != plan.digest():
            raise ArtifactError(
                f"fold {fact['fold']} of run {run.name!r} was trained with other settings (two commands at once?); "
                "start over with --fresh"
            )
    try:
        scores = {head.name: _join(plan, run, index, parts, facts) for index, head in enumerate(plan.task.heads)}
    except (KeyError, IndexError, ValueError) as error:
        raise ArtifactError(f"the folds of run {run.name!r} do not fit together ({error}); use --fresh") from error
    history = [row for fact in facts for row in fact["history"]]
    columns = list(dict.fromkeys(name for row in history for name in row))  # not every epoch is judged
    write_csv(
        run.folder / "history.csv", columns, [[_plain(row[c]) if c in row else "" for c in columns] for row in history]
    )
    people = zip(plan.data.samples.ids, plan.data.samples.persons, plan.folds, strict=True)
    write_csv(run.folder / "folds.csv", ["sample_id", "person_id", "fold"], people)
    files = run.checksums(sorted(file.name for file in run.folder.iterdir() if _is_lasting(file.name)))
    write_json(run.folder / "run.json", _info(plan, facts, scores) | {"files": files})
    run.drop_parts(range(plan.config.folds))


def _join(plan: Plan, run: Run, index: int, parts: Sequence[Arrays], facts: Facts) -> dict[str, Any]:
    """Keep the predictions of one head; its scores."""
    head = plan.task.heads[index]
    views = {view: out_of_fold(plan, index, view, parts) for view in plan.config.views}
    for view, oof in views.items():
        run.save_predictions(head.name, "oof", view, oof)
        if plan.data.test_ids:
            run.save_predictions(head.name, "test", view, eval_mean(plan, head, view, parts))
    mix = {name: np.asarray(shares) for name, shares in _mix(plan, index).items()}
    judged = [replace(oof, probs=undone(oof.probs, **mix)) for oof in views.values()]  # as reports and votes take them
    return _scores(head, average_views(judged), facts)


def _is_lasting(name: str) -> bool:
    """Whether a file of a run's folder belongs to the finished run."""
    return name.endswith((".safetensors", ".csv")) or (name.endswith(".npz") and not name.startswith("fold"))


def _info(plan: Plan, facts: Facts, scores: dict[str, Any]) -> dict[str, Any]:
    samples = plan.data.samples
    return plan.settings() | {
        "config": plan.config.as_dict(),
        "classes": {head.name: head.classes for head in plan.task.heads},
        "scores": scores,
        "mix": {head.name: _mix(plan, index) for index, head in enumerate(plan.task.heads)},
        "epochs_used": [_epochs_used(plan, fact) for fact in facts],
        "layout": plan.data.layout,
        "data_root": str(plan.data.root.resolve()),
        "photos": len(samples.ids),
        "people": persons_of(plan.data),
        "extra_photos": len(plan.extra),
        "extra_people": plan.extra.people,
        "label_fixes": plan.data.fixed,
        "libraries": {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        "device": sorted({fact["device"] for fact in facts}),
        "processes": max(fact.get("processes", 1) for fact in facts),
        "threads": max(fact.get("threads", torch.get_num_threads()) for fact in facts),
        "seconds": round(sum(fact["seconds"] for fact in facts), 1),
        "checkpoint_seconds": round(sum(fact["checkpoint_seconds"] for fact in facts), 1),
        "resumed": sum(fact["resumed"] for fact in facts),
        "micro_batch": min(fact["micro_batch"] for fact in facts),
        "finished": datetime.now(UTC).isoformat(timespec="microseconds"),
        "peak_memory": max(fact["peak_memory"] for fact in facts),
    }


def _mix(plan: Plan, index: int) -> dict[str, list[float]]:
    """The class mix of a head's photos, and that its network's probabilities are under."""
    head = plan.task.heads[index]
    targets = head.labels(plan.values[:, index])
    photos = mix_of(targets[targets >= 0], len(head.classes))
    return {"photos": photos.tolist(), "trained": plan.task.mix(index, seen(plan, index)).tolist()}


def seen(plan: Plan, index: int) -> FloatArray:
    """(C,) the class mix of a head as its network saw it: sampler, border band and extra photos count."""
    heads, values, n_folds = plan.task.heads, plan.all_values, plan.config.folds
    weights = weights_of(heads, values, plan.config)
    rows = np.flatnonzero(counted(values, weights))
    return seen_mix(
        plan.config.sampler,
        groups_of(heads, values, plan.all_persons).take(rows),
        heads[index].labels(values[rows, index]),
        len(heads[index].classes),
        there=np.where(rows < len(plan.values), 1.0, n_folds / (n_folds - 1)),  # every fold trains on the extra ones
        weights=weights[rows, index],
    )


def _epochs_used(plan: Plan, facts: FoldFacts) -> int:
    """After how many epochs on its training rows a fold's network was taken."""
    best = facts.get("best_epoch", -1)
    if plan.config.keep == "best" and plan.config.average == "none" and isinstance(best, int) and best >= 0:
        return best + 1
    return sum(row["epoch"] <= plan.config.epochs for row in facts["history"])  # fewer after an early stop


def out_of_fold(plan: Plan, index: int, view: str, parts: Sequence[Arrays]) -> Predictions:
    """Every row that carries the head's label exactly once, predicted by the network that did not see its person."""
    head, samples = plan.task.heads[index], plan.data.samples
    targets = head.labels(plan.values[:, index])
    rows = np.concatenate([part["rows"] for part in parts])
    probs = np.concatenate([part[f"oof/{head.name}/{view}"] for part in parts])
    every = Predictions(samples.ids[rows], head.classes, probs, plan.folds[rows], targets[rows])
    return every.take(targets[rows] >= 0).ordered_as(samples.ids[targets >= 0])


def eval_mean(plan: Plan, head: Head, view: str, parts: Sequence[Arrays]) -> Predictions:
    """The eval photos' probabilities, averaged over the folds' networks."""
    probs = np.mean([part[f"test/{head.name}/{view}"] for part in parts], axis=0)
    none = np.full(len(probs), -1)
    return Predictions(np.asarray(plan.data.test_ids), head.classes, probs, none, none)


def _scores(head: Head, oof: Predictions, facts: Facts) -> dict[str, Any]:
    n = len(head.classes)
    scores: dict[str, Any] = {
        "macro_f1": macro_f1(oof.targets, oof.labels, n),
        "accuracy": accuracy(oof.targets, oof.labels, n),
    }
    errors = [fact["absolute_errors"][head.name] for fact in facts if head.name in fact["absolute_errors"]]
    if errors:
        scores["mean_absolute_error"] = sum(total for total, _ in errors) / sum(count for _, count in errors)
    return scores


def _plain(value: float) -> object:
    return int(value) if value == int(value) else f"{value:.6g}"
