"""Ways photos and labels may lie on disk, and the one door through which all of them are loaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heads.registry import LABELS
from pipeline import competition
from pipeline.errors import LayoutError
from pipeline.fixes import apply_fixes, fits, known_fixes, read_fixes
from pipeline.inside import kept_inside, require_inside
from pipeline.samples import PERSON_COLUMNS, Dataset, check_labels
from pipeline.survey import Photo, Problem, Survey, error, table_error
from pipeline.tables import Table, read_table
from pipeline.terminal import listed

PATH_COLUMNS = ("path", "image", "file", "filename", "photo")


@dataclass(frozen=True, slots=True)
class Layout:
    """How one kind of folder is recognised and read; ``survey`` raises LayoutError when there is nothing to look at."""

    detect: Callable[[Path], bool]
    survey: Callable[[Path], Survey]


def _table_file(root: Path) -> Path | None:
    """The CSV that ``root`` is or, when it is the only one there, holds."""
    if os.path.isfile(root):
        return root if root.suffix.lower() == ".csv" else None
    found = sorted(filter(os.path.isfile, root.glob("*.csv"))) if os.path.isdir(root) else []
    return found[0] if len(found) == 1 else None


def survey_table(root: Path) -> Survey:
    """Photos listed in one CSV: a photo column, a person column and any of the label columns, cells may be empty.

    Photos are looked up beside the CSV or in ``images/`` beside it.

    Raises:
        LayoutError: There is no CSV, or there are several.
    """
    file = _table_file(root)
    if file is None:
        raise LayoutError(f"{root}: holds no CSV or several; give the CSV itself")
    try:
        if file != root:  # a CSV that the user names may lie anywhere
            require_inside(root, file)
        table, photo, person, columns = _columns(file)
    except LayoutError as reason:
        return Survey(root, "table", file, problems=(table_error(file, reason),))
    photos: dict[str, Photo] = {}
    problems: list[Problem] = []
    for row, (name, who) in enumerate(zip(table[photo].tolist(), table[person].tolist(), strict=True)):
        if not who:
            no_fold = "a photo without a person cannot be put in a fold"
            problems.append(error("no-person", file, f"photo {name!r} has no {person}; {no_fold}"))
        if name in photos:
            problems.append(error("path-twice", file, f"lists the photo {name!r} twice"))
        elif not name or Path(name).is_absolute() or ".." in Path(name).parts:
            problems.append(error("path", file, f"photo {name!r} must be a path inside {file.parent}"))
        elif found := _photo_file(file.parent, name):
            photos[name] = Photo(name, found, who, {column: str(table[column][row]) for column in columns})
        else:
            problems.append(
                error("no-photo", file.parent / name, f"listed in {file.name}, but neither here nor in images")
            )
    return Survey(root, "table", file, tuple(photos.values()), problems=tuple(problems))


def _columns(file: Path) -> tuple[Table, str, str, list[str]]:
    """The table, and the names of its column of photos, of people and of its labels."""
    table = read_table(file)
    labels = [head.column for head in LABELS if head.column in table]
    if not labels:
        wanted = ", ".join(head.column for head in LABELS)
        raise LayoutError(f"{file}: has no label column; it needs one of: {wanted}; it has: {listed(list(table))}")
    return table, _one_column(file, table, PATH_COLUMNS), _one_column(file, table, PERSON_COLUMNS), labels


def _one_column(file: Path, table: Table, names: tuple[str, ...]) -> str:
    for name in names:
        if name in table:
            return name
    raise LayoutError(f"{file}: needs a column named one of: {', '.join(names)}; it has: {listed(list(table))}")


def _photo_file(folder: Path, name: str) -> Path | None:
    places = (folder / name, folder / "images" / name)
    return next((file for file in places if os.path.isfile(file)), None)  # false for names that no disk can hold


LAYOUTS: dict[str, Layout] = {
    "competition": Layout(competition.detect, competition.survey),
    "table": Layout(lambda root: _table_file(root) is not None, survey_table),
}


def layout_of(root: Path) -> str:
    """The name of the first layout that fits ``root``.

    Raises:
        LayoutError: There is nothing there, or no layout fits.
    """
    if not os.path.exists(root):
        raise LayoutError(f"no data at {root}; give the competition's folder or a CSV of photos with --data")
    above = root.resolve().parent
    if root.resolve().name in competition.PARTS and competition.detect(above) and not competition.detect(root):
        raise LayoutError(f"{root} is one half of the competition's folder; give the folder that holds it: {above}")
    for name, layout in LAYOUTS.items():
        if layout.detect(root):
            return name
    competition_folder = "a competition folder (train/train.csv, train/images)"
    raise LayoutError(f"{root} is neither {competition_folder} nor a CSV of photos nor a folder with one")


def survey_of(root: Path, layout: str = "") -> Survey:
    """What is found at ``root``, faults and all; photos outside it are left out.

    Args:
        root: A folder or a CSV.
        layout: Name of its layout; empty = the first that fits.

    Raises:
        LayoutError: There is nothing there that any layout can read.
    """
    return kept_inside(LAYOUTS[layout or layout_of(root)].survey(root))


def load_dataset(root: Path, *, fixes: str = "", no_fixes: bool = False, layout: str = "") -> Dataset:
    """The data at ``root``, labels fixed and checked.

    Args:
        root: A folder or a CSV.
        fixes: A table of your own fixes; empty = only the built-in ones.
        no_fixes: Leave labels as they are.
        layout: Name of its layout; empty = the first that fits.

    Raises:
        LayoutError: Something there is not as training needs it.
    """
    return with_fixes(survey_of(root, layout).dataset(), fixes=fixes, no_fixes=no_fixes)


def with_fixes(data: Dataset, *, fixes: str = "", no_fixes: bool = False) -> Dataset:
    """The data, labels fixed and checked.

    Args:
        data: As it was found.
        fixes: A table of your own fixes; empty = only the built-in ones.
        no_fixes: Leave labels as they are.

    Raises:
        LayoutError: A label is none, or the fixes are not as they must be.
    """
    if not no_fixes:
        own = read_fixes(Path(fixes)) if fixes else []
        known = [fix for fix in known_fixes() if fits(data.samples, fix)]
        samples, applied = apply_fixes(data.samples, known + own)
        idle = len(own) - sum(fix in applied for fix in own)
        remarks = (f"{idle} of {len(own)} fixes in {fixes} match no photo",) if idle else ()
        data = data.with_samples(samples, fixed=len(applied), remarks=remarks)
    check_labels(data.samples, data.root)
    return data


def persons_of(data: Dataset) -> int:
    """How many people the samples show."""
    return len(np.unique(data.samples.persons))
