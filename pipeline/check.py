"""The data check: every fault of a data folder at once, and the figures that tell whether it is the right one."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np

from heads.base import Head
from heads.registry import LABELS
from pipeline.layouts import survey_of
from pipeline.pictures import Picture, look_at_all
from pipeline.survey import Photo, Problem, Survey, error, warning
from pipeline.terminal import one_line

SMALLEST = 32  # pixels; less of a face does not tell an age
WIDTH = 80  # columns of text
SHOWN = 10  # problems of one kind
USUAL_FOLDS = 5
SIZES = 6  # sizes or extensions that are named


@dataclass(frozen=True, slots=True)
class Count:
    """How many photos and how many people are of one class."""

    photos: int
    people: int


@dataclass(frozen=True, slots=True)
class Report:
    """What the check found.

    Attributes:
        root: The folder or file that was checked.
        layout: Name of the layout that read it.
        people: People to learn from.
        photos: Their photos.
        eval_photos: Photos to predict.
        classes: Joint class of the heads that have labels -> its photos and people.
        partly: Photos that lack some of those labels, so they are in no joint class.
        shares: Head -> class -> share of the photos that carry the label, from 0 to 1.
        sizes: ``<width>x<height>`` in pixels -> pictures, most frequent first.
        extensions: End of the file name -> pictures, most frequent first.
        litter: Files that are no photos and are left aside.
        problems: Errors first, then by kind; files are given from ``root``.
    """

    root: str
    layout: str
    people: int
    photos: int
    eval_photos: int
    classes: dict[str, Count]
    partly: int
    shares: dict[str, dict[str, float]]
    sizes: dict[str, int]
    extensions: dict[str, int]
    litter: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether training on this data would be right: there are no errors, warnings at most."""
        return all(problem.severity != "error" for problem in self.problems)

    def as_dict(self) -> dict[str, Any]:
        """The report in plain values for JSON."""
        return asdict(self) | {"ok": self.ok, "problems": [asdict(problem) for problem in self.problems]}


def check_data(root: Path, *, progress: Callable[[int, int], None] | None = None) -> Report:
    """The report on the data at ``root``; every picture is decoded, labels are taken without fixes.

    Args:
        root: A folder or a CSV.
        progress: Told after each picture how many are done, and of how many.

    Raises:
        LayoutError: There is nothing at ``root`` that any layout can read.
    """
    found = survey_of(root)
    return report_on(found, look_at_all(found.files, progress or (lambda done, total: None)))


def report_on(found: Survey, pictures: Sequence[Picture]) -> Report:
    """The report on what a layout found.

    Args:
        found: Tables and folders.
        pictures: What opening its files told, in their order.
    """
    root, files = found.root, found.files
    labels = _labels(found.photos)
    problems = [
        *found.problems,
        *_wrong_labels(found),
        *_wrong_pictures(files, pictures),
        *_same_pictures(found.photos, pictures),
    ]
    problems += _rare_classes(found, labels)
    return Report(
        root=str(root),
        layout=found.layout,
        people=len({photo.person for photo in found.photos}),
        photos=len(found.photos),
        eval_photos=len(found.eval_photos),
        classes=_classes(found.photos, labels),
        partly=sum(not all(names) for names in zip(*labels.values(), strict=True)),
        shares={head.name: _shares(head, names) for head, names in labels.items()},
        sizes=_ranked(f"{width}x{height}" for width, height in (picture.size for picture in pictures) if width),
        extensions=_ranked(file.suffix for file in files),
        litter=found.litter,
        problems=tuple(sorted((_from_root(problem, root) for problem in problems), key=lambda p: (p.severity, p.kind))),
    )


def _wrong_labels(found: Survey) -> Iterator[Problem]:
    """Labels that are of no class, each once for a person."""
    for head in LABELS:
        where: dict[tuple[str, str], list[str]] = {}
        for photo in found.photos:
            if head.problem(raw := photo.labels.get(head.column, "")):
                where.setdefault((photo.person, raw), []).append(photo.id)
        for (_, raw), ids in where.items():
            more = f" and {len(ids) - 1} more of this person" if len(ids) > 1 else ""
            yield error("label", found.table, f"{head.problem(raw)}: {ids[0]}{more}")


def _rare_classes(found: Survey, labels: dict[Head, list[str]]) -> Iterator[Problem]:
    """Classes with fewer people than the usual five folds: a head is not trained when a fold lacks a class."""
    for head, names in labels.items():
        people = Counter(name for name, _ in {(n, photo.person) for n, photo in zip(names, found.photos, strict=True)})
        for name in head.classes:
            if people[name] < USUAL_FOLDS:
                advice = f"use --folds {people[name]}" if people[name] > 1 else f"{head.name!r} cannot be trained"
                yield warning("rare-class", found.table, f"{people[name]} people are {name!r} of {head.name}; {advice}")


def _wrong_pictures(files: Sequence[Path], pictures: Sequence[Picture]) -> Iterator[Problem]:
    for file, picture in zip(files, pictures, strict=True):
        if picture.fault:
            yield error("unreadable", file, picture.fault)
        elif min(picture.size) < SMALLEST:
            width, height = picture.size
            yield warning("tiny", file, f"is {width} x {height} pixels; a side under {SMALLEST} shows too little")


def _same_pictures(photos: Sequence[Photo], pictures: Sequence[Picture]) -> Iterator[Problem]:
    """Photos whose bytes equal those of an earlier one."""
    firsts: dict[bytes, Photo] = {}
    for photo, picture in zip(photos, pictures, strict=False):  # pictures to predict follow those to learn from
        first = photo if picture.fault else firsts.setdefault(picture.digest, photo)
        same = f"is the same picture as {first.id}"
        pairs = [(column, label, first.labels[column]) for column, label in photo.labels.items()]
        contrary = [column for column, here, there in pairs if here and there and here != there]
        if photo.person != first.person:
            yield error("two-people", photo.file, f"{same}, which is of another person: it would stand in two folds")
        elif contrary:
            yield error("two-labels", photo.file, f"{same}, which has another label for {', '.join(contrary)}")
        elif photo is not first:
            yield warning("picture-twice", photo.file, f"{same} of this person")


def _labels(photos: Sequence[Photo]) -> dict[Head, list[str]]:
    """For each head with labels, every photo's class; the empty text = no label, or a wrong one."""
    labels = {}
    for head in LABELS:
        raws = [photo.labels.get(head.column, "") for photo in photos]
        raws = ["" if head.problem(raw) else raw for raw in raws]
        if any(raws):
            index = head.labels(head.values({head.column: np.asarray(raws)}))
            labels[head] = [head.classes[k] if k >= 0 else "" for k in index.tolist()]
    return labels


def _classes(photos: Sequence[Photo], labels: dict[Head, list[str]]) -> dict[str, Count]:
    names = ["/".join(parts) if all(parts) else "" for parts in zip(*labels.values(), strict=True)]
    of_photos = Counter(names)
    of_people = Counter(name for name, _ in {(n, photo.person) for n, photo in zip(names, photos, strict=False)})
    every = map("/".join, product(*(head.classes for head in labels))) if labels else ()
    return {name: Count(of_photos[name], of_people[name]) for name in every}


def _shares(head: Head, names: Sequence[str]) -> dict[str, float]:
    counts = Counter(name for name in names if name)
    return {name: counts[name] / counts.total() for name in head.classes}


def _ranked(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _from_root(problem: Problem, root: Path) -> Problem:
    base, file = root if root.is_dir() else root.parent, Path(problem.file)
    return replace(problem, file=file.relative_to(base).as_posix())


def render(report: Report) -> str:
    """The report as text for people, at most 80 columns wide; many problems of one kind are cut short."""
    lines = [
        *_wrapped(
            f"{report.layout} data at {report.root}: {report.people:,} people, {report.photos:,} photos to learn"
            f" from, {report.eval_photos:,} to predict, {report.litter:,} other files left aside"
        ),
        *(_wrapped(f"sizes: {_ranking(report.sizes)}") if report.sizes else ()),
        *(_wrapped(f"extensions: {_ranking(report.extensions)}") if report.extensions else ()),
        *_class_table(report),
    ]
    for severity, title in (("error", "errors"), ("warning", "warnings")):
        found = [problem for problem in report.problems if problem.severity == severity]
        if found:
            lines += ["", f"{title}: {len(found):,}"]
        for kind, group in groupby(found, key=lambda problem: problem.kind):
            lines += _kind(kind, list(group))
    verdict = "training on this data is fine" if report.ok else "training on this data would be wrong; mend the errors"
    return "\n".join([*lines, "", verdict])


def _kind(kind: str, problems: Sequence[Problem]) -> Iterator[str]:
    yield f"  {kind}: {len(problems):,}"
    for problem in problems[:SHOWN]:
        yield from _wrapped(f"{problem.file}: {problem.message}", indent=4)
    if len(problems) > SHOWN:
        yield f"    ... and {len(problems) - SHOWN:,} more (see --json)"


def _class_table(report: Report) -> Iterator[str]:
    if report.classes:
        yield from ("", f"{'class':<30} {'photos':>8} {'people':>8}")
    for name, count in report.classes.items():
        yield f"{name:<30} {count.photos:>8,} {count.people:>8,}"
    if report.partly:
        yield from _wrapped(f"{report.partly:,} photos lack one of these labels and are in no class")
    yield ""
    for head, shares in report.shares.items():
        yield from _wrapped(f"{head}: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items()))


def _ranking(counts: dict[str, int]) -> str:
    """The most frequent few, with how often."""
    few = [f"{name or 'none'} ({count:,})" for name, count in list(counts.items())[:SIZES]]
    return ", ".join(few) + (f" and {len(counts) - SIZES:,} others" if len(counts) > SIZES else "")


def _wrapped(text: str, *, indent: int = 0) -> list[str]:
    """The text in lines, with no line break of its own."""
    first, rest = " " * indent, " " * (indent + 2)
    return textwrap.wrap(one_line(text), WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
