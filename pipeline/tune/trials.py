"""One trial: folds trained as ``pipe train-head`` does, their rows scored together, the networks thrown away.

n photos that are held out, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ensemble.bootstrap import person_interval
from ensemble.combine import average_views
from ensemble.metrics import macro_f1
from ensemble.predictions import Indices, Names, Predictions
from heads.base import Head
from pipeline.config import TrainConfig
from pipeline.plan import Plan, make_plan
from pipeline.progress import heard_by
from pipeline.store import Run, Store
from pipeline.train import train_runs


@dataclass(frozen=True, slots=True)
class Scored:
    """Macro F1 over all rows so far.

    Attributes:
        macro_f1: Of the head, over all rows at once.
        interval: 95 %, people drawn.
    """

    macro_f1: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Trainer:
    """What all trials have in common.

    Attributes:
        head: What is learnt.
        data: Where photos and labels are.
        artifacts: Where resized photos are kept.
        work: Where runs are while they are trained.
    """

    head: Head
    data: Path
    artifacts: Path
    work: Path

    def scores(self, config: TrainConfig, folds: Sequence[int], name: str) -> Iterator[Scored]:
        """Train these folds, one after the other; after each the score of all rows so far.

        Whatever is left of the run goes when the last is scored, and when nobody asks for more.

        Args:
            config: The settings.
            folds: Their numbers.
            name: Of the run while it is there.

        Raises:
            PipelineError: Anything that a training may say.
        """
        run = Store(self.work).run(name)
        try:
            plan = self.plan(config)
            parts: list[Predictions] = []
            persons: list[Names] = []
            for fold in folds:
                with heard_by(lambda line: None):
                    train_runs([(plan, run)], Store(self.work), only=fold)
                rows, part = _held_out(plan, run, fold)
                parts.append(part)
                persons.append(plan.data.samples.persons[rows])
                yield _scored(parts, np.concatenate(persons))
        finally:
            run.clear()

    def plan(self, config: TrainConfig) -> Plan:
        """What a training with these settings is going to do; eval photos are left out where nothing needs them."""
        cache = str(self.artifacts / "cache") if config.cache == "auto" else config.cache
        plan = make_plan([self.head], replace(config, cache=cache, full=False), self.data)
        return plan if config.pseudo else replace(plan, data=replace(plan.data, test_ids=(), test_paths=()))


def _held_out(plan: Plan, run: Run, fold: int) -> tuple[Indices, Predictions]:
    """Rows that the fold held out and that carry the label, and their predictions, views averaged."""
    arrays, (head,) = run.fold_arrays(fold), plan.task.heads
    targets = head.labels(plan.values[:, 0])[arrays["rows"]]
    known = targets >= 0
    rows = arrays["rows"][known]
    views = [arrays[f"oof/{head.name}/{view}"][known] for view in plan.config.views]
    ids, folds = plan.data.samples.ids[rows], plan.folds[rows]
    every = [Predictions(ids, head.classes, probs, folds, targets[known]) for probs in views]
    return rows, average_views(every)


def _scored(parts: Sequence[Predictions], persons: Names) -> Scored:
    n = len(parts[0].classes)
    targets, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("targets", "labels"))
    return Scored(macro_f1(targets, labels, n), person_interval(targets, labels, persons, n))
