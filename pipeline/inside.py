"""Data stays in its folder: photos and tables that links put elsewhere are not read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from pipeline.errors import LayoutError
from pipeline.survey import Problem, Survey, error


def kept_inside(found: Survey) -> Survey:
    """The survey without the photos that lie outside its folder; every link that leads out is an error.

    The folder itself may be a link, and links in it may lead anywhere inside.
    """
    root = found.root if found.root.is_dir() else found.root.parent
    photos = [photo.file for photo in found.photos] + [file for _, file in found.eval_photos]
    outside = set(_outside(root, photos))
    if not outside:
        return found
    links = sorted({_link(root, file) for file in outside})
    return replace(
        found,
        photos=tuple(photo for photo in found.photos if photo.file not in outside),
        eval_photos=tuple((name, file) for name, file in found.eval_photos if file not in outside),
        problems=(*(_problem(root, link) for link in links), *found.problems),
    )


def require_inside(root: Path, file: Path) -> None:
    """Refuse a table that a link puts outside its data's folder.

    Raises:
        LayoutError: It lies elsewhere.
    """
    if any(_outside(root, [file])):
        problem = _problem(root, _link(root, file))
        raise LayoutError(f"{problem.file}: {problem.message}")


def _outside(root: Path, files: list[Path]) -> Iterator[Path]:
    """Those of the files that lie outside ``root``; a folder is resolved once for all files in it."""
    home = os.path.join(os.path.realpath(root), "")
    real_folder = cache(os.path.realpath)
    for file in files:
        folder, name = os.path.split(file)
        real = os.path.join(real_folder(folder), name)
        if os.path.islink(real):
            real = os.path.realpath(real)
        if not real.startswith(home):
            yield file


def _link(root: Path, file: Path) -> Path:
    """The highest folder on the way to ``file``, or the file itself, that leads out of ``root``."""
    way = [*reversed(file.relative_to(root).parents), file.relative_to(root)][1:]
    return next(root / step for step in way if any(_outside(root, [root / step])))


def _problem(root: Path, link: Path) -> Problem:
    advice = "move the files themselves here, or give --data a folder that holds both"
    return error("outside", link, f"is a link to {os.path.realpath(link)}, outside {root}; {advice}")
