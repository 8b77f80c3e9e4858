"""The parts of a fold's training: epochs on the same photos under the same rules. N photos."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from heads.base import IntArray
from pipeline.config import TrainConfig
from pipeline.images import PhotoSet
from pipeline.sampling import Groups, Steps, training_steps


@dataclass(frozen=True, slots=True)
class Phase:
    """Epochs that follow one another.

    Attributes:
        photos: What their batches come from.
        steps: Every step, with the number of its epoch.
        first: Number of the first step, counted over the whole training.
        epochs: Numbers of the epochs.
    """

    photos: PhotoSet
    steps: Steps
    first: int
    epochs: range

    @property
    def end(self) -> int:
        """Number of the first step after it."""
        return self.first + len(self.steps)

    @property
    def ends(self) -> list[int]:
        """Steps of the whole training that are done at the end of each epoch."""
        done, ends = self.first, []
        for _, steps in groupby(self.steps, key=lambda step: step[0]):
            done += len(list(steps))
            ends.append(done)
        return ends


def phase_of(
    rows: IntArray,
    photos: PhotoSet,
    config: TrainConfig,
    key: tuple[int, ...],
    *,
    groups: Groups,
    epochs: range,
    first: int,
) -> Phase:
    """Epochs over these rows, each in an order of its own.

    Args:
        rows: Row numbers of ``photos``.
        photos: Photos and labels.
        config: The settings.
        key: What all randomness belongs to.
        groups: Of all photos.
        epochs: Numbers of the epochs.
        first: Number of the first step.
    """
    size = config.batch_size * config.accumulate
    steps = training_steps(
        rows,
        batch_size=size,
        epochs=epochs,
        key=key,
        sampler=config.sampler,
        groups=groups,
        drop_last=config.drop_last,
    )
    return Phase(photos, steps, first, epochs)
