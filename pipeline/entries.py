"""What stands in a cache of resized photos: arrays with what is known of each; who uses one, and which go first.

An entry is ``<key>.npy`` and, written after it, ``<key>.json`` with its checksum. Its users hold ``.<key>.lock``.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from pipeline.errors import ArtifactError
from pipeline.files import file_checksum, remove
from pipeline.locks import unused
from pipeline.schema import CacheFacts, read_checked

Pixels = npt.NDArray[np.uint8]
FILES = re.compile(r"\.?([0-9a-f]{16,64})\.(?:npy|json|lock)(?:\..*)?")


def open_array(file: Path) -> Pixels:
    """The (N, S, S, 3) photos of an entry, read-only; they stay on disk, and all processes share what is in memory.

    Raises:
        ArtifactError: The file is not there, or holds something else.
    """
    try:
        photos = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # of a damaged header NumPy raises nearly anything
        raise ArtifactError(f"cannot read {file} on {socket.gethostname()}: {error}") from error
    if photos.dtype != np.uint8 or photos.ndim != 4:
        raise ArtifactError(f"{file} holds {photos.dtype} in shape {photos.shape}, not photos")
    return cast(Pixels, photos)


@dataclass(frozen=True, slots=True)
class Entry:
    """The resized photos of one list in one size; there or not.

    Attributes:
        folder: The cache.
        key: Fingerprint of photos, size and reader.
    """

    folder: Path
    key: str

    @property
    def array(self) -> Path:
        """The file with the photos."""
        return self.folder / f"{self.key}.npy"

    @property
    def facts_file(self) -> Path:
        """The file that marks the entry as whole."""
        return self.folder / f"{self.key}.json"

    @property
    def lock(self) -> Path:
        """The file that users hold; its time of change tells when it was last used."""
        return self.folder / f".{self.key}.lock"

    @property
    def facts(self) -> CacheFacts | None:
        """What is known of it; None when it is not whole."""
        try:
            return read_checked(self.facts_file, CacheFacts) if self.array.is_file() else None
        except ArtifactError:
            return None

    @property
    def size(self) -> int:
        """Bytes of its files, unfinished ones too."""
        return sum(_stat(file)[0] for file in self._files())

    @property
    def last_used(self) -> float:
        """When a command last used it, in seconds since 1970."""
        return max(_stat(self.lock)[1], _stat(self.facts_file)[1])

    def fault(self, shape: tuple[int, ...]) -> str:
        """Why it cannot be used for photos of this shape; empty when it is as it was written. Reads the whole array."""
        if not self.array.is_file():
            return "it is not there"
        try:
            facts = read_checked(self.facts_file, CacheFacts)
            if file_checksum(self.array) != facts["sha256"]:
                return f"{self.array} is damaged: its checksum differs"
            found = open_array(self.array).shape
        except ArtifactError as error:
            return str(error)
        return "" if found == shape else f"{self.array} holds photos of shape {found}, not {shape}"

    def remove(self) -> None:
        """Remove its files, first the one that marks it as whole.

        Raises:
            ArtifactError: One cannot be removed.
        """
        remove([self.facts_file, *self._files(), self.lock])

    def remove_unfinished(self) -> None:
        """Remove what a killed command was writing.

        Raises:
            ArtifactError: It cannot be removed.
        """
        remove(file for file in self._files() if file.name.startswith("."))

    def _files(self) -> list[Path]:
        whole = (self.array, self.facts_file)
        return [*whole, *(file for name in whole for file in self.folder.glob(f".{name.name}.*"))]


def entries(folder: Path) -> list[Entry]:
    """All entries of a cache, the least recently used first."""
    with contextlib.suppress(OSError):
        names = (FILES.fullmatch(file.name) for file in folder.iterdir())
        found = [Entry(folder, key) for key in sorted({match[1] for match in names if match})]
        return sorted(found, key=lambda entry: (entry.facts is not None, entry.last_used))
    return []


def evict(folder: Path, most: int, spare: Collection[str] = ()) -> Iterator[tuple[Entry, str]]:
    """Remove what killed commands left, then the least recently used entries, until at most ``most`` bytes are left.

    What is in use stays, and so does everything where that cannot be known (a disk without locks).

    Args:
        folder: The cache.
        most: Bytes.
        spare: Keys of entries that stay; those that this process uses, of which some disks' locks tell it nothing.

    Yields:
        Every entry that was removed, and what it was in words.

    Raises:
        ArtifactError: A file cannot be removed.
    """
    found = entries(folder)
    total = sum(entry.size for entry in found)
    for entry in found:
        facts, size = entry.facts, entry.size
        if entry.key in spare or (facts and total <= most):
            continue
        with unused(entry.lock) as free:
            if free:
                what = f"{facts['photos']:,} photos of {facts['pixels']} px" if facts else "what a killed command left"
                entry.remove()
                total -= size
                yield entry, what


def _stat(file: Path) -> tuple[int, float]:
    """Size and time of change of a file; nothing when it is gone."""
    try:
        found = file.lstat()
    except OSError:
        return 0, 0.0
    return found.st_size, found.st_mtime
