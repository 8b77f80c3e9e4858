"""The competition's layout: ``train/train.csv``, a folder of seven shots a person, ``eval/info.csv`` and its photos.

The person is the folder: ids repeat and carry suffixes. Nothing else here knows what the shots are called.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import LayoutError
from pipeline.inside import require_inside
from pipeline.samples import PERSON_COLUMNS
from pipeline.survey import Photo, Problem, Survey, error, table_error, warning
from pipeline.tables import read_table
from pipeline.terminal import listed

SHOTS = {**{f"mask{n}": "wear" for n in range(1, 6)}, "incorrect_mask": "incorrect", "normal": "normal"}
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
PARTS = ("train", "eval")
COLUMNS = ("path", "id", "gender", "age")


@dataclass(frozen=True, slots=True)
class Person:
    """One row of ``train.csv``; ``path`` is the name of the person's folder."""

    path: str
    id: str = ""
    gender: str = ""
    age: str = ""


def detect(root: Path) -> bool:
    """Whether ``root`` looks like this layout."""
    return (root / "train" / "train.csv").is_file() or (root / "train" / "images").is_dir()


def is_photo(name: str) -> bool:
    """Whether a file of this name is a photo; macOS leaves a ``._`` file beside each that is none."""
    return Path(name).suffix.lower() in SUFFIXES and not name.startswith("._")


def spelling(name: str) -> str:
    """A folder name as it is compared: CSV and file system may differ in case and in how accents are written."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def shots(folder: Path) -> Iterator[tuple[str, Path]]:
    """The (shot name, file) of every photo in a person's folder, known shot or not."""
    for name in sorted(os.listdir(folder)):
        if is_photo(name):
            yield Path(name).stem, folder / name


def survey(root: Path) -> Survey:
    """All people, their photos and the photos to predict, with whatever is wrong in tables, names and folders."""
    problems: list[Problem] = []
    file, images = root / "train" / "train.csv", root / "train" / "images"
    people = _people(root, file, problems)
    by_name = _folders(images, problems)
    if not people:  # the table is useless: take the folders as they are, so that their photos are looked at
        people = {name: Person(folder.name) for name, folder in by_name.items()}
    photos: list[Photo] = []
    for name, person in people.items():
        if name in by_name:
            photos += _photos(person, by_name[name], problems)
        elif images.is_dir():
            problems.append(error("no-folder", images / person.path, f"no such folder, but {file.name} lists it"))
    for name in sorted(by_name.keys() - people.keys()):
        problems.append(warning("unlisted-folder", by_name[name], f"{file.name} does not list it; it is left out"))
    unknown = sum(problem.kind == "unknown-shot" for problem in problems)
    remarks = (f"photos left out because their shot name is unknown: {unknown}",) if unknown else ()
    to_predict = _eval_photos(root, problems)
    litter = sum(_litter(folder) for folder in (images, *by_name.values(), root / "eval" / "images"))
    return Survey(root, "competition", file, tuple(photos), to_predict, tuple(problems), litter, remarks)


def template(root: Path) -> tuple[str, ...]:
    """The ids to predict, in the order of ``eval/info.csv``; empty when there is none.

    Raises:
        LayoutError: The list lacks its column or holds an id twice.
    """
    file = root / "eval" / "info.csv"
    ids = tuple(_listed_photos(root, file)) if file.is_file() else ()
    for name, count in Counter(ids).items():
        if count > 1:
            raise LayoutError(f"{file}: ImageID {name!r} is listed {count} times")
    return ids


def eval_groups(root: Path) -> dict[str, str] | None:
    """Photo to predict -> person, as ``eval/info.csv`` says in a column of that kind; None when it says nothing.

    Raises:
        LayoutError: The list cannot be read, or a photo's cell is empty.
    """
    file = root / "eval" / "info.csv"
    if not file.is_file():
        return None
    require_inside(root, file)
    table = read_table(file, ["ImageID"])
    column = next((name for name in PERSON_COLUMNS if name in table), None)
    if column is None:
        return None
    groups = dict(zip(table["ImageID"].tolist(), table[column].tolist(), strict=True))
    if nobody := [name for name, person in groups.items() if not person]:
        raise LayoutError(f"{file}: photo {nobody[0]!r} has no {column}; fill the column or leave it out")
    return groups


def _listed_photos(root: Path, file: Path) -> list[str]:
    require_inside(root, file)
    return list(map(str, read_table(file, ["ImageID"])["ImageID"]))


def _people(root: Path, file: Path, problems: list[Problem]) -> dict[str, Person]:
    """The people of ``train.csv`` by the spelling of their folder."""
    try:
        require_inside(root, file)
        table = read_table(file, COLUMNS)
    except LayoutError as reason:
        problems.append(table_error(file, reason))
        return {}
    people: dict[str, Person] = {}
    for cells in zip(*(table[name].tolist() for name in COLUMNS), strict=True):
        person = Person(*cells)
        if not _is_plain(person.path):
            problems.append(error("path", file, f"path {person.path!r} must be the plain name of a folder in images"))
        elif spelling(person.path) in people:
            problems.append(error("path-twice", file, f"path {person.path!r} is listed twice; one row a person"))
        else:
            people[spelling(person.path)] = person
    problems += _odd_people(file, people.values())
    return people


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\\" not in name


def _odd_people(file: Path, people: Collection[Person]) -> Iterator[Problem]:
    """Ids of several people, and folder names (``<id>_<gender>_<race>_<age>``) that contradict the table."""
    by_id: dict[str, list[str]] = {}
    for person in people:
        by_id.setdefault(person.id, []).append(person.path)
        parts = person.path.rsplit("_", 3)
        if len(parts) == 4:
            said = {"id": (parts[0], person.id), "gender": (parts[1], person.gender), "age": (parts[3], person.age)}
            cells = [f"{name} {cell!r}" for name, (part, cell) in said.items() if spelling(part) != spelling(cell)]
            if cells:
                message = f"the name contradicts {file.name}, which says {' and '.join(cells)}"
                yield warning("folder-name", file.parent / "images" / person.path, message)
    for name, paths in by_id.items():
        if len(paths) > 1:
            yield warning("shared-id", file, f"id {name!r} stands for {len(paths)} people: {listed(paths)}")


def _folders(images: Path, problems: list[Problem]) -> dict[str, Path]:
    """The folders of ``train/images`` by the spelling of their names."""
    if not images.is_dir():
        problems.append(error("no-folder", images, "no such folder; the competition layout keeps its photos there"))
        return {}
    found: dict[str, Path] = {}
    for folder in (images / name for name in sorted(os.listdir(images)) if (images / name).is_dir()):
        first = found.setdefault(spelling(folder.name), folder)
        if first != folder:
            problems.append(error("folder-twice", folder, f"goes by the same name as {first.name}; keep one"))
    return found


def _photos(person: Person, folder: Path, problems: list[Problem]) -> Iterator[Photo]:
    """The photos of one person's known shots."""
    seen: dict[str, Path] = {}
    for shot, file in shots(folder):
        if shot not in SHOTS:
            problems.append(warning("unknown-shot", file, f"left out; shots are called {', '.join(SHOTS)}"))
            continue
        if shot in seen:
            problems.append(error("shot-twice", file, f"there is {seen[shot].name} already; one photo a shot"))
        seen.setdefault(shot, file)
        labels = {"mask": SHOTS[shot], "gender": person.gender, "age": person.age}
        yield Photo(f"{person.path}/{file.name}", file, person.path, labels)
    missing = [shot for shot in SHOTS if shot not in seen]
    if not seen:
        problems.append(error("no-photos", folder, f"holds none of the shots {', '.join(SHOTS)}"))
    elif missing:
        found = f"{len(seen)} of {len(SHOTS)} shots"
        problems.append(warning("shot-count", folder, f"holds {found}; missing: {', '.join(missing)}"))


def _eval_photos(root: Path, problems: list[Problem]) -> tuple[tuple[str, Path], ...]:
    """The photos to predict, in the order of ``eval/info.csv``; none when there is no such table."""
    file, images = root / "eval" / "info.csv", root / "eval" / "images"
    there = set(os.listdir(images)) if images.is_dir() else set()
    if not file.is_file():
        if any(map(is_photo, there)):
            problems.append(warning("eval-surplus", images, f"nothing here is predicted, for there is no {file.name}"))
        return ()
    try:
        ids = _listed_photos(root, file)
    except LayoutError as reason:
        problems.append(table_error(file, reason))
        return ()
    times = Counter(ids)
    if not images.is_dir():
        problems.append(error("no-folder", images, f"no such folder, but {file.name} lists {len(times)} photos in it"))
        return ()
    for name, count in times.items():
        if not _is_plain(name):
            problems.append(error("path", file, f"ImageID {name!r} must be the plain name of a file in images"))
        elif name not in there:
            problems.append(error("eval-missing", images / name, f"no such photo, but {file.name} lists it"))
        if count > 1:
            problems.append(error("eval-twice", file, f"ImageID {name!r} is listed {count} times"))
    for name in sorted(filter(is_photo, there - times.keys())):
        problems.append(warning("eval-surplus", images / name, f"{file.name} does not list it; it is not predicted"))
    return tuple((name, images / name) for name in times if name in there and _is_plain(name))


def _litter(folder: Path) -> int:
    """How many files of a folder are no photos."""
    return sum(not is_photo(entry.name) and entry.is_file() for entry in os.scandir(folder)) if folder.is_dir() else 0
