"""How files of unknown origin come into memory: ordinary files only, of no more bytes than such a file can have."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_limited(file: Path, most: int) -> bytes:
    """The content of a file of at most ``most`` bytes.

    Raises:
        OSError: It cannot be read, is larger, or is a folder, pipe or device, which could be without end.
    """
    size = require_limited(file, most)
    with file.open("rb") as stream:
        return stream.read(size)


def require_limited(file: Path, most: int) -> int:
    """The size of an ordinary file of at most ``most`` bytes.

    Raises:
        OSError: It cannot be found, is larger, or is a folder, pipe or device.
    """
    try:
        about = os.stat(file)
    except ValueError:  # a NUL in the name
        raise OSError(errno.EINVAL, "no file can have this name", str(file)) from None
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "it is not an ordinary file", str(file))
    if about.st_size > most:
        raise OSError(errno.EFBIG, f"it has {about.st_size:,} bytes; at most {most:,} are read", str(file))
    return about.st_size
