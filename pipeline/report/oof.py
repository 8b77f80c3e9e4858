"""How good each head is out-of-fold, how sure that is, and what each head costs the 18-class score.

N photos, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ensemble.bootstrap import Draws, person_interval
from ensemble.metrics import accuracy, confusion, log_loss, macro_f1, precision_recall_f1
from ensemble.predictions import Array
from heads.registry import JOINT
from pipeline.report.next import Next, what_next
from pipeline.report.shown import SIZES, Known, Seen, Shown, choose, seen, with_truth
from pipeline.store import Run

SHOWN_CONFUSIONS = 6


@dataclass(frozen=True, slots=True)
class HeadReport:
    """The out-of-fold scores of one head of one run, views averaged.

    Attributes:
        run: The run's name.
        head: The head's name.
        objective: How it was trained.
        macro_f1: Over all rows at once.
        interval_95: Of macro F1, bootstrap over people.
        folds: Macro F1 of each fold, for its spread only.
        accuracy: Share of right photos.
        log_loss: Mean negative log-probability of the truth.
        mean_absolute_error: In the label's unit (years), where the objective has an expected value.
        classes: Class -> precision, recall, F1, each with its interval, and number of photos.
        confusion: Photos of each true class (row) taken for each class (column).
    """

    run: str
    head: str
    objective: str
    macro_f1: float
    interval_95: tuple[float, float]
    folds: tuple[float, ...]
    accuracy: float
    log_loss: float
    mean_absolute_error: float | None
    classes: dict[str, dict[str, Any]]
    confusion: list[list[int]]


@dataclass(frozen=True, slots=True)
class JointReport:
    """The 18-class score composed of single heads.

    Attributes:
        runs: Head -> run that it is taken from.
        macro_f1: Over all rows at once.
        interval_95: Bootstrap over people.
        accuracy: Share of right photos.
        photos: N.
        if_perfect: Head -> macro F1 if that head alone were always right.
        costs: Head -> 95 % interval of what macro F1 would gain by it, the same people drawn for both.
        classes: Class -> precision, recall, F1, each with its interval, and number of photos.
        confusion: Photos of each true class (row) taken for each class (column).
        confusions: (truth, taken for, photos, share of the truth's photos), the most frequent first.
    """

    runs: dict[str, str]
    macro_f1: float
    interval_95: tuple[float, float]
    accuracy: float
    photos: int
    if_perfect: dict[str, float]
    costs: dict[str, tuple[float, float]]
    classes: dict[str, dict[str, Any]]
    confusion: list[list[int]]
    confusions: list[tuple[str, str, int, float]]


@dataclass(frozen=True, slots=True)
class OofReport:
    """Everything that `pipe oof-report` shows; ``missing`` says why there is no 18-class score, ``next`` what to do."""

    heads: list[HeadReport]
    joint: JointReport | None
    missing: str = ""
    next: Next | None = None

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON knows it."""
        return asdict(self)


def make_report(runs: Sequence[Run]) -> OofReport:
    """The report on these runs, the newest last.

    Raises:
        ArtifactError: A run's files are missing or damaged.
    """
    known = [(run, run.info()) for run in runs]
    return report_on(known, choose(known))


def report_on(runs: Sequence[Known], shown: Shown) -> OofReport:
    """The report on these runs, of which ``shown`` are looked at closely."""
    heads = [report_head(pair, head) for pair in runs for head in pair[1]["classes"]]
    joint = report_joint(shown, shown.joint) if shown.joint else None
    return OofReport(heads, joint, shown.missing, what_next(shown))


def report_head(pair: Known, name: str) -> HeadReport:
    """The scores of one head of a run, over the mean of its views."""
    run, info = pair
    found = seen(run, info, name)
    oof, n = found.oof, len(found.oof.classes)
    folds = [oof.take(oof.folds == fold) for fold in np.unique(oof.folds)]
    return HeadReport(
        run=run.name,
        head=name,
        objective=info["heads"][name],
        macro_f1=macro_f1(oof.targets, oof.labels, n),
        interval_95=person_interval(oof.targets, oof.labels, found.persons, n),
        folds=tuple(macro_f1(part.targets, part.labels, n) for part in folds),
        accuracy=accuracy(oof.targets, oof.labels, n),
        log_loss=log_loss(oof.targets, oof.probs),
        mean_absolute_error=info["scores"][name].get("mean_absolute_error"),
        classes=class_table(found),
        confusion=confusion(oof.targets, oof.labels, n).tolist(),
    )


def class_table(found: Seen) -> dict[str, dict[str, Any]]:
    """Precision, recall, F1 and number of photos of every class; intervals are of the draws of `person_interval`."""
    oof, n = found.oof, len(found.oof.classes)
    counts = confusion(oof.targets, oof.labels, n)
    drawn = Draws.of(found.persons).class_scores(found.cells, n)
    ends = np.quantile(drawn, [0.025, 0.975], axis=0).transpose(1, 2, 0)  # (C, 3, 2)
    rows = zip(oof.classes, precision_recall_f1(counts), ends.tolist(), counts.sum(axis=1), strict=True)
    return {
        name: dict(zip(("precision", "recall", "f1"), map(float, scores), strict=True))
        | dict(zip(("precision_95", "recall_95", "f1_95"), intervals, strict=True))
        | {"photos": int(photos)}
        for name, scores, intervals, photos in rows
    }


def report_joint(shown: Shown, joint: Seen) -> JointReport:
    """The 18-class score of one run a head, and what each head costs it."""
    whole, n, persons = joint.oof, len(JOINT.classes), joint.persons
    draws = Draws.of(persons)
    now = draws.macro_f1(joint.cells, n)
    perfect = {part.name: with_truth(whole.labels, whole.targets, k, SIZES) for k, part in enumerate(JOINT.parts)}
    return JointReport(
        runs={part.name: shown.runs[part.name][0].name for part in JOINT.parts},
        macro_f1=macro_f1(whole.targets, whole.labels, n),
        interval_95=person_interval(whole.targets, whole.labels, persons, n),
        accuracy=accuracy(whole.targets, whole.labels, n),
        photos=len(whole.ids),
        if_perfect={name: macro_f1(whole.targets, labels, n) for name, labels in perfect.items()},
        costs={name: _ends(draws.macro_f1(whole.targets * n + labels, n) - now) for name, labels in perfect.items()},
        classes=class_table(joint),
        confusion=confusion(whole.targets, whole.labels, n).tolist(),
        confusions=_confusions(joint),
    )


def _ends(drawn: Array) -> tuple[float, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def _confusions(joint: Seen) -> list[tuple[str, str, int, float]]:
    counts = confusion(joint.oof.targets, joint.oof.labels, len(JOINT.classes))
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:SHOWN_CONFUSIONS]
    cells = [np.unravel_index(cell, wrong.shape) for cell in order]
    return [
        (JOINT.classes[t], JOINT.classes[p], int(wrong[t, p]), float(wrong[t, p] / counts[t].sum()))
        for t, p in cells
        if wrong[t, p]
    ]
