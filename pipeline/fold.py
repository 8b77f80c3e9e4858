"""One fold from fresh network to predictions, in memory: nothing here reads or writes a file.

N photos, T eval photos, H heads, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from heads.base import IntArray
from heads.task import Task
from pipeline.augment import Pixels
from pipeline.augmentation import Augmentation
from pipeline.config import TrainConfig
from pipeline.engine import (
    OutOfMemory,
    Trainer,
    absolute_errors,
    clock,
    head_scores,
    is_out_of_memory,
    outputs_of,
    peak_memory,
    probabilities,
    seed_everything,
)
from pipeline.errors import ArtifactError, ConfigError
from pipeline.fold_data import FoldData, FoldResult, Saver
from pipeline.images import Batch, PhotoSet, load_steps, stable_number
from pipeline.interrupts import Stopping, never
from pipeline.network import build_network
from pipeline.ranks import ALONE, Ranks
from pipeline.sampling import training_steps
from pipeline.schedules import learning_rate
from pipeline.state import Progress, Row, restore, tensors_of

Report = Callable[[int, str], None]
AT_ONCE = {"cuda": 512}  # photos that are predicted at once, if memory holds them: without gradients many more fit


@dataclass(frozen=True, slots=True)
class FoldJob:
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

    def run(self) -> FoldResult:
        """Train a network on the training rows and predict what it has not seen.

        It is a fresh one, or that of the newest checkpoint, and ends in the same bytes. The last epoch's weights are
        used: choosing an epoch by the held-out rows would flatter their predictions.

        Raises:
            ArtifactError: The checkpoint is of another network.
            OutOfMemory: The device has no room for so many photos at once.
        """
        config = self.config
        steps = training_steps(self.data.train, batch_size=config.batch_size, epochs=config.epochs, key=self.key)
        seed_everything(*self.key)
        progress = Progress(self.micro_batch)
        try:
            network = build_network(config, self.task.n_outputs).to(self.device)
            trainer = Trainer.of(network, self.task, config, self.device, len(steps), self.micro_batch)
            progress = self.begin(trainer)
            if not self.ranks.first:
                seed_everything(*self.key, self.ranks.rank, progress.step)  # else all would drop out alike
            spread = self.ranks.spread(network, self.device, config.image_size)
            trainer = replace(trainer, micro_batch=progress.micro_batch, ranks=self.ranks, spread=spread)
            if config.compile:
                network.compile()
            return _Work(self, trainer, progress, clock(), progress.seconds).run(steps)
        except Exception as error:
            if is_out_of_memory(error):
                raise OutOfMemory(progress.micro_batch) from error
            raise

    def begin(self, trainer: Trainer) -> Progress:
        """Where to begin: at the newest checkpoint, which is then put in place, or at the first step.

        Raises:
            ArtifactError: The checkpoint is of another network.
        """
        found = self.ranks.same(self.saver.load() if self.saver else None)
        if found is None:
            return Progress(self.micro_batch)
        progress, tensors = found
        try:
            if not progress.fits(trainer.total_steps, self.config.epochs):
                raise ValueError(f"it is at step {progress.step} in epoch {len(progress.history) + 1}")
            restore(tensors, trainer.network, trainer.optimizer, trainer.scaler)
        except (KeyError, IndexError, ValueError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise ConfigError(
                    f"{self.device} has no room for the network ({error}); the checkpoint stays"
                ) from error
            raise ArtifactError(
                f"the checkpoint of fold {self.data.fold} does not fit its network ({error}); start over with --fresh"
            ) from error
        progress.resumed += 1
        progress.micro_batch = min(progress.micro_batch, self.micro_batch) if self.ranks.size == 1 else self.micro_batch
        return progress


@dataclass(frozen=True, slots=True)
class _Work:
    """A fold that is being run: the job, its network, where it is, and the time."""

    job: FoldJob
    trainer: Trainer
    progress: Progress
    elapsed: Callable[[], float]
    before: float

    def run(self, steps: list[tuple[int, IntArray]]) -> FoldResult:
        """Train, then predict the held-out and the eval photos in every view."""
        job, data, views = self.job, self.job.data, self.job.config.views
        outputs = self._train(steps)
        judged = {} if outputs is None else {views[0]: outputs}
        others = [view for view in views if view not in judged]
        held_out = judged | self._predict(data.photos, data.held_out, others, "held-out")
        test = self._predict(data.test, np.arange(len(data.test)), views, "eval")
        self._take_stock()
        return FoldResult(
            weights={name: t.detach().cpu().contiguous() for name, t in self.trainer.network.state_dict().items()},
            held_out={view: probabilities(job.task, outputs) for view, outputs in held_out.items()},
            test={view: probabilities(job.task, outputs) for view, outputs in test.items()},
            absolute_errors=absolute_errors(job.task, list(held_out.values()), data.values[data.held_out]),
            progress=self.progress,
        )

    def _train(self, steps: list[tuple[int, IntArray]]) -> Tensor | None:
        """Do the steps that are not yet done; the last judged outputs for the held-out rows, if any were judged."""
        job, progress, config = self.job, self.progress, self.job.config
        per_epoch = len(steps) // config.epochs
        data, heads = job.data, job.task.heads
        augmentation = Augmentation.of(config, job.key, heads, data.values, train=data.train, groups=data.groups)
        photos = PhotoSet(data.photos, data.values, augmentation)
        job.skip(sum(len(rows) for _, rows in steps[: progress.step]) + len(progress.history) * len(job.data.held_out))
        shares = [(epoch, job.ranks.share(rows)) for epoch, rows in steps[progress.step :]]
        heed = self._heed if job.ranks.size == 1 else lambda: None  # several stop after the same step only
        batches = load_steps(photos, shares, job.workers, pin=job.device.type == "cuda", heed=heed)
        sizes = [len(rows) for _, rows in steps]
        outputs = None
        for epoch in range(len(progress.history), config.epochs):
            place = f"epoch {epoch + 1}/{config.epochs}"
            self._train_epoch(batches, sizes, place, (epoch * per_epoch, (epoch + 1) * per_epoch))
            outputs = self._judge(f"{place} judged")
            progress.end_epoch(self._row(epoch, len(steps), outputs))
            job.epoch_done(progress.history[-1])
        return outputs

    def _train_epoch(self, batches: Iterator[Batch], sizes: list[int], place: str, steps: tuple[int, int]) -> None:
        """Go on to the end of an epoch, which lasts from the first to the second of ``steps``."""
        job, progress, (first, end) = self.job, self.progress, steps
        self.trainer.network.train()
        elapsed, before = clock(), progress.epoch_seconds
        while progress.step < end:
            batch = next(batches)
            n = sizes[progress.step]
            progress.loss += self.trainer.step(progress.step, batch, n)
            progress.photos += n
            progress.step += 1
            progress.epoch_seconds = before + elapsed()
            job.report(n, f"{place} batch {progress.step - first}/{end - first}")
            self._heed()
            if job.saver and job.saver.due(progress.step, epoch_ends=progress.step == end):
                self._save()

    def _heed(self) -> None:
        """Stop when somebody asks for it.

        Raises:
            BaseException: What was asked to stop with; a checkpoint is written first.
        """
        if stop := self.job.ranks.agreed(self.job.stopping()):
            with self.job.ranks.first_alone():
                self._save()
            raise stop

    def _save(self) -> None:
        if self.job.saver:
            self._take_stock()
            trainer = self.trainer
            self.job.saver.save(self.progress, tensors_of(trainer.network, trainer.optimizer, trainer.scaler))

    def _take_stock(self) -> None:
        self.progress.seconds = self.before + self.elapsed()
        self.progress.peak_memory = max(self.progress.peak_memory, peak_memory(self.job.device))

    def _judge(self, what: str) -> Tensor:
        """The (n, K) outputs for the held-out rows in the first view."""
        first = self.job.config.views[0]
        return self._predict(self.job.data.photos, self.job.data.held_out, [first], what)[first]

    def _row(self, epoch: int, total_steps: int, outputs: Tensor) -> Row:
        """One line of ``history.csv``."""
        job, progress = self.job, self.progress
        last_step = (epoch + 1) * total_steps // job.config.epochs - 1
        row = {
            "fold": float(job.data.fold),
            "epoch": float(epoch + 1),
            "train_loss": progress.loss / progress.photos,
            "lr": learning_rate(last_step, total_steps, job.config),
            "seconds": progress.epoch_seconds,
            "images_per_second": len(job.data.train) / progress.epoch_seconds,
        }
        for head, scores in head_scores(job.task, outputs, job.data.values[job.data.held_out]):
            row |= {f"{head}_{name}": value for name, value in scores.items()}
        return row

    def _predict(self, photos: Pixels, rows: IntArray, views: Sequence[str], what: str) -> dict[str, Tensor]:
        """View -> the (n, K) outputs for these rows; nothing where there is no row or no view."""
        job, least = self.job, min(self.job.config.batch_size, self.progress.micro_batch)
        if not len(rows) or not views:
            return {}
        size = max(least, AT_ONCE.get(job.device.type, 0)) if job.ranks.size == 1 else least
        mine = job.ranks.share(rows)  # in as many batches as the others have; the last may be empty
        while True:
            steps = [(0, mine[start : start + size]) for start in range(0, job.ranks.most(len(rows)), size)]
            photo_set = PhotoSet(photos, np.full((len(photos), 1), np.nan))
            loader = load_steps(photo_set, steps, workers=0, pin=job.device.type == "cuda")
            done = partial(self._predicted, what=what)
            network = self.trainer.network
            try:
                found = outputs_of(network, loader, views, config=job.config, device=job.device, done=done)
            except Exception as error:
                if not is_out_of_memory(error) or size <= least:
                    raise
                size = max(least, size // 2)
            else:
                return {view: job.ranks.joined(outputs, len(rows)) for view, outputs in found.items()}

    def _predicted(self, n: int, what: str) -> None:
        self.job.report(n * self.job.ranks.size, what)
        self._heed()
