"""What a training says while it runs: a live line on a terminal, plain lines in a log file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from pipeline.terminal import harmless, one_line


class Rate(ProgressColumn):
    """Photos a second."""

    def render(self, task: Task) -> Text:
        """The speed as text."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f} img/s" if speed else "", style="cyan")


def say(line: str) -> None:
    """Print one line, in order with the live display."""
    listener = _LISTENER.get()
    if listener:
        listener(line)
    else:
        CONSOLE.print(harmless(line), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def heard_by(listener: Callable[[str], None]) -> Iterator[None]:
    """Let ``listener`` have the lines that this thread says, instead of the terminal; it may itself say something."""

    def hear(line: str) -> None:
        inside = _LISTENER.set(outer)
        try:
            listener(line)
        finally:
            _LISTENER.reset(inside)

    outer = _LISTENER.get()
    token = _LISTENER.set(hear)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def fall_silent() -> None:
    """Print nothing from now on: another process speaks for this one."""
    CONSOLE.quiet = True


@dataclass(frozen=True, slots=True)
class Display:
    """How far a job is.

    Attributes:
        advance: Called with (photos done more, what is being done).
        skip: Called with the number of photos that need not be seen after all; negative = must be seen again.
    """

    advance: Callable[[int, str], None]
    skip: Callable[[int], None]


@contextmanager
def counted(label: str, total: int | None) -> Iterator[Display]:
    """Show how far a job is.

    On a terminal one live line; elsewhere nothing, so that log files keep only whole lines.

    Args:
        label: What the job is.
        total: How many photos it will see, when that is known.
    """
    if not CONSOLE.is_terminal:
        yield Display(lambda n, text: None, lambda n: None)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:3.0f}%"),
        Rate(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=CONSOLE, transient=True, refresh_per_second=4) as progress:
        task = progress.add_task(one_line(label), total=total)

        def skip(n: int) -> None:
            shown = progress.tasks[0]
            progress.update(task, total=None if shown.total is None else shown.total - n)

        def advance(n: int, text: str) -> None:
            progress.update(task, advance=n, description=one_line(f"{label} {text}".rstrip()))

        yield Display(advance, skip)


def minutes(seconds: float) -> str:
    """A duration as people say it: 48 s, 12 min, 1 h 05."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    whole = round(seconds / 60)
    return f"{whole} min" if whole < 60 else f"{whole // 60} h {whole % 60:02d}"


_LISTENER: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)
CONSOLE = Console()  # looks up standard output at each use
