"""Reads every photo once, keeps it at a small size, and takes from it what the data check needs as well.

N photos, S side of the small ones in pixels.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed

from heads.base import FloatArray, IntArray
from pipeline.augment import Pixels
from pipeline.errors import LayoutError
from pipeline.images import squeezed, upright_rgb
from pipeline.opening import glanced, picture_bytes
from pipeline.pictures import Picture

BoolArray = npt.NDArray[np.bool_]

SIDE = 48  # S; enough for mean faces, fingerprints and colours
LEAST = 2 * SIDE  # pixels of a side that quick decoding keeps
BLOCK = 1024  # photos that are taken at once where they become floats
LUMA = np.asarray([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Looked:
    """What reading N files gave.

    Attributes:
        pictures: N results for the data check.
        small: (N, S, S, 3) the photos squeezed; black where one cannot be read.
        readable: (N,) whether it can.
    """

    pictures: list[Picture]
    small: Pixels
    readable: BoolArray


def look_closely(files: Sequence[Path], progress: Callable[[int, int], None]) -> Looked:
    """The photos of the files, in order, read by as many threads as there are cores.

    Args:
        files: N files.
        progress: Told after each how many are done, and of how many.
    """
    cv2.setNumThreads(1)
    pictures: list[Picture] = []
    small = np.zeros((len(files), SIDE, SIDE, 3), dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oddities of metadata; what matters is whether it decodes
        reader = Parallel(n_jobs=-1, prefer="threads", return_as="generator", batch_size=8, pre_dispatch="4*n_jobs")
        for row, (picture, photo) in enumerate(reader(delayed(_look)(file) for file in files)):
            pictures.append(picture)
            if photo is not None:
                small[row] = photo
            progress(row + 1, len(files))
    return Looked(pictures, small, np.asarray([not picture.fault for picture in pictures], dtype=np.bool_))


def _look(file: Path) -> tuple[Picture, Pixels | None]:
    try:
        content = picture_bytes(file)
        size, photo = glanced(content, LEAST)
        fingerprint = hashlib.blake2b(content, digest_size=16).digest()
        return Picture("", size, fingerprint), squeezed(upright_rgb(photo), SIDE)
    except LayoutError as fault:
        return Picture(str(fault)), None


def blocks(n: int, size: int = BLOCK) -> Iterator[slice]:
    """Slices that cover N rows."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def greys(small: Pixels) -> FloatArray:
    """The (N, S, S) brightness of pixels, 0 to 255."""
    return np.asarray(small.astype(np.float32) @ LUMA)


def lights(small: Pixels) -> tuple[FloatArray, FloatArray]:
    """(N,) mean brightness and (N,) contrast, the standard deviation of brightness; both in 0 to 1."""
    means, spreads = np.empty(len(small)), np.empty(len(small))
    for rows in blocks(len(small)):
        grey = greys(small[rows]) / 255
        means[rows], spreads[rows] = grey.mean(axis=(1, 2)), grey.std(axis=(1, 2))
    return means, spreads


def mean_faces(small: Pixels, classes: IntArray, n_classes: int) -> FloatArray:
    """The (C, S, S, 3) mean photo of each class, 0 to 255; NaN for a class without photos.

    Args:
        small: (N, S, S, 3) photos.
        classes: (N,) class of each; -1 = none.
        n_classes: C.
    """
    means = np.full((n_classes, *small.shape[1:]), np.nan)
    for index in range(n_classes):
        rows = np.flatnonzero(classes == index)
        if len(rows):
            total = sum(small[rows[part]].sum(axis=0, dtype=np.int64) for part in blocks(len(rows)))
            means[index] = np.asarray(total) / len(rows)
    return means
