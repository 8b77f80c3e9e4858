"""One fold of a tiny network that may be stopped at any look: what tests of a training's phases are made of."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from safetensors.torch import load, save

from pipeline.fold import FoldJob
from pipeline.fold_data import FoldData, FoldResult
from pipeline.images import stacked
from pipeline.interrupts import Stopping, never
from pipeline.plan import Plan, fold_data
from pipeline.recover import run_patiently
from pipeline.state import Progress, Row, Tensors
from tests.conftest import planned

SIDE = 32
SMALL = {"batch_size": 24, "views": ("identity",)}
TIMES = ("seconds", "images_per_second")


@dataclass(slots=True)
class Memory:
    """Where a fold is kept, as bytes."""

    progress: str = ""
    tensors: bytes = b""

    def due(self, step: int, *, epoch_ends: bool) -> bool:
        return False

    def save(self, progress: Progress, tensors: Tensors) -> None:
        self.progress, self.tensors = json.dumps(dataclasses.asdict(progress)), save(tensors)

    def load(self) -> tuple[Progress, Tensors] | None:
        return (Progress(**json.loads(self.progress)), load(self.tensors)) if self.progress else None


@dataclass(slots=True)
class StopAt:
    """Asks to stop at one look, as Ctrl-C does, and counts the looks."""

    look: int = -1
    looks: int = 0

    def __call__(self) -> BaseException | None:
        self.looks += 1
        return KeyboardInterrupt() if self.looks == self.look else None


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold and what it needs."""

    plan: Plan
    data: FoldData
    rows: list[Row] = field(default_factory=list)

    def job(self, stopping: Stopping = never, saver: Memory | None = None) -> FoldJob:
        """The fold as a job."""
        plan, size = self.plan, self.plan.config.batch_size
        return FoldJob(
            plan.task,
            self.data,
            plan.config,
            plan.device,
            0,
            size,
            lambda n, text: None,
            self.rows.append,
            saver=saver,
            stopping=stopping,
        )

    def run(self, stopping: Stopping = never, saver: Memory | None = None) -> FoldResult:
        """Train it."""
        return run_patiently(self.job(stopping, saver))

    def stopped_at(self, *looks: int) -> FoldResult:
        """Train it, stopped at each of these looks, counted anew after each."""
        memory = Memory()
        for look in looks:
            try:
                return self.run(StopAt(look), memory)
            except KeyboardInterrupt:
                continue
        return self.run(saver=memory)

    def with_data(self, **changes: object) -> Fold:
        """The same with other data."""
        return Fold(self.plan, replace(self.data, **changes))  # type: ignore[arg-type]


def fold_of(
    root: Path, *heads: str, fold: int = 0, photos: dict[Path, object] | None = None, **settings: object
) -> Fold:
    """A fold of the data in this folder; ``photos`` remembers what was read."""
    plan = planned(root, *(heads or ("mask",)), **(SMALL | settings))
    kept = {} if photos is None else photos
    for file in (*plan.data.samples.paths, *plan.data.test_paths):
        if file not in kept:
            kept[file] = stacked([file], SIDE)[0]
    empty = np.empty((0, SIDE, SIDE, 3), np.uint8)
    train, test = (
        np.stack([kept[file] for file in files]) if files else empty  # type: ignore[misc]
        for files in (plan.data.samples.paths, plan.data.test_paths)
    )
    return Fold(plan, fold_data(plan, fold, train, test))


def result_bytes(result: FoldResult) -> dict[str, bytes]:
    """All that may not depend on when a training was stopped."""
    found = {"weights": save(result.weights)}
    for part, views in (("oof", result.held_out), ("test", result.test)):
        for view, heads in views.items():
            found |= {f"{part}/{view}/{index}": probs.tobytes() for index, probs in enumerate(heads)}
    rows = [{name: value for name, value in row.items() if name not in TIMES} for row in result.progress.history]
    return found | {"history": json.dumps(rows).encode()}
