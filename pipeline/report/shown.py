"""The runs that a report looks at closely: of each head the newest, all of one fold table, and their 18 classes.

N photos, C classes, J joint classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ensemble.combine import compose
from ensemble.predictions import EnsembleError, Predictions
from heads.base import IntArray, StrArray
from heads.registry import JOINT, head_named
from pipeline.members import PARTS, head_predictions, persons_in, predicts
from pipeline.schema import RunInfo
from pipeline.store import Run

Known = tuple[Run, RunInfo]
SIZES = tuple(len(part.classes) for part in JOINT.parts)


@dataclass(frozen=True, slots=True)
class Seen:
    """Predictions out-of-fold of photos whose class is known, and who is on them."""

    oof: Predictions
    persons: StrArray

    @property
    def cells(self) -> IntArray:
        """(N,) ``target * C + label``, as `ensemble.bootstrap.Draws` takes them."""
        return self.oof.targets * len(self.oof.classes) + self.oof.labels


@dataclass(frozen=True, slots=True)
class Shown:
    """What is looked at.

    Attributes:
        runs: Head -> the run that it is taken from.
        heads: Head -> its predictions, views averaged.
        joint: The 18 classes composed of them; None when they cannot be.
        missing: Why not; empty when they can.
    """

    runs: dict[str, Known]
    heads: dict[str, Seen]
    joint: Seen | None
    missing: str = ""


def newest_complete_set(runs: Sequence[Known]) -> dict[str, Known] | None:
    """The newest run for each part of the 18 classes, all of one fold table; None when no set is complete."""
    for _, newest in reversed(runs):
        chosen = _of(alike(runs, newest), PARTS)
        if len(chosen) == len(JOINT.parts):
            return chosen
    return None


def alike(runs: Sequence[Known], info: RunInfo) -> list[Known]:
    """The runs on the same photos, labels and folds."""
    return [pair for pair in runs if (pair[1]["folds"], pair[1]["data"]) == (info["folds"], info["data"])]


def choose(runs: Sequence[Known]) -> Shown:
    """What to look at in these runs, the newest last: a complete set of heads, or else what the newest run has.

    Raises:
        ArtifactError: A run's files are missing or damaged.
    """
    chosen = newest_complete_set(runs)
    among = alike(runs, next(iter(chosen.values()))[1] if chosen else runs[-1][1])
    chosen = chosen or _of(among, PARTS)
    own = {head for _, info in among for head in info["classes"]} - {*PARTS, JOINT.name}
    chosen = dict(chosen) | _of(among, sorted(own))
    heads = {name: seen(*pair, name) for name, pair in chosen.items()}
    lacking = [part for part in PARTS if part not in heads]
    if lacking:
        wanted = ", ".join(PARTS)
        return Shown(chosen, heads, None, f"no 18-class score: it needs runs of {wanted} on equal folds")
    try:
        whole = compose([heads[part].oof for part in PARTS], classes=JOINT.classes)
    except EnsembleError as error:
        return Shown(chosen, heads, None, f"no 18-class score: {error}")
    known = whole.take(whole.targets >= 0)
    return Shown(chosen, heads, Seen(known, persons_in(chosen[PARTS[0]][0], known.ids)))


def seen(run: Run, info: RunInfo, head: str) -> Seen:
    """A run's predictions of a head on the photos whose class is known, views averaged."""
    oof = head_predictions(run, info, head_named(head), "oof", info["config"]["views"])
    oof = oof.take(oof.targets >= 0)
    return Seen(oof, persons_in(run, oof.ids))


def with_truth(labels: IntArray, targets: IntArray, head: int, sizes: tuple[int, ...]) -> IntArray:
    """(N,) joint labels in which one head's part is the truth."""
    parts = list(np.unravel_index(labels, sizes))
    parts[head] = np.unravel_index(targets, sizes)[head]
    return np.asarray(np.ravel_multi_index(tuple(parts), sizes))


def _of(runs: Sequence[Known], heads: Sequence[str]) -> dict[str, Known]:
    """Head -> the newest of the runs that predicts it."""
    return {head: pair for head in heads for pair in runs if predicts(pair[1], head)}


def by_id(of: Mapping[str, Seen], head: str, ids: StrArray) -> IntArray:
    """(M,) true classes of photos by a head; -1 where it does not know the photo."""
    known = dict(zip(of[head].oof.ids.tolist(), of[head].oof.targets.tolist(), strict=True))
    return np.asarray([known.get(name, -1) for name in ids.tolist()], dtype=np.int64)
