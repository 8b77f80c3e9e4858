"""From finished runs to suspects: labels that out-of-fold predictions contradict, each with the fix that would mend it.

What is a person's, such as gender, is judged once a person, by the mean over all photos; what differs between a
person's photos, such as the mask, photo by photo.

Legend: N photos, U units (people or photos), C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from ensemble.confident import confident_classes, contradicted, margins
from ensemble.predictions import Predictions
from heads.base import FloatArray, Head, IntArray, StrArray
from pipeline.fixes import SWAP
from pipeline.samples import Samples

OF_PERSON = 0.9  # share of people with one label from which on a label is a person's, and other ones are errors
NEAR = 5  # years: a label so close to the border that it seems to have crossed is a matter of opinion


@dataclass(frozen=True, slots=True)
class Suspect:
    """A label that is likely wrong.

    Attributes:
        head: Whose label it is.
        person: Who is on the photos.
        photos: Ids of the photos whose label it is.
        path: Person or photo, as a fix names it.
        column: Label column, or ``swap``.
        value: What the fix would write.
        given: The class as labelled; of a swap both, in the order of ``value``.
        suggested: The class that is predicted; of a swap both.
        p_given: Its probability; of a swap the mean of both.
        p_suggested: The same of the predicted class.
        strength: What suspects rank by: the predicted class's probability less the label's; of a swap the sum of both.
        agree: How many of the photos are by themselves predicted as suggested.
        border: How far the label is from the border in words, when it is close; else empty.
    """

    head: str
    person: str
    photos: tuple[str, ...]
    path: str
    column: str
    value: str
    given: str
    suggested: str
    p_given: float
    p_suggested: float
    strength: float
    agree: int
    border: str = ""


@dataclass(frozen=True, slots=True)
class Units:
    """What one label is given to: a person's photos of one label, or a single photo.

    Attributes:
        of_person: Whether units are people.
        rows: U arrays of row numbers in the photos' predictions.
        probs: (U, C) mean probabilities; of a person over all their photos, whatever their label.
        targets: (U,) labels.
    """

    of_person: bool
    rows: tuple[IntArray, ...]
    probs: FloatArray
    targets: IntArray


def units_of(oof: Predictions, persons: StrArray) -> Units:
    """People, when nearly all people with several photos have one label on all of them; else photos.

    Args:
        oof: Predictions of N labelled photos.
        persons: (N,) who is on each.
    """
    _, who = np.unique(persons, return_inverse=True)
    pairs, unit = np.unique(np.stack([who, oof.targets]), axis=1, return_inverse=True)
    photos, labels = np.bincount(who), np.bincount(pairs[0])
    several = photos > 1
    if not several.any() or (labels[several] == 1).mean() < OF_PERSON:
        return Units(False, tuple(np.arange(len(who))[:, None]), oof.probs, oof.targets)
    sums = np.zeros((len(photos), oof.probs.shape[1]))
    np.add.at(sums, who, oof.probs)
    means = sums / photos[:, None]
    return Units(True, groups_of(unit.ravel()), means[pairs[0]], pairs[1])


def groups_of(numbers: IntArray) -> tuple[IntArray, ...]:
    """The rows of each number from 0 on."""
    order = np.argsort(numbers, kind="stable")
    return tuple(np.split(order, np.cumsum(np.bincount(numbers))[:-1]))


def suspects_of(head: Head, oof: Predictions, samples: Samples, persons: StrArray) -> list[Suspect]:
    """The suspects of one head, in no order.

    Args:
        head: Whose labels are looked at.
        oof: Out-of-fold predictions of N labelled photos; their targets are the labels.
        samples: The photos with their labels as they stand on the disk; only years are taken from them.
        persons: (N,) who is on each.

    Raises:
        EnsembleError: A photo has no label.
    """
    units = units_of(oof, persons)
    found = np.flatnonzero(contradicted(units.probs, units.targets))
    taken = confident_classes(units.probs, units.targets)
    strength = -margins(units.probs, units.targets)
    values = _values(head, oof, samples)
    made = []
    for unit in found:
        rows, given, other = units.rows[unit], int(units.targets[unit]), int(taken[unit])
        person = str(persons[rows[0]])
        whole = units.of_person and len(rows) == (persons == person).sum()
        for part in [rows] if whole else rows[:, None]:
            photos = tuple(oof.ids[part].tolist())
            made.append(
                Suspect(
                    head=head.name,
                    person=person,
                    photos=photos,
                    path=person if whole else photos[0],
                    column=head.column,
                    value=_usual(head, other, values),
                    given=head.classes[given],
                    suggested=head.classes[other],
                    p_given=float(units.probs[unit, given]),
                    p_suggested=float(units.probs[unit, other]),
                    strength=float(strength[unit]),
                    agree=int((oof.labels[part] == other).sum()),
                    border=border_of(head, given, other, float(values[part[0]])),
                )
            )
    return made if units.of_person else list(_with_swaps(head, made, oof, persons))


def _values(head: Head, oof: Predictions, samples: Samples) -> FloatArray:
    """(N,) the photos' values as on the disk; NaN where they are of another class than the label that was learnt."""
    wanted = dict(zip(samples.ids.tolist(), samples.columns.get(head.column, samples.ids).tolist(), strict=True))
    raws = np.asarray(["" if head.problem(raw := wanted.get(name, "")) else raw for name in oof.ids.tolist()])
    values = head.values({head.column: raws})
    return np.where(head.labels(values) == oof.targets, values, np.nan)


def _usual(head: Head, index: int, values: FloatArray) -> str:
    """What a fix writes for a class: its name, or the median of the quantity over the photos labelled so."""
    if not head.edges:
        return head.classes[index]
    inside = values[head.labels(values) == index]
    return f"{np.median(inside):.0f}" if len(inside) else ""


def border_of(head: Head, given: int, other: int, value: float) -> str:
    """How far a quantity is from the one border between two classes, when it is close; else empty."""
    if not head.edges or abs(given - other) != 1 or np.isnan(value):
        return ""
    edge = head.edges[min(given, other)]
    return f"labelled {value:g}, {abs(value - edge):g} from the border at {edge:g}" if abs(value - edge) <= NEAR else ""


def _with_swaps(head: Head, found: Sequence[Suspect], oof: Predictions, persons: StrArray) -> Iterator[Suspect]:
    """The suspects; two photos of a person that are taken for each other are one suspect."""
    row_of = dict(zip(oof.ids.tolist(), range(len(oof.ids)), strict=True))
    left = dict.fromkeys(sorted(found, key=lambda one: -one.strength))
    while left:
        first = next(iter(left))
        del left[first]
        own = np.flatnonzero(persons == first.person)
        second = next((row for row in own if _mirrors(head, first, oof, int(row))), None)
        if second is None or not _can_swap([str(name) for name in oof.ids[own]]):
            yield first
            continue
        row, other = row_of[first.photos[0]], int(second)
        left.pop(next((one for one in left if one.photos[0] == oof.ids[other]), first), None)
        yield _swap(head, first, oof, row, other)


def _mirrors(head: Head, first: Suspect, oof: Predictions, row: int) -> bool:
    """Whether the photo is labelled as the suspect looks, and looks as the suspect is labelled."""
    return (
        head.classes[oof.targets[row]] == first.suggested
        and head.classes[oof.labels[row]] == first.given
        and oof.ids[row] not in first.photos
    )


def _can_swap(ids: Sequence[str]) -> bool:
    """Whether a fix can name each of the photos by its shot."""
    stems = [shot_of(name) for name in ids]
    return len(set(stems)) == len(stems) and not any(len(stem.split()) != 1 for stem in stems)


def shot_of(photo: str) -> str:
    """The name of a photo's shot: its file's, without folder and ending."""
    return PurePosixPath(photo).stem


def _swap(head: Head, first: Suspect, oof: Predictions, row: int, other: int) -> Suspect:
    rows = np.asarray(sorted([row, other], key=lambda one: str(oof.ids[one])))  # the same order whoever comes first
    given, taken = oof.targets[rows], oof.labels[rows]
    photos = tuple(oof.ids[rows].tolist())
    p_given, p_taken = oof.probs[rows, given].mean(), oof.probs[rows, taken].mean()
    return Suspect(
        head=head.name,
        person=first.person,
        photos=photos,
        path=first.person,
        column=SWAP,
        value=" ".join(shot_of(photo) for photo in photos),
        given=" ".join(head.classes[index] for index in given),
        suggested=" ".join(head.classes[index] for index in taken),
        p_given=float(p_given),
        p_suggested=float(p_taken),
        strength=float(2 * (p_taken - p_given)),
        agree=2,
    )


def ranked(suspects: Sequence[Suspect]) -> list[Suspect]:
    """The strongest first, those at a border after all others."""
    return sorted(suspects, key=lambda one: (bool(one.border), -one.strength, one.path, one.column))
