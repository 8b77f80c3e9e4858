"""The parts of a fold's training: epochs on the same photos under the same rules. N photos, H heads."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from heads.base import FloatArray, IntArray
from pipeline.augment import Pixels
from pipeline.augmentation import Augmentation
from pipeline.images import PhotoSet
from pipeline.job import Job
from pipeline.sampling import Steps, counted, training_steps, weights_of


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


def photos_for(job: Job, pixels: Pixels, values: FloatArray, rows: IntArray) -> PhotoSet:
    """These photos as batches to train on ``rows`` of them: augmented, mixed with one another, weighted.

    Args:
        job: Heads and settings.
        pixels: (N, S, S, 3) photos.
        values: (N, H) values of the heads, NaN = not labelled.
        rows: Row numbers that are trained on.
    """
    config, heads = job.config, job.task.heads
    augmentation = Augmentation.of(config, job.key, heads, values, train=rows, alike=job.data.alike)
    return PhotoSet(pixels, values, augmentation, weights=weights_of(heads, values, config))


def inner_to_learn(job: Job) -> IntArray:
    """Row numbers of the inner people's photos that count for any head."""
    weights = weights_of(job.task.heads, job.data.values, job.config)
    return job.data.inner[counted(job.data.values, weights)[job.data.inner]]


def phase_of(job: Job, rows: IntArray, photos: PhotoSet, *, epochs: range, first: int) -> Phase:
    """Epochs over these rows, each in an order of its own.

    Args:
        job: Heads and settings.
        rows: Row numbers of ``photos``.
        photos: Photos and labels.
        epochs: Numbers of the epochs.
        first: Number of the first step.
    """
    config = job.config
    steps = training_steps(
        rows,
        batch_size=config.batch_size * config.accumulate,
        epochs=epochs,
        key=job.key,
        sampler=config.sampler,
        groups=job.groups(photos),
        drop_last=config.drop_last,
    )
    return Phase(photos, steps, first, epochs)
