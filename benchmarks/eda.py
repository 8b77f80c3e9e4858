"""How long a look at the data takes, by the clock and of the processor; photos are soft noise, 384 x 512 JPEGs.

The processor's seconds count all threads, so on a busy machine they tell more than the clock.

    python -m benchmarks.eda --people 2857 --folder FOLDER
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.competition import SHOTS
from pipeline.config import TrainConfig
from pipeline.eda.alike import near_pairs
from pipeline.eda.explore import explore
from pipeline.eda.looking import look_closely
from pipeline.eda.page import write_report
from pipeline.eda.space import features, principal_axes, projected
from pipeline.files import write_csv
from pipeline.folds import make_folds
from pipeline.layouts import load_dataset, survey_of


def draw(root: Path, people: int) -> None:
    """Write so many people of seven photos each, unless the folder is there."""
    if root.exists():
        return
    rng = np.random.default_rng(0)
    rows = []
    for number in range(people):
        gender, age = rng.choice(["male", "female"]), rng.integers(18, 75)
        name = f"{number:06}_{gender}_Asian_{age}"
        rows.append([f"{number:06}", gender, "Asian", age, name])
        folder = root / "train" / "images" / name
        folder.mkdir(parents=True)
        for shot in SHOTS:
            small = Image.fromarray(rng.integers(0, 256, (32, 24, 3), dtype=np.uint8))
            small.resize((384, 512), Image.Resampling.BILINEAR).save(folder / f"{shot}.jpg", quality=90)
    write_csv(root / "train" / "train.csv", ["id", "gender", "race", "age", "path"], rows)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the block took."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    print(f"{what:<12} {time.perf_counter() - wall:7.1f} s, of the processor {time.process_time() - processor:7.1f} s")


def main() -> None:
    """Measure each part by itself, then the whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=2857)
    parser.add_argument("--folder", type=Path, required=True, help="where photos are drawn; those there are used")
    parser.add_argument("--whole", action="store_true", help="the whole only")
    given = parser.parse_args()
    root = given.folder / f"people-{given.people}"
    draw(root, given.people)
    if not given.whole:
        with timed("survey"):
            files = survey_of(root).files
        samples = load_dataset(root).samples
        with timed("folds"):
            make_folds(samples, 5, 0)
        with timed("reading"):
            small = look_closely(files, lambda done, total: None).small
        with timed("components"):
            points = features(small)
            projected(points, principal_axes(points))
        with timed("pairs"):
            near_pairs(small, np.unique(samples.persons, return_inverse=True)[1], len(small))
    with timed("whole"):
        report, seen = explore(root, TrainConfig())
    with timed("page"):
        size = write_report(given.folder / "eda.html", report, seen)
    print(f"{len(seen.ids):,} photos, page of {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
