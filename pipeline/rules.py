"""What every setting must be, and which of them go together only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from pipeline.errors import ConfigError


def one_of(*allowed: str) -> tuple[Callable[[Any], bool], str]:
    """The rule that a setting is one of these words."""
    return lambda value: value in allowed, "one of " + ", ".join(allowed)


def _plain_arguments(arguments: dict[str, Any]) -> bool:
    try:
        json.dumps(arguments, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return not arguments.keys() & {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path"}


RECIPES = ("none", "light", "medium", "heavy")
LOSS_NAMES = (
    "cross-entropy",
    "weighted",
    "focal",
    "class-balanced",
    "soft-f1",
    "balanced-softmax",
    "logit-adjusted",
    "ldam",
    "lade",
)
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
    "augment": one_of(*RECIPES),
    "transforms": (
        lambda t: all(isinstance(item.get("name"), str) and _plain_arguments(item) for item in t),
        "a list of tables, each with the name of an albumentations transform and its arguments",
    ),
    "per_class": (
        lambda t: all(one in RECIPES for one in t.values()),
        f"a table from class to one of {', '.join(RECIPES)}",
    ),
    "mixing": one_of("none", "mixup", "cutmix", "halves"),
    "mixing_args": (_plain_arguments, "a table of text and finite numbers"),
    "sampler": one_of("shuffled", "balanced", "sqrt-balanced", "balanced-batches", "one-per-person"),
    "extra": (lambda paths: all(path and "\0" not in path for path in paths), "a list of folders or tables"),
    "objective_args": (_plain_arguments, "a table of text and finite numbers"),
    "bin_rule": one_of("edges", "width", "frequency"),
    "bin_count": (lambda n: 2 <= n <= 1000, "from 2 to 1000"),
    "loss": one_of(*LOSS_NAMES),
    "loss_args": (_plain_arguments, "a table of text and finite numbers"),
    "label_smoothing": (lambda x: 0 <= x < 1, "from 0 to below 1"),
    "auxiliary": (lambda x: 0 <= x < 1e6, "at least 0"),
    "train_edges": (lambda e: len(e) <= 100 and all(abs(x) < 1e6 for x in e), "a list of finite numbers"),
    "border": (lambda b: len(b) in (0, 2) and all(abs(x) < 1e6 for x in b), "two numbers, lowest and highest"),
    "border_weight": (lambda x: 0 <= x <= 1, "from 0 to 1"),
    "inner": (lambda x: 0 <= x <= 0.5, "from 0 to 0.5"),
    "keep": one_of("last", "best"),
    "metric": one_of("macro_f1", "loss"),
    "patience": (lambda n: 0 <= n <= 10**5, "a number of epochs, 0 = none"),
    "validate_every": (lambda n: 1 <= n <= 10**5, "from 1 to 100000"),
    "validate_when": one_of("always", "improved"),
    "finish_epochs": (lambda n: 0 <= n <= 1000, "from 0 to 1000"),
    "finish_lr": (lambda x: 0 < x <= 1, "above 0, at most 1"),
    "pseudo": (
        lambda t: all(isinstance(x, int | float) and 0 < x <= 1 for x in t.values()),
        "a table from class to the probability from which on it is taken, above 0 and at most 1",
    ),
    "pseudo_epochs": (lambda n: 0 <= n <= 1000, "from 0 to 1000"),
    "optimizer_args": (_plain_arguments, "a table of text and finite numbers"),
    "schedule": one_of("cosine", "constant", "step", "restarts", "one-cycle", "plateau", "polynomial"),
    "schedule_args": (_plain_arguments, "a table of text and finite numbers"),
    "layer_decay": (lambda x: 0 < x <= 1, "above 0, at most 1"),
    "clip": (lambda x: 0 <= x < float("inf"), "at least 0"),
    "accumulate": (lambda n: 1 <= n <= 10**4, "from 1 to 10000"),
    "ema": (lambda x: 0 <= x < 1, "from 0 to below 1"),
    "average": one_of("none", "swa", "greedy"),
    "average_epochs": (lambda n: 1 <= n <= 1000, "from 1 to 1000"),
    "sam": (lambda x: 0 <= x < 1e3, "at least 0"),
    "neck": one_of("linear", "batchnorm", "mlp", "multi-dropout"),
    "neck_args": (_plain_arguments, "a table of text and finite numbers"),
    "init": one_of("default", "trunc-normal", "xavier", "kaiming", "zeros"),
    "freeze": (lambda n: -1 <= n <= 1000, "a number of groups of layers, or -1 for the whole backbone"),
    "unfreeze_epoch": (lambda n: 0 <= n <= 10**5, "an epoch, 0 = never"),
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

# what must hold for the settings together, and what to say when it does not
AGREEMENTS: list[tuple[Callable[[Any], bool], str]] = [
    (
        lambda c: c.inner or (c.keep == "last" and not c.patience and not c.finish_epochs and c.average != "greedy"),
        "keep = 'best', patience, finish_epochs and average = 'greedy' judge or use held-back training people; add "
        "inner, e.g. inner = 0.1",
    ),
    (
        lambda c: bool(c.pseudo) == bool(c.pseudo_epochs),
        "pseudo and pseudo_epochs go together: thresholds, and how many epochs use the eval photos that pass them",
    ),
    (lambda c: not c.border or c.border[0] <= c.border[1], "border must be lowest and highest, in this order"),
    (lambda c: c.border or not c.border_weight, "border_weight is for photos in a border band; add border"),
    (lambda c: c.bin_rule == "edges" or not c.bins, "bins are given, so bin_rule must stay 'edges'"),
]


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
