"""How long voting over, checking and comparing submissions of the competition's size takes.

    python -m benchmarks.vote

Five submissions of 12,600 made-up rows; numbers are medians of wall times from the shell, start of Python included.
"""

from __future__ import annotations

import csv
import statistics
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.startup import seconds

ROWS, FILES = 12_600, 5


def main() -> None:
    """Write the files, run the commands, print a line each."""
    rng = np.random.default_rng(0)
    ids = [f"{number:040x}.jpg" for number in rng.permutation(ROWS)]
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / f"{number}.csv") for number in range(FILES)]
        for file in files:
            with open(file, "w", newline="") as stream:
                csv.writer(stream).writerows([("ImageID", "ans"), *zip(ids, rng.integers(18, size=ROWS), strict=True)])
        out = str(Path(folder) / "voted.csv")
        for command in (
            ("vote", *files, "--out", out),
            ("vote", *files, "--per-head", "--out", out),
            ("submission", "check", files[0], "--template", files[1]),
            ("submission", "diff", *files[:2]),
        ):
            name = " ".join(word for word in command if "/" not in word and word not in {"--out", "--template"})
            print(f"pipe {name:<18} {statistics.median(seconds(*command)):6.3f} s")


if __name__ == "__main__":
    main()
