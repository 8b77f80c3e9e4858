"""How high the learning rate is at each step: functions of the settings, the step and the losses so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.arguments import Argument, Arguments, between, filled
from pipeline.config import TrainConfig

GAIN = 1e-4  # of the loss, relative, that counts as one
Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a training is.

    Attributes:
        step: Counted from 0.
        warm: Steps of the warm-up, at least 1.
        total: Steps in all.
        epochs: Epochs in all.
        losses: Mean training loss of each finished epoch.
    """

    step: int
    warm: int
    total: int
    epochs: int
    losses: Sequence[float] = ()

    @property
    def gone(self) -> int:
        """Steps since the warm-up."""
        return self.step - self.warm

    @property
    def rest(self) -> int:
        """Steps that follow the warm-up in all, at least 1."""
        return max(1, self.total - self.warm)


def cosine(at: Moment, args: Settings) -> float:
    """Half a cosine down to zero: Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983, equation 5, one cycle."""
    return 0.5 * (1 + math.cos(math.pi * at.gone / at.rest))


def constant(at: Moment, args: Settings) -> float:
    """No change."""
    return 1.0


def steps(at: Moment, args: Settings) -> float:
    """``gamma`` times as high after each ``every`` epochs, which may be a fraction."""
    passed = at.step * at.epochs / (at.total * args["every"])
    return float(args["gamma"] ** math.floor(passed + 1e-9))  # an epoch's first step is not to miss it by rounding


def restarts(at: Moment, args: Settings) -> float:
    """Half cosines, each ``growth`` times as long as the one before: Loshchilov & Hutter 2017, equation 5."""
    lengths = [args["growth"] ** cycle for cycle in range(args["cycles"])]
    gone = at.gone / at.rest * sum(lengths)
    for length in lengths:
        if gone < length - 1e-9:
            return 0.5 * (1 + math.cos(math.pi * gone / length))
        gone -= length
    return 0.0


def one_cycle(at: Moment, args: Settings) -> float:
    """Half a cosine up from 1/``start`` during the warm-up, and one down to 1/(``start`` x ``end``).

    Smith & Topin 2018, https://arxiv.org/abs/1708.07120, section 3, with cosines as fastai and torch have it.
    """
    low, lowest, top = 1 / args["start"], 1 / (args["start"] * args["end"]), at.warm - 1
    if at.step < top:
        return _between_by_cosine(low, 1.0, at.step / top)
    return _between_by_cosine(1.0, lowest, (at.step - top) / max(1, at.total - 1 - top))


def _between_by_cosine(begin: float, end: float, share: float) -> float:
    return end + (begin - end) * 0.5 * (1 + math.cos(math.pi * share))


def polynomial(at: Moment, args: Settings) -> float:
    """The share of the steps that is left, to a ``power``: Liu et al. 2015, https://arxiv.org/abs/1506.04579."""
    return float((1 - at.gone / at.rest) ** args["power"])


def plateau(at: Moment, args: Settings) -> float:
    """``factor`` times as high whenever the training loss has not fallen for more than ``patience`` epochs."""
    best, waited, factor = math.inf, 0, 1.0
    for loss in at.losses:
        better = loss < best * (1 - GAIN)
        best, waited = (loss, 0) if better else (best, waited + 1)
        if waited > args["patience"]:
            factor, waited = factor * args["factor"], 0
    return factor


Schedule = Callable[[Moment, Settings], float]
SCHEDULES: dict[str, Schedule] = {
    "cosine": cosine,
    "constant": constant,
    "step": steps,
    "restarts": restarts,
    "one-cycle": one_cycle,
    "plateau": plateau,
    "polynomial": polynomial,
}
_SHARE = Argument(0.1, lambda x: 0 < x <= 1, "above 0, at most 1")
SCHEDULE_ARGS: dict[str, Arguments] = {
    "step": {"gamma": _SHARE, "every": Argument(1.0, lambda x: 0 < x <= 1e5, "a number of epochs above 0")},
    "restarts": {"cycles": between(1, 100, 3), "growth": between(1, 10, 1.0)},
    "one-cycle": {"start": between(1, 1e9, 25.0), "end": between(1, 1e9, 1e4)},
    "plateau": {"factor": _SHARE, "patience": between(0, 10**5, 1)},
    "polynomial": {"power": between(0, 100, 1.0)},
}


def schedule_settings(config: TrainConfig) -> Settings:
    """The schedule's arguments, as given or else their defaults.

    Raises:
        ConfigError: One is unknown, of the wrong kind or out of range.
    """
    known = SCHEDULE_ARGS.get(config.schedule, {})
    return filled("schedule_args", config.schedule_args, known, f"schedule {config.schedule!r}")


def learning_rate(step: int, total: int, config: TrainConfig, losses: Sequence[float] = ()) -> float:
    """The learning rate of a step: a linear warm-up, then the schedule; after its end ``finish_lr`` of the highest.

    Args:
        step: Counted from 0.
        total: Steps of the schedule, which are those of ``config.epochs`` equal epochs.
        config: The settings.
        losses: Mean training loss of each epoch that is finished; only the plateau looks at them.

    Raises:
        ConfigError: The schedule's arguments are not as they must be.
    """
    if step >= total:
        return config.lr * config.finish_lr
    at = Moment(step, max(1, round(config.warmup * total)), total, config.epochs, losses)
    args = schedule_settings(config)
    if step < at.warm and config.schedule != "one-cycle":  # which has a rise of its own
        return config.lr * (step + 1) / at.warm
    return config.lr * SCHEDULES[config.schedule](at, args)
