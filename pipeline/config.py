"""Settings of a training: defaults < TOML file < command line, every one checked, kept whole in ``run.json``."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.reading import read_limited

MOST_BYTES = 64 * 2**10  # of a settings file; dotted names take tomllib time that grows with the square of their length


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """All that decides what a training does, apart from the data and the heads.

    Attributes:
        folds: K, into how many parts the people are divided.
        fold_seed: First seed of the fold table; keep it equal for all runs that shall vote together.
        backbone: Any timm model name.
        weights: ``imagenet`` (downloaded by timm), ``none``, or a safetensors / .pth file with timm's names.
        backbone_args: Keyword arguments for ``timm.create_model``.
        mean: Channel means that inputs are normalised with, 0-1; empty = those of the weights.
        std: Channel deviations likewise.
        image_size: Side in pixels that photos are resized to.
        epochs: Passes over the training folds; the last one's weights are used.
        batch_size: Photos a step.
        lr: Highest learning rate, reached after the warm-up.
        weight_decay: AdamW's, for matrices only.
        warmup: Share of the steps in which the learning rate rises.
        augment: ``light`` or ``none``.
        objective: How heads that offer a choice are trained; empty = their default.
        bins: Edges of the bins objective; empty = the head's default.
        views: Test-time views that are predicted.
        seed: Seeds the new layers, the order of photos and augmentation.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto`` (the fastest, timed), ``fp32``, ``bf16`` or ``fp16``; with ``-contiguous``, images lie in
            torch's usual layout instead of channels last.
        compile: Whether torch.compile makes faster code of the network first.
        checkpoint_every: Steps between two checkpoints; 0 = as often as takes about 1 % of the time.
        workers: Processes that prepare batches; -1 = none on a CPU, up to 8 beside an accelerator.
        cache: Where resized photos are kept: ``auto`` (``cache`` in the artifacts), ``off``, or a folder.
        cache_gib: How much of them is kept, in GiB; what is in use stays beyond that.
        fixes: Label-fix table of your own (CSV), applied after the built-in one.
        no_fixes: Leave all labels as they are.
        note: Free text, shown by ``pipe runs``.
    """

    folds: int = 5
    fold_seed: int = 0
    backbone: str = "mobilenetv2_100"
    weights: str = "imagenet"
    backbone_args: dict[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    image_size: int = 128
    epochs: int = 5
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    augment: str = "light"
    objective: str = ""
    bins: tuple[float, ...] = ()
    views: tuple[str, ...] = ("identity", "hflip")
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    compile: bool = False
    checkpoint_every: int = 0
    workers: int = -1
    cache: str = "auto"
    cache_gib: float = 20.0
    fixes: str = ""
    no_fixes: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        """Check every setting.

        Raises:
            ConfigError: One is of the wrong kind or out of range.
        """
        for item in dataclasses.fields(self):
            default = item.default if item.default is not dataclasses.MISSING else {}
            object.__setattr__(self, item.name, _coerced(item.name, getattr(self, item.name), default))
        for name, (holds, wanted) in RULES.items():
            if not holds(getattr(self, name)):
                raise ConfigError(f"{name} must be {wanted}, got {getattr(self, name)!r}")

    @classmethod
    def load(cls, file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
        """The settings of a TOML file, overridden by those that are not None.

        Raises:
            ConfigError: The file is missing or no TOML, or a setting is unknown or out of range.
        """
        settings = _read_toml(file) if file else {}
        settings |= {key: value for key, value in (overrides or {}).items() if value is not None}
        known = [item.name for item in dataclasses.fields(cls)]
        for key in sorted(settings.keys() - set(known)):
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"settings are: {', '.join(known)}"
            raise ConfigError(f"unknown setting {key!r} in {file or 'the command'}; {hint}")
        return cls(**settings)

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON knows them."""
        values = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        settings = tomllib.loads(read_limited(file, MOST_BYTES).decode())
        repr(settings)  # fails on numbers of thousands of digits, which no message could quote
    except FileNotFoundError:
        raise ConfigError(f"no settings file {file}") from None
    except (OSError, ValueError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read settings from {file}: {why}") from error
    return settings


def _coerced(name: str, value: Any, default: Any) -> Any:
    """``value`` as the kind that the setting's default has."""
    kind = type(default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 2**1000 else math.inf
    if kind is tuple and isinstance(value, list | tuple):
        wanted = str if default and isinstance(default[0], str) else (int, float)
        if all(isinstance(item, wanted) and not isinstance(item, bool) for item in value):
            return tuple(value)
    elif isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    words = {
        "int": "a whole number",
        "float": "a number",
        "str": "text",
        "tuple": "a list",
        "dict": "a table",
        "bool": "true or false",
    }
    raise ConfigError(f"{name} must be {words[kind.__name__]}, got {value!r}")


def one_of(*allowed: str) -> tuple[Callable[[Any], bool], str]:
    """The rule that a setting is one of these words."""
    return lambda value: value in allowed, "one of " + ", ".join(allowed)


def _plain_arguments(arguments: dict[str, Any]) -> bool:
    try:
        json.dumps(arguments, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return not arguments.keys() & {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path"}


VIEW_NAMES = ("identity", "hflip")
PRECISIONS = tuple(kind + layout for kind in ("fp32", "bf16", "fp16") for layout in ("", "-contiguous"))
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "folds": (lambda n: 2 <= n <= 100, "from 2 to 100"),
    "fold_seed": (lambda n: 0 <= n < 2**31, "from 0 to 2147483647"),
    "weights": (lambda path: "\0" not in path, "imagenet, none or the path of a file"),
    "fixes": (lambda path: "\0" not in path, "the path of a file"),
    "backbone_args": (_plain_arguments, "text, finite numbers, lists and tables, and no source of weights"),
    "mean": (lambda m: len(m) in (0, 3) and all(abs(x) < 1e3 for x in m), "three numbers, each usually 0 to 1"),
    "std": (lambda s: len(s) in (0, 3) and all(0 < x < 1e3 for x in s), "three numbers above 0"),
    "bins": (lambda b: len(b) <= 1000 and all(abs(x) < 1e6 for x in b), "a list of up to 1000 finite numbers"),
    "image_size": (lambda n: 16 <= n <= 2048, "from 16 to 2048"),
    "epochs": (lambda n: 1 <= n <= 10**5, "from 1 to 100000"),
    "batch_size": (lambda n: 2 <= n <= 10**6, "from 2 to 1000000"),
    "lr": (lambda x: 0 < x < float("inf"), "above 0"),
    "weight_decay": (lambda x: 0 <= x < float("inf"), "at least 0"),
    "warmup": (lambda x: 0 <= x < 1, "from 0 to below 1"),
    "augment": one_of("light", "none"),
    "views": (
        lambda v: v and v[0] == "identity" and len(set(v)) == len(v) and set(v) <= set(VIEW_NAMES),
        f"a list out of {', '.join(VIEW_NAMES)}, identity first",
    ),
    "note": (str.isprintable, "one line of printable text"),
    "seed": (lambda n: 0 <= n < 2**31, "from 0 to 2147483647"),
    "device": one_of("auto", "cpu", "cuda", "mps"),
    "precision": one_of("auto", *PRECISIONS),
    "checkpoint_every": (lambda n: n >= 0, "a number of steps, or 0 to let the program choose"),
    "workers": (lambda n: -1 <= n <= 256, "from 0 to 256, or -1 to let the program choose"),
    "cache": (lambda place: place and "\0" not in place, "auto, off or a folder"),
    "cache_gib": (lambda x: 0 <= x < 1e9, "a number of GiB from 0 on"),
}


def chosen_word(name: str, value: str, allowed: Iterable[str]) -> str:
    """``value`` when it is one of ``allowed``.

    Raises:
        ConfigError: It is not.
    """
    words = list(allowed)
    if value not in words:
        raise ConfigError(f"{name} must be one of {', '.join(words)}, got {value!r}")
    return value


def chosen_words(name: str, value: str, allowed: Iterable[str]) -> tuple[str, ...]:
    """The words of a list with commas, each one of ``allowed`` and given once.

    Raises:
        ConfigError: One is not, or stands there twice.
    """
    words = list(allowed)
    chosen = tuple(chosen_word(name, word.strip(), words) for word in value.split(","))
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"{name} names one twice: {value}")
    return chosen
