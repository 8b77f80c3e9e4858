"""The review: the page of an audit, given to this computer's browser alone, each decision saved before it is answered.

Nothing on the disk can be asked for: there is one page, which holds its photos, and one place that takes decisions.
Both lie under a secret word in the address. Who calls them must say the address as its host, and for decisions also
as the page that it comes from, so that neither other sites nor names that lead here can decide anything.
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pipeline.audit.overlay import Decision, Row, read_overlay, with_decision, write_overlay
from pipeline.audit.suspects import Suspect
from pipeline.errors import ConfigError, PipelineError
from pipeline.fixes import DECISIONS

HOST = "127.0.0.1"
MOST_BYTES = 10_000  # of a decision
PATIENCE = 10.0  # seconds for a browser to say what it wants
PRIVATE = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Review:
    """What decisions are about and where they are kept.

    Attributes:
        suspects: In the order of the page.
        file: The table of label fixes.
        earlier: Rows that it begins with when it is not there yet.
        lock: Held while a decision is saved.
        turns: Number of a suspect -> the latest decision's turn; a browser may send two that overtake each other.
    """

    suspects: tuple[Suspect, ...]
    file: Path
    earlier: tuple[Row, ...] = ()
    lock: threading.Lock = field(default_factory=threading.Lock)
    turns: dict[int, int] = field(default_factory=dict)

    def rows(self) -> list[Row]:
        """The table as it is now.

        Raises:
            LayoutError: Somebody has made it something else.
        """
        return read_overlay(self.file) if self.file.exists() else list(self.earlier)

    def summary(self) -> str:
        """What is decided, and how to use it."""
        rows = self.rows()
        counts = [sum(row["decision"] == word for row in rows) for word in DECISIONS]
        told = ", ".join(f"{count} {word}" for count, word in zip(counts, DECISIONS, strict=True))
        return f"{self.file}: {told}" + (f"; pipe train-head HEAD --fixes {self.file}" if counts[0] else "")

    def decide(self, number: int, decision: Decision | None, turn: int) -> None:
        """Keep a decision, safe on disk; an older one than is kept is left aside.

        Raises:
            ConfigError: There is no such suspect or decision.
            LayoutError: The table was made something else in the meantime.
            ArtifactError: It cannot be written.
        """
        if not 0 <= number < len(self.suspects):
            raise ConfigError(f"no suspect {number}; there are {len(self.suspects)}")
        with self.lock:
            if turn >= self.turns.get(number, turn):
                write_overlay(self.file, with_decision(self.rows(), self.suspects[number], decision))
                self.turns[number] = turn


def decision_of(body: bytes) -> tuple[int, Decision | None, int]:
    """Number of the suspect, decision (None = taken back) and turn, as the page sends them.

    Raises:
        ConfigError: It is something else.
    """
    try:
        said = json.loads(body)
        number, word, value, turn = (said[name] for name in ("number", "word", "value", "turn"))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ConfigError("a decision is JSON with number, word, value and turn") from None
    if not all(type(whole) is int for whole in (number, turn)) or not all(type(text) is str for text in (word, value)):
        raise ConfigError("number and turn must be whole numbers, word and value text")
    return number, Decision(word, value.strip()) if word else None, turn


@contextmanager
def serving(review: Review, page: Callable[[list[Row]], str], port: int) -> Iterator[tuple[ThreadingHTTPServer, str]]:
    """A server that is ready, and its address; it stops at the end of the block, after a decision that is being saved.

    Args:
        review: What is decided.
        page: The page for the rows of the table.
        port: 0 = any that is free.

    Raises:
        ConfigError: The port cannot be had.
    """
    word = secrets.token_urlsafe(24)
    try:
        server = Server((HOST, port), _handler(review, page, word))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot serve on port {port}: {reason}; give another --port, or none") from error
    with server:
        try:
            yield server, f"http://{HOST}:{server.server_port}/{word}/"
        finally:
            review.lock.acquire(timeout=PATIENCE)  # what is being saved is; nothing is saved after this


class Server(ThreadingHTTPServer):
    """One thread a call; a browser that goes away is no error."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print what is a bug."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _handler(review: Review, page: Callable[[list[Row]], str], word: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE
        server_version, sys_version = "headfold", ""

        def do_GET(self) -> None:
            """Give the page."""
            if self._is_allowed(""):
                try:
                    self._answer(HTTPStatus.OK, page(review.rows()), "text/html")
                except PipelineError as error:
                    self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))

        def do_POST(self) -> None:
            """Take a decision."""
            if not self._is_allowed("decide"):
                return
            size = self.headers.get("Content-Length", "")
            if not (size.isascii() and size.isdecimal() and len(size) < 9 and int(size) <= MOST_BYTES):
                self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a decision has at most {MOST_BYTES} bytes")
                return
            try:
                review.decide(*decision_of(self.rfile.read(int(size))))
                self._answer(HTTPStatus.OK, "saved")
            except ConfigError as error:
                self._answer(HTTPStatus.BAD_REQUEST, str(error))
            except PipelineError as error:
                self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))

        def _is_allowed(self, place: str) -> bool:
            """Whether the call is the page's own; answers those that are not."""
            host = f"{HOST}:{self.connection.getsockname()[1]}"
            origin = self.headers.get("Origin")
            if self.headers.get("Host") != host or origin not in ([f"http://{host}"] if place else [None]):
                self._answer(HTTPStatus.FORBIDDEN, f"only the page at http://{host} may ask")
            elif not secrets.compare_digest(self.path.encode(), f"/{word}/{place}".encode()):
                self._answer(HTTPStatus.NOT_FOUND, "nothing here; open the address that `pipe review` printed")
            else:
                return True
            return False

        def _answer(self, status: HTTPStatus, text: str, kind: str = "text/plain") -> None:
            content = text.encode()
            self.send_response(status)
            for name, value in (PRIVATE | {"Content-Type": f"{kind}; charset=utf-8"}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing; what matters is in the table."""

    return Handler
