"""What to work on next: the head, and the class of it, whose mistakes cost the 18-class score most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ensemble.metrics import confusion, macro_f1
from heads.registry import JOINT
from pipeline.members import PARTS
from pipeline.report.shown import SIZES, Seen, Shown, with_truth


@dataclass(frozen=True, slots=True)
class Next:
    """What to work on.

    Attributes:
        head: The head that costs most, or the one that lacks.
        class_name: Its class that costs most; empty when the head lacks or makes no mistake.
        gains: Head -> class -> what macro F1 would gain if that head were right on all photos of that class: of the 18
            classes where there are such predictions, else of the head.
        why: The same as a sentence.
    """

    head: str
    class_name: str
    gains: dict[str, dict[str, float]]
    why: str


def what_next(shown: Shown) -> Next:
    """What to work on, as these predictions have it."""
    if shown.joint is not None:
        return _of_joint(shown, shown.joint)
    gains = {name: _own_gains(seen) for name, seen in shown.heads.items()}
    name = min(shown.heads, key=lambda head: _score(shown.heads[head]))
    of_class = _first(gains[name])
    found = f"{name} scores {_score(shown.heads[name]):.3f}{_habit(shown.heads[name], of_class)}"
    if lacking := [part for part in PARTS if part not in shown.heads]:
        return Next(lacking[0], "", gains, f"Train {' and '.join(lacking)}, for a score of 18 classes; {found}.")
    return Next(name, of_class, gains, f"Give the heads photos and folds in common; {found}.")


def _of_joint(shown: Shown, joint: Seen) -> Next:
    targets, labels, n = joint.oof.targets, joint.oof.labels, len(JOINT.classes)
    now = macro_f1(targets, labels, n)
    of_head: dict[str, float] = {}
    gains: dict[str, dict[str, float]] = {}
    for number, part in enumerate(JOINT.parts):
        right = with_truth(labels, targets, number, SIZES)
        of_head[part.name] = macro_f1(targets, right, n) - now
        own = np.unravel_index(targets, SIZES)[number]
        gains[part.name] = {
            name: macro_f1(targets, np.where(own == of_class, right, labels), n) - now
            for of_class, name in enumerate(part.classes)
        }
    head = _first(of_head)
    if not of_head[head] > 0:
        return Next(
            head, "", gains, "No head costs anything: macro F1 would not rise if one of them were always right."
        )
    of_class = _first(gains[head])
    why = (
        f"Work on {head}, first on its class {of_class}: were {head} always right, macro F1 would be "
        f"{now + of_head[head]:.3f} instead of {now:.3f} ({of_class} alone: {gains[head][of_class]:+.3f})"
        f"{_habit(shown.heads[head], of_class)}."
    )
    return Next(head, of_class, gains, why)


def _own_gains(seen: Seen) -> dict[str, float]:
    """Class -> what the head's own macro F1 would gain if it were right on all photos of that class."""
    targets, labels, n = seen.oof.targets, seen.oof.labels, len(seen.oof.classes)
    return {
        name: macro_f1(targets, np.where(targets == of_class, targets, labels), n) - _score(seen)
        for of_class, name in enumerate(seen.oof.classes)
    }


def _score(seen: Seen) -> float:
    return macro_f1(seen.oof.targets, seen.oof.labels, len(seen.oof.classes))


def _first(gains: Mapping[str, float]) -> str:
    return max(gains, key=lambda name: gains[name])


def _habit(seen: Seen, name: str) -> str:
    """What photos of a class are taken for most often; empty when none is."""
    classes = seen.oof.classes
    row = confusion(seen.oof.targets, seen.oof.labels, len(classes))[classes.index(name)].copy()
    photos = row.sum()
    row[classes.index(name)] = 0
    if not row.any():
        return ""
    return f"; now {row.max() / photos:.0%} of its {name} photos are taken for {classes[int(row.argmax())]}"
