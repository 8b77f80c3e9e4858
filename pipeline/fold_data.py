"""What goes into the training of one fold, and what comes out of it.

N photos, T eval photos, H heads, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from heads.base import FloatArray, IntArray
from pipeline.augment import Pixels
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.state import Progress, Tensors


class Saver(Protocol):
    """Where a fold in training is kept; ``pipeline.checkpoints.Checkpoints`` is one."""

    def due(self, step: int, *, epoch_ends: bool) -> bool:
        """Whether to save after ``step`` steps."""

    def save(self, progress: Progress, tensors: Tensors) -> None:
        """Keep this state."""

    def load(self) -> tuple[Progress, Tensors] | None:
        """The newest state; None when there is none."""


@dataclass(frozen=True, slots=True)
class FoldData:
    """What one fold learns from and predicts.

    Attributes:
        fold: Its number.
        photos: (N, S, S, 3) resized photos, extra ones last.
        values: (N, H) values of the heads, NaN = not labelled.
        train: Row numbers to learn from.
        held_out: Row numbers to predict; nobody on them is in ``train`` or ``inner``.
        test: (T, S, S, 3) photos to predict as well.
        persons: (N,) number of the person on each photo.
        alike: What mixed photos must share, as a class index; -1 = unknown, as are rows behind its end.
        inner: Row numbers of other people, by which epochs are judged and chosen.
    """

    fold: int
    photos: Pixels
    values: FloatArray
    train: IntArray
    held_out: IntArray
    test: Pixels
    persons: IntArray
    alike: IntArray
    inner: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class FoldResult:
    """What one fold gives.

    Attributes:
        weights: The network that predicts.
        held_out: View -> probabilities of the held-out rows, (n, C) a head.
        test: View -> probabilities of the eval photos, (T, C) a head.
        absolute_errors: Head -> absolute errors in the label's unit, their sum and number, where its objective has an
            expected value.
        progress: What the training went through.
    """

    weights: Tensors
    held_out: dict[str, tuple[FloatArray, ...]]
    test: dict[str, tuple[FloatArray, ...]]
    absolute_errors: dict[str, tuple[float, int]]
    progress: Progress


def workload(data: FoldData, config: TrainConfig) -> int:
    """How many photos pass through the network in one fold, apart from what depends on how it learns.

    That is a soup that is tried, eval photos that are learnt from, an early stop, and the judging that goes with these.
    """
    views, main, finish = len(config.views), config.epochs, config.finish_epochs
    choosing = sum(is_looked_at(epoch, main, config) for epoch in range(main))
    looks = choosing + sum(is_looked_at(epoch, main + finish, config) for epoch in range(main, main + finish))
    an_epoch, finishing = (photos_an_epoch(rows, data.persons, config) for rows in (data.train, data.inner))
    learnt = main * an_epoch + finish * finishing + config.pseudo_epochs * (an_epoch + finishing)
    judged = looks * len(data.held_out) + choosing * len(data.inner) + bool(config.pseudo) * len(data.test)
    return learnt + judged + (views - 1) * len(data.held_out) + views * len(data.test)


def photos_an_epoch(rows: IntArray, persons: IntArray, config: TrainConfig) -> int:
    """How many photos an epoch over these rows sees."""
    n = len(np.unique(persons[rows])) if config.sampler == "one-per-person" else len(rows)
    size = config.batch_size * config.accumulate
    return n // size * size if config.drop_last and n > size else n


def require_photos(data: FoldData, config: TrainConfig) -> None:
    """Refuse a fold in which an epoch would have less than the two photos that batch normalisation needs.

    Raises:
        ConfigError: Too few people are left to train on, or to judge epochs by.
    """
    if config.inner and not len(data.inner):
        raise ConfigError(f"inner holds training people back, and fold {data.fold} has but one; set it to 0")
    epochs = {"train on": data.train} | ({"finish on, held back by inner": data.inner} if config.finish_epochs else {})
    for what, rows in epochs.items():
        if photos_an_epoch(rows, data.persons, config) < 2:
            people, photos = len(np.unique(data.persons[rows])), len(rows)
            raise ConfigError(
                f"an epoch of fold {data.fold} needs two photos to {what}; sampler {config.sampler!r} has not as many "
                f"with photos {photos}, people {people}"
            )


def is_looked_at(epoch: int, epochs: int, config: TrainConfig) -> bool:
    """Whether this epoch, counted from 0, is one after which people are judged that were not trained on."""
    return (epoch + 1) % config.validate_every == 0 or epoch + 1 in (config.epochs, epochs)
