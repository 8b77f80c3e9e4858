"""Opens every picture once: whether it decodes to the last pixel, how large it is, and a fingerprint of its bytes."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from joblib import Parallel, delayed

from pipeline.errors import LayoutError
from pipeline.opening import decoded, picture_bytes


@dataclass(frozen=True, slots=True)
class Picture:
    """What opening one file told: a fault in words, or a size and a fingerprint of its bytes."""

    fault: str = ""
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""


def look_at_all(files: Sequence[Path], progress: Callable[[int, int], None]) -> list[Picture]:
    """The pictures of the files, in order, decoded by as many threads as there are cores."""
    pictures = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oddities of metadata; what matters is whether it decodes
        looks = Parallel(n_jobs=-1, prefer="threads", return_as="generator", batch_size=8, pre_dispatch="4*n_jobs")
        for picture in looks(delayed(_look)(file) for file in files):
            pictures.append(picture)
            progress(len(pictures), len(files))
    return pictures


def _look(file: Path) -> Picture:
    try:
        content = picture_bytes(file)
        return Picture("", decoded(content).size, hashlib.blake2b(content, digest_size=16).digest())
    except LayoutError as fault:
        return Picture(str(fault))
