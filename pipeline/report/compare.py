"""Runs beside the first of them: what was set differently, what it gained, and whether the gain is more than noise.

N photos, C classes, M runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ensemble.ballots import agreement, correlation
from ensemble.bootstrap import Draws
from ensemble.combine import compose
from ensemble.differences import Change
from ensemble.metrics import macro_f1
from ensemble.predictions import Array, Indices, Names, Predictions
from heads.registry import JOINT, head_named
from pipeline.errors import ArtifactError, LayoutError
from pipeline.members import PARTS, head_predictions, persons_in, predicts
from pipeline.report.curves import Curve, read_curves
from pipeline.report.differing import Found, differing
from pipeline.schema import RunInfo
from pipeline.store import Run

MOST_RUNS = 12  # lines that can be told apart in a chart
BETTER, WORSE, NOISE, OTHER_FOLDS = "real: better", "real: worse", "within noise", "other folds: not judged"


@dataclass(frozen=True, slots=True)
class Moved:
    """A photo that became right or wrong.

    Attributes:
        id: Of the photo.
        person: Who is on it.
        truth: Its class.
        before: What the first run called it.
        after: What the other run calls it.
        shift: By how much the probability of the truth rose.
    """

    id: str
    person: str
    truth: str
    before: str
    after: str
    shift: float


@dataclass(frozen=True, slots=True)
class Against:
    """One head of a run against that of the first run.

    Attributes:
        gain: Macro F1 more than the first run's.
        gain_interval_95: Of the gain, bootstrap over people, both runs on the same draws.
        verdict: Whether the interval leaves out 0, in words.
        became_right: Photos that the first run had wrong, the largest shift first.
        became_wrong: Photos that it had right.
        people_better: People of whom more photos are right.
        people_worse: People of whom fewer are.
        sign_test: Exact p-value of those two numbers.
    """

    gain: float
    gain_interval_95: tuple[float, float]
    verdict: str
    became_right: list[Moved]
    became_wrong: list[Moved]
    people_better: int
    people_worse: int
    sign_test: float


@dataclass(frozen=True, slots=True)
class HeadComparison:
    """What M runs make of one head.

    Attributes:
        head: Its name; ``joint`` = the 18 classes.
        photos: N.
        people: How many are on them.
        runs: The runs that predict it, the first run first.
        macro_f1: Run -> macro F1.
        interval_95: Run -> its interval over people.
        against: Run -> what it is against the first; the first is not there.
        same_answers: (M, M) share of photos with equal answers.
        error_correlation: (M, M) correlation of being wrong: 1 = on the same photos, 0 = as chance would have it.
    """

    head: str
    photos: int
    people: int
    runs: tuple[str, ...]
    macro_f1: dict[str, float]
    interval_95: dict[str, tuple[float, float]]
    against: dict[str, Against]
    same_answers: list[list[float]]
    error_correlation: list[list[float]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that `pipe compare` shows.

    Attributes:
        runs: Run -> the seconds it took; the first is what the others are compared with.
        settings: What differs -> run -> its value; None = the run does not know it.
        heads: One comparison a head of the first run; the 18 classes, where it has them, come first.
        curves: Run -> quantity -> epoch -> mean over the folds.
        remarks: What is to be borne in mind.
    """

    runs: dict[str, float]
    settings: dict[str, dict[str, Any]]
    heads: list[HeadComparison]
    curves: dict[str, dict[str, Curve]]
    remarks: list[str]

    @property
    def first(self) -> str:
        """The run that the others are compared with."""
        return next(iter(self.runs))

    def as_dict(self) -> dict[str, Any]:
        """The comparison as JSON knows it."""
        return asdict(self)


def compare_runs(runs: Sequence[Run]) -> Comparison:
    """What the other runs change against the first.

    Runs are compared on the same photos, people and labels only. Of runs on other folds the gain is told, not judged:
    the draws of people know nothing of the luck of a split.

    Raises:
        ArtifactError: There are too few or too many runs, they share no head or no data, or files are damaged.
    """
    if not 2 <= len(runs) <= MOST_RUNS:
        raise ArtifactError(f"compare takes 2 to {MOST_RUNS} runs, got {len(runs)}; `pipe runs` lists them")
    found = [(run, run.info()) for run in runs]
    names = [name for name in (JOINT.name, *found[0][1]["classes"], *PARTS) if answers(found[0][1], name)]
    heads = [_compare(name, found) for name in dict.fromkeys(names)]
    for run, info in found[1:]:
        if not any(run.name in head.against for head in heads):
            raise ArtifactError(
                f"run {run.name!r} predicts {', '.join(info['classes'])}, {runs[0].name!r} predicts "
                f"{', '.join(found[0][1]['classes'])}; compare runs of the same head"
            )
    heads = [head for head in heads if head.against]
    settings = differing(found)
    curves, unread = _curves(found, [head.head for head in heads])
    remarks = [*_remarks(found, heads, settings), *unread]
    return Comparison({run.name: info["seconds"] for run, info in found}, settings, heads, curves, remarks)


def answers(info: RunInfo, head: str) -> bool:
    """Whether the run alone has answers for a head, or for the 18 classes."""
    return all(predicts(info, part) for part in PARTS) if head == JOINT.name else predicts(info, head)


def answers_of(run: Run, info: RunInfo, head: str) -> Predictions:
    """A run's out-of-fold predictions of a head, views averaged; the 18 classes may be composed of its heads."""
    views = info["config"]["views"]
    if head != JOINT.name or head in info["classes"]:
        return head_predictions(run, info, head_named(head), "oof", views)
    parts = [head_predictions(run, info, part, "oof", views) for part in JOINT.parts]
    composed = compose(parts, classes=JOINT.classes)
    return composed.take(composed.targets >= 0)


def _compare(head: str, found: Sequence[Found]) -> HeadComparison:
    """The comparison of one head; runs that do not predict it are left out."""
    found = [(run, info) for run, info in found if answers(info, head)]
    (run, info), others = found[0], found[1:]
    first = answers_of(run, info, head)
    persons = persons_in(run, first.ids)
    every = [first, *(_aligned(first, persons, run.name, head, other) for other in others)]
    draws, n = Draws.of(persons), len(first.classes)
    drawn = [draws.macro_f1(first.targets * n + each.labels, n) for each in every]
    names = [run.name for run, _ in found]
    labels: Indices = np.stack([each.labels for each in every])
    wrong = (labels != first.targets).astype(np.int64)
    against = {}
    for (other, known), each, scores in zip(others, every[1:], drawn[1:], strict=True):
        same_folds = known["folds"] == info["folds"]
        against[other.name] = _against(first, each, persons, scores - drawn[0], same_folds=same_folds)
    return HeadComparison(
        head=head,
        photos=len(first.ids),
        people=draws.n_persons,
        runs=tuple(names),
        macro_f1={name: macro_f1(first.targets, own, n) for name, own in zip(names, labels, strict=True)},
        interval_95={name: _interval(scores) for name, scores in zip(names, drawn, strict=True)},
        against=against,
        same_answers=agreement(labels).tolist(),
        error_correlation=correlation(wrong, 2).tolist(),
    )


def _aligned(first: Predictions, persons: Names, name: str, head: str, other: Found) -> Predictions:
    """The other run's predictions in the order of the first's.

    Raises:
        ArtifactError: They are of other photos, people or labels.
    """
    run, info = other
    found = answers_of(run, info, head)
    refusal = f"runs {name!r} and {run.name!r} cannot be compared on {head}: they were trained on other"
    if set(found.ids.tolist()) != set(first.ids.tolist()):
        raise ArtifactError(f"{refusal} photos ({len(first.ids):,} and {len(found.ids):,})")
    found = found.ordered_as(first.ids)
    if moved := int((found.targets != first.targets).sum()):
        raise ArtifactError(f"{refusal} labels ({moved:,} of {len(first.ids):,} photos differ; see fixes and no_fixes)")
    if (persons_in(run, first.ids) != persons).any():
        raise ArtifactError(f"{refusal} people, by their fold tables")
    return found


def _against(first: Predictions, other: Predictions, persons: Names, gains: Array, *, same_folds: bool) -> Against:
    change = Change.between(first.labels, other.labels, first.targets, persons)
    low, high = _interval(gains)
    verdict = OTHER_FOLDS if not same_folds else BETTER if low > 0 else WORSE if high < 0 else NOISE
    shift = _truth(other) - _truth(first)
    n = len(first.classes)

    def moved(rows: Indices) -> list[Moved]:
        ordered = rows[np.argsort(-np.abs(shift[rows]), kind="stable")]
        called = [[each.classes[label] for label in each.labels[ordered]] for each in (first, other)]
        truth = [first.classes[target] for target in first.targets[ordered]]
        parts = first.ids[ordered].tolist(), persons[ordered].tolist(), truth, *called, shift[ordered].tolist()
        return [Moved(*row) for row in zip(*parts, strict=True)]

    return Against(
        gain=macro_f1(other.targets, other.labels, n) - macro_f1(first.targets, first.labels, n),
        gain_interval_95=(low, high),
        verdict=verdict,
        became_right=moved(change.gained),
        became_wrong=moved(change.lost),
        people_better=change.better,
        people_worse=change.worse,
        sign_test=change.p_value,
    )


def _truth(predictions: Predictions) -> Array:
    """(N,) the probability of the truth."""
    given: Array = np.take_along_axis(predictions.probs, predictions.targets[:, None], axis=1)[:, 0]
    return given


def _interval(draws: Array) -> tuple[float, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _curves(found: Sequence[Found], heads: Sequence[str]) -> tuple[dict[str, dict[str, Curve]], list[str]]:
    wanted = ["train_loss", *(f"{head}_{score}" for head in heads for score in ("macro_f1", "val_loss"))]
    curves, unread = {}, []
    for run, _ in found:
        try:
            curves[run.name] = read_curves(run, wanted)
        except LayoutError as error:
            unread.append(f"no learning curve of {run.name}: {error}")
    return curves, unread


def _remarks(found: Sequence[Found], heads: Sequence[HeadComparison], settings: dict[str, Any]) -> Iterator[str]:
    """What the numbers do not know."""
    first = found[0][1]
    for run, info in found[1:]:
        if info["folds"] != first["folds"]:
            yield f"{run.name} has other folds: part of its difference is the luck of the split"
    if settings.keys() == {"seed"}:
        yield "these runs differ in the seed alone: their differences are what luck gives"
    elif any(one.verdict in (BETTER, WORSE) for head in heads for one in head.against.values()):
        yield (
            "real means: other people would show it too, with these networks. Another seed may differ: train both "
            "with --seeds 3 before you believe in the setting"
        )
    if (n := sum(len(head.against) for head in heads)) >= 5:
        yield f"{n} comparisons: of twenty between equals, one is called real by chance"
