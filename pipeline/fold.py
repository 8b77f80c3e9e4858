"""One fold from fresh network to predictions, in memory: nothing here reads or writes a file.

N photos, T eval photos, H heads, C classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from heads.base import FloatArray, IntArray
from heads.task import Task
from pipeline.config import TrainConfig
from pipeline.engine import (
    Trainer,
    clock,
    head_scores,
    learning_rate,
    make_optimizer,
    outputs_of,
    peak_memory,
    seed_everything,
    train_steps,
)
from pipeline.images import Augmentation, PhotoSet, Pixels, load_steps, stable_number, training_steps
from pipeline.network import Network, build_network

Row = dict[str, float]
Report = Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class FoldData:
    """What one fold learns from and predicts.

    Attributes:
        fold: Its number.
        photos: (N, S, S, 3) resized photos.
        values: (N, H) values of the heads, NaN = not labelled.
        train: Row numbers to learn from.
        held_out: Row numbers to predict; nobody on them is in ``train``.
        test: (T, S, S, 3) photos to predict as well.
    """

    fold: int
    photos: Pixels
    values: FloatArray
    train: IntArray
    held_out: IntArray
    test: Pixels


@dataclass(frozen=True, slots=True)
class FoldResult:
    """What one fold gives.

    Attributes:
        weights: The network after its last epoch.
        held_out: View -> probabilities of the held-out rows, (n, C) a head.
        test: View -> probabilities of the eval photos, (T, C) a head.
        absolute_errors: Head -> absolute errors in the label's unit, their sum and number, where its objective has an
            expected value.
        history: One row an epoch.
        seconds: Time taken.
        peak_memory: Bytes.
    """

    weights: dict[str, Tensor]
    held_out: dict[str, tuple[FloatArray, ...]]
    test: dict[str, tuple[FloatArray, ...]]
    absolute_errors: dict[str, tuple[float, int]]
    history: list[Row]
    seconds: float
    peak_memory: int


@dataclass(frozen=True, slots=True)
class FoldJob:
    """One fold to be run.

    Attributes:
        task: The heads to learn.
        data: Photos, values and rows.
        config: The settings.
        device: Where to run.
        workers: Processes that prepare training batches.
        report: Called with (photos done, where it is) after each batch.
        epoch_done: Called with each finished row of the history.
    """

    task: Task
    data: FoldData
    config: TrainConfig
    device: torch.device
    workers: int
    report: Report
    epoch_done: Callable[[Row], None]

    @property
    def key(self) -> tuple[int, ...]:
        """What all randomness of this fold belongs to."""
        return self.config.seed, stable_number("+".join(head.name for head in self.task.heads)), self.data.fold

    def run(self) -> FoldResult:
        """Train a fresh network on the training rows and predict what it has not seen.

        The last epoch's weights are used: choosing an epoch by the held-out rows would flatter their predictions.
        """
        elapsed = clock()
        seed_everything(*self.key)
        network = build_network(self.config, self.task.n_outputs).to(self.device)
        data, views = self.data, self.config.views
        history, outputs = self._train(network)
        held_out = {views[0]: outputs}
        for view in views[1:]:
            held_out[view] = self._predict(network, data.photos, data.held_out, view, "held-out")
        rows = np.arange(len(data.test))
        test = {view: self._predict(network, data.test, rows, view, "eval") for view in views} if len(rows) else {}
        return FoldResult(
            weights={name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()},
            held_out={view: self._probabilities(outputs) for view, outputs in held_out.items()},
            test={view: self._probabilities(outputs) for view, outputs in test.items()},
            absolute_errors=self._absolute_errors(list(held_out.values())),
            history=history,
            seconds=elapsed(),
            peak_memory=peak_memory(self.device),
        )

    def _train(self, network: Network) -> tuple[list[Row], Tensor]:
        """Train ``network`` in place; the history and the last epoch's outputs for the held-out rows."""
        config, data = self.config, self.data
        epochs, size = config.epochs, config.batch_size
        steps = training_steps(data.train, batch_size=size, epochs=epochs, key=self.key)
        photos = PhotoSet(data.photos, data.values, Augmentation(config.augment, self.key))
        batches = iter(load_steps(photos, steps, self.workers, pin=self.device.type == "cuda"))
        trainer = Trainer(network, self.task, make_optimizer(network, config), config, self.device, len(steps))
        per_epoch = len(steps) // epochs
        history: list[Row] = []
        outputs = torch.empty(0)
        for epoch in range(epochs):
            elapsed, place = clock(), itertools.count(1)

            def done(n: int, epoch: int = epoch, place: Iterator[int] = place) -> None:
                self.report(n, f"epoch {epoch + 1}/{epochs} batch {next(place)}/{per_epoch}")

            loss = train_steps(trainer, itertools.islice(batches, per_epoch), epoch * per_epoch, done)
            seconds = elapsed()
            outputs = self._predict(
                network, data.photos, data.held_out, config.views[0], f"epoch {epoch + 1}/{epochs} judged"
            )
            history.append(self._row(epoch, loss, seconds, len(steps), outputs))
            self.epoch_done(history[-1])
        return history, outputs

    def _row(self, epoch: int, loss: float, seconds: float, total_steps: int, outputs: Tensor) -> Row:
        """One line of ``history.csv``."""
        last_step = (epoch + 1) * total_steps // self.config.epochs - 1
        row = {
            "fold": float(self.data.fold),
            "epoch": float(epoch + 1),
            "train_loss": loss,
            "lr": learning_rate(last_step, total_steps, self.config),
            "seconds": seconds,
            "images_per_second": len(self.data.train) / seconds,
        }
        for head, scores in head_scores(self.task, outputs, self.data.values[self.data.held_out]):
            row |= {f"{head}_{name}": value for name, value in scores.items()}
        return row

    def _predict(self, network: Network, photos: Pixels, rows: IntArray, view: str, what: str) -> Tensor:
        """The (n, K) outputs for one view of these rows."""
        size = self.config.batch_size
        steps = [(0, rows[start : start + size]) for start in range(0, len(rows), size)]
        loader = load_steps(PhotoSet(photos, np.full((len(photos), 1), np.nan)), steps, workers=0)
        done = partial(self._predicted, what=f"{what} {view}")
        return outputs_of(network, loader, view, config=self.config, device=self.device, done=done)

    def _predicted(self, n: int, what: str) -> None:
        self.report(n, what)

    def _probabilities(self, outputs: Tensor) -> tuple[FloatArray, ...]:
        """The (n, C) probabilities of every head, in double precision so that rows sum to 1."""
        return tuple(probs.numpy() for probs in self.task.decode(outputs.double()))

    def _absolute_errors(self, outputs: list[Tensor]) -> dict[str, tuple[float, int]]:
        """Sum and number of absolute errors on the held-out rows of each head that expects a value, views averaged."""
        errors = {}
        values = self.data.values[self.data.held_out]
        for index, (head, objective) in enumerate(zip(self.task.heads, self.task.objectives, strict=True)):
            if objective.expect is not None:
                of_views = [objective.expect(self.task.split(view.double())[index]).numpy() for view in outputs]
                apart = np.abs(np.mean(of_views, axis=0) - values[:, index])
                errors[head.name] = float(np.nansum(apart)), int((~np.isnan(apart)).sum())
        return errors


def workload(data: FoldData, config: TrainConfig) -> int:
    """How many photos pass through the network in one fold."""
    views = len(config.views)
    per_epoch = len(data.train) + len(data.held_out)
    return config.epochs * per_epoch + (views - 1) * len(data.held_out) + views * len(data.test)
