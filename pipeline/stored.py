"""A large array of an npz that stays on disk and is read in blocks of rows, once its checksum was compared."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ArtifactError
from pipeline.files import MOST_ARRAYS, Arrays, plain_members, read_header, read_member
from pipeline.reading import require_limited

CHUNK = 2**20  # bytes that are checked at a time
LOCAL_HEADER = struct.Struct("<4s22x2H")  # of a zip's member: the lengths of its name and of what else stands there

Floats = npt.NDArray[np.float64]
Accept = Callable[[Floats], bool]


@dataclass(frozen=True, slots=True)
class StoredArray:
    """A (N, C) array of numbers in a file that must not change while it is read.

    Attributes:
        file: Where it lies.
        state: The file's number, size and time of change when it was checked.
        offset: Where its data begins, in bytes.
        shape: (N, C).
        dtype: Of its numbers.
    """

    file: Path
    state: tuple[int, ...]
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, rows: slice | npt.NDArray[np.integer[Any]]) -> Floats:
        """The (B, C) numbers of a slice of rows without a step, or of rows by number.

        Raises:
            ArtifactError: The file is gone, cannot be read or has changed.
        """
        try:
            with self.file.open("rb", buffering=0) as stream:
                if _state(stream) != self.state:
                    raise ArtifactError(f"{self.file} changed while it was read; run the same command again")
                if isinstance(rows, slice):
                    return self._from(stream, *rows.indices(self.shape[0])[:2]).astype(np.float64, copy=False)
                found: Floats = np.memmap(stream, self.dtype, "r", self.offset, self.shape)[rows].astype(np.float64)
                return found
        except OSError as error:
            raise ArtifactError(f"cannot read {self.file}: {error.strerror or error}") from error

    def _from(self, stream: IO[bytes], start: int, stop: int) -> npt.NDArray[Any]:
        """Rows ``start`` to ``stop``; reading copies once and, unlike a mapped file, leaves nothing in memory."""
        found = np.empty((max(stop - start, 0), self.shape[1]), self.dtype)
        left = memoryview(found.view(np.uint8).data).cast("B") if found.size else memoryview(b"")
        stream.seek(self.offset + start * self.shape[1] * self.dtype.itemsize)
        while len(left):
            if not (got := stream.readinto(left)):  # type: ignore[attr-defined]
                raise ArtifactError(f"{self.file} changed while it was read; run the same command again")
            left = left[got:]
        return found


def open_arrays(file: Path, large: str, accept: Accept) -> tuple[Arrays, StoredArray | None]:
    """The arrays of an npz, ``large`` left on disk; all checksums are compared, so every byte is read once.

    Args:
        file: The npz.
        large: Name of the array that is left on disk.
        accept: Whether some (B, C) rows of it are as they should be; all are shown, in order.

    Returns:
        The other arrays, read-only, and the one on disk; None in its place when it is missing, no table of numbers in
        C's order, or not accepted, so that `pipeline.files.read_arrays` may say what it is.

    Raises:
        ArtifactError: The file is missing, damaged, packed, or holds anything but text and numbers.
    """
    try:
        size = require_limited(file, MOST_ARRAYS)
        with file.open("rb") as stream:
            state = _state(stream)
            with zipfile.ZipFile(stream) as archive:
                small: Arrays = {}
                stored = None
                for item in plain_members(archive, size):
                    if item.filename.removesuffix(".npy") == large:
                        stored = _left_on_disk(archive, item, file, state, accept)
                    else:
                        small[item.filename.removesuffix(".npy")] = read_member(archive, item)
                return small, stored
    except FileNotFoundError:
        raise ArtifactError(f"no file {file}") from None
    except OSError as error:
        raise ArtifactError(f"cannot read {file}: {error.strerror or error}") from error
    except Exception as error:  # on damaged bytes, zipfile and NumPy's headers raise nearly anything
        raise ArtifactError(f"{file} is damaged: {error}") from error


def _left_on_disk(
    archive: zipfile.ZipFile,
    item: zipfile.ZipInfo,
    file: Path,
    state: tuple[int, ...],
    accept: Callable[[Floats], bool],
) -> StoredArray | None:
    with archive.open(item) as stream:  # compares the checksum at the member's end
        shape, is_fortran, dtype = read_header(stream, item)
        begin = stream.tell()
        if len(shape) != 2 or is_fortran or dtype.kind != "f" or not min(shape):
            return None
        row = shape[1] * dtype.itemsize
        while content := stream.read(max(1, CHUNK // row) * row):
            rows = np.frombuffer(content, dtype).reshape(-1, shape[1])
            if not accept(rows.astype(np.float64, copy=False)):
                return None
    return StoredArray(file, state, _data_of(file, item) + begin, shape, dtype)


def _data_of(file: Path, item: zipfile.ZipInfo) -> int:
    """Where a member's content begins; zipfile has read and compared the header before it."""
    with file.open("rb") as stream:
        stream.seek(item.header_offset)
        magic, name, extra = LOCAL_HEADER.unpack(stream.read(LOCAL_HEADER.size))
    if magic != b"PK\3\4":
        raise ValueError(f"{item.filename} does not begin where the file says")
    return item.header_offset + LOCAL_HEADER.size + int(name) + int(extra)


def _state(stream: IO[bytes]) -> tuple[int, ...]:
    about = os.fstat(stream.fileno())
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
