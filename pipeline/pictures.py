"""Opens every picture once: whether it decodes to the last pixel, how large it is, and a fingerprint of its bytes."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from joblib import Parallel, delayed
from PIL import Image, UnidentifiedImageError


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
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        looks = Parallel(n_jobs=-1, prefer="threads", return_as="generator", batch_size=8, pre_dispatch="4*n_jobs")
        for picture in looks(delayed(_look)(file) for file in files):
            pictures.append(picture)
            progress(len(pictures), len(files))
    return pictures


def _look(file: Path) -> Picture:
    try:
        content = file.read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            return Picture("", picture.size, hashlib.blake2b(content, digest_size=16).digest())
    except UnidentifiedImageError:
        return Picture("is not an image" if content else "is empty")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as reason:
        return Picture(f"is too large to be decoded safely: {reason}")
    except Exception as reason:  # on damaged bytes, Pillow's decoders raise nearly anything
        return Picture(f"cannot be read: {getattr(reason, 'strerror', None) or reason}")
