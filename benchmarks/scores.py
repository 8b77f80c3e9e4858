"""What an experiment scores: its head and the 18 classes, with intervals over people, against base on the same draws.

N photos, C classes, R draws of people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ensemble.bootstrap import Draws
from ensemble.combine import average_views, compose
from ensemble.logs import log
from ensemble.metrics import macro_f1
from ensemble.predictions import Array, Indices, Names, Predictions
from heads.registry import JOINT, head_named
from pipeline.members import PARTS, head_predictions, persons_in, predicts
from pipeline.schema import RunInfo
from pipeline.store import Run

AS_TRAINED, UNDONE = "as trained", "mix undone"
Found = list[tuple[Run, RunInfo]]  # the finished runs of a recipe, by seed


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Macro F1 and log-loss over all photos, and how sure they are.

    Attributes:
        value: Macro F1, mean over the seeds.
        spread: Highest less lowest of the seeds.
        draws: (R,) means over the seeds when people are drawn.
        loss: Log-loss, mean over the seeds.
        loss_draws: (R,) the same when people are drawn.
    """

    value: float
    spread: float
    draws: Array
    loss: float
    loss_draws: Array

    @classmethod
    def of(cls, seeds: Sequence[Predictions], persons: Names, ids: Names) -> Score:
        """The score of the argmax of each seed's probabilities.

        Args:
            seeds: Predictions of the same photos.
            persons: (N,) who is on them.
            ids: (N,) their order.
        """
        draws = Draws.of(persons)
        values, drawn, losses = [], [], []
        for oof in (seed.ordered_as(ids) for seed in seeds):
            n = len(oof.classes)
            values.append(macro_f1(oof.targets, oof.labels, n))
            cells: Indices = oof.targets * n + oof.labels
            drawn.append(draws.macro_f1(cells, n))
            losses.append(-log(oof.probs[np.arange(len(oof.targets)), oof.targets]))
        mean = np.mean(losses, axis=0)
        return cls(
            float(np.mean(values)),
            max(values) - min(values),
            np.mean(drawn, axis=0),
            loss=float(mean.mean()),
            loss_draws=draws.mean(mean),
        )

    def against(self, base: Score | None) -> dict[str, Any]:
        """The score as JSON knows it, with the paired difference to base."""
        known: dict[str, Any] = {"macro_f1": self.value, "spread": self.spread, "interval_95": _interval(self.draws)}
        known["log_loss"] = self.loss
        if base is not None:
            known |= {"gain": self.value - base.value, "gain_interval_95": _interval(self.draws - base.draws)}
            known |= {"saved": base.loss - self.loss, "saved_error": float(np.std(base.loss_draws - self.loss_draws))}
        return known


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: an experiment, one of its heads, its probabilities in one way.

    Attributes:
        recipe: Its name.
        head: Which head is scored.
        way: Whether the class mix that was trained under is undone.
        seeds: How many runs.
        minutes: Of training and predicting, a run.
        score: Of the head, see `Score.against`; None for all 18 classes in one.
        joint: The same of the 18 classes; None when base runs of other heads lack.
    """

    recipe: str
    head: str
    way: str
    seeds: int
    minutes: float
    score: dict[str, Any]
    joint: dict[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        """The line as JSON knows it."""
        return asdict(self)


def score_runs(recipe: str, found: Found, base: dict[str, Found], *, bag: bool) -> list[Line]:
    """The lines of an experiment: one a head, and another where undoing the mix changes probabilities.

    Args:
        recipe: Its name.
        found: Its finished runs.
        base: Head -> the finished runs of base.
        bag: Whether the seeds' probabilities are averaged.
    """
    lines = []
    for head in [name for name in (*PARTS, JOINT.name) if predicts(found[0][1], name)]:
        ways = {way: predictions_of(found, head, way=way, bag=bag) for way in (AS_TRAINED, UNDONE)}
        pairs = zip(*ways.values(), strict=True)
        if all(np.allclose(one.probs, other.probs, atol=1e-9) for one, other in pairs):
            del ways[UNDONE]
        for way, seeds in ways.items():
            lines.append(_line(recipe, found, base, head=head, way=way, seeds=seeds, bag=bag))
    return lines


def _line(
    recipe: str, found: Found, base: dict[str, Found], *, head: str, way: str, seeds: list[Predictions], bag: bool
) -> Line:
    own = [part for part in PARTS if predicts(found[0][1], part)]
    same = {part: _same_seeds(runs, found) for part, runs in base.items()}
    fixed = {part: each(runs[:1], part, UNDONE)[0] for part, runs in base.items()}
    plain = _composed(fixed, {part: each(same[part], part, UNDONE) for part in own if part in same})
    joint: dict[str, Any] | None
    if head == JOINT.name:
        score = joint = _compared(found[0][0], seeds, plain)
    else:
        score = _compared(found[0][0], seeds, each(same.get(head, []), head, UNDONE))
        tried = _composed(fixed, {part: predictions_of(found, part, way=way, bag=bag) for part in own})
        joint = _compared(found[0][0], tried, plain) if tried else None
    minutes = float(np.mean([info["seconds"] for _, info in found])) / 60
    return Line(recipe, head, way, len(found), minutes, score, joint)


def _compared(run: Run, seeds: list[Predictions], plain: list[Predictions]) -> dict[str, Any]:
    """The score of ``seeds`` against that of ``plain``, on the same draws of people."""
    ids = seeds[0].ids
    persons = persons_in(run, ids)
    return Score.of(seeds, persons, ids).against(Score.of(plain, persons, ids) if plain else None)


def _composed(fixed: dict[str, Predictions], tried: dict[str, list[Predictions]]) -> list[Predictions]:
    """The product of the heads' probabilities, the plain way to 18 classes, a seed; none where a head lacks.

    Args:
        fixed: Head -> predictions of base.
        tried: Head -> those of each seed, which take their place.
    """
    if not tried or fixed.keys() | tried.keys() < set(PARTS):
        return []
    seeds = [fixed | dict(zip(tried, parts, strict=True)) for parts in zip(*tried.values(), strict=False)]
    return [compose([seed[part] for part in PARTS], classes=JOINT.classes) for seed in seeds]


def each(found: Found, head: str, way: str) -> list[Predictions]:
    """The out-of-fold predictions of each run, views averaged."""
    seeds = []
    for run, info in found:
        known = info.copy()
        if way == AS_TRAINED:
            known.pop("mix", None)
        seeds.append(head_predictions(run, known, head_named(head), "oof", info["config"]["views"]))
    return seeds


def predictions_of(found: Found, head: str, *, way: str, bag: bool) -> list[Predictions]:
    """The same, or the average of all runs if ``bag``."""
    seeds = each(found, head, way)
    return [average_views(seeds)] if bag else seeds


def _same_seeds(base: Found, found: Found) -> Found:
    """The base runs of the seeds that were tried, or all where some lack."""
    wanted = {info["config"]["seed"] for _, info in found}
    same = [(run, info) for run, info in base if info["config"]["seed"] in wanted]
    return same if len(same) == len(wanted) else base


def _interval(draws: Array) -> list[float]:
    """The 95 % percentile interval."""
    return [float(end) for end in np.quantile(draws, [0.025, 0.975])]
