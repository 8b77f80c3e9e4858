"""What a command and the processes that train its folds tell each other, through files that both see.

``runs/<run>/progress/`` holds ``command`` (who asks for the folds; its time is renewed every few seconds, and removing
it asks to stop) and ``fold<k>.jsonl`` (what the process that trains fold k has to tell). Files work over any engine.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import ArtifactError
from pipeline.files import reason, write_bytes
from pipeline.interrupts import Terminated

BEAT = 5.0  # seconds between two signs of life of the command
SILENCE = 120.0  # seconds without one after which a fold stops by itself
LOOK = 1.0  # seconds between two looks
LONGEST_LOOK = 10.0  # seconds that one look counts at most, since a process that was paused heard nothing
PACE = 0.2  # seconds between two words of a fold about its progress
PATIENCE = 5.0  # seconds that a network disk gets to show a new file


@dataclass(slots=True)
class Command:
    """The command's end of the link to the folds of one run.

    Attributes:
        folder: ``runs/<run>/progress``.
        token: What tells this command from all others.
        renewed: When the last sign of life was given, on the clock of ``time.monotonic``.
    """

    folder: Path
    token: str = field(default_factory=lambda: f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(8)}")
    renewed: float = field(default_factory=time.monotonic)

    @property
    def file(self) -> Path:
        """What the folds look at."""
        return self.folder / "command"

    def begin(self) -> None:
        """Ask for folds; those of an earlier command that still train see it and stop.

        Raises:
            ArtifactError: The folder cannot be written.
        """
        self.end()
        write_bytes(self.file, self.token.encode())

    def renew(self) -> None:
        """Give a sign of life when it is time for one; on a disk that is away for a moment the next one may pass."""
        if time.monotonic() - self.renewed >= BEAT:
            self.renewed = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(self.file)

    def stop(self) -> None:
        """Ask the folds to stop."""
        with contextlib.suppress(OSError):
            self.file.unlink(missing_ok=True)

    def end(self) -> None:
        """Remove everything; a fold that still trains stops."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(slots=True)
class Watch:
    """A fold's end: whether it should go on.

    Attributes:
        file: The command's file.
        token: What must stand in it.
        changed: Its time when last looked at, in nanoseconds.
        silent: Seconds for which that time did not change. Its difference is taken and never its value, since clocks of
            two computers differ.
        looked: When it was last looked at, on the clock of ``time.monotonic``.
    """

    file: Path
    token: str
    changed: int = 0
    silent: float = 0.0
    looked: float = field(default_factory=time.monotonic)

    def require(self) -> None:
        """Check that this process sees the command's files.

        Raises:
            ArtifactError: It does not.
        """
        until = time.monotonic() + PATIENCE
        while self._read() != self.token:
            if time.monotonic() >= until:
                raise ArtifactError(
                    f"the worker on {socket.gethostname()} does not see {self.file} of this command; the artifacts "
                    "folder must be shared and have the same path on all machines"
                )
            time.sleep(PATIENCE / 10)

    def stopping(self) -> BaseException | None:
        """What to raise when the command asks to stop, or is no more."""
        now = time.monotonic()
        if now - self.looked < LOOK:
            return None
        passed, self.looked = min(now - self.looked, LONGEST_LOOK), now
        try:
            with self.file.open("rb") as stream:  # opening asks a network disk for the newest
                time_of_file = os.fstat(stream.fileno()).st_mtime_ns
                found = stream.read(1000).decode(errors="replace")
        except FileNotFoundError:
            return Terminated()
        except OSError:
            time_of_file, found = self.changed, self.token  # a disk that is away for a moment
        self.silent = self.silent + passed if time_of_file == self.changed else 0.0
        self.changed = time_of_file
        return Terminated() if found != self.token or self.silent >= SILENCE else None

    def _read(self) -> str:
        try:
            return self.file.read_bytes()[:1000].decode(errors="replace")
        except OSError:
            return ""


@dataclass(slots=True)
class Teller:
    """A fold's end: what it tells of its progress, a few times a second.

    Attributes:
        file: Where it is told.
        seen: Photos since the last word.
        told: When that was, on the clock of ``time.monotonic``.
    """

    file: Path
    seen: int = 0
    told: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Tell that the fold has begun.

        Raises:
            ArtifactError: The folder cannot be written.
        """
        try:
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write("\n")  # ends what a killed process left half-written
        except OSError as error:
            raise ArtifactError(f"cannot write {self.file}: {reason(error)}") from error

    def advance(self, n: int, text: str) -> None:
        """Tell that ``n`` more photos are done; where, the merged display does not show."""
        self.seen += n
        if time.monotonic() - self.told >= PACE:
            self.flush()

    def skip(self, n: int) -> None:
        """Tell that ``n`` photos need not be seen."""
        self._tell({"skip": n})

    def say(self, line: str) -> None:
        """Tell a line to be printed."""
        self._tell({"say": line})

    def flush(self) -> None:
        """Tell what was not yet told."""
        self.told = time.monotonic()
        if self.seen:
            self._tell({"done": self.seen})
            self.seen = 0

    def _tell(self, word: dict[str, Any]) -> None:
        """Append one line; a line that cannot be written is no reason to fail."""
        with contextlib.suppress(OSError), self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(word) + "\n")


@dataclass(slots=True)
class Listener:
    """The command's end: what one fold told.

    Attributes:
        file: Where it is told.
        position: Bytes that are heard.
        seen: Photos that the fold has done or skipped.
    """

    file: Path
    position: int = 0
    seen: int = 0

    @property
    def begun(self) -> bool:
        """Whether some process works on the fold, or has."""
        return self.file.is_file()

    def hear(self, advance: Callable[[int], None], skip: Callable[[int], None], say: Callable[[str], None]) -> None:
        """Pass on what is new."""
        for word in self._new():
            match word:
                case {"done": int(n)}:
                    self.seen += n
                    advance(n)
                case {"skip": int(n)}:
                    self.seen += n
                    skip(n)
                case {"say": str(line)}:
                    say(line)

    def _new(self) -> Iterator[object]:
        try:
            with self.file.open("rb") as stream:
                stream.seek(self.position)
                content = stream.read()
        except OSError:
            return
        whole, end, _ = content.rpartition(b"\n")
        self.position += len(whole) + len(end)
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                yield json.loads(line)
