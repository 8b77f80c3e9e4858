"""What a training is going to do, decided and checked before the first step. N photos, H heads."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heads.base import FloatArray, Head, IntArray
from heads.recipe import Recipe
from heads.task import Task
from pipeline.augment import Pixels
from pipeline.augmentation import check_augmentation
from pipeline.config import TrainConfig
from pipeline.engine import choose_device
from pipeline.errors import ConfigError
from pipeline.extra import Extra, load_extra
from pipeline.files import SCHEMA
from pipeline.fold_data import FoldData, require_photos
from pipeline.folds import fold_digest, make_folds, require_classes
from pipeline.freezing import require_steady
from pipeline.images import PREFETCHED
from pipeline.inner import inner_people
from pipeline.layouts import load_dataset, persons_of
from pipeline.mixing import alike_of
from pipeline.network import try_network
from pipeline.optimizers import try_optimizer
from pipeline.pseudo import require_pseudo
from pipeline.ranks import ALONE, Ranks
from pipeline.samples import Dataset, Samples, labelled_rows, list_digest
from pipeline.sampling import counted, require_border, weights_of
from pipeline.schedules import schedule_settings

SHARED_MEMORY = Path("/dev/shm")  # where workers hand over what they prepared
# settings that may differ between the folds of one run
FREE = ("cache", "cache_gib", "checkpoint_every", "device", "full", "note", "workers")
ROOMS = (
    "arguments",
    "augment",
    "averages",
    "augmentation",
    "batchnorm",
    "engine",
    "fold",
    "freezing",
    "images",
    "inner",
    "job",
    "necks",
    "mixing",
    "network",
    "optimizers",
    "phases",
    "pseudo",
    "ranks",
    "recipes",
    "sampling",
    "schedules",
    "state",
    "work",
)
# the code that decides what a fold learns and predicts
CODE = ("heads", *(f"pipeline/{name}.py" for name in ROOMS))


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is decided before the first step.

    Attributes:
        task: The heads.
        config: The settings.
        data: Photos and labels.
        folds: (N,) fold in which each photo is held out.
        values: (N, H) values of the heads, NaN = not labelled.
        device: Where to run.
        extra: Further photos, which every fold trains on.
        ranks: The processes that train each network together.
        alike: (N,) what mixed photos must share, as a class index; -1 = unknown.
        photo_bytes: ``train``, ``eval`` and ``extra`` -> fingerprint of what the photos contain; known once they were
            looked at.
    """

    task: Task
    config: TrainConfig
    data: Dataset
    folds: IntArray
    values: FloatArray
    device: torch.device
    alike: IntArray
    extra: Extra = field(default_factory=Extra)
    photo_bytes: dict[str, str] = field(default_factory=dict)
    ranks: Ranks = ALONE

    @property
    def labelled(self) -> IntArray:
        """Row numbers that carry at least one of the labels."""
        return np.flatnonzero(~np.isnan(self.values).all(axis=1))

    @property
    def all_values(self) -> FloatArray:
        """(N + E, H) values of all photos; the extra ones stand behind the others."""
        return np.concatenate([self.values, self.extra.values.reshape(len(self.extra), self.values.shape[1])])

    @property
    def all_persons(self) -> IntArray:
        """(N + E,) number of the person on each photo."""
        own, others = (np.unique(s.persons, return_inverse=True)[1] for s in (self.data.samples, self.extra.samples))
        return np.concatenate([own, others + len(own)]).astype(np.int64)

    @property
    def files(self) -> dict[str, tuple[Path, ...]]:
        """``train``, ``extra`` where there are some, and ``eval`` -> the photos' files."""
        extra = {"extra": self.extra.samples.paths} if len(self.extra) else {}
        return {"train": self.data.samples.paths, **extra, "eval": self.data.test_paths}

    @property
    def workers(self) -> int:
        """Processes that prepare batches."""
        return worker_count(self.config, self.device)

    def settings(self) -> dict[str, Any]:
        """What must be equal for folds to belong to one run."""
        config = {key: value for key, value in self.config.as_dict().items() if key not in FREE}
        settings = {
            "schema": SCHEMA,
            "heads": {head.name: name for head, name in zip(self.task.heads, self.task.names, strict=True)},
            "order": [head.name for head in self.task.heads],
            "config": config,
            "data": self.data.samples.digest(),
            "folds": fold_digest(self.data.samples, self.folds),
            "eval": list_digest(self.data.test_ids),
            "photo_bytes": self.photo_bytes,
            "weights": weights_digest(self.config.weights),
            "code": code_digest(),
        }
        return settings | ({"extra": self.extra.samples.digest()} if len(self.extra) else {})

    def digest(self) -> str:
        """A fingerprint of the settings, kept with every fold."""
        return hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:16]


@cache  # of the code that this process runs, also when files change meanwhile
def code_digest() -> str:
    """The version, and a fingerprint of the code that decides what a fold learns and predicts."""
    root = Path(__file__).parent.parent
    found = [file for place in CODE for file in sorted((root / place).glob("*.py")) or [root / place]]
    content = b"".join(file.read_bytes() for file in found)
    return f"{version('headfold')}+{hashlib.sha256(content).hexdigest()[:8]}"


@cache
def weights_digest(weights: str) -> str:
    """A fingerprint of a weights file, else the word that was given."""
    return hashlib.sha256(Path(weights).read_bytes()).hexdigest()[:16] if Path(weights).is_file() else weights


def make_plan(heads: Iterable[Head], config: TrainConfig, root: Path, ranks: Ranks = ALONE) -> Plan:
    """Load the data, decide the folds and check that the heads can be learnt from them, by a network that can be built.

    Raises:
        PipelineError: Data, settings, backbone or device are not as they must be.
        HeadError: The heads or their objective are not.
    """
    plan = plan_without_network(heads, config, root, ranks)
    try_network(config, plan.task.n_outputs)  # what does not fit shows now, not after the photos are read
    return plan


def plan_without_network(heads: Iterable[Head], config: TrainConfig, root: Path, ranks: Ranks = ALONE) -> Plan:
    """What `make_plan` gives; whether the network can be built is not tried.

    Raises:
        PipelineError: Data, settings or device are not as they must be.
        HeadError: The heads or their objective are not.
    """
    task = task_of(heads := list(heads), config)
    device = ranks.device(choose_device(config.device))
    require_steady(config, ranks.size)
    schedule_settings(config)
    try_optimizer(config)
    data = load_dataset(root, fixes=config.fixes, no_fixes=config.no_fixes)
    for head in task.heads:
        labelled_rows(head, data.samples)
    folds = make_folds(data.samples, config.folds, config.fold_seed)
    for head in task.heads:
        require_classes(head, data.samples, folds)
    values = values_of(heads, data.samples)
    alike = alike_of(config, data.samples.columns, len(folds))
    check_augmentation(config, task.heads, values)
    require_border(task.heads, values, config)
    extra = load_extra(config.extra, task.heads, data.samples, no_fixes=config.no_fixes)
    task = task_of(heads, config, values)
    require_pseudo(task, config, len(data.test_ids))
    if config.full and not data.test_ids:
        raise ConfigError("--full trains one more network for the eval photos, and this data has none")
    plan = Plan(task, config, data, folds, values, device, alike, extra, ranks=ranks)
    none = np.empty((0, 1, 1, 3), dtype=np.uint8)
    for fold in range(config.folds):
        require_photos(fold_data(plan, fold, none, none), config)
    return plan


def values_of(heads: Iterable[Head], samples: Samples) -> FloatArray:
    """The (N, H) values of all photos, NaN = not labelled."""
    return np.stack([head.values(samples.columns) for head in heads], axis=1)


def task_of(heads: Iterable[Head], config: TrainConfig, values: FloatArray | None = None) -> Task:
    """The task that the settings make of the heads; the same values make the same one.

    Args:
        heads: What is learnt.
        config: The settings.
        values: (N, H) values of the photos of the run, NaN = not labelled; None = not known yet, for a first check.

    Raises:
        HeadError: Settings do not fit the heads.
    """
    settings = {item.name: getattr(config, item.name) for item in fields(Recipe)}
    return Task.of(*heads, recipe=Recipe(**settings), values=values)


def worker_count(config: TrainConfig, device: torch.device) -> int:
    """Processes that prepare batches: those asked for, else none on a CPU and up to 8 beside an accelerator."""
    if config.workers >= 0:
        return config.workers
    return 0 if device.type == "cpu" else min(8, max(1, (os.cpu_count() or 1) - 1))


def shared_memory_need(config: TrainConfig, workers: int) -> int:
    """Bytes of shared memory that the batches prepared by so many workers take."""
    return workers * PREFETCHED * config.batch_size * 3 * config.image_size**2


def fitting_workers(config: TrainConfig, workers: int) -> int:
    """At most ``workers``, and no more than shared memory has room for; one too many may hang without a word."""
    if not SHARED_MEMORY.is_dir():
        return workers
    return min(workers, shutil.disk_usage(SHARED_MEMORY).free // shared_memory_need(config, 1))


def describe(plan: Plan) -> str:
    """The plan in two lines."""
    data, config = plan.data, plan.config
    names = "+".join(head.name for head in plan.task.heads)
    together = f", {plan.ranks.size} processes together" if plan.ranks.size > 1 else ""
    fixes = "fixes off" if config.no_fixes else f"label fixes: {data.fixed}"
    lines = [
        f"{data.layout} data: {persons_of(data)} people, {len(data.samples.ids)} photos, "
        f"{len(data.test_ids)} to predict, {fixes}",
        *data.remarks,
        *plan.extra.remarks,
        f"{names} ({', '.join(plan.task.names)}): {config.backbone} {config.image_size} px, "
        f"{config.folds} folds x {config.epochs} epochs on {plan.device.type}{together}",
    ]
    return "\n".join(lines)


def fold_data(plan: Plan, fold: int, photos: Pixels, test: Pixels) -> FoldData:
    """What fold number ``fold`` learns from and predicts.

    Args:
        plan: Of the run.
        fold: Its number.
        photos: (N + E, S, S, 3) photos, the extra ones behind the others.
        test: (T, S, S, 3) eval photos.
    """
    rows, config = plan.labelled, plan.config
    held_out = plan.folds[rows] == fold
    others = rows[~held_out]
    labels = [head.labels(column) for head, column in zip(plan.task.heads, plan.values.T, strict=True)]
    strata = np.unique(np.stack(labels), axis=1, return_inverse=True)[1].reshape(-1)
    seed = config.fold_seed * config.folds + fold
    inner = inner_people(others, plan.data.samples.persons, strata, share=config.inner, seed=seed)
    values = plan.all_values
    train = np.concatenate([np.setdiff1d(others, inner), np.arange(len(plan.values), len(values))])
    train = train[counted(values, weights_of(plan.task.heads, values, config))[train]]
    return FoldData(fold, photos, values, train, rows[held_out], test, plan.all_persons, plan.alike, inner)
