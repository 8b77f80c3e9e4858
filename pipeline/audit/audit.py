"""The audit of finished runs: every head's suspects, ranked together, and where their photos lie.

P people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.combine import average
from ensemble.predictions import EnsembleError, Predictions
from heads.base import Head
from heads.registry import LABELS
from pipeline.audit.suspects import Suspect, ranked, suspects_of
from pipeline.errors import ArtifactError, LayoutError
from pipeline.layouts import survey_of
from pipeline.members import head_views, persons_in, predicts
from pipeline.samples import Samples
from pipeline.schema import RunInfo
from pipeline.store import Run


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit finds.

    Attributes:
        runs: Head -> names of the runs whose mean was looked at.
        photos: Head -> how many labels of photos were looked at.
        suspects: All of them, the strongest first.
        shots: Person -> (photo, file, head -> class as labelled in the runs, head -> predicted class and probability).
        root: Where the photos are.
        fixes: The label-fix table of one's own that the runs were trained with; None = none.
    """

    runs: dict[str, list[str]]
    photos: dict[str, int]
    suspects: list[Suspect]
    shots: dict[str, list[Shot]]
    root: Path
    fixes: Path | None

    def as_dict(self, limit: int) -> dict[str, Any]:
        """The audit as JSON knows it, with the strongest suspects."""
        found = [asdict(suspect) for suspect in self.suspects[:limit]]
        return {"runs": self.runs, "photos": self.photos, "found": len(self.suspects), "suspects": found}


@dataclass(frozen=True, slots=True)
class Shot:
    """One photo of a suspect.

    Attributes:
        id: Its id.
        file: Where it lies.
        given: Head -> class as labelled.
        taken: Head -> predicted class.
        probs: Head -> its probability.
    """

    id: str
    file: Path
    given: dict[str, str]
    taken: dict[str, str]
    probs: dict[str, float]


def make_audit(runs: Sequence[Run], data: Path | None = None) -> Audit:
    """The audit of these runs; a head's probabilities are the mean of all runs that predict it.

    Args:
        runs: Finished ones.
        data: Where the photos are; None = where the newest run was trained.

    Raises:
        ArtifactError: No run predicts a head with labels, or files are missing or damaged.
        EnsembleError: Runs of a head differ in folds or labels; the message names them.
        LayoutError: The data is not that of the runs.
    """
    infos = {run.name: run.info() for run in runs}
    newest = infos[runs[-1].name]
    root = data or Path(newest["data_root"])
    samples = survey_of(root, "").dataset().samples  # labels as they are on the disk: fixes may have changed since
    voters = {head: [run for run in runs if predicts(infos[run.name], head.name)] for head in LABELS}
    found: list[Suspect] = []
    oofs: dict[str, Predictions] = {}
    for head, own in voters.items():
        if own:
            oof = oofs[head.name] = _mean_of(own, infos, head)
            _require_photos(oof, samples, root)
            found += suspects_of(head, oof, samples, persons_in(own[-1], oof.ids))
    if not oofs:
        raise ArtifactError(f"none of the runs predicts {', '.join(head.name for head in LABELS)}; train one of them")
    fixes = str(newest["config"].get("fixes", ""))
    return Audit(
        runs={head.name: [run.name for run in own] for head, own in voters.items() if own},
        photos={name: len(oof.ids) for name, oof in oofs.items()},
        suspects=ranked(found),
        shots=_shots({one.person for one in found}, samples, oofs),
        root=root,
        fixes=Path(fixes) if fixes and not newest["config"].get("no_fixes") else None,
    )


def _mean_of(runs: Sequence[Run], infos: dict[str, RunInfo], head: Head) -> Predictions:
    """The out-of-fold predictions of a head: the mean over its runs, each the mean over its views."""
    members = []
    for run in runs:
        info = infos[run.name]
        members.append(average(head_views(run, info, head, "oof", info["config"]["views"], {})))
    try:
        return average(members).predictions()
    except EnsembleError as error:
        names = ", ".join(run.name for run in runs)
        raise EnsembleError(
            f"runs of {head.name} ({names}) cannot be averaged: {error}; name those to look at"
        ) from None


def _require_photos(oof: Predictions, samples: Samples, root: Path) -> None:
    missing = np.setdiff1d(oof.ids, samples.ids)
    if len(missing):
        lacks = f"{root} lacks {len(missing)} photos that the runs learnt, e.g. {str(missing[0])!r}"
        raise LayoutError(f"{lacks}; say where they are with --data")


def _shots(people: set[str], samples: Samples, oofs: dict[str, Predictions]) -> dict[str, list[Shot]]:
    """The photos of these people, in the order of the data."""
    rows = {head: dict(zip(oof.ids.tolist(), range(len(oof.ids)), strict=True)) for head, oof in oofs.items()}
    found: dict[str, list[Shot]] = {person: [] for person in sorted(people)}
    for name, person, file in zip(samples.ids.tolist(), samples.persons.tolist(), samples.paths, strict=True):
        if person in found:
            seen = {head: (oof, rows[head][name]) for head, oof in oofs.items() if name in rows[head]}
            given = {head: oof.classes[oof.targets[row]] for head, (oof, row) in seen.items()}
            taken = {head: oof.classes[oof.labels[row]] for head, (oof, row) in seen.items()}
            probs = {head: float(oof.probs[row].max()) for head, (oof, row) in seen.items()}
            found[person].append(Shot(name, file, given, taken, probs))
    return found
