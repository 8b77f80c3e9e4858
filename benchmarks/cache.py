"""How fast the cache of resized photos is built, opened again, and built after one photo has changed.

Without ``--data``, noise is drawn: 384 x 512 JPEGs, in a temporary folder, where the cache goes too.

    python -m benchmarks.cache --photos 2000 --size 128
    python -m benchmarks.cache --data FOLDER
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.cache import PhotoCache
from pipeline.contents import SETTLED
from pipeline.layouts import load_dataset


def draw(folder: Path, number: int) -> list[Path]:
    """Soft noise as 384 x 512 JPEGs, about as large as photographs of this size."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{index}.jpg" for index in range(number)]
    for path in paths:
        small = Image.fromarray(rng.integers(0, 256, (64, 48, 3), dtype=np.uint8))
        small.resize((384, 512), Image.Resampling.BICUBIC).save(path, quality=90)
    return paths


def opening(cache: PhotoCache, paths: list[Path], size: int, what: str) -> None:
    """Measure one command's way to its photos, and print it."""
    start = time.perf_counter()
    content = cache.content(paths)
    looked = time.perf_counter()
    with cache.opened(paths, content, size, "reading photos") as kept:
        n_bytes = kept.file.stat().st_size
    end = time.perf_counter()
    rest = end - looked
    print(
        f"{what:<28} {end - start:7.2f} s: fingerprint {looked - start:6.2f} s, cache {rest:6.2f} s "
        f"({len(paths) / rest:8.0f} photos/s, {n_bytes / rest / 2**20:6.0f} MiB/s)"
    )


def main() -> None:
    """Measure and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--size", type=int, default=128)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = list(load_dataset(given.data).samples.paths) if given.data else draw(Path(folder), given.photos)
        last = Path(folder) / f"last{paths[-1].suffix}"
        paths[-1] = Path(shutil.copy(paths[-1], last))
        time.sleep(SETTLED + 1)  # what changed a moment ago is not remembered
        cache = PhotoCache(Path(folder) / "cache", limit=2**40)
        print(f"{len(paths)} photos, {given.size} px")
        opening(cache, paths, given.size, "first command, builds")
        opening(cache, paths, given.size, "second command")
        shutil.copy(paths[0], last)
        opening(cache, paths, given.size, "after one photo has changed")


if __name__ == "__main__":
    main()
