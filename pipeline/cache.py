"""The cache of resized photos: every photo is decoded once, whatever heads, folds, workers and processes need it.

An array is found by what the photos contain and how they are resized, so another name or folder finds it too, and a
changed photo does not.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import TrainConfig
from pipeline.contents import content_digest, joined
from pipeline.entries import Entry, Pixels, evict, open_array
from pipeline.errors import ArtifactError, LayoutError
from pipeline.files import SCHEMA, atomic, write_json
from pipeline.findings import size as bytes_in_words
from pipeline.images import READER, read_all
from pipeline.locks import in_use, turn
from pipeline.progress import counted, say


@dataclass(frozen=True, slots=True)
class CachedPhotos:
    """The resized photos of one list, in a file that any process may open.

    Attributes:
        file: Holds the (N, S, S, 3) array; `pipeline.entries.open_array` opens it without reading it.
    """

    file: Path

    def open(self) -> Pixels:
        """The (N, S, S, 3) photos, read-only; they stay on disk."""
        return open_array(self.file)


@dataclass(frozen=True, slots=True)
class PhotoCache:
    """A folder of resized photos that are kept for later.

    Attributes:
        folder: Where they are.
        limit: Bytes that it may hold beside what is in use.
        held: Keys of the entries that this process uses.
    """

    folder: Path
    limit: int
    held: set[str] = field(default_factory=set)

    def content(self, paths: Sequence[Path]) -> str:
        """A fingerprint of what these photos contain; files that were not changed since the last time are not read.

        Raises:
            LayoutError: A photo is not there or cannot be read.
        """
        return content_digest(paths, self.folder)

    @contextlib.contextmanager
    def opened(self, paths: Sequence[Path], content: str, size: int, label: str) -> Iterator[CachedPhotos]:
        """The photos resized, built first when they are not there; they stay there while the block runs.

        Args:
            paths: N files.
            content: Their fingerprint.
            size: S, pixels.
            label: What building is called in the progress display.

        Raises:
            LayoutError: A photo cannot be read, or is no longer what the fingerprint says.
            ArtifactError: The disk has no room for them, or they cannot be written.
        """
        key = hashlib.sha256(repr((READER, size, content)).encode()).hexdigest()[:32]
        entry = Entry(self.folder, key)
        if key in self.held:  # this command has looked at every byte of it already
            yield CachedPhotos(entry.array)
            return
        with in_use(entry.lock):
            self.held.add(key)
            try:
                self._ensure(entry, paths, content, size, label)
                yield CachedPhotos(entry.array)
            finally:
                self.held.discard(key)

    def _ensure(self, entry: Entry, paths: Sequence[Path], content: str, size: int, label: str) -> None:
        shape = (len(paths), size, size, 3)
        if not entry.fault(shape):
            return
        with turn(self.folder / ".reading.lock", "reads photos"):
            fault = entry.fault(shape)
            if not fault:
                return  # another command has built it meanwhile
            entry.remove_unfinished()
            if entry.array.exists() or entry.facts_file.exists():
                say(f"{fault}; the photos are read again")
            self._make_room(entry, int(np.prod(shape)))
            _build(entry, paths, content, shape, label)
        if fault := entry.fault(shape):
            raise ArtifactError(f"{fault}, right after it was written; check the disk")

    def _make_room(self, entry: Entry, need: int) -> None:
        """Remove what is least recently used to keep the limit, and look whether the disk has room.

        Raises:
            ArtifactError: It has none.
        """
        try:
            for _, what in evict(self.folder, self.limit - need, self.held):
                say(f"removed from {self.folder}: {what}")
        except ArtifactError as error:  # another user's, in a shared folder: no reason not to train
            say(f"{error}; it stays")
        total = need + sum(file.stat().st_size for file in self.folder.glob("*.npy") if file != entry.array)
        if total > self.limit:
            say(
                f"{self.folder} grows to {bytes_in_words(total)}, beyond its limit of {bytes_in_words(self.limit)} "
                "(--cache-gib): nothing in it can be removed now"
            )
        free = shutil.disk_usage(self.folder).free
        if free < need * 1.05:
            raise ArtifactError(
                f"the resized photos need {need / 2**30:.1f} GiB in {self.folder}, {free / 2**30:.1f} GiB are free; "
                "free some space, give another disk with --cache DIR, or use a smaller --image-size"
            )


def _build(entry: Entry, paths: Sequence[Path], content: str, shape: tuple[int, ...], label: str) -> None:
    """Decode and resize all photos, and write them.

    Raises:
        LayoutError: A photo cannot be read, or is no longer what the fingerprint says.
    """
    seen: list[bytes] = []
    whole = hashlib.sha256()
    with counted(label, len(paths)) as display, atomic(entry.array) as stream:
        written = _Hashed(stream, whole)
        np.lib.format.write_array_header_1_0(written, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for digest, photo in read_all(paths, shape[1]):
            seen.append(digest)
            written.write(photo.tobytes())
            display.advance(1, "")
        if joined(seen) != content:
            raise LayoutError("a photo was changed while the photos were read; give the same command again")
    facts = {"schema": SCHEMA, "photos": shape[0], "pixels": shape[1], "content": content, "sha256": whole.hexdigest()}
    write_json(entry.facts_file, facts)


@dataclass(frozen=True, slots=True)
class _Hashed:
    """A stream that also feeds a checksum."""

    stream: Any
    checksum: Any

    def write(self, content: bytes) -> None:
        self.checksum.update(content)
        self.stream.write(content)


@contextlib.contextmanager
def cache_of(config: TrainConfig, artifacts: Path) -> Iterator[PhotoCache]:
    """The cache that the settings ask for; with ``off``, one that is gone after the block.

    Raises:
        ArtifactError: There is no place for a temporary folder.
    """
    limit = int(config.cache_gib * 2**30)
    if config.cache != "off":
        yield PhotoCache(artifacts / "cache" if config.cache == "auto" else Path(config.cache), limit)
        return
    try:
        temporary = tempfile.TemporaryDirectory(prefix="headfold-", ignore_cleanup_errors=True)
    except OSError as error:
        raise ArtifactError(f"cannot make a temporary folder: {error}; set TMPDIR") from error
    with temporary as folder:
        yield PhotoCache(Path(folder), limit)
