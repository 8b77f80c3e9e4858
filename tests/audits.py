"""A finished run on a tiny competition folder, its predictions right but for labels that are planted to be wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.valid import write_run
from ensemble.predictions import Predictions
from heads.registry import LABELS
from pipeline.files import read_json, write_csv, write_json
from pipeline.layouts import survey_of
from pipeline.samples import Samples
from pipeline.store import Run, Store
from tests.builders import write_competition

N_FOLDS = 3
Change = Callable[[str, str], str]  # photo, class it is labelled as -> class that it looks like


@dataclass(frozen=True, slots=True)
class Case:
    """Data and artifacts for the commands."""

    data: Path
    artifacts: Path

    @property
    def samples(self) -> Samples:
        """The photos."""
        return survey_of(self.data, "competition").dataset().samples


def write_case(root: Path, looks: dict[str, Change], *, people: int = 18, names: tuple[str, ...] = ("made",)) -> Case:
    """Write data and runs in whose predictions some photos look other than they are labelled.

    Args:
        root: Where.
        looks: Head -> what its networks see; they are right about the others.
        people: How many.
        names: Of the runs.
    """
    case = Case(root / "data", root / "artifacts")
    write_competition(case.data, people=people, eval_photos=0)
    for number, name in enumerate(names):
        run = Store(case.artifacts).run(name)
        for head in LABELS:
            write_run(run, head)
        _overwrite(run, case, looks, number)
    return case


def _unchanged(photo: str, label: str) -> str:
    return label


def _overwrite(run: Run, case: Case, looks: dict[str, Change], seed: int) -> None:
    samples, rng = case.samples, np.random.default_rng(seed)
    _, person = np.unique(samples.persons, return_inverse=True)
    folds = person % N_FOLDS
    for head in LABELS:
        targets = head.labels(head.values(samples.columns))
        change: Change = looks.get(head.name, _unchanged)
        seen = [change(photo, head.classes[t]) for photo, t in zip(samples.ids.tolist(), targets, strict=True)]
        sure = np.eye(len(head.classes))[[head.classes.index(name) for name in seen]]
        # surer of what contradicts its label than of others: confidence is compared with their mean
        trust = np.where([head.classes[t] != name for t, name in zip(targets, seen, strict=True)], 0.95, 0.8)[:, None]
        for view in ("identity", "hflip"):
            probs = trust * sure + (1 - trust) * rng.dirichlet(np.full(len(head.classes), 9.0), len(sure))
            run.save_predictions(head.name, "oof", view, Predictions(samples.ids, head.classes, probs, folds, targets))
    rows = zip(samples.ids, samples.persons, folds, strict=True)
    write_csv(run.folder / "folds.csv", ("sample_id", "person_id", "fold"), rows)
    info = read_json(run.folder / "run.json")
    info |= {"data_root": str(case.data), "layout": "competition", "finished": f"2026-01-0{seed + 1}"}
    info["classes"] = {head.name: list(head.classes) for head in LABELS}
    info["heads"] = {head.name: "classes" for head in LABELS}
    info["scores"] = {head.name: {"macro_f1": 0.5, "accuracy": 0.5} for head in LABELS}
    write_json(run.folder / "run.json", info)


def with_setting(case: Case, name: str, value: object, run: str = "made") -> None:
    """Let a run have been trained with another setting."""
    file = Store(case.artifacts).run(run).folder / "run.json"
    info = read_json(file)
    info["config"][name] = value
    write_json(file, info)


def person(case: Case, number: int) -> str:
    """The folder of a person, counted from 0."""
    return str(np.unique(case.samples.persons)[number])


def looking(**changes: str) -> Change:
    """Photos whose id begins so look like this class."""
    return lambda photo, label: next((c for start, c in changes.items() if photo.startswith(start)), label)


def labels_after(samples: Samples, column: str) -> dict[str, str]:
    """Photo -> raw label."""
    return dict(zip(samples.ids.tolist(), samples.columns[column].tolist(), strict=True))
