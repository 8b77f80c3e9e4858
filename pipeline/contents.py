"""A fingerprint of what photos contain, byte for byte, that is remembered while their files stay as they are."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pipeline.errors import ArtifactError, LayoutError
from pipeline.files import SCHEMA, write_json
from pipeline.opening import picture_bytes
from pipeline.progress import counted
from pipeline.schema import ContentFacts, read_checked

CHUNK = 1024
# Seconds. A file that changes twice within one tick of the disk's clock (up to two seconds on FAT) looks the same after
# both, so what changed a moment ago is not remembered.
SETTLED = 3.0


def content_digest(paths: Sequence[Path], memory: Path | None) -> str:
    """The fingerprint of these photos in this order: equal for equal bytes, wherever the files lie.

    All files are read, unless ``memory`` knows them in the very state they are in: path, size, times of change and
    number on the disk. The time of the last change of state cannot be set by ``touch`` or ``cp -p``.

    Args:
        paths: N files.
        memory: Folder in which the fingerprint is remembered; None = nowhere. One that cannot be written is no fault.

    Raises:
        LayoutError: A photo is not there or cannot be read; the message names it.
    """
    now = time.time()
    states, newest = _states(paths)
    place = memory / f"contents-{_short(repr([os.path.abspath(path) for path in paths]))}.json" if memory else None
    if place and (known := _remembered(place, states)):
        return known
    content = joined(_digests(paths))
    if place and newest < now - SETTLED:
        with contextlib.suppress(ArtifactError):
            write_json(place, {"schema": SCHEMA, "states": states, "content": content})
    return content


def joined(digests: Iterable[bytes]) -> str:
    """The fingerprint of photos, out of the SHA-256 of each."""
    return hashlib.sha256(b"".join(digests)).hexdigest()[:32]


def _states(paths: Sequence[Path]) -> tuple[str, float]:
    """A fingerprint of the state of the files, and when the last of them changed, in seconds."""
    try:
        found = [path.stat() for path in paths]
    except (OSError, ValueError) as error:
        named = getattr(error, "filename", None) or "whose name holds a NUL"
        raise LayoutError(f"cannot read the image {named}: {getattr(error, 'strerror', error)}") from error
    states = [(s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for s in found]
    return _short(repr(states)), max((max(s.st_mtime, s.st_ctime) for s in found), default=0.0)


def _remembered(place: Path, states: str) -> str | None:
    """The fingerprint noted for files in this state, if there is one."""
    try:
        facts = read_checked(place, ContentFacts)
    except ArtifactError:
        return None
    return facts["content"] if facts["states"] == states else None


def _digests(paths: Sequence[Path]) -> Iterator[bytes]:
    """The SHA-256 of every file in order, by as many threads as there are cores."""
    from joblib import Parallel, delayed

    reader = Parallel(n_jobs=-1, prefer="threads")
    with counted("looking at photos", len(paths)) as display:
        for start in range(0, len(paths), CHUNK):
            chunk = paths[start : start + CHUNK]
            yield from reader(delayed(file_digest)(path) for path in chunk)
            display.advance(len(chunk), "")


def file_digest(path: Path) -> bytes:
    """The SHA-256 of a photo's file.

    Raises:
        LayoutError: It is not there or cannot be read; the message names it.
    """
    try:
        return hashlib.sha256(picture_bytes(path)).digest()
    except LayoutError as error:
        raise LayoutError(f"{path} {error}") from error


def _short(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]
