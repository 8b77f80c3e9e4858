"""How good each head is out-of-fold, how sure that is, and what each head costs the 18-class score.

N photos, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ensemble.bootstrap import person_interval
from ensemble.combine import compose
from ensemble.metrics import accuracy, confusion, log_loss, macro_f1, precision_recall_f1
from ensemble.predictions import EnsembleError, Predictions
from heads.base import IntArray
from heads.registry import JOINT, head_named
from pipeline.members import head_predictions, persons_in, predicts
from pipeline.schema import RunInfo
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
        classes: Class -> precision, recall, F1 and number of photos.
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
    classes: dict[str, dict[str, float]]


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
        classes: Class -> precision, recall, F1 and number of photos.
        confusions: (truth, taken for, photos, share of the truth's photos), the most frequent first.
    """

    runs: dict[str, str]
    macro_f1: float
    interval_95: tuple[float, float]
    accuracy: float
    photos: int
    if_perfect: dict[str, float]
    classes: dict[str, dict[str, float]]
    confusions: list[tuple[str, str, int, float]]


@dataclass(frozen=True, slots=True)
class OofReport:
    """Everything that `pipe oof-report` shows; ``missing`` says why there is no 18-class score."""

    heads: list[HeadReport]
    joint: JointReport | None
    missing: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON knows it."""
        return asdict(self)


def make_report(runs: Sequence[Run]) -> OofReport:
    """The report on these runs, the newest last.

    Raises:
        ArtifactError: A run's files are missing or damaged.
    """
    infos = [run.info() for run in runs]
    heads = [report_head(run, info, head) for run, info in zip(runs, infos, strict=True) for head in info["classes"]]
    chosen = newest_complete_set(list(zip(runs, infos, strict=True)))
    if chosen is None:
        return OofReport(
            heads, None, f"no 18-class score: it needs runs of {', '.join(h.name for h in JOINT.parts)} on equal folds"
        )
    try:
        return OofReport(heads, report_joint(chosen))
    except EnsembleError as error:
        return OofReport(heads, None, f"no 18-class score: {error}")


def report_head(run: Run, info: RunInfo, name: str) -> HeadReport:
    """The scores of one head of a run, over the mean of its views."""
    oof = head_predictions(run, info, head_named(name), "oof", info["config"]["views"])
    n = len(oof.classes)
    folds = [oof.take(oof.folds == fold) for fold in np.unique(oof.folds)]
    return HeadReport(
        run=run.name,
        head=name,
        objective=info["heads"][name],
        macro_f1=macro_f1(oof.targets, oof.labels, n),
        interval_95=person_interval(oof.targets, oof.labels, persons_in(run, oof.ids), n),
        folds=tuple(macro_f1(part.targets, part.labels, n) for part in folds),
        accuracy=accuracy(oof.targets, oof.labels, n),
        log_loss=log_loss(oof.targets, oof.probs),
        mean_absolute_error=info["scores"][name].get("mean_absolute_error"),
        classes=class_table(oof.classes, oof.targets, oof.labels),
    )


def class_table(classes: Sequence[str], targets: IntArray, labels: IntArray) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and number of photos of every class."""
    counts = confusion(targets, labels, len(classes))
    rows = zip(classes, precision_recall_f1(counts), counts.sum(axis=1), strict=True)
    return {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "photos": int(photos)}
        for name, (p, r, f), photos in rows
    }


def newest_complete_set(runs: Sequence[tuple[Run, RunInfo]]) -> dict[str, tuple[Run, RunInfo]] | None:
    """The newest run for each part of the 18 classes, all of one fold table; None when no set is complete."""
    for _, newest in reversed(runs):
        same = [(run, info) for run, info in runs if (info["folds"], info["data"]) == (newest["folds"], newest["data"])]
        chosen = {part.name: pair for part in JOINT.parts for pair in same if predicts(pair[1], part.name)}
        if len(chosen) == len(JOINT.parts):
            return chosen
    return None


def report_joint(chosen: dict[str, tuple[Run, RunInfo]]) -> JointReport:
    """The 18-class score of one run a head, and what each head costs it."""
    heads = []
    for part in JOINT.parts:
        run, info = chosen[part.name]
        heads.append(head_predictions(run, info, part, "oof", info["config"]["views"]))
    whole = _known(heads)
    n = len(JOINT.classes)
    run = chosen[JOINT.parts[0].name][0]
    return JointReport(
        runs={name: run.name for name, (run, _) in chosen.items()},
        macro_f1=macro_f1(whole.targets, whole.labels, n),
        interval_95=person_interval(whole.targets, whole.labels, persons_in(run, whole.ids), n),
        accuracy=accuracy(whole.targets, whole.labels, n),
        photos=len(whole.ids),
        if_perfect=_if_perfect(heads),
        classes=class_table(JOINT.classes, whole.targets, whole.labels),
        confusions=_confusions(whole),
    )


def _known(heads: Sequence[Predictions]) -> Predictions:
    composed = compose(heads, classes=JOINT.classes)
    return composed.take(composed.targets >= 0)


def _if_perfect(heads: Sequence[Predictions]) -> dict[str, float]:
    """Macro F1 of the 18 classes if one head always gave the truth and the others what they gave."""
    scores = {}
    for index, part in enumerate(JOINT.parts):
        head = heads[index]
        truth = Predictions(head.ids, head.classes, np.eye(len(head.classes))[head.targets], head.folds, head.targets)
        whole = _known([*heads[:index], truth, *heads[index + 1 :]])
        scores[part.name] = macro_f1(whole.targets, whole.labels, len(JOINT.classes))
    return scores


def _confusions(whole: Predictions) -> list[tuple[str, str, int, float]]:
    counts = confusion(whole.targets, whole.labels, len(JOINT.classes))
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:SHOWN_CONFUSIONS]
    cells = [np.unravel_index(cell, wrong.shape) for cell in order]
    return [
        (JOINT.classes[t], JOINT.classes[p], int(wrong[t, p]), float(wrong[t, p] / counts[t].sum()))
        for t, p in cells
        if wrong[t, p]
    ]
