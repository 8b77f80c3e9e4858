"""The search space: which settings are varied, between what, read from TOML and checked before the first trial."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import TrainConfig, _read_toml
from pipeline.errors import ConfigError, hint

if TYPE_CHECKING:
    from optuna.trial import Trial

KEYS = ("low", "high", "log", "step", "choices")
# they decide which photos are scored, or nothing that is learnt
FIXED = ("folds", "fold_seed", "fixes", "no_fixes", "cache", "cache_gib", "checkpoint_every", "device", "full", "note")
SCALARS = (str, int, float, bool)


@dataclass(frozen=True, slots=True)
class Dimension:
    """One setting that is varied; either a range or choices.

    Attributes:
        name: Of the setting; ``loss_args.gamma`` is the key ``gamma`` of a table.
        whole: Whether the range is of whole numbers.
        low: Least value of a range.
        high: Greatest value.
        log: Whether the logarithm is spread evenly.
        step: Between neighbouring values; None = any.
        choices: Values to choose from; empty = a range.
    """

    name: str
    whole: bool = False
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values which, if they are possible, make all possible that the study may try."""
        kind = int if self.whole else float
        return self.choices or (kind(self.low), kind(self.high))

    def suggest(self, trial: Trial) -> Any:
        """The value that the study tries next."""
        if self.choices:
            named = {_label(choice): choice for choice in self.choices}
            return named[trial.suggest_categorical(self.name, list(named))]
        if self.whole:
            step = int(self.step or 1)
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log, step=step)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log, step=self.step)

    def value_of(self, kept: Any) -> Any:
        """The value that the study keeps as ``kept``."""
        return {_label(choice): choice for choice in self.choices}[kept] if self.choices else kept


def read_space(file: Path, base: TrainConfig) -> tuple[Dimension, ...]:
    """What is varied, each end of it tried against the rules of settings.

    Args:
        file: TOML with a table ``[space.NAME]`` a setting.
        base: The other settings.

    Raises:
        ConfigError: The file is no such TOML, or a setting is unknown, fixed or out of range.
    """
    content = _read_toml(file)
    tables = content.get("space")
    if content.keys() != {"space"} or not isinstance(tables, dict) or not tables:
        raise ConfigError(f"{file} must hold tables such as [space.lr] and nothing else, got {', '.join(content)}")
    space = tuple(_dimension(name, table) for name, table in tables.items())
    for dimension in space:
        for value in dimension.ends:
            try:
                applied(base, {dimension.name: value})
            except ConfigError as error:
                raise ConfigError(f"[space.{dimension.name}] in {file}: {error}") from None
    return space


def applied(base: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """The settings with ``values`` in their places.

    Raises:
        ConfigError: They are out of range, or do not go together.
    """
    settings: dict[str, Any] = {}
    for name, value in values.items():
        top, dot, key = name.partition(".")
        settings[top] = {**settings.get(top, getattr(base, top)), key: value} if dot else value
    return dataclasses.replace(base, **settings)


def _dimension(name: str, table: Any) -> Dimension:
    where = f"[space.{name}]"
    default = _default_of(name)
    if not isinstance(table, dict) or (unknown := sorted(table.keys() - set(KEYS))):
        got = unknown[0] if isinstance(table, dict) else repr(table)
        raise ConfigError(f"{where} has {got}; it takes low and high (log, step), or choices")
    if "choices" in table:
        choices = table["choices"]
        if len(table) > 1 or not isinstance(choices, list) or len({_label(choice) for choice in choices}) < 2:
            raise ConfigError(f"{where} takes low and high, or a list of two or more different choices, got {table}")
        return Dimension(name, choices=tuple(choices))
    return _range(name, where, table, default)


def _range(name: str, where: str, table: dict[str, Any], default: Any) -> Dimension:
    ends: list[Any] = [table.get("low"), table.get("high")]
    if not all(map(_is_number, ends)) or not ends[0] < ends[1]:
        raise ConfigError(f"{where} takes numbers low < high, or choices, got {table}")
    low, high, step, log = *ends, table.get("step"), table.get("log", False)
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise ConfigError(f"{where}: log is true or false, needs low above 0 and takes no step, got {table}")
    if step is not None and not (_is_number(step) and step > 0):
        raise ConfigError(f"{where}: step must be a number above 0, got {step!r}")
    whole = all(isinstance(number, int) for number in (low, high, step or 1)) and not isinstance(default, float)
    return Dimension(name, whole, low, high, log, step)


def _default_of(name: str) -> Any:
    """The setting's default, or None for a key of a table.

    Raises:
        ConfigError: There is no such setting, or it cannot be varied.
    """
    top, dot, _ = name.partition(".")
    defaults = TrainConfig().as_dict()
    if top not in defaults:
        nearest = hint(top, defaults, "docs/settings.md lists them")
        raise ConfigError(f"unknown setting {top!r} in [space.{name}]; {nearest}")
    if top in FIXED:
        raise ConfigError(f"{top} cannot be searched: trials would not be comparable; leave it out")
    if dot and not isinstance(defaults[top], dict):
        raise ConfigError(f"{top} is no table, so [space.{name}] has no place; only {top!r} itself can be varied")
    return None if dot else defaults[top]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _label(choice: Any) -> Any:
    """What stands for a choice in the study, which keeps plain values only."""
    return choice if isinstance(choice, SCALARS) else json.dumps(choice)


def toml_of(config: TrainConfig) -> str:
    """The settings that are other than the defaults, as a file that ``--config`` takes."""
    plain, settings = TrainConfig().as_dict(), config.as_dict()
    return "".join(f"{name} = {_toml(value)}\n" for name, value in settings.items() if value != plain[name])


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{json.dumps(key, ensure_ascii=False)} = {_toml(v)}" for key, v in value.items()) + " }"
        )
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
