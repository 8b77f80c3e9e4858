"""Files of ``artifacts/``: written whole or not at all, safe on disk, never pickled; read back with a check."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ArtifactError

SCHEMA = 1
Arrays = dict[str, npt.NDArray[Any]]


@contextlib.contextmanager
def atomic(file: Path) -> Iterator[IO[bytes]]:
    """Open a temporary neighbour of ``file`` that takes its place, safe on disk, when the block ends without an error.

    Raises:
        ArtifactError: It cannot be written; whatever stood at ``file`` still does.
    """
    temporary: str | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, file)
        temporary = None
        _sync_folder(file.parent)
    except OSError as error:
        raise ArtifactError(f"cannot write {file}: {reason(error)}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # folders cannot be opened there
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reason(error: OSError) -> str:
    """What went wrong with a file, in words, and what to do."""
    advice = {
        errno.ENOSPC: "the disk is full; free some space and run the same command again",
        errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
        errno.EACCES: "no permission; choose another folder with --artifacts",
        errno.EROFS: "the disk is read-only; choose another folder with --artifacts",
        errno.ENOTDIR: "a file stands where a folder should be; choose another folder with --artifacts",
    }
    return advice.get(error.errno or 0, error.strerror or str(error))


def remove(files: Iterable[Path]) -> None:
    """Remove files, there or not.

    Raises:
        ArtifactError: One cannot be removed.
    """
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise ArtifactError(f"cannot remove {file}: {reason(error)}") from error


def checksum(content: bytes) -> str:
    """The SHA-256 of ``content`` in hex."""
    return hashlib.sha256(content).hexdigest()


def file_checksum(file: Path) -> str:
    """The SHA-256 of a file in hex.

    Raises:
        ArtifactError: It is missing or cannot be read.
    """
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise ArtifactError(f"no file {file}") from None
    except OSError as error:
        raise ArtifactError(f"cannot read {file}: {error}") from error


def write_bytes(file: Path, content: bytes) -> None:
    """Write ``content`` atomically."""
    with atomic(file) as stream:
        stream.write(content)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as readable JSON."""
    write_bytes(file, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in ``file``.

    Raises:
        ArtifactError: It is missing, damaged or written by another version.
    """
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"no file {file}") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"cannot read {file}: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise ArtifactError(f"{file} has schema {found!r}, this version reads {SCHEMA}; train the run again")
    return content


def write_csv(file: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_bytes(file, text.getvalue().encode())


def read_csv(file: Path) -> dict[str, list[str]]:
    """The columns of a table that `write_csv` wrote.

    Raises:
        ArtifactError: It is missing or damaged.
    """
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except FileNotFoundError:
        raise ArtifactError(f"no file {file}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ArtifactError(f"cannot read {file}: {error}") from error
    if not rows or any(None in row or None in row.values() for row in rows):
        raise ArtifactError(f"{file} is damaged; train the run again")
    return {name: [row[name] for row in rows] for name in rows[0]}


def write_arrays(file: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write named arrays as npz."""
    buffer = io.BytesIO()
    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise TypeError(f"{objects[0]} holds Python objects, which npz would pickle")
    np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]
    write_bytes(file, buffer.getvalue())


def read_arrays(file: Path) -> Arrays:
    """The arrays of an npz.

    Raises:
        ArtifactError: It is missing or damaged.
    """
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except FileNotFoundError:
        raise ArtifactError(f"no file {file}") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{file} is damaged: {error}") from error
