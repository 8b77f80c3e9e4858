"""Photos that are nearly the same picture: a perceptual hash finds candidates, the pixels decide.

N photos, S side of the small ones in pixels, B pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heads.base import FloatArray, IntArray
from pipeline.augment import Pixels
from pipeline.eda.looking import blocks, greys

BITS = 6  # of 64 that may differ; re-coded, resized, blurred and moderately lighter copies differ in fewer
LIKENESS = 0.95  # correlation of brightness above which two pictures count as one; different people reach 0.91
ROWS = 256  # photos that are compared with all others at once
PAIRS = 4096  # pairs whose pixels are compared at once
MOST = 10_000  # pairs; more are not looked for
LOW = 8  # frequencies in each direction


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of photos that are nearly the same picture, most alike first.

    Attributes:
        first: (B,) row numbers.
        second: (B,) row numbers, each above its first.
        bits: (B,) bits of the hash that differ.
        likeness: (B,) correlation of brightness, at most 1.
        complete: Whether these are all.
    """

    first: IntArray
    second: IntArray
    bits: IntArray
    likeness: FloatArray
    complete: bool


def perceptual_hashes(small: Pixels) -> np.typing.NDArray[np.uint64]:
    """The (N,) 64-bit hashes: for each of the 8 x 8 lowest frequencies, whether it is above their median.

    pHash, Zauner 2010, https://www.phash.org/docs/pubs/thesis_zauner.pdf, section 3.2.1, from the discrete cosine
    transform of brightness.
    """
    side = small.shape[1]
    angles = np.pi / side * (np.arange(side) + 0.5) * np.arange(LOW)[:, None]
    cosines = np.cos(angles).astype(np.float32) * np.sqrt(2 / side)
    cosines[0] /= np.sqrt(2)
    hashes = np.empty(len(small), dtype=np.uint64)
    for rows in blocks(len(small)):
        waves = (cosines @ greys(small[rows]) @ cosines.T).reshape(-1, LOW * LOW)
        middle = np.median(waves[:, 1:], axis=1, keepdims=True)  # the first is brightness itself
        hashes[rows] = np.packbits(waves > middle, axis=1).view(np.uint64).ravel()
    return hashes


def near_pairs(small: Pixels, owners: IntArray, searched: int) -> Pairs:
    """Pairs of nearly the same picture that have different owners; all are compared, a few rows at a time.

    Args:
        small: (N, S, S, 3) photos.
        owners: (N,) who is on each.
        searched: Pairs begin with one of so many first photos; pairs among the others are not looked for.
    """
    hashes, details = perceptual_hashes(small), _details(small)
    found: list[tuple[IntArray, IntArray, IntArray, FloatArray]] = []
    for rows in blocks(searched, ROWS):
        bits = np.bitwise_count(hashes[rows, None] ^ hashes[None, rows.start :])
        here, there = np.nonzero(bits <= BITS)
        later = there > here
        first, second, apart = here[later] + rows.start, there[later] + rows.start, bits[here[later], there[later]]
        strangers = owners[first] != owners[second]
        first, second, apart = first[strangers], second[strangers], apart[strangers]
        for part in blocks(len(first), PAIRS):
            likeness = np.einsum("ij,ij->i", details[first[part]], details[second[part]])
            same = likeness >= LIKENESS
            found.append((first[part][same], second[part][same], apart[part][same].astype(np.int64), likeness[same]))
            if sum(len(pairs[0]) for pairs in found) >= MOST:
                return _sorted(found, complete=False)
    return _sorted(found, complete=True)


def _details(small: Pixels) -> FloatArray:
    """(N, S * S / 4) brightness, half as fine, with mean 0 and length 1, so that products are correlations."""
    half = small.shape[1] // 2
    found = np.empty((len(small), half * half), dtype=np.float32)
    for rows in blocks(len(small)):
        grey = greys(small[rows]).reshape(-1, half, 2, half, 2).mean(axis=(2, 4)).reshape(-1, half * half)
        grey -= grey.mean(axis=1, keepdims=True)
        found[rows] = grey / np.maximum(np.linalg.norm(grey, axis=1, keepdims=True), 1e-3)
    return found


def _sorted(found: list[tuple[IntArray, IntArray, IntArray, FloatArray]], *, complete: bool) -> Pairs:
    if not found:
        none = np.empty(0, dtype=np.int64)
        return Pairs(none, none, none, np.empty(0), complete)
    first, second, bits, likeness = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((second, first, -likeness))
    return Pairs(first[order], second[order], bits[order], likeness[order].astype(np.float64), complete)
