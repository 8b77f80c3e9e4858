"""Submissions as any tool writes them, read strictly enough to be voted over and joined by id, never by position.

Legend: N rows, M files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble.predictions import examples
from heads.base import IntArray
from heads.registry import JOINT
from pipeline.competition import template
from pipeline.errors import LayoutError
from pipeline.store import PLAIN, Store
from pipeline.tables import read_rows, read_table

ID, ANSWER = COLUMNS = ("ImageID", "ans")
NAME = "submission.csv"
N_CLASSES = len(JOINT.classes)
SIZES = tuple(len(part.classes) for part in JOINT.parts)
RANGE = f"answers are whole numbers from 0 to {N_CLASSES - 1}"
WHOLE = re.compile(r"[0-9]{1,9}(\.0*)?")  # 3, 03, 3.0: what tools make of a whole number


@dataclass(frozen=True, slots=True, eq=False)
class Submission:
    """The answers of one file.

    Attributes:
        file: Where they were read.
        ids: N ids, each once.
        labels: (N,) joint classes.
    """

    file: Path
    ids: tuple[str, ...]
    labels: IntArray

    def in_order_of(self, ids: Sequence[str]) -> IntArray:
        """(N,) the answers for ``ids``, which are the file's own in any order."""
        row = {name: number for number, name in enumerate(self.ids)}
        return self.labels[[row[name] for name in ids]]


def located(name: str, artifacts: Path, file_name: str = NAME) -> Path:
    """The file that a user means by a path, a folder that holds ``file_name``, or the name of an ensemble.

    Raises:
        LayoutError: There is none.
    """
    places = [Path(name), Path(name) / file_name]
    if PLAIN.fullmatch(name):
        places.append(Store(artifacts).ensemble_folder(name) / file_name)
    for place in places:
        if place.is_file():
            return place
    if Path(name).exists() and not Path(name).is_dir():
        raise LayoutError(f"{name}: is not an ordinary file")
    also = f", and no {places[-1]}" if len(places) > 1 and (Path(name).is_dir() or len(places) > 2) else ""
    raise LayoutError(f"{name}: no such file{also}; give a file, or the name of an ensemble")


def answer_of(text: str) -> int | None:
    """The class in a cell; None when it is none."""
    number = int(text.split(".")[0]) if WHOLE.fullmatch(text) else N_CLASSES
    return number if number < N_CLASSES else None


def read_submission(file: Path) -> Submission:
    """The answers in a CSV; further columns, their order and a byte order mark do not matter.

    Raises:
        LayoutError: It is no such CSV, or a row has no id, an id that stands above already, or no class.
    """
    header, rows = read_rows(file, COLUMNS)
    id_at, answer_at = header.index(ID), header.index(ANSWER)
    ids, texts = [row[id_at] for _, row in rows], [row[answer_at] for _, row in rows]
    classes = {text: answer_of(text) for text in set(texts)}
    answers = [classes[text] for text in texts]
    if None in answers:
        raise LayoutError(f"{file}: {_row(rows, answers.index(None))} has ans {_wrong(texts, answers)}; {RANGE}")
    if "" in ids:
        raise LayoutError(f"{file}: {_row(rows, ids.index(''))} has no {ID}; every row answers one photo")
    if len(set(ids)) < len(ids):
        raise LayoutError(f"{file}: {_repeated(ids, [line for line, _ in rows])}; keep one row a photo")
    return Submission(file, tuple(ids), np.asarray(answers, dtype=np.int64))


def _row(rows: Sequence[tuple[int, list[str]]], number: int) -> str:
    return f"line {rows[number][0]:,}"


def _wrong(texts: Sequence[str], answers: Sequence[int | None]) -> str:
    """The first answer that is none, and how many there are."""
    wrong = [text for text, answer in zip(texts, answers, strict=True) if answer is None]
    return f"{wrong[0][:40]!r}" + (f" ({len(wrong):,} such rows)" if len(wrong) > 1 else "")


def _repeated(ids: Sequence[str], lines: Sequence[int]) -> str:
    """The first id that stands there again, and how many such rows there are."""
    seen: dict[str, int] = {}
    again = [(line, name) for line, name in zip(lines, ids, strict=True) if seen.setdefault(name, line) != line]
    line, name = again[0]
    more = f" ({len(again):,} such rows)" if len(again) > 1 else ""
    return f"line {line:,} has {ID} {name!r}, which stands on line {seen[name]:,} already{more}"


def joined(submissions: Sequence[Submission]) -> IntArray:
    """(M, N) answers of all files, each row of the first file in every column.

    Raises:
        LayoutError: Two files do not answer the same photos.
    """
    first = submissions[0]
    for other in submissions[1:]:
        missing, surplus = differences(first.ids, other.ids)
        if missing or surplus:
            gaps = [f"{len(missing):,} of its ids are missing, e.g. {examples(missing)}"] if missing else []
            gaps += [f"{len(surplus):,} ids are not in it, e.g. {examples(surplus)}"] if surplus else []
            raise LayoutError(
                f"{other.file}: does not answer the photos of {first.file}: {'; '.join(gaps)}; "
                "give submissions for one template"
            )
    return np.stack([submission.in_order_of(first.ids) for submission in submissions])


def differences(wanted: Sequence[str], got: Sequence[str]) -> tuple[list[str], list[str]]:
    """What of ``wanted`` is missing in ``got``, and what is there besides, each in its own order."""
    here, there = set(wanted), set(got)
    return [name for name in wanted if name not in there], [name for name in got if name not in here]


def template_ids(place: Path) -> tuple[str, ...]:
    """The ids that a submission must answer, in order, from a CSV or a competition folder with ``eval/info.csv``.

    Raises:
        LayoutError: There is no such list, it lacks its column or holds an id twice.
    """
    if place.is_dir():
        if not (ids := template(place)):
            raise LayoutError(f"{place}: has no eval/info.csv; --template takes that file or the competition's folder")
        return ids
    ids = tuple(map(str, read_table(place, [ID])[ID]))
    for name, count in Counter(ids).items():
        if count > 1:
            raise LayoutError(f"{place}: {ID} {name!r} is listed {count} times")
    return ids
