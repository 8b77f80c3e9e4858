"""How long commands take from the shell: help, the report and the vote on three 5-fold runs.

    python -m benchmarks.startup

The runs are made up (three heads, 5 folds, 1,960 photos, 420 to predict); numbers are medians of wall times.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.valid import write_run
from heads.registry import LABELS
from pipeline.store import Store

PEOPLE, FOLDS, EVAL, ROUNDS = 980, 5, 420, 7
PIPE = [sys.executable, "-c", "from pipeline.cli import main; main()"]
TARGETS = {"--help": 0.3, "oof-report": 1.5, "ensemble": 1.5}  # seconds


def seconds(*command: str) -> list[float]:
    """Wall times of one command, start of Python included, without the first, which fills caches."""
    times = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        subprocess.run([*PIPE, *command], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return times[1:]


def main() -> None:
    """Make runs, run commands, print a line each."""
    with tempfile.TemporaryDirectory() as folder:
        for head in LABELS:
            write_run(Store(Path(folder)).run(head.name), head, people=PEOPLE, n_folds=FOLDS, n_eval=EVAL)
        for command, most in TARGETS.items():
            flags = [] if command == "--help" else ["--artifacts", folder]
            times = seconds(command, *flags)
            median = statistics.median(times)
            print(f"pipe {command:<12} {median:6.3f} s, {min(times):.3f}-{max(times):.3f}; at most {most} s is asked")


if __name__ == "__main__":
    main()
