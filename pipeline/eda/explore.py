"""The look at the data: everything that the page, the terminal and the JSON tell, computed once.

N photos to learn from, M photos to predict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from heads.base import FloatArray, IntArray
from heads.registry import LABELS
from pipeline.check import Count, report_on
from pipeline.check import Report as Checked
from pipeline.config import TrainConfig
from pipeline.eda.alike import Pairs, near_pairs
from pipeline.eda.counts import Folds, Labels, Quantity, count_folds, crossings, labels_of, quantities, tally
from pipeline.eda.looking import BoolArray, Looked, lights, look_closely
from pipeline.eda.odd import Measures, Odd, Twins, odd_photos, twins_of
from pipeline.eda.space import Axes, distances, features, principal_axes, projected
from pipeline.errors import LayoutError
from pipeline.fixes import read_fixes
from pipeline.folds import make_folds, require_classes
from pipeline.layouts import survey_of, with_fixes
from pipeline.samples import Samples
from pipeline.survey import Survey


@dataclass(frozen=True, slots=True)
class Light:
    """How bright photos are; 0 black to 1 white.

    Attributes:
        photos: How many could be read.
        low: Brightness below which a tenth of them lie.
        median: Brightness of the middle one.
        high: Brightness above which a tenth of them lie.
    """

    photos: int
    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, in plain values.

    Attributes:
        check: The data check's report; labels there are without fixes.
        fixed: How many label fixes were applied.
        refused: Why a training would refuse the data; empty = it would not. Labels that are none count as not given.
        heads: Head -> class -> photos and people.
        classes: Joint class of the heads that have labels -> photos and people.
        partly: Photos that lack some of those labels.
        crossings: ``gender x age`` and so on -> class -> class -> photos and people.
        quantities: Head -> how its quantity is spread over people.
        folds: The fold table that a training would use; None = it cannot be made.
        fold_faults: Why it cannot be made, or which heads cannot be trained on it.
        light: Head -> class -> brightness; under ``set``, that of the photos to learn from and to predict.
        variance: Share of the variance of colours that each of the first components has.
        odd: Photos to look at, by reason.
        twins: People, and photos to predict, with nearly the same picture.
        twins_complete: Whether these are all.
    """

    check: Checked
    fixed: int
    refused: str
    heads: dict[str, dict[str, Count]]
    classes: dict[str, Count]
    partly: int
    crossings: dict[str, dict[str, dict[str, Count]]]
    quantities: dict[str, Quantity]
    folds: Folds | None
    fold_faults: tuple[str, ...]
    light: dict[str, dict[str, Light]]
    variance: tuple[float, ...]
    odd: tuple[Odd, ...]
    twins: tuple[Twins, ...]
    twins_complete: bool

    def as_dict(self) -> dict[str, Any]:
        """The report in plain values for JSON."""
        return asdict(self) | {"check": self.check.as_dict()}


@dataclass(frozen=True, slots=True)
class Seen:
    """What the report was made from, for pictures of it.

    Attributes:
        ids: N + M ids.
        files: Their files.
        looked: What reading them gave.
        labels: Classes of the first N.
        coordinates: (N + M, P) principal components; zeros where a photo cannot be read.
    """

    ids: tuple[str, ...]
    files: tuple[Path, ...]
    looked: Looked
    labels: Labels
    coordinates: FloatArray


def explore(
    root: Path, config: TrainConfig, *, progress: Callable[[int, int], None] | None = None
) -> tuple[Report, Seen]:
    """Look at the data, which may have faults.

    Args:
        root: A folder or a CSV.
        config: Settings, of which folds, fold_seed, fixes and no_fixes count.
        progress: Told after each photo how many are read, and of how many.

    Raises:
        LayoutError: There is nothing there that any layout can read, no photo, or a table of fixes is none.
    """
    found = survey_of(root)
    if not found.photos:
        raise LayoutError(f"{root}: no photo to learn from; `pipe data check {root}` tells what is wrong")
    samples, fixed, refused = _samples(found, config)
    labels, n = labels_of(samples), len(samples.ids)
    folds, fold_faults = _folds(samples, labels, config, refused)
    looked = look_closely(found.files, progress or (lambda done, total: None))
    ids = (*samples.ids.tolist(), *(name for name, _ in found.eval_photos))
    axes, coordinates = _coordinates(looked, n)
    brightness, contrast = lights(looked.small)
    strata = np.where(looked.readable[:n], samples.strata(), -1)
    shorter = np.asarray([min(picture.size) for picture in looked.pictures])
    measures = Measures(brightness, contrast, shorter, looked.readable, distances(coordinates[:n], strata))
    pairs = _pairs(looked, labels.persons)
    report = Report(
        report_on(found, looked.pictures),
        fixed,
        refused,
        {h.name: tally(labels.index[h.name], labels.persons, h.classes) for h in labels.heads},
        tally(labels.joint, labels.persons, labels.names),
        int((labels.joint < 0).sum()),
        crossings(labels),
        quantities(samples, labels),
        folds,
        fold_faults,
        _lights(brightness, looked.readable, labels),
        tuple(axes.shares.tolist()) if axes else (),
        odd_photos(measures, ids, labels),
        twins_of(pairs, ids, samples.persons, labels),
        pairs.complete,
    )
    return report, Seen(ids, tuple(found.files), looked, labels, coordinates)


def _samples(found: Survey, config: TrainConfig) -> tuple[Samples, int, str]:
    """The photos with their labels as a training has them, how many were fixed, and why it would refuse the data."""
    if config.fixes:
        read_fixes(Path(config.fixes))  # a table that is none is no fault of the data
    try:
        data = with_fixes(found.dataset(), fixes=config.fixes, no_fixes=config.no_fixes)
        return data.samples, data.fixed, ""
    except LayoutError as reason:
        refused = str(reason)
    known = [head for head in LABELS if any(head.column in photo.labels for photo in found.photos)]
    raws = {head.column: [photo.labels.get(head.column, "") for photo in found.photos] for head in known}
    samples = Samples(
        np.asarray([photo.id for photo in found.photos]),
        tuple(photo.file for photo in found.photos),
        np.asarray([photo.person for photo in found.photos]),
        {h.column: np.asarray(["" if h.problem(raw) else raw for raw in raws[h.column]]) for h in known},
    )
    return samples, 0, refused


def _folds(samples: Samples, labels: Labels, config: TrainConfig, refused: str) -> tuple[Folds | None, tuple[str, ...]]:
    """The fold table, counted, and what is wrong with it."""
    if refused:
        return None, ("there are none while a training would refuse the data",)
    try:
        table = make_folds(samples, config.folds, config.fold_seed)
    except LayoutError as reason:
        return None, (str(reason),)
    faults = []
    for head in labels.heads:
        try:
            require_classes(head, samples, table)
        except LayoutError as reason:
            faults.append(str(reason))
    return count_folds(table, labels), tuple(faults)


def _coordinates(looked: Looked, n: int) -> tuple[Axes | None, FloatArray]:
    """Components of the photos to learn from, and where all photos lie on them."""
    points = features(looked.small)
    learnt = points[:n][looked.readable[:n]]
    if len(learnt) < 3:
        return None, np.zeros((len(points), 2))
    axes = principal_axes(learnt)
    return axes, np.where(looked.readable[:, None], projected(points, axes), 0)


def _pairs(looked: Looked, persons: IntArray) -> Pairs:
    """Nearly the same pictures of different people, and of people and photos to predict, by row number."""
    rows = np.flatnonzero(looked.readable)
    owners = np.concatenate([persons, len(persons) + np.arange(len(looked.small) - len(persons))])
    pairs = near_pairs(looked.small[rows], owners[rows], int((rows < len(persons)).sum()))
    return replace(pairs, first=rows[pairs.first], second=rows[pairs.second])


def _lights(brightness: FloatArray, readable: BoolArray, labels: Labels) -> dict[str, dict[str, Light]]:
    """How bright the photos of each set and class are."""
    n = len(labels.persons)
    to_learn = np.arange(len(brightness)) < n
    groups = {"set": {"to learn from": brightness[readable & to_learn], "to predict": brightness[readable & ~to_learn]}}
    for head in labels.heads:
        index = labels.index[head.name]
        chosen = [readable[:n] & (index == k) for k in range(len(head.classes))]
        groups[head.name] = {name: brightness[:n][rows] for name, rows in zip(head.classes, chosen, strict=True)}
    return {
        group: {name: Light(len(v), *np.quantile(v, (0.1, 0.5, 0.9)).tolist()) for name, v in parts.items() if len(v)}
        for group, parts in groups.items()
    }
