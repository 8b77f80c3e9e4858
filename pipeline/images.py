"""Photos from disk to batches: read upright, resized once, augmented with randomness that belongs to the sample.

S side of the network's input in pixels.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import PIL
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from heads.base import FloatArray, IntArray
from pipeline.augment import Pixels
from pipeline.augmentation import Augmentation, Augmenter
from pipeline.errors import LayoutError
from pipeline.opening import decoded, picture_bytes

# what pixels depend on beside the photo and the size; the number counts changes of the code below
READER = f"1, Pillow {PIL.__version__}, OpenCV {cv2.__version__}"
CHUNK = 256
PREFETCHED = 2  # batches that a worker holds ready
LOOK = 2  # seconds between two looks whether to stop, while workers give nothing
SILENCE = 300  # seconds without a batch after which workers are given up: a full shared memory loses batches silently
# (B, 3, S, S) uint8 photos, (B, M, H) values of the M photos that each is made of, (B, M, H) how much each counts
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "identity": lambda images: images,
    "hflip": lambda images: images.flip(3),
}


def read_photo(path: Path) -> Pixels:
    """The photo as upright 8-bit RGB, (height, width, 3), whatever its mode, depth or orientation tag.

    Raises:
        LayoutError: The file is missing, no image, too large, damaged or truncated.
    """
    return _read(path)[1]


def _read(path: Path) -> tuple[bytes, Pixels]:
    """The SHA-256 of the file, and the photo that the very same bytes hold."""
    try:
        content = picture_bytes(path)
        return hashlib.sha256(content).digest(), upright_rgb(decoded(content))
    except LayoutError as error:
        raise LayoutError(f"{path} {error}") from error


def upright_rgb(photo: Image.Image) -> Pixels:
    """The pixels of a photo, upright, 8 bits, RGB.

    Raises:
        LayoutError: They cannot be had.
    """
    try:
        upright = ImageOps.exif_transpose(photo)
        if upright.mode.startswith("I") or upright.mode == "F":  # 16 bits a pixel: Pillow would clip, not scale
            deep = np.asarray(upright, dtype=np.float64)
            is_deep = upright.mode.startswith("I;16") or deep.max(initial=0) > 255
            upright = Image.fromarray((deep / (257 if is_deep else 1)).clip(0, 255).astype(np.uint8))
        if upright.mode == "P" and "transparency" in upright.info:
            upright = upright.convert("RGBA")
        return np.asarray(upright.convert("RGB"))
    except Exception as error:  # on damaged metadata, Pillow raises nearly anything
        raise LayoutError(f"cannot be read: {error or type(error).__name__}") from error


def read_resized(path: Path, size: int) -> Pixels:
    """The photo squeezed to (S, S, 3): nothing is cut off, at training or at test time."""
    return read_hashed(path, size)[1]


def read_hashed(path: Path, size: int) -> tuple[bytes, Pixels]:
    """The SHA-256 of the photo's file, and the photo squeezed to (S, S, 3)."""
    digest, photo = _read(path)
    return digest, squeezed(photo, size)


def squeezed(photo: Pixels, size: int) -> Pixels:
    """The pixels brought to (S, S, 3)."""
    return cast(Pixels, cv2.resize(photo, (size, size), interpolation=cv2.INTER_AREA))


def read_all(paths: Sequence[Path], size: int) -> Iterator[tuple[bytes, Pixels]]:
    """The photos in order as `read_hashed` gives them, read by as many threads as there are cores."""
    from joblib import Parallel, delayed

    cv2.setNumThreads(1)
    reader = Parallel(n_jobs=-1, prefer="threads")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oddities of metadata; what matters is whether it decodes
        for start in range(0, len(paths), CHUNK):  # a chunk is written before the next is read
            yield from reader(delayed(read_hashed)(path, size) for path in paths[start : start + CHUNK])


def stacked(paths: Sequence[Path], size: int) -> Pixels:
    """The (N, S, S, 3) photos in memory, for when they are few."""
    photos = [photo for _, photo in read_all(paths, size)]
    return np.stack(photos) if photos else np.empty((0, size, size, 3), dtype=np.uint8)


def stable_number(text: str) -> int:
    """The same number for the same text in every process, which ``hash`` is not."""
    return zlib.crc32(text.encode())


@dataclass(frozen=True, slots=True)
class Joined:
    """Photos of two arrays as if the second stood behind the first."""

    first: Pixels
    second: Pixels

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, S, S, 3)."""
        return len(self), *self.first.shape[1:]

    def __getitem__(self, rows: IntArray) -> Pixels:
        """The photos of these row numbers."""
        found = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        behind = rows >= len(self.first)
        found[~behind], found[behind] = self.first[rows[~behind]], self.second[rows[behind] - len(self.first)]
        return found


def one_behind_another(parts: Iterable[Pixels]) -> Pixels:
    """Photos of one or more arrays as if they were one."""
    joined, *others = parts
    for part in others:
        joined = cast(Pixels, Joined(joined, part))
    return joined


def _packed(photos: Any) -> Any:
    """What stands for photos on the way to a worker: of those that lie in a file, the file's name."""
    if isinstance(photos, Joined):
        return Joined(_packed(photos.first), _packed(photos.second))
    return Path(photos.filename) if isinstance(photos, np.memmap) and photos.filename is not None else photos


def _unpacked(photos: Any) -> Any:
    """The photos again."""
    if isinstance(photos, Joined):
        return Joined(_unpacked(photos.first), _unpacked(photos.second))
    return np.load(photos, mmap_mode="r", allow_pickle=False) if isinstance(photos, Path) else photos


class PhotoSet(Dataset[Batch]):
    """Batches of photos, fetched by (epoch, row numbers); augmented when an augmentation is given."""

    def __init__(
        self,
        photos: Pixels,
        values: FloatArray,
        augmentation: Augmentation | None = None,
        *,
        weights: FloatArray | None = None,
    ) -> None:
        """Wrap (N, S, S, 3) photos, their (N, H) values, and how much they count (N, H), None = all alike."""
        self.photos, self.values, self.augmentation, self.weights = photos, values, augmentation, weights
        self.augmenter = Augmenter(augmentation, len(values)) if augmentation else None

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process is sent: of photos that lie in a file, only the file's name."""
        return self.__dict__ | {"photos": _packed(self.photos)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the photos' file again."""
        self.__dict__.update(state | {"photos": _unpacked(state["photos"])})

    def __getitem__(self, step: tuple[int, IntArray]) -> Batch:
        """The batch of one step; its images are laid out channels last as they come."""
        epoch, (times, rows) = step[0], np.divmod(step[1], len(self.photos))  # see `training_steps`
        images = np.asarray(self.photos[rows])  # a copy: rows are picked by number
        made_of, parts = rows[:, None], np.ones((len(rows), 1))
        if self.augmenter:
            made_of, parts = self.augmenter(self.photos, images, epoch, rows, times)
        values = torch.from_numpy(self.values[made_of]).float()
        weights = 1.0 if self.weights is None else self.weights[made_of]
        shares = torch.from_numpy(np.broadcast_to(parts[:, :, None] * weights, values.shape).copy()).float()
        return torch.from_numpy(images).permute(0, 3, 1, 2), values, shares


def load_steps(
    photos: PhotoSet,
    steps: Sequence[tuple[int, IntArray]],
    workers: int,
    *,
    pin: bool = False,
    heed: Callable[[], None] = lambda: None,
) -> Iterator[Batch]:
    """The batches of ``steps``, in order, prepared by ``workers`` processes.

    Args:
        photos: Where they come from.
        steps: (epoch, row numbers) each.
        workers: How many processes; 0 = this one.
        pin: Whether batches lie in memory from which a GPU can copy while it works.
        heed: Called every few seconds while workers give nothing; it may raise, to stop.

    Raises:
        RuntimeError: Workers died, or gave nothing for minutes.
    """
    loader: DataLoader[Any] = DataLoader(
        photos,
        batch_size=None,
        sampler=cast(Any, list(steps)),
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=PREFETCHED if workers else None,
        timeout=LOOK if workers else 0,
        worker_init_fn=_quiet_worker,
        generator=torch.Generator(),  # else every loader draws from the random numbers that the network uses
    )
    batches, last = iter(loader), time.monotonic()
    try:
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if "timed out" not in str(error) or time.monotonic() - last > SILENCE:
                    raise
                batch = None
            if batch is None:
                heed()  # outside of the handler: an exception with a context would keep the workers alive
                continue
            yield batch
            last = time.monotonic()
    finally:
        del batches  # ends the workers now, not when the last traceback is forgotten


def _quiet_worker(_: int) -> None:
    """One thread a worker, out of the group that Ctrl-C and SIGTERM may reach; the main process heeds those."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # SIGTERM itself stays: it is how the main process ends a worker that hangs
    cv2.setNumThreads(0)
