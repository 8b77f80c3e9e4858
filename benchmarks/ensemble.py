"""How long votes and weights take over members and rows that lie on disk, and how much memory.

Writes predictions of 18 classes into a new folder, then reads all their bytes (from the disk, and again), and lets the
members vote, each in a process of its own whose highest memory is taken. "times read" compares with the first reading.

    python -m benchmarks.ensemble --folder /tmp/ensemble --members 100 --rows 1000000
    python -m benchmarks.ensemble --folder /tmp/ensemble --sweep --csv ensemble.csv --plot ensemble.png
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from ensemble.chain import HeadChoices, HeadMembers, vote_on_head
from ensemble.members import Members
from ensemble.predictions import Predictions
from heads.registry import JOINT
from pipeline.members import head_members
from pipeline.schema import RunInfo
from pipeline.store import Run

FOLDS, CLASSES = 5, len(JOINT.classes)
ROW = CLASSES * 8 + 2 * 8 + 4 * 9  # bytes: probabilities, fold and target, an id of nine letters
SWEEP = [(10, 12_600), (60, 12_600), (10, 100_000), (20, 100_000), (40, 100_000), (20, 50_000), (20, 200_000)]
COLUMNS = ["members", "rows", "task", "seconds", "times_read", "peak_mib"]


def runs_in(folder: Path, members: int) -> list[Run]:
    """The members' runs."""
    return [Run(folder / f"m{number:03}") for number in range(members)]


def write_members(folder: Path, members: int, rows: int) -> None:
    """Runs of members that know more or less of the same rows."""
    rng = np.random.default_rng(0)
    ids, folds = np.asarray([f"{row:09}" for row in range(rows)]), np.arange(rows) % FOLDS
    targets = rng.integers(CLASSES, size=rows)
    shared = rng.normal(size=(rows, CLASSES), scale=1.5)  # errors that members have in common
    shared[np.arange(rows), targets] += 2
    for run in runs_in(folder, members):
        odds = np.exp(rng.uniform(0.5, 1.5) * shared + rng.normal(size=(rows, CLASSES)))
        probs = odds / odds.sum(axis=1, keepdims=True)
        run.save_predictions(JOINT.name, "oof", "identity", Predictions(ids, JOINT.classes, probs, folds, targets))


def open_members(runs: list[Run]) -> Members:
    """The members as `pipe ensemble` opens them: checksums compared, values checked, aligned."""
    infos = {run.name: cast(RunInfo, {"classes": {JOINT.name: JOINT.classes}}) for run in runs}
    return Members.align(head_members(runs, infos, JOINT, "oof", ["identity"]), [run.name for run in runs])


def read_bytes(runs: list[Run]) -> None:
    """Every byte of every file, and nothing else."""
    buffer = bytearray(2**22)
    for run in runs:
        for file in run.folder.glob("*.npz"):
            with file.open("rb", buffering=0) as stream:
                while stream.readinto(buffer):
                    pass


def head_of(runs: list[Run]) -> HeadMembers:
    """All runs as members of one head; seven rows are of one person."""
    members = open_members(runs)
    persons = np.char.mod(
        "%07d", np.arange(len(members.ids)) // (7 * FOLDS) * FOLDS + np.arange(len(members.ids)) % FOLDS
    )
    return HeadMembers(JOINT.name, tuple(run.name for run in runs), ("identity",), members, None, persons)


def vote(runs: list[Run], **choices: str) -> None:
    """One head's vote, cross-fitted beside in-sample, and without each member."""
    vote_on_head(head_of(runs), HeadChoices(view_weights="equal", **choices))


TASKS: dict[str, Callable[[list[Run]], object]] = {
    "read": read_bytes,
    "read again": read_bytes,
    "check": lambda runs: open_members(runs),
    "soft vote": lambda runs: vote(runs, calibration="none", weights="uniform"),
    "hard vote": lambda runs: vote(runs, strategy="hard", calibration="none", weights="uniform"),
    "f1 weights": lambda runs: vote(runs, calibration="none", weights="f1"),
    "simplex weights": lambda runs: vote(runs, calibration="none", weights="simplex"),
    "all by what pays": lambda runs: vote(runs),
}


def forget(runs: list[Run]) -> None:
    """Ask the system to drop what it keeps of the files, so that they are read from the disk; Linux does."""
    for run in runs:
        for file in run.folder.glob("*.npz"):
            with file.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _measured(task: str, runs: list[Run], answer: Any) -> None:
    start = time.perf_counter()
    TASKS[task](runs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer.send((time.perf_counter() - start, peak / (2**20 if sys.platform == "darwin" else 2**10)))


def measure(task: str, runs: list[Run]) -> tuple[float, float]:
    """Seconds after imports, and highest memory in MiB, of a task in a process of its own."""
    if task != "read again":
        forget(runs)
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(task, runs, theirs))
    process.start()
    theirs.close()
    try:
        seconds, peak = mine.recv()
    except EOFError:
        sys.exit(f"{task} failed; see above")
    process.join()
    return seconds, peak


def table(folder: Path, members: int, rows: int) -> list[list[Any]]:
    """One row a task, printed as it is measured; the files are removed by the caller."""
    writer = multiprocessing.get_context("spawn").Process(target=write_members, args=(folder, members, rows))
    writer.start()  # apart, since a process's highest memory counts that of the one which started it
    writer.join()
    runs = runs_in(folder, members)
    found: list[list[Any]] = []
    print(f"{members} members x {rows:,} rows x {CLASSES} classes, {members * rows * ROW / 1e9:.1f} GB", flush=True)
    for task in TASKS:
        seconds, peak = measure(task, runs)
        found.append([members, rows, task, round(seconds, 3), round(seconds / (found[0][3] if found else seconds), 2)])
        found[-1].append(round(peak))
        print(f"  {task:<22} {seconds:8.2f} s {found[-1][4]:6.2f} times read {peak:7.0f} MiB", flush=True)
    return found


def plot(found: list[list[Any]], file: Path) -> None:
    """Seconds and memory, a line a task: above over members of equally many rows, below over rows of equally many."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 8))
    for line, (varied, fixed) in zip(axes, ((0, 1), (1, 0)), strict=True):
        sizes = {(row[fixed], row[varied]) for row in found}
        most = max({size for size, _ in sizes}, key=lambda size: sum(other == size for other, _ in sizes))
        for axis, column, label in zip(line, (3, 5), ("seconds", "highest memory, MiB"), strict=True):
            for task in TASKS:
                points = sorted((row[varied], row[column]) for row in found if row[2] == task and row[fixed] == most)
                axis.plot(*zip(*points, strict=True), "o-", label=task)
            ticks = sorted({row[varied] for row in found if row[fixed] == most})
            axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
            axis.set(xlabel=f"{COLUMNS[varied]}, of {most:,} {COLUMNS[fixed]}", ylabel=label, ylim=(0, None))
    axes[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a folder that does not exist yet")
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--sweep", action="store_true", help="several numbers of members and rows")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--keep", action="store_true", help="leave the folder there")
    given = parser.parse_args()
    sizes = SWEEP if given.sweep else [(given.members, given.rows)]
    given.folder.mkdir(parents=True)  # fails where there is something: it is removed at the end
    try:
        need, free = max(m * n for m, n in sizes) * ROW * 1.05, shutil.disk_usage(given.folder).free
        if need > free:
            sys.exit(f"{need / 1e9:.1f} GB are needed in {given.folder}, {free / 1e9:.1f} GB are free")
        found = []
        for members, rows in sizes:
            found += table(given.folder / f"{members}x{rows}", members, rows)
            if not given.keep:
                shutil.rmtree(given.folder / f"{members}x{rows}")
    finally:
        if not given.keep:
            shutil.rmtree(given.folder)
    if given.csv:
        with given.csv.open("w", newline="") as stream:
            csv.writer(stream).writerows([COLUMNS, *found])
    if given.plot:
        plot(found, given.plot)


if __name__ == "__main__":
    main()
