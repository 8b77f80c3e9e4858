"""Tables of further settings, ``schedule_args`` and its like: what may stand in them, and what when nothing does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ConfigError

KINDS = {int: "a whole number", float: "a number", str: "text", tuple: "a list"}


@dataclass(frozen=True, slots=True)
class Argument:
    """One entry of such a table.

    Attributes:
        default: What holds when it is not given; a given one is of the same kind.
        holds: Whether a value may stand there.
        wanted: Which ones may, in words.
    """

    default: Any
    holds: Callable[[Any], bool]
    wanted: str


Arguments = Mapping[str, Argument]


def between(low: float, high: float, default: float) -> Argument:
    """A number from ``low`` to ``high``; a whole one, when the default is."""
    return Argument(default, lambda x: low <= x <= high, f"from {low:g} to {high:g}")


def filled(setting: str, given: Mapping[str, Any], known: Arguments, owner: str) -> dict[str, Any]:
    """Every argument in ``known``, as given or else its default.

    Args:
        setting: Name of the table.
        given: What the user gave.
        known: What may be given.
        owner: What the arguments are of, for the message.

    Raises:
        ConfigError: One is unknown, of the wrong kind or out of range.
    """
    for name in given:
        if name not in known:
            takes = f"takes {', '.join(known)}" if known else "takes none"
            raise ConfigError(f"unknown {name!r} in {setting}; {owner} {takes}")
    return {name: _checked(f"{setting}.{name}", given.get(name, arg.default), arg) for name, arg in known.items()}


def _checked(name: str, value: Any, argument: Argument) -> Any:
    kind = type(argument.default)
    if kind is float and type(value) is int:
        value = float(value) if abs(value) < 2**1000 else math.inf
    if kind is tuple and isinstance(value, list):
        value = tuple(value)
    if type(value) is not kind:
        raise ConfigError(f"{name} must be {KINDS[kind]}, got {value!r}")
    if not argument.holds(value):
        raise ConfigError(f"{name} must be {argument.wanted}, got {value!r}")
    return value
