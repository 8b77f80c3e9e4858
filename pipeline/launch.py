"""Which of how many processes this one is, as torchrun says; without torchrun the only one."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

PATIENCE = 3.0  # seconds in which torchrun ends this process after the first one has left


@dataclass(frozen=True, slots=True)
class Place:
    """One process among those that train one network together.

    Attributes:
        rank: Its number, counted from 0.
        size: How many there are.
        local: Its number on its own computer, which is that of its GPU.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0


def place() -> Place:
    """What torchrun says of this process.

    Its own variable is asked for as well, since clusters set ``RANK`` and ``WORLD_SIZE`` for other purposes.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Place()
    return Place(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))


def last_words(message: str, code: int) -> str:
    """What this process says when it leaves with an exit code; empty where the first one speaks for all.

    The others wait: what they stumble over is mostly the first one's matter too, and once that has spoken and left,
    torchrun ends them. Who is still there afterwards has an error of its own.
    """
    here = place()
    if here.first:
        return message
    time.sleep(PATIENCE)
    return f"process {here.rank} of {here.size}: {message}" if code == 2 else ""
