"""The process beside a training that tells one tracker: reads events as they come, until the training is no more.

    python -m pipeline.tracking.follow TRACKER once|on FOLDER...

Standard output is for one line of JSON: ``{"told": ...}`` or ``{"failed": ...}``. What libraries print goes where
standard error goes, into the log. When standard input ends, so has the training: ``on`` then tells what is left;
``once`` tells what is there from the start.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.tracking.events import WHOLE, Event, Reader
from pipeline.tracking.trackers import Make, Tracker

GLANCE = 0.5  # seconds between two looks at what there is to tell
ALONE = 60.0  # seconds after the training's end after which this process ends, whatever the tracker does

LONGEST = 300  # letters of an error


@dataclass(slots=True)
class Stream:
    """The events of one run on their way.

    Attributes:
        reader: Where they come from.
        make: Makes the tracker, at the first event.
        tracker: Where they go.
    """

    reader: Reader
    make: Make
    tracker: Tracker | None = None

    def pass_on(self) -> None:
        """Tell what is new."""
        for event in self.reader.new():
            if self.tracker is None:
                if event["series"] != WHOLE or event["kind"] != "settings":
                    return  # damaged: without a key nothing can be told twice
                folder = self.reader.folder
                self.tracker = self.make(folder.name, event["key"], folder.parent.parent)
            _tell(self.tracker, event)


def _tell(tracker: Tracker, event: Event) -> None:
    series, step, at = event["series"], event["step"], event["time"]
    if event["kind"] == "settings":
        tracker.settings(series, event["settings"])
    elif event["kind"] == "numbers":
        tracker.numbers(series, step, event["values"], at)
    else:
        from pipeline.tracking.pictures import pictures_of

        for head, found in event["heads"].items():
            for name, pictures in pictures_of(head, found).items():
                tracker.pictures(series, step, name, pictures, at)


def follow(folders: Sequence[Path], make: Make, ended: threading.Event) -> str:
    """Tell the events of these runs until ``ended``, and then what is left; where to look at it.

    Args:
        folders: ``tracking/events/<run>`` of each.
        make: Makes the tracker of a run.
        ended: Set when nothing more will come.
    """
    streams = [Stream(Reader(folder), make) for folder in folders]
    last = False
    while not last:
        last = ended.is_set()  # looked at before reading, so that nothing is missed
        for stream in streams:
            stream.pass_on()
        if not last:
            ended.wait(GLANCE)
    trackers = [stream.tracker for stream in streams if stream.tracker]
    for tracker in trackers:
        tracker.close()
    return "; ".join(dict.fromkeys(tracker.told() for tracker in trackers))


def _until_alone(ended: threading.Event) -> None:
    """Wait for the end of standard input, which the training's end in any way brings, and let nothing hang after it."""
    sys.stdin.buffer.read()
    faulthandler.dump_traceback_later(ALONE, exit=True)  # also while a library holds the interpreter
    ended.set()


def main() -> None:
    """Be the process."""
    name, how, *folders = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)  # libraries print into the log
        if hasattr(os, "nice"):
            os.nice(10)  # the training comes first
        ended = threading.Event()
        if how == "once":
            ended.set()
        threading.Thread(target=_until_alone, args=[ended], daemon=True).start()
        word = _word(name, [Path(folder) for folder in folders], ended)
        answer.write(json.dumps(word) + "\n")
    os._exit(0)  # what libraries do at the end may hang, and everything is told


def _word(name: str, folders: Sequence[Path], ended: threading.Event) -> dict[str, Any]:
    try:
        make: Callable[..., Tracker] = import_module(f"pipeline.tracking.to_{name}").tracker
        return {"told": follow(folders, make, ended)}
    except BaseException as error:  # also of libraries that leave the program
        traceback.print_exc()
        first = next(iter(str(error).splitlines()), "")
        return {"failed": f"{type(error).__name__}: {first[:LONGEST]}".rstrip(": ")}


if __name__ == "__main__":
    main()
