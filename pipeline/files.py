"""Files of ``artifacts/``: written whole or not at all, safe on disk, never pickled; read back with a check."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import math
import os
import re
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ArtifactError
from pipeline.reading import read_limited

SCHEMA = 1
# bytes, far above what a training writes: JSON grows some thirtyfold in memory, arrays stay as they are
MOST_JSON = 16 * 2**20
MOST_ARRAYS = 512 * 2**20
Arrays = dict[str, npt.NDArray[Any]]
# NumPy's own reader goes through Python's `ast`, which on 3.11 fails now and then where threads use it side by side
HEADER = re.compile(
    rb"\{'descr': '(?P<descr>[<>|]?[A-Za-z]\d{1,9})', 'fortran_order': (?P<fortran>True|False),"
    rb" 'shape': \((?P<shape>|\d{1,19},|\d{1,19}(?:, \d{1,19})+)\)(?:, )?\} *\n"
)


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
    """The JSON object in ``file``; `pipeline.schema` says whether its fields are as they should be.

    Raises:
        ArtifactError: It is missing, damaged or written by another version.
    """
    try:
        content = json.loads(_content(file, MOST_JSON), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"cannot read {file}: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise ArtifactError(f"{file} has schema {found!r}, this version reads {SCHEMA}; train the run again")
    return content


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _content(file: Path, most: int) -> bytes:
    """The bytes of a file of at most ``most``.

    Raises:
        ArtifactError: It is missing, larger or cannot be read.
    """
    try:
        return read_limited(file, most)
    except FileNotFoundError:
        raise ArtifactError(f"no file {file}") from None
    except OSError as error:
        raise ArtifactError(f"cannot read {file}: {error.strerror or error}") from error


def write_csv(file: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_bytes(file, text.getvalue().encode())


def write_arrays(file: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write named arrays as npz."""
    buffer = io.BytesIO()
    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise TypeError(f"{objects[0]} holds Python objects, which npz would pickle")
    np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]
    write_bytes(file, buffer.getvalue())


def read_arrays(file: Path) -> Arrays:
    """The arrays of an npz, read-only; what a member claims to hold is compared with its bytes first.

    Raises:
        ArtifactError: It is missing, damaged, packed, or holds anything but text and numbers.
    """
    content = _content(file, MOST_ARRAYS)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = plain_members(archive, len(content))
            return {item.filename.removesuffix(".npy"): read_member(archive, item) for item in members}
    except Exception as error:  # on damaged bytes, zipfile and NumPy's headers raise nearly anything
        raise ArtifactError(f"{file} is damaged: {error}") from error


def plain_members(archive: zipfile.ZipFile, size: int) -> list[zipfile.ZipInfo]:
    """The members of a zip of ``size`` bytes.

    Raises:
        ValueError: Two have one name, or one gets larger by being unpacked.
    """
    members = archive.infolist()
    if len({item.filename for item in members}) < len(members):
        raise ValueError("a member stands there twice")
    for item in members:
        if item.compress_type != zipfile.ZIP_STORED or item.file_size != item.compress_size:
            raise ValueError(f"{item.filename} is compressed, which arrays of ours never are")
    if sum(item.file_size for item in members) > size:
        raise ValueError("its members claim more bytes than the file has")
    return members


def read_header(stream: IO[bytes], item: zipfile.ZipInfo) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and type of the array that begins here; the stream then stands at its data.

    Raises:
        ValueError: It is another version's, holds anything but text and numbers, or claims other bytes than are there.
    """
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"{item.filename} has a header of another version")
    text = stream.read(int.from_bytes(stream.read(2), "little"))
    if (found := HEADER.fullmatch(text)) is None:
        raise ValueError(f"{item.filename} has a header that NumPy does not write for text and numbers")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dtype = np.dtype(found["descr"].decode("ascii"))
    shape, is_fortran = tuple(int(n) for n in found["shape"].split(b",") if n), found["fortran"] == b"True"
    if dtype.kind not in "Ufiub" or not dtype.itemsize or dtype.shape or min(shape, default=0) < 0:
        raise ValueError(f"{item.filename} claims to hold {dtype} in shape {shape}")
    if math.prod(shape) * dtype.itemsize != (size := item.file_size - stream.tell()):
        raise ValueError(f"{item.filename} claims shape {shape} of {dtype}, but has {size:,} bytes")
    return shape, is_fortran, dtype


def read_member(archive: zipfile.ZipFile, item: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """The array in a member, read-only; raises nearly anything when it is damaged."""
    stream = io.BytesIO(archive.read(item))  # compares the checksum
    shape, is_fortran, dtype = read_header(stream, item)
    data = stream.read()
    array: npt.NDArray[Any] = np.ndarray(shape, dtype, data, order="F" if is_fortran else "C")
    if dtype.kind == "U":
        _require_text(item.filename, data, dtype)
    return array


def _require_text(name: str, data: bytes, dtype: np.dtype[Any]) -> None:
    """Refuse code points that no text has, which would fail only when a message quotes them."""
    codes = np.frombuffer(data, np.dtype(np.uint32).newbyteorder(dtype.byteorder))
    if ((codes > sys.maxunicode) | (codes >> 11 == 0xD800 >> 11)).any():
        raise ValueError(f"{name} holds what is no text")
