"""What must be known to train one fold in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from heads.task import Task
from pipeline.config import TrainConfig
from pipeline.fold_data import FoldData, Saver
from pipeline.images import PhotoSet, stable_number
from pipeline.interrupts import Stopping, never
from pipeline.ranks import ALONE, Ranks
from pipeline.sampling import Groups, groups_of
from pipeline.state import Row

Report = Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One fold to be run.

    Attributes:
        task: The heads to learn.
        data: Photos, values and rows.
        config: The settings.
        device: Where to run.
        workers: Processes that prepare training batches.
        micro_batch: Most photos that pass through the network at once.
        report: Called with (photos done, where it is) after each batch.
        skip: Called with the number of photos that need not be seen, since the fold goes on from a checkpoint.
        epoch_done: Called with each finished row of the history.
        saver: Where checkpoints are kept, if they are.
        stopping: Tells what to raise when somebody asks to stop; looked at after each batch.
        ranks: The processes that train this network together.
    """

    task: Task
    data: FoldData
    config: TrainConfig
    device: torch.device
    workers: int
    micro_batch: int
    report: Report
    epoch_done: Callable[[Row], None]
    skip: Callable[[int], None] = lambda n: None
    saver: Saver | None = None
    stopping: Stopping = never
    ranks: Ranks = ALONE

    @property
    def key(self) -> tuple[int, ...]:
        """What all randomness of this fold belongs to."""
        return self.config.seed, stable_number("+".join(head.name for head in self.task.heads)), self.data.fold

    def groups(self, photos: PhotoSet) -> Groups:
        """What these photos have in common; eval photos behind those of the data show people of their own."""
        return groups_of(self.task.heads, photos.values, self.data.persons)
