"""Pseudo-labels: eval photos that a fold's network is sure of, to train it further.

They come from that network alone, which never saw the people whom its fold holds out, so out-of-fold predictions stay
what they are (Lee 2013, Pseudo-Label, section 2). N photos, T eval photos, P of them taken, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor

from heads.base import FloatArray, IntArray
from heads.task import Task
from pipeline.augment import Pixels
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.images import Joined, PhotoSet
from pipeline.job import Job
from pipeline.phases import inner_to_learn, photos_for
from pipeline.progress import say
from pipeline.state import Tensors


def require_pseudo(task: Task, config: TrainConfig, eval_photos: int) -> None:
    """Refuse thresholds that no head has a class for, or that no eval photo can reach.

    Raises:
        ConfigError: A class is unknown, or there are no eval photos.
    """
    classes = [name for head in task.heads for name in head.classes]
    if unknown := sorted(config.pseudo.keys() - set(classes)):
        raise ConfigError(f"pseudo names {unknown[0]!r}, which is no class; classes are: {', '.join(classes)}")
    if config.pseudo and not eval_photos:
        raise ConfigError("pseudo needs eval photos, and this data has none")


def pseudo_labels(task: Task, outputs: Tensor, thresholds: Mapping[str, float], values: FloatArray) -> Tensors:
    """Which eval photos are taken, and the values that are taken for true.

    A photo gets a head's most probable class if the probability reaches that class's threshold; a class of a quantity
    stands there as the median quantity of the training photos that have it.

    Args:
        task: The heads.
        outputs: (T, K) of the eval photos.
        thresholds: Class name -> probability; a class without one is never taken.
        values: (N, H) values of the training photos, NaN = not labelled.

    Returns:
        ``rows`` (P,) and ``values`` (P, H), NaN where a head is not sure.
    """
    taken = np.full((len(outputs), len(task.heads)), np.nan)
    for index, (head, probs) in enumerate(zip(task.heads, task.decode(outputs), strict=True)):
        labels = head.labels(values[:, index])
        best = probs.numpy().argmax(axis=1)
        for number, name in enumerate(head.classes):
            sure = (best == number) & (probs.numpy()[:, number] >= thresholds.get(name, np.inf))
            known = values[labels == number, index]
            if len(known):
                taken[sure, index] = np.sort(known)[len(known) // 2]
    rows = np.flatnonzero(~np.isnan(taken).all(axis=1))
    return {"rows": torch.from_numpy(rows), "values": torch.from_numpy(taken[rows])}


def sure_of(job: Job, outputs: Tensor) -> Tensors:
    """What `pseudo_labels` gives for a fold whose network has these (T, K) outputs; says how many photos that are."""
    found = pseudo_labels(job.task, outputs, job.config.pseudo, job.data.values[job.data.train])
    taken = len(found["rows"])
    alone = "" if taken else "; going on with the training photos alone"
    say(f"fold {job.data.fold}: {taken} of {len(outputs)} eval photos reach a threshold of pseudo{alone}")
    return found


def with_pseudo(job: Job, pseudo: Tensors) -> tuple[PhotoSet, IntArray]:
    """The training photos with the eval photos behind them, and the rows to train on."""
    data = job.data
    test = np.full((len(data.test), data.values.shape[1]), np.nan)
    test[pseudo["rows"].numpy()] = pseudo["values"].numpy()
    values, pixels = np.concatenate([data.values, test]), cast(Pixels, Joined(data.photos, data.test))
    rows = np.concatenate([data.train, inner_to_learn(job), len(data.values) + pseudo["rows"].numpy()])
    return photos_for(job, pixels, values, rows), rows
