"""Draws people, seven shots each, and writes them as a folder laid out like the competition's.

No single cue tells gender or age: each is a little off for everybody, so a network has to weigh many and still errs.
"""

import csv
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.random import Generator

from pipeline.canvas import Colour, mix
from pipeline.drawing import draw_face, encode_photo
from pipeline.errors import LayoutError
from pipeline.looks import Looks, Mask, Shot

GENDERS = ("male", "female")
AGE_BANDS = ((18, 29), (30, 59), (60, 78))  # years, both ends included
TRAIN_SHARES = (0.61, (0.47, 0.45, 0.08))  # of women, of each age band
EVAL_SHARES = (0.40, (0.43, 0.30, 0.27))
FEWEST_OF_A_KIND = 6  # people of each gender and age band, so that every fold can hold one
FEWEST_PEOPLE = 12  # of a data set
SHOTS = {"mask1": 0, "mask2": 0, "mask3": 0, "mask4": 0, "mask5": 0, "incorrect_mask": 1, "normal": 2}
WEAR, INCORRECT, NORMAL = 0, 1, 2
LITTER = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "  # how a resource fork of macOS begins

SKINS = (0xFADCBE, 0xF2CDAA, 0xE8BE96, 0xD8AA80, 0xC4926A)  # 0xRRGGBB, as below
HAIRS = (0x1E1818, 0x2C201C, 0x462E22, 0x684228, 0x8C5A32)
LIPS = (0xCC786C, 0xBE5C5A, 0xD66068, 0xC48874)
CLOTHES = (0x344670, 0x3C3C42, 0xE2DED6, 0x964242, 0x568060, 0xDEAA50, 0x9678AA, 0xE28C96)
WALLS = (0xBCD4E0, 0xE2D6BE, 0xC6D8BE, 0xE0C4BE, 0xCEC8DE, 0xB2B4BA)
MASKS = (0xF4F6F8, 0xA6CEE2, 0x323238, 0xDEBAC4, 0xE0C2A0, 0x969CA0)


@dataclass(frozen=True, slots=True)
class Person:
    """One drawn person; ``gender`` indexes ``GENDERS`` and ``band`` indexes ``AGE_BANDS``."""

    gender: int
    band: int
    years: int
    looks: Looks


def _pick(rng: Generator, palette: tuple[int, ...], spread: float = 10) -> Colour:
    """One of the colours, a little off."""
    colour = palette[rng.integers(len(palette))]
    channels = np.array([colour >> 16, colour >> 8 & 255, colour & 255])
    red, green, blue = (channels + rng.normal(0, spread, 3)).clip(0, 255)
    return red, green, blue


def _near(rng: Generator, mean: float, spread: float) -> float:
    """A number from 0 to 1 around ``mean``."""
    return float(np.clip(rng.normal(mean, spread), 0, 1))


def _aged(rng: Generator, years: float, begins: float, lasts: float, spread: float) -> float:
    """How far a change has come, 0 to 1: it begins at an age, give or take ``spread`` years, and lasts some years."""
    return float(np.clip((years + rng.normal(0, spread) - begins) / lasts, 0, 1))


def _greyness(rng: Generator, years: float) -> float:
    dyed = rng.random()
    if years < 30:
        return _near(rng, 0.6, 0.2) if dyed < 0.05 else 0.0
    return 0.0 if dyed < 0.15 else _aged(rng, years, 33, 33, 6)


def _looks(rng: Generator, gender: int, years: float) -> Looks:
    """Someone of this gender and age, every trait drawn on its own."""
    woman = float(gender)
    unusual = rng.random() < 0.06  # a man with long hair, a woman with short
    long_hair = woman != unusual
    spots = rng.poisson(7 * _aged(rng, years, 40, 35, 10) + rng.choice([0, 0, 0, 3]))
    return Looks(
        skin=mix(_pick(rng, SKINS, 5), (196, 160, 130), 0.6 * _aged(rng, years, 20, 60, 10)),
        hair=_pick(rng, HAIRS, 6),
        eyes=_pick(rng, HAIRS, 6),
        lips=mix(_pick(rng, LIPS, 8), (176, 128, 116), _near(rng, 0.7 - 0.6 * woman, 0.2)),
        clothes=mix(_pick(rng, CLOTHES), (110, 104, 104), 0.7 * _aged(rng, years, 25, 50, 15)),
        wall=_pick(rng, WALLS),
        wall_pattern=int(rng.integers(4)),
        collar=int(rng.integers(3)),
        part=float(rng.uniform(-1, 1)),
        greyness=_greyness(rng, years),
        hair_length=_near(rng, 0.66 - 0.003 * (years - 20) if long_hair else 0.15, 0.2),
        fringe=_near(rng, 0.5 + 0.15 * woman - 0.012 * (years - 35), 0.25),
        baldness=_aged(rng, years, 35, 45, 14) * (0.25 if woman else 1.0),
        face_width=_near(rng, 0.55 - 0.2 * woman + 0.003 * (years - 40), 0.2),
        jaw=_near(rng, 0.75 - 0.5 * woman, 0.17),
        brow=_near(rng, 0.72 - 0.5 * woman, 0.17),
        eye_size=_near(rng, 0.5 + 0.12 * woman - 0.008 * (years - 40), 0.17),
        eye_gap=_near(rng, 0.5, 0.3),
        lashes=_near(rng, 0.2 + 0.48 * woman, 0.2),
        droop=_aged(rng, years, 26, 42, 8),
        bags=_aged(rng, years, 24, 40, 8),
        wrinkles=_aged(rng, years, 26, 42, 6),
        blush=_near(rng, 0.5 + 0.1 * woman - 0.012 * (years - 35), 0.25),
        nose=_near(rng, 0.6 - 0.2 * woman + 0.003 * (years - 40), 0.2),
        lip_fullness=_near(rng, 0.4 + 0.25 * woman - 0.005 * (years - 40), 0.18),
        beard=float(rng.uniform(0.2, 1)) if rng.random() < 0.5 - 0.5 * woman else 0.0,
        shoulders=_near(rng, 0.75 - 0.5 * woman, 0.17),
        glasses=float(rng.uniform(0.2, 1)) if rng.random() < 0.2 + 0.004 * (years - 20) else 0.0,
        earrings=bool(rng.random() < 0.05 + 0.45 * woman),
        spots=tuple((float(x), float(y)) for x, y in rng.uniform((-0.5, -0.5), (0.5, 0.6), (spots, 2))),
    )


def _mask(rng: Generator, how: int) -> Mask | None:
    if how == NORMAL:
        return None
    top = rng.normal(0.08, 0.06)
    if how == INCORRECT:
        top = rng.normal(*((0.4, 0.035) if rng.random() < 0.6 else (0.65, 0.05)))
    bottom = max(0.98, top + 0.32) + rng.uniform(-0.05, 0.1)
    return Mask(_pick(rng, MASKS, 8), top, bottom, tilt=rng.normal(0, 0.03), pleats=bool(rng.random() < 0.6))


def _shot(rng: Generator, how: int) -> Shot:
    """One photo's circumstances, with the mask on as ``how`` says."""
    return Shot(
        mask=_mask(rng, how),
        shift=(rng.normal(0, 0.1), rng.normal(0, 0.08)),
        zoom=rng.normal(1.2, 0.07),
        roll=rng.normal(0, 5),
        turn=rng.normal(0, 0.06),
        smile=rng.uniform(-0.2, 1),
        eyelids=float(np.clip(rng.normal(0.1, 0.15), 0, 0.9)),
        brightness=float(np.clip(rng.normal(0.97, 0.1), 0.65, 1.3)),
        warmth=rng.normal(0, 0.5),
        side_light=rng.uniform(-1, 1),
        blur=float(max(0, rng.normal(0.2, 0.35))),
        noise=rng.uniform(1, 6),
        noise_seed=int(rng.integers(2**32)),
    )


def _gender_and_band(people: int, shares: tuple[float, tuple[float, ...]], rng: Generator) -> list[tuple[int, int]]:
    """(gender, band) of everyone, in random order and close to the shares, with nobody's kind too rare."""
    women, bands = shares
    wanted = people * np.outer([1 - women, women], bands)
    counts = np.floor(wanted).astype(int)
    by_remainder = np.argsort((counts - wanted).ravel(), kind="stable")
    counts.ravel()[by_remainder[: people - counts.sum()]] += 1
    fewest = min(FEWEST_OF_A_KIND, people // 12)
    while counts.min() < fewest:
        counts.ravel()[counts.argmax()] -= 1
        counts.ravel()[counts.argmin()] += 1
    kinds = [(gender, band) for (gender, band), count in np.ndenumerate(counts) for _ in range(count)]
    return [kinds[k] for k in rng.permutation(people)]


def _person(gender: int, band: int, rng: Generator) -> Person:
    first, last = AGE_BANDS[band]
    years = first + int((last + 1 - first) * rng.beta(2, 2))  # few stand at the edge of a band
    return Person(gender, band, years, _looks(rng, gender, years))


@dataclass(frozen=True, slots=True)
class Folder:
    """How one training person is filed; ``gender`` is the one written down, which may be wrong."""

    person: Person
    identifier: str
    gender: int
    suffix: str
    swapped: bool = False
    littered: bool = False

    @property
    def name(self) -> str:
        """``<id>_<gender>_<race>_<age>``."""
        return f"{self.identifier}_{GENDERS[self.gender]}_Asian_{self.person.years}"


def _defects(filed: list[Folder], rng: Generator) -> list[Folder]:
    """File some people the way the real folder does: wrongly, or under somebody else's id."""
    filed = list(filed)
    not_old = [k for k in rng.permutation(len(filed)) if filed[k].person.band < 2]
    for k in not_old[: round(len(filed) / 100)]:
        filed[k] = replace(filed[k], gender=1 - filed[k].gender)
    for k in rng.permutation(len(filed))[: max(1, len(filed) // 20)]:
        filed[k] = replace(filed[k], littered=True)
    swapped = int(rng.integers(len(filed)))
    filed[swapped] = replace(filed[swapped], swapped=True)
    pairs = [k for k in range(len(filed) - 1) if filed[k].name[7:] != filed[k + 1].name[7:]]
    first, second = rng.choice(pairs[::2], 2, replace=False)
    filed[first + 1] = replace(filed[first + 1], identifier=filed[first].identifier)
    filed[second + 1] = replace(filed[second + 1], identifier=f"{filed[second].identifier}-1")
    return filed


def _write_table(path: Path, header: str, rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split(","))
        writer.writerows(rows)


def _draw_train(root: Path, people: int, seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng([seed, 0])
    filed = []
    for k, (gender, band) in enumerate(_gender_and_band(people, TRAIN_SHARES, rng)):
        suffix = str(rng.choice([".jpg", ".jpg", ".jpg", ".jpeg", ".png"]))
        filed.append(Folder(_person(gender, band, rng), f"{k + 1:06d}", gender, suffix))
    filed = _defects(filed, rng)
    for entry in filed:
        folder = root / "images" / entry.name
        folder.mkdir(parents=True)
        for name, how in SHOTS.items():
            shown = NORMAL + INCORRECT - how if entry.swapped and how != WEAR else how
            photo = draw_face(entry.person.looks, _shot(rng, shown), size)
            (folder / f"{name}{entry.suffix}").write_bytes(encode_photo(photo, entry.suffix))
        if entry.littered:
            (folder / f"._normal{entry.suffix}").write_bytes(LITTER + rng.bytes(96))
    rows = ((e.identifier, GENDERS[e.gender], "Asian", e.person.years, e.name) for e in filed)
    _write_table(root / "train.csv", "id,gender,race,age,path", rows)


def _draw_eval(root: Path, people: int, seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng([seed, 1])
    photos = root / "eval" / "images"
    photos.mkdir(parents=True)
    answers = []
    for gender, band in _gender_and_band(people, EVAL_SHARES, rng):
        person = _person(gender, band, rng)
        for how in SHOTS.values():
            name = f"{rng.bytes(20).hex()}.jpg"
            (photos / name).write_bytes(encode_photo(draw_face(person.looks, _shot(rng, how), size), ".jpg"))
            answers.append((name, how * 6 + gender * 3 + band))
    answers.sort()  # names are random, so this shuffles the people
    _write_table(root / "eval" / "info.csv", "ImageID,ans", ((name, 0) for name, _ in answers))
    _write_table(root / "answers.csv", "ImageID,ans", answers)


def draw_dataset(
    folder: Path, people: int = 280, eval_people: int = 60, seed: int = 0, size: tuple[int, int] = (96, 128)
) -> None:
    """Draw people and write their photos, the tables, and the answers the competition would keep secret.

    The same arguments write the same bytes. As in the real folder, about one person in a hundred has the wrong
    gender written down, one has ``normal`` and ``incorrect_mask`` swapped, one shares an id with somebody else,
    one id ends in ``-1`` and is somebody else too, extensions are mixed, and macOS left ``._normal`` files behind.

    Args:
        folder: Where to write; must be absent or empty. It appears whole or not at all.
        people: Of the training set, at least 12, seven photos each.
        eval_people: Of the evaluation set, at least 12; older and more often men than in training.
        seed: Another seed draws other people.
        size: Width and height of a photo in pixels.

    Raises:
        LayoutError: The folder holds something, or there are too few people.
    """
    if min(people, eval_people) < FEWEST_PEOPLE:
        given, wanted = f"{people} people and {eval_people} to evaluate", f"draw at least {FEWEST_PEOPLE} of each"
        raise LayoutError(f"cannot fill all 18 classes with {given}; {wanted}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LayoutError(f"{folder} is not empty; name a new folder to draw people into, or delete it first")
    partial = folder.absolute().with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        _draw_train(partial / "train", people, seed, size)
        _draw_eval(partial, eval_people, seed, size)
        if folder.exists():
            folder.rmdir()  # Windows does not rename onto an existing folder
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
