"""What a tracker must do, which there are, and whether they are installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import ConfigError, hint

TRACKERS = ("tensorboard", "wandb", "mlflow")  # each has a module ``to_<name>`` here, with `tracker`
INSTALL = {"mlflow": "mlflow-skinny sqlalchemy alembic"}  # what pip calls it, where that is another name


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with its caption.

    Attributes:
        caption: One line; empty = the name says it all.
        content: A JPEG or PNG.
        suffix: Which of them: ``.jpg`` or ``.png``.
        width: In pixels.
        height: In pixels.
    """

    caption: str
    content: bytes
    suffix: str
    width: int
    height: int


class Tracker(Protocol):
    """Where one run is told; what was told before may be told again, and then counts once."""

    def settings(self, series: str, settings: Mapping[str, Any]) -> None:
        """Keep the settings."""

    def numbers(self, series: str, step: int, values: Mapping[str, float], at: float) -> None:
        """Keep numbers after so many epochs; ``at`` in seconds since 1970."""

    def pictures(self, series: str, step: int, name: str, pictures: Sequence[Picture], at: float) -> None:
        """Keep pictures that belong together."""

    def close(self) -> None:
        """Have everything where it belongs."""

    def told(self) -> str:
        """Where to look at it, in one line."""


# (name of the run, what tells it from earlier ones of this name, ``artifacts/tracking``) -> its tracker
Make = Callable[[str, str, Path], Tracker]


def chosen(text: str, option: str = "--track") -> tuple[str, ...]:
    """The trackers in a list such as ``tensorboard,wandb``, each once.

    Raises:
        ConfigError: There is no such tracker, or its library is not installed.
    """
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    for name in names:
        if name not in TRACKERS:
            nearest = hint(name, TRACKERS, f"trackers are: {', '.join(TRACKERS)}")
            raise ConfigError(f"{option} knows no tracker {name!r}; {nearest}")
        if not _installed(name):
            raise ConfigError(f"{option} {name} needs its library; pip install {INSTALL.get(name, name)}")
    return names


def _installed(name: str) -> bool:
    found = find_spec(name)
    return found is not None and found.origin is not None  # a folder of this name is not the library
