"""Locks that the system releases when their process ends in any way: one command a run, and what is in use stays."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from pipeline.errors import ArtifactError
from pipeline.files import reason
from pipeline.progress import say

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # what some network and cloud disks answer


@contextlib.contextmanager
def locked(
    file: Path, what: str, *, doing: str = "trained", other: str = "--name", patience: float = 0.0
) -> Iterator[str]:
    """Hold ``file`` for this process; gives a line about a former owner that ended without a word, else the empty text.

    Record locks are used, since worker processes inherit the other kind and would hold it after a kill. On a disk that
    has no locks, the owner that the file names counts while it lives.

    Args:
        file: The lock's file, made when it is not there.
        what: What it stands for, in messages.
        doing: What its owner does with it, in messages.
        other: The option that names another one, in messages.
        patience: Seconds to wait for another process that holds it.

    Raises:
        ArtifactError: Another process holds it, or the file cannot be written.
    """
    with _opened(file) as handle:
        until = time.monotonic() + patience
        while not (taken := _take(handle, former := _owner(handle))) and time.monotonic() < until:
            time.sleep(0.2)
        if not taken:
            raise ArtifactError(
                f"{what} is being {doing} by another command ({_named(former)}); wait for it, stop it, or give "
                f"another {other}. If no such process runs, remove {file}"
            )
        left = f"{_named(former)} left {what} unfinished; its work is kept" if former else ""
        _write(
            handle,
            {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now().isoformat(" ", "minutes")},
        )
        try:
            yield left
        finally:
            _write(handle, {})


@contextlib.contextmanager
def turn(file: Path, what: str) -> Iterator[None]:
    """Hold ``file``, after waiting for another process that does; on a disk without locks nobody waits.

    Raises:
        ArtifactError: The file cannot be written.
    """
    with _opened(file) as handle:
        if not _take(handle, {}):
            import fcntl

            say(f"waiting for another command that {what}")
            fcntl.lockf(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def in_use(file: Path) -> Iterator[None]:
    """Keep what belongs to ``file`` from being removed, by all who ask `unused` first; the file's time tells the use.

    Where the file cannot be made, or the disk has no locks, the block runs all the same.
    """
    with contextlib.ExitStack() as stack:
        if sys.platform != "win32":
            import fcntl

            with contextlib.suppress(OSError):
                stack.enter_context(_flocked(file, fcntl.LOCK_SH))
        _touch(file)
        try:
            yield
        finally:
            _touch(file)


@contextlib.contextmanager
def unused(file: Path) -> Iterator[bool]:
    """Whether it is certain that nobody uses what belongs to ``file``; if so, nobody begins to while the block runs."""
    with contextlib.ExitStack() as stack:
        certain = False
        if sys.platform != "win32":
            import fcntl

            with contextlib.suppress(OSError):
                stack.enter_context(_flocked(file, fcntl.LOCK_EX | fcntl.LOCK_NB))
                certain = True
        yield certain


def _touch(file: Path) -> None:
    """Let the file's time be now, where that is allowed."""
    with contextlib.suppress(OSError):
        os.utime(file)


def _flocked(file: Path, how: int) -> IO[str]:
    """The file, made when it is not there, locked for as long as it stays open.

    Raises:
        OSError: It cannot be made, another holds it, or the disk has no locks.
    """
    import fcntl

    for _ in range(100):  # a disk that gives a file no lasting number would go on for ever
        handle = _openable(file)
        try:
            fcntl.flock(handle, how)
            if os.path.exists(file) and os.path.samestat(os.stat(file), os.fstat(handle.fileno())):
                return handle
        except BaseException:
            handle.close()
            raise
        handle.close()  # it was removed, and perhaps made anew, before the lock was had
    raise OSError(errno.ENOLCK, "the file changes all the time", str(file))


def _openable(file: Path) -> IO[str]:
    """The file to be written, or read at least, which is enough for a lock."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return file.open("a+", encoding="utf-8")
    except OSError:
        return file.open(encoding="utf-8")


def _opened(file: Path) -> IO[str]:
    """The lock's file, made when it is not there, to be read and written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return file.open("a+", encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"cannot write {file}: {reason(error)}") from error


def _take(handle: IO[str], former: dict[str, Any]) -> bool:
    """Lock the file; whether it could be had."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in NO_LOCKS and not _may_live(former)
    return True


def _may_live(owner: dict[str, Any]) -> bool:
    """Whether an owner can still be at work; of another computer nobody here knows."""
    if not owner:
        return False
    if owner["host"] != socket.gethostname():
        return True
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it lives, under another user
    return True


def _owner(handle: IO[str]) -> dict[str, Any]:
    """Who wrote itself into the file; empty when nobody did."""
    handle.seek(0)
    try:
        content = json.loads(handle.read(1000))
    except (OSError, ValueError):
        return {}
    known = isinstance(content, dict) and isinstance(content.get("pid"), int) and isinstance(content.get("host"), str)
    return content if known and content["pid"] > 0 else {}


def _named(owner: dict[str, Any]) -> str:
    return f"process {owner['pid']} on {owner['host']}, since {owner.get('since')}" if owner else "unnamed"


def _write(handle: IO[str], owner: dict[str, Any]) -> None:
    """Note the owner; a note that cannot be written is no reason to fail, the lock is held all the same."""
    with contextlib.suppress(OSError):
        handle.seek(0)
        handle.truncate()
        if owner:
            handle.write(json.dumps(owner))
        handle.flush()
