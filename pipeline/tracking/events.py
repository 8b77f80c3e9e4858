"""What a run has to tell trackers: a JSON line each, in files that only grow, beside ``runs/`` and never in a run.

``tracking/events/<run>/<series>.jsonl``; a series is what a tracker shows as one curve: a fold, or the run as a whole.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.files import reason
from pipeline.progress import say
from pipeline.store import Run

WHOLE = "out-of-fold"  # the series of the run as a whole: settings, out-of-fold scores
Event = dict[str, Any]  # `series`, `kind` ("settings", "numbers" or "answers"), `step`, `time`, and what the kind has


def series_of(fold: int, n_folds: int) -> str:
    """The series of a fold; of number K, the full fit's."""
    return "full" if fold == n_folds else f"fold{fold}"


def key_of(event: Mapping[str, Any]) -> str:
    """What tells an event from all others of its run; one that is told again has the same."""
    return f"{event['series']} {event['kind']} {event['step']}"


def numbers(series: str, step: int, values: Mapping[str, float], at: float | None = None) -> Event:
    """Numbers after so many epochs.

    Args:
        series: Theirs.
        step: Epochs that are done.
        values: By name.
        at: When, in seconds since 1970; None = now.
    """
    when = time.time() if at is None else at
    return {"series": series, "kind": "numbers", "step": step, "time": when, "values": dict(values)}


def of_row(row: Mapping[str, float], heads: Mapping[str, Any], series: str, at: float | None = None) -> Event:
    """A row of the history as numbers; those of a head are called ``<head>/<what>``."""
    named = {}
    for name, value in row.items():
        head = next((head for head in heads if name.startswith(f"{head}_")), None)
        named[f"{head}/{name[len(head) + 1 :]}" if head else name] = value
    step = int(named.pop("epoch"))
    named.pop("fold")
    return numbers(series, step, named, at)


def begun(run: Run) -> bool:
    """Whether trackers were asked for."""
    return _file(run, WHOLE).is_file()


def begin(run: Run, settings: Mapping[str, Any]) -> None:
    """Tell the settings, unless this training was begun to be told before; a disk that refuses is only told.

    Args:
        run: What is trained.
        settings: By name, as JSON knows them.
    """
    if not begun(run):
        event = {"series": WHOLE, "kind": "settings", "step": 0, "time": time.time(), "settings": dict(settings)}
        tell(run, event | {"key": secrets.token_hex(4)})


def forget(run: Run) -> None:
    """Remove what was told of an earlier training of this name."""
    shutil.rmtree(run.tracking, ignore_errors=True)


def tell(run: Run, event: Event) -> bool:
    """Append one event; where that fails, say so and give False, since no training may end of it."""
    file = _file(run, event["series"])
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # the first line break ends what a killed process left half-written
        with file.open("a", encoding="utf-8") as stream:
            stream.write("\n" + json.dumps(event, allow_nan=False) + "\n")
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else error
        say(f"trackers are told nothing more of {event['series']} of run {run.name!r}: cannot write {file}: {why}")
        return False
    return True


def row_teller(run: Run, heads: tuple[str, ...], series: str) -> Callable[[Mapping[str, float]], None]:
    """A function that tells each row of a fold's history, while that works; nothing where nobody asked for trackers."""
    working = begun(run)

    def tell_row(row: Mapping[str, float]) -> None:
        nonlocal working
        working = working and tell(run, of_row(row, dict.fromkeys(heads), series))

    return tell_row


def _file(run: Run, series: str) -> Path:
    return run.tracking / f"{series}.jsonl"


@dataclass(slots=True)
class Reader:
    """The events of a run, each once: the run's own before those of folds, and of what is new by step.

    Attributes:
        folder: ``tracking/events/<run>``.
        seen: Keys of those that were read.
        positions: File name -> bytes that were read.
    """

    folder: Path
    seen: set[str] = field(default_factory=set)
    positions: dict[str, int] = field(default_factory=dict)

    def new(self) -> Iterator[Event]:
        """Those that were not yet read; a damaged line is passed over."""
        for file in sorted(self.folder.glob("*.jsonl"), key=lambda file: (file.stem != WHOLE, file.name)):
            found: dict[str, Event] = {}
            for line in self._lines(file):
                with suppress(ValueError, KeyError, TypeError):
                    event = json.loads(line)
                    found.setdefault(key_of(event), event | {"step": int(event["step"])})
            fresh = [key for key in found if key not in self.seen]
            self.seen.update(fresh)
            yield from sorted((found[key] for key in fresh), key=lambda event: event["step"])

    def _lines(self, file: Path) -> list[bytes]:
        """The whole lines behind those that were read."""
        position = self.positions.get(file.name, 0)
        try:
            with file.open("rb") as stream:
                stream.seek(position)
                whole, end, _ = stream.read().rpartition(b"\n")
        except OSError:
            return []
        self.positions[file.name] = position + len(whole) + len(end)
        return whole.splitlines()
