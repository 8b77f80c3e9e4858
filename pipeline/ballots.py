"""A vote over other people's submissions: files in, one file out, and how much the files differ.

Legend: N rows, M files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.ballots import (
    BALLOTS,
    SETTLED_BY,
    Outcome,
    agreement,
    all_differ,
    correlation,
    effective_number,
    without_majority,
)
from ensemble.predictions import Mask
from heads.base import FloatArray, IntArray
from heads.registry import JOINT
from pipeline.errors import ConfigError
from pipeline.files import write_csv
from pipeline.submissions import COLUMNS, N_CLASSES, SIZES, joined, read_submission
from pipeline.terminal import fitted, shortened

STRATEGIES = ("hard", "weighted")
MOST_SHOWN = 12  # files whose agreement fits 80 columns
SHOWN = 3  # ids of rows that nobody agrees on


@dataclass(frozen=True, slots=True)
class Voted:
    """A finished vote: everything that ``--json`` prints."""

    info: dict[str, Any]


def parse_weights(strategy: str, text: str | None, n_files: int) -> FloatArray:
    """(M,) shares of the ballots: equal in a hard vote, else in proportion to a list of numbers with commas.

    Raises:
        ConfigError: The list is missing, not wanted, of another length, or holds anything but numbers from 0 on.
    """
    if strategy == "hard":
        if text is not None:
            raise ConfigError("--weights goes with --strategy weighted; a hard vote gives every file one ballot")
        return np.full(n_files, 1 / n_files)
    if text is None:
        raise ConfigError("--strategy weighted needs --weights, a number for each file, such as 0.5,0.3,0.2")
    try:
        weights = np.asarray([float(part) for part in text.split(",")])
    except ValueError:
        raise ConfigError(f"--weights takes numbers with commas, such as 0.5,0.3,0.2; got {text!r}") from None
    if len(weights) != n_files:
        raise ConfigError(
            f"--weights holds {len(weights)} numbers for {n_files} files; give one a file, in their order"
        )
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise ConfigError(f"--weights must be 0 or more and not all 0; got {text!r}")
    shares: FloatArray = weights / weights.max()  # first, so that no sum overflows
    shares /= shares.sum()
    return shares


def vote_over(files: Sequence[Path], weights: FloatArray, *, ballots: str, out: Path) -> Voted:
    """Let the answers of M files vote, and write the outcome with the first file's ids in its order.

    Args:
        files: Two or more submissions.
        weights: (M,) shares of the ballots.
        ballots: Key of ``BALLOTS``.
        out: Where the outcome goes; none of ``files``.

    Raises:
        ConfigError: There are fewer than two files, one is given twice, or ``out`` would replace one.
        LayoutError: A file is no submission, or does not answer the same photos.
        ArtifactError: ``out`` cannot be written.
    """
    _require_files(files, out)
    submissions = [read_submission(file) for file in files]
    labels = joined(submissions)
    outcome = BALLOTS[ballots](labels, weights, SIZES)
    ids = submissions[0].ids
    write_csv(out, COLUMNS, zip(ids, outcome.labels.tolist(), strict=True))
    return Voted(
        {
            "ballots": ballots,
            "files": _files(files, weights, labels, outcome),
            "rows": len(ids),
            **_diversity(labels),
            "ties": _ties(outcome),
            "no_majority": _rows(without_majority(labels, weights, N_CLASSES), ids),
            "all_differ": _rows(all_differ(labels), ids),
            "in_no_file": _rows((labels != outcome.labels).all(axis=0), ids),
            "changed_from_first": int((labels[0] != outcome.labels).sum()),
            "mix": np.bincount(outcome.labels, minlength=N_CLASSES).tolist(),
            "out": str(out),
        }
    )


def _require_files(files: Sequence[Path], out: Path) -> None:
    if len(files) < 2:
        raise ConfigError(f"a vote takes two or more files, got {len(files)}")
    for number, file in enumerate(files):
        if any(file.samefile(other) for other in files[:number]):
            raise ConfigError(f"{file} is given twice; to let it count more, use --strategy weighted")
    if not out.exists():
        return
    if not out.is_file():
        raise ConfigError(f"--out {out} is not an ordinary file; give the name of a CSV to write")
    if any(file.samefile(out) for file in files):
        raise ConfigError(f"--out {out} is one of the files that vote; give another name")


def _files(files: Sequence[Path], weights: FloatArray, labels: IntArray, outcome: Outcome) -> list[dict[str, Any]]:
    """A row a file: its share of the ballots, its agreement with the vote, and the file that is nearest to it."""
    same = agreement(labels) - 2 * np.eye(len(labels))  # never nearest to itself
    return [
        {
            "file": str(file),
            "weight": float(weight),
            "agrees_with_vote": float((row == outcome.labels).mean()),
            "nearest": {"number": int(others.argmax()) + 1, "agreement": float(others.max())},
        }
        for file, weight, row, others in zip(files, weights, labels, same, strict=True)
    ]


def _diversity(labels: IntArray) -> dict[str, Any]:
    """How much the files differ, over all rows and where they differ at all."""
    contested = (labels != labels[0]).any(axis=0)
    where = effective_number(correlation(labels[:, contested], N_CLASSES)) if contested.any() else 1.0
    return {
        "agreement": agreement(labels).tolist(),
        "effective_members": effective_number(correlation(labels, N_CLASSES)),
        "contested_rows": int(contested.sum()),
        "effective_members_on_contested": where,
    }


def _ties(outcome: Outcome) -> dict[str, Any]:
    """How many rows were tied, where, and what settled them."""
    names = [part.name for part in JOINT.parts] if len(outcome.settled) > 1 else ["class"]
    counts = [np.bincount(row, minlength=len(SETTLED_BY)).tolist() for row in outcome.settled]
    settled = {
        name: dict(zip(SETTLED_BY[1:], count[1:], strict=True)) for name, count in zip(names, counts, strict=True)
    }
    return {"rows": int(outcome.tied.sum()), "settled_by": settled}


def _rows(wanted: Mask, ids: Sequence[str]) -> dict[str, Any]:
    return {"rows": int(wanted.sum()), "ids": [ids[row] for row in np.flatnonzero(wanted).tolist()]}


def render(voted: Voted) -> str:
    """The vote as text for a terminal of 80 columns."""
    info = voted.info
    kind = "head by head" if info["ballots"] == "head" else "over 18 classes"
    return "\n".join(
        [
            f"vote {kind}: {len(info['files'])} files, {info['rows']:,} rows",
            "",
            f" no  {'file':<40}  weight  with vote  nearest file",
            *(_file_row(number, file) for number, file in enumerate(info["files"], 1)),
            "",
            *_matrix(info["agreement"]),
            "",
            *_difference_rows(info),
            "",
            *_decision_rows(info),
            "",
            f"voted: {shortened(info['out'], 40)} ({info['rows']:,} rows, ids and order of file 1)",
        ]
    )


def _file_row(number: int, file: dict[str, Any]) -> str:
    near = f"{file['nearest']['number']} ({percent(file['nearest']['agreement'])})"
    agrees = percent(file["agrees_with_vote"])
    return f"{number:3}  {fitted(file['file'], 40)}  {file['weight']:6.3f}  {agrees:>9}  {near:>12}"


def _matrix(agreement: Sequence[Sequence[float]]) -> list[str]:
    """Shares of equal rows, file by file; of too many files only where to find them."""
    if len(agreement) > MOST_SHOWN:
        return [f"equal rows of every two of {len(agreement)} files: see --json"]
    lines = ["equal rows in %", "     " + "".join(f"{number:6}" for number in range(1, len(agreement) + 1))]
    for number, row in enumerate(agreement, 1):
        cells = ("-" if other == number else percent(share)[:-1] for other, share in enumerate(row, 1))
        lines.append(f"{number:3}  " + "".join(f"{cell:>6}" for cell in cells))
    return lines


def _difference_rows(info: dict[str, Any]) -> list[str]:
    n = len(info["files"])
    return [
        f"effective number of different files: {info['effective_members']:.2f} of {n} (1 = copies, {n} = unrelated)",
        f"  on the {info['contested_rows']:,} rows where files differ: {info['effective_members_on_contested']:.2f}",
    ]


def _decision_rows(info: dict[str, Any]) -> list[str]:
    """How the rows were decided that were not plain, and how far the outcome is from the first file."""
    lines = [f"ties: {info['ties']['rows']:,} rows"]
    for name, how in info["ties"]["settled_by"].items():
        if any(how.values()):
            lines.append(
                f"  {'settled' if name == 'class' else name}: "
                + ", ".join(f"{count:,} by {rule}" for rule, count in how.items() if count)
            )
    lines += _lone_voice(info["files"])
    texts = {
        "no_majority": "no class over half of the ballots",
        "all_differ": "every file differs from every other",
        "in_no_file": "classes put together that no file gave",
    }
    for key, text in texts.items():
        if (count := info[key]["rows"]) and not (key == "all_differ" and len(info["files"]) == 2):
            lines.append(f"{text}: {count:,} rows{' (all: --json), e.g.' if count > SHOWN else ''}")
            lines += [f"  {shortened(name, 76)}" for name in info[key]["ids"][:SHOWN]]
    changed = info["changed_from_first"]
    lines.append(f"changed: {changed:,} rows differ from file 1" if changed else "changed: none, the vote is file 1")
    return lines


def _lone_voice(files: Sequence[dict[str, Any]]) -> list[str]:
    """Which file, if any, can never be outvoted: one with half of the ballots is safe only as the first."""
    return [
        f"file {number} has {'more than ' * (file['weight'] > 0.5)}half of the ballots: the others cannot outvote it"
        for number, file in enumerate(files, 1)
        if file["weight"] > 0.5 or (number == 1 and file["weight"] == 0.5)
    ]


def percent(share: float) -> str:
    """A share as a percentage that is 100 or 0 only when it is exactly that."""
    shown = share if share in (0, 1) else min(max(share, 0.001), 0.999)
    return f"{shown:.1%}"
