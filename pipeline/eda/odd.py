"""Which photos to look at: far from their class, dark, bright, without contrast, small, or nearly those of others.

N photos to learn from, M photos to predict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heads.base import FloatArray, IntArray, StrArray
from pipeline.eda.alike import Pairs
from pipeline.eda.counts import Labels
from pipeline.eda.looking import BoolArray

SHOWN = 12  # photos of each kind
DARK, BRIGHT, FLAT = 0.15, 0.85, 0.06  # mean brightness, mean brightness, contrast; 0 to 1
SMALL = 64  # pixels of the shorter side
FAR = 2.0  # times the distance that is usual for the class


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo that is told of.

    Attributes:
        row: Its number; those to predict follow those to learn from.
        id: Its id.
        text: What there is to see, in words.
    """

    row: int
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Odd:
    """Photos that are odd in one way.

    Attributes:
        reason: ``far``, ``dark``, ``bright``, ``flat`` or ``small``.
        count: How many there are.
        photos: The oddest, at most one a person.
    """

    reason: str
    count: int
    photos: tuple[Photo, ...]


@dataclass(frozen=True, slots=True)
class Measures:
    """What oddness is judged by.

    Attributes:
        brightness: (N + M,) 0 to 1.
        contrast: (N + M,) 0 to 1.
        shorter: (N + M,) pixels of the shorter side.
        readable: (N + M,) whether the photo could be read.
        distance: (N,) see `pipeline.eda.space.distances`.
    """

    brightness: FloatArray
    contrast: FloatArray
    shorter: IntArray
    readable: BoolArray
    distance: FloatArray


def odd_photos(measures: Measures, ids: Sequence[str], labels: Labels) -> tuple[Odd, ...]:
    """The odd photos by reason, the oddest first; reasons that no photo has are left out.

    Args:
        measures: Of all photos.
        ids: N + M ids.
        labels: Classes and people of the first N.
    """
    light, contrast, seen = measures.brightness, measures.contrast, measures.readable
    distance = np.concatenate([measures.distance, np.full(len(ids) - len(measures.distance), np.nan)])
    distance = np.where(seen, np.nan_to_num(distance), 0)
    kinds: dict[str, tuple[BoolArray, FloatArray, str]] = {
        "far": (distance > FAR, -distance, "{:.2f} times as far from its class as usual"),
        "dark": (seen & (light < DARK), light, "brightness {:.2f}"),
        "bright": (seen & (light > BRIGHT), -light, "brightness {:.2f}"),
        "flat": (seen & (contrast < FLAT), contrast, "contrast {:.3f}"),
        "small": (seen & (measures.shorter < SMALL), measures.shorter.astype(np.float64), "{:.0f} pixels"),
    }
    owners = np.concatenate([labels.persons, np.arange(len(ids) - len(labels.persons)) + len(ids)])
    found = []
    for reason, (chosen, order, words) in kinds.items():
        rows = np.flatnonzero(chosen)
        rows = rows[np.argsort(order[rows], kind="stable")]
        first = rows[np.sort(np.unique(owners[rows], return_index=True)[1])][:SHOWN]
        photos = tuple(Photo(row, ids[row], words.format(abs(order[row]))) for row in first.tolist())
        if photos:
            found.append(Odd(reason, int(chosen.sum()), photos))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Twins:
    """Two people, or a person and a photo to predict, with nearly the same picture.

    Attributes:
        person: Of the photos to learn from.
        other: Another of them, or the id of a photo to predict.
        to_predict: Whether it is that.
        pairs: Pairs of their photos that are nearly the same.
        rows: Numbers of the most alike two.
        ids: Their ids.
        bits: Bits of 64 in which their hashes differ.
        likeness: Correlation of their brightness, at most 1.
        contrary: Heads of which the two photos have different classes.
    """

    person: str
    other: str
    to_predict: bool
    pairs: int
    rows: tuple[int, int]
    ids: tuple[str, str]
    bits: int
    likeness: float
    contrary: tuple[str, ...]


def twins_of(pairs: Pairs, ids: Sequence[str], persons: StrArray, labels: Labels) -> tuple[Twins, ...]:
    """The pairs of photos, gathered by who is on them; most alike first.

    Args:
        pairs: Row numbers of the N + M photos.
        ids: N + M ids.
        persons: (N,) names of the people.
        labels: Their classes.
    """
    together: dict[tuple[str, str, bool], list[int]] = {}
    for number, (first, second) in enumerate(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)):
        to_predict = second >= len(persons)
        one, two = str(persons[first]), ids[second] if to_predict else str(persons[second])
        if not to_predict and two < one:
            one, two = two, one
        together.setdefault((one, two, to_predict), []).append(number)
    found = []
    for (one, two, to_predict), numbers in together.items():
        best = numbers[0]
        rows = int(pairs.first[best]), int(pairs.second[best])
        if str(persons[rows[0]]) != one:
            rows = rows[1], rows[0]
        contrary = () if to_predict else tuple(name for name, index in labels.index.items() if _differ(index, *rows))
        found.append(
            Twins(
                one,
                two,
                to_predict,
                len(numbers),
                rows,
                (ids[rows[0]], ids[rows[1]]),
                int(pairs.bits[best]),
                float(pairs.likeness[best]),
                contrary,
            )
        )
    return tuple(found)


def _differ(index: IntArray, first: int, second: int) -> bool:
    """Whether two photos have different classes; one without a label differs from none."""
    return bool(index[first] >= 0 and index[second] >= 0 and index[first] != index[second])
