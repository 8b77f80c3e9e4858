"""Ctrl-C and SIGTERM: a training notes them and heeds them between two steps; elsewhere they end the command."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object]
Stopping = Callable[[], BaseException | None]


class Terminated(BaseException):
    """SIGTERM came: like KeyboardInterrupt no error, so that nothing takes it for one."""


def never() -> BaseException | None:
    """Nobody asks to stop."""
    return None


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM unwind the program as Ctrl-C does, instead of ending it where it stands."""
    with _handling({signal.SIGTERM: _terminate}):
        yield


@contextmanager
def noted() -> Iterator[Stopping]:
    """Only note the first Ctrl-C or SIGTERM; gives a function that returns what to raise, once stopping is asked for.

    Whoever works in the block calls it where stopping is safe, and raises. A second signal is not waited with.
    """
    asked: list[BaseException] = []

    def note(number: int, frame: FrameType | None) -> None:
        error = KeyboardInterrupt() if number == signal.SIGINT else Terminated()
        if asked:
            raise error
        asked.append(error)

    with _handling({signal.SIGINT: note, signal.SIGTERM: note}):
        yield lambda: asked[0] if asked else None


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


@contextmanager
def _handling(handlers: dict[signal.Signals, Handler]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say how signals are handled
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
