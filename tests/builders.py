"""Tiny data folders for tests: different noise pictures in either layout."""

from __future__ import annotations

import csv
import struct
import zlib
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.competition import SHOTS
from pipeline.images import Batch

SIZE = (32, 40)  # width, height
KINDS = tuple(product(("female", "male"), (23, 41, 60)))  # person n is of kind n % 6


def write_picture(file: Path, rng: np.random.Generator, *, size: tuple[int, int] = SIZE) -> None:
    """Write a picture of noise, different at every call."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(file)


def batch_of(pixels: Tensor, values: Tensor) -> Batch:
    """A batch of photos that are not mixed."""
    return pixels, values[:, None], torch.ones_like(values[:, None])


def claiming(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes whose header claims this size, its data being valid but short."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    pixels = zlib.compress(bytes(2_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def write_csv(file: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV, making its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def write_people(
    root: Path, folders: dict[str, str], rng: np.random.Generator, *, suffix: str = ".jpg", size: tuple[int, int] = SIZE
) -> None:
    """Write ``train/`` with the seven shots of people given as folder name -> id."""
    for name in folders:
        for shot in SHOTS:
            write_picture(root / "train" / "images" / name / f"{shot}{suffix}", rng, size=size)
    rows = [(number, *name.rsplit("_", 3)[1:], name) for name, number in folders.items()]
    write_csv(root / "train" / "train.csv", ("id", "gender", "race", "age", "path"), rows)


def write_competition(
    root: Path, *, people: int = 18, eval_photos: int = 6, size: tuple[int, int] = SIZE, seed: int = 0
) -> None:
    """Write a faultless competition folder; six people in a row cover every gender and age band."""
    rng = np.random.default_rng(seed)
    kinds = [KINDS[number % len(KINDS)] for number in range(people)]
    ids = [f"{number + 1:06}" for number in range(people)]
    folders = {f"{id_}_{gender}_Asian_{age}": id_ for id_, (gender, age) in zip(ids, kinds, strict=True)}
    write_people(root, folders, rng, size=size)
    if eval_photos:
        names = [f"{rng.bytes(8).hex()}.jpg" for _ in range(eval_photos)]
        for name in names:
            write_picture(root / "eval" / "images" / name, rng, size=size)
        write_csv(root / "eval" / "info.csv", ("ImageID", "ans"), [(name, 0) for name in names])


def write_table(root: Path, *, people: int = 12, size: tuple[int, int] = SIZE, seed: int = 0) -> None:
    """Write ``labels.csv`` and ``images/``: two photos a person, every label given but some ages."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, str, str, str, object]] = []
    for number in range(people):
        gender, age = KINDS[number % len(KINDS)]
        for mask in ("wear", "normal"):
            name = f"p{number:02}_{mask}.png"
            write_picture(root / "images" / name, rng, size=size)
            rows.append((name, f"p{number:02}", mask, gender, "" if number % 4 == 3 else age))
    write_csv(root / "labels.csv", ("path", "person", "mask", "gender", "age"), rows)
