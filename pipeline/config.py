"""Settings of a training: defaults < TOML file < command line, every one checked, kept whole in ``run.json``."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, hint
from pipeline.reading import read_limited
from pipeline.rules import AGREEMENTS, RULES

HEAD_NAMES = ("mask", "gender", "age", "joint")
ITEMS: dict[str, Any] = {"views": str, "extra": str, "transforms": dict}  # of lists; others hold numbers
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
        weight_decay: Of matrices only.
        warmup: Share of the steps in which the learning rate rises.
        optimizer: ``adamw`` (fused), or any name that timm.optim knows.
        optimizer_args: Its keyword arguments.
        schedule: How the learning rate falls after the warm-up, see `pipeline.schedules`.
        schedule_args: Its keyword arguments.
        layer_decay: Factor of the learning rate from each group of layers to the one below it; 1 = equal rates.
        clip: Greatest norm of a step's gradient; 0 = any.
        accumulate: Batches whose gradients are added up to one step.
        ema: Decay of a moving average of the weights, which then predicts; 0 = none.
        average: ``none``, or how the weights of the last epochs become one network: ``swa`` or ``greedy`` (a soup).
        average_epochs: How many last epochs.
        sam: Radius of sharpness-aware minimisation; 0 = off.
        neck: What lies between backbone and outputs, see `pipeline.necks`.
        neck_args: Its keyword arguments.
        init: How new layers begin: ``default``, ``trunc-normal``, ``xavier``, ``kaiming`` or ``zeros``.
        freeze: First groups of layers that do not learn (0 is the stem's); -1 = the whole backbone.
        unfreeze_epoch: Epoch, counted from 0, from which they do; 0 = never.
        grad_checkpointing: Whether to save memory by computing the backbone twice.
        augment: ``none``, ``light``, ``medium`` or ``heavy``.
        transforms: A recipe of your own instead of ``augment``, see `pipeline.recipes`: tables with the ``name`` of an
            albumentations transform and its arguments.
        per_class: Class name -> augmentation of photos that have it; of several, the strongest.
        mixing: ``none``, ``mixup``, ``cutmix`` or ``halves``: what training photos are mixed by.
        mixing_args: ``prob``, ``alpha``, ``within`` (a label column that partners share), ``partner`` (their class).
        sampler: In which order, and how often, photos are seen, see `pipeline.sampling`.
        drop_last: Whether a last batch that is not full is left out.
        extra: Further data folders or tables (``PATH`` or ``LAYOUT:PATH``) that every fold trains on.
        objective: How heads that offer a choice are trained; empty = their default.
        objective_args: Its keyword arguments.
        bins: Edges of the bins objective; empty = the head's default.
        bin_rule: ``edges``, or bins of equal ``width`` or ``frequency``.
        bin_count: How many of those.
        loss: Loss of heads that are trained as classes or bins, see `heads.losses`.
        loss_args: Its keyword arguments.
        label_smoothing: Share of a target that is spread over all classes.
        auxiliary: Weight of a regression of the quantity beside the objective; 0 = none.
        train_edges: Where classes are cut in training, decoded back to the real ones; empty = the head's edges.
        border: Lowest and highest quantity of a band whose photos count ``border_weight``; empty = none.
        border_weight: 0 = they are left out.
        inner: Share of the training people that are held back to judge epochs; 0 = none.
        keep: ``last`` epoch's weights, or those ``best`` on the inner people.
        metric: What is best: ``macro_f1`` or ``loss``.
        patience: Judged epochs without a gain after which training stops; 0 = it goes on to the end.
        validate_every: Epochs between two looks at the inner and the held-out people.
        validate_when: ``always``, or when the training loss has ``improved``.
        finish_epochs: Epochs at the end on the inner people alone.
        finish_lr: Their learning rate, as share of ``lr``; that of ``pseudo_epochs`` too.
        pseudo: Class name -> probability above which eval photos are taken as of that class, for further training.
        pseudo_epochs: How long.
        full: Whether one more network is trained on everything, for the eval photos only.
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
    optimizer: str = "adamw"
    optimizer_args: dict[str, Any] = field(default_factory=dict)
    schedule: str = "cosine"
    schedule_args: dict[str, Any] = field(default_factory=dict)
    layer_decay: float = 1.0
    clip: float = 0.0
    accumulate: int = 1
    ema: float = 0.0
    average: str = "none"
    average_epochs: int = 3
    sam: float = 0.0
    neck: str = "linear"
    neck_args: dict[str, Any] = field(default_factory=dict)
    init: str = "default"
    freeze: int = 0
    unfreeze_epoch: int = 0
    grad_checkpointing: bool = False
    augment: str = "light"
    transforms: tuple[dict[str, Any], ...] = ()
    per_class: dict[str, Any] = field(default_factory=dict)
    mixing: str = "none"
    mixing_args: dict[str, Any] = field(default_factory=dict)
    sampler: str = "shuffled"
    drop_last: bool = False
    extra: tuple[str, ...] = ()
    objective: str = ""
    objective_args: dict[str, Any] = field(default_factory=dict)
    bins: tuple[float, ...] = ()
    bin_rule: str = "edges"
    bin_count: int = 10
    loss: str = "cross-entropy"
    loss_args: dict[str, Any] = field(default_factory=dict)
    label_smoothing: float = 0.0
    auxiliary: float = 0.0
    train_edges: tuple[float, ...] = ()
    border: tuple[float, ...] = ()
    border_weight: float = 0.0
    inner: float = 0.0
    keep: str = "last"
    metric: str = "macro_f1"
    patience: int = 0
    validate_every: int = 1
    validate_when: str = "always"
    finish_epochs: int = 0
    finish_lr: float = 0.1
    pseudo: dict[str, Any] = field(default_factory=dict)
    pseudo_epochs: int = 0
    full: bool = False
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
        for agree, why in AGREEMENTS:
            if not agree(self):
                raise ConfigError(why)

    @classmethod
    def load(
        cls, file: Path | None = None, overrides: Mapping[str, Any] | None = None, heads: Sequence[str] = ()
    ) -> TrainConfig:
        """The settings of a TOML file, overridden by those that are not None.

        Args:
            file: Its tables ``[heads.NAME]`` hold what is other for a head that has a network of its own.
            overrides: Settings of the command.
            heads: Names of the heads that share the network.

        Raises:
            ConfigError: The file is missing or no TOML, or a setting is unknown or out of range.
        """
        settings = _read_toml(file) if file else {}
        settings |= _of_head(settings.pop("heads", {}), heads)
        settings |= {key: value for key, value in (overrides or {}).items() if value is not None}
        known = [item.name for item in dataclasses.fields(cls)]
        for key in sorted(settings.keys() - set(known)):
            nearest = hint(key, known, f"settings are: {', '.join(known)}")
            raise ConfigError(f"unknown setting {key!r} in {file or 'the command'}; {nearest}")
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


def _of_head(tables: Any, heads: Sequence[str]) -> dict[str, Any]:
    """What the file sets for one head alone; heads that share a network have one setting."""
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ConfigError(f"heads must hold tables such as [heads.age], got {tables!r}")
    if unknown := sorted(tables.keys() - set(HEAD_NAMES)):
        raise ConfigError(f"unknown head {unknown[0]!r} in [heads.{unknown[0]}]; heads are: {', '.join(HEAD_NAMES)}")
    return dict(tables.get(heads[0], {})) if len(heads) == 1 else {}


def assigned(words: Iterable[str]) -> dict[str, Any]:
    """The settings in words such as ``loss=focal`` or ``bins=[15, 30, 60]``; values are TOML, or else plain text.

    Raises:
        ConfigError: A word has no ``=``.
    """
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"--set takes NAME=VALUE, got {word!r}")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except ValueError:
            value = text
        settings[name.strip()] = value
    return settings


def _coerced(name: str, value: Any, default: Any) -> Any:
    """``value`` as the kind that the setting's default has."""
    kind = type(default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 2**1000 else math.inf
    if kind is tuple and isinstance(value, list | tuple):
        wanted = ITEMS.get(name, (int, float))
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
