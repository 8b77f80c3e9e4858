"""A fold at work: its epochs, what is judged and kept after each, and the predictions at the end.

N photos, T eval photos, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from heads.base import IntArray
from pipeline.augment import Pixels
from pipeline.averages import Kept, greedy_soup, mean_of
from pipeline.engine import (
    Trainer,
    absolute_errors,
    clock,
    head_scores,
    is_out_of_memory,
    outputs_of,
    peak_memory,
    probabilities,
)
from pipeline.fold_data import FoldResult, is_looked_at
from pipeline.freezing import set_frozen
from pipeline.images import Batch, PhotoSet, load_steps
from pipeline.job import Job
from pipeline.phases import Phase, inner_to_learn, phase_of, photos_for
from pipeline.pseudo import sure_of, with_pseudo
from pipeline.schedules import learning_rate
from pipeline.state import Progress, Row, Tensors, tensors_of

AT_ONCE = {"cuda": 512}  # photos that are predicted at once, if memory holds them: without gradients many more fit


@dataclass(frozen=True, slots=True)
class Work:
    """A fold that is being run: the job, its network, where it is, what it keeps, and the time."""

    job: Job
    trainer: Trainer
    progress: Progress
    kept: Kept
    elapsed: Callable[[], float]
    before: float

    def run(self, main: Phase) -> FoldResult:
        """Train, then predict the held-out and the eval photos in every view."""
        job, data, views = self.job, self.job.data, self.job.config.views
        outputs = self._train(main)
        judged = {} if outputs is None else {views[0]: outputs}
        others = [view for view in views if view not in judged]
        held_out = judged | self._predict(data.photos, data.held_out, others, "held-out")
        test = self._predict(data.test, np.arange(len(data.test)), views, "eval")
        self._take_stock()
        return FoldResult(
            weights={name: t.detach().cpu().contiguous() for name, t in self._network.state_dict().items()},
            held_out={view: probabilities(job.task, outputs) for view, outputs in held_out.items()},
            test={view: probabilities(job.task, outputs) for view, outputs in test.items()},
            absolute_errors=absolute_errors(job.task, list(held_out.values()), data.values[data.held_out]),
            progress=self.progress,
        )

    @property
    def _network(self) -> nn.Module:
        """The network that predicts now."""
        return self.trainer.network if self.progress.settled else self.kept.predicting(self.trainer.network)

    def _train(self, main: Phase) -> Tensor | None:
        """Do what is not yet done; the held-out rows' outputs of the network as it is at the end, if they are known."""
        job, config, data = self.job, self.job.config, self.job.data
        outputs = None
        if not self.progress.settled:
            outputs = self._learn(main)
            outputs = outputs if self._settle(main) else None
        last = main
        rows = inner_to_learn(job)
        if config.finish_epochs and len(rows):  # nobody is held back where but one person may be trained on
            epochs = range(config.epochs, config.epochs + config.finish_epochs)
            photos = photos_for(job, data.photos, data.values, rows)
            last = phase_of(job, rows, photos, epochs=epochs, first=main.end)
            outputs = self._learn(last)
        if config.pseudo_epochs:
            outputs = self._learn(self._pseudo_phase(last))
        return outputs

    def _learn(self, phase: Phase) -> Tensor | None:
        """Do what is not yet done of a phase; the last epoch's outputs for the held-out rows, if they were judged."""
        job, progress = self.job, self.progress
        progress.step, progress.epoch = max(progress.step, phase.first), max(progress.epoch, phase.epochs.start)
        done = phase.steps[: progress.step - phase.first]
        past = [row for row in progress.history if row["epoch"] - 1 in phase.epochs]
        looks = sum(any(name.endswith("val_loss") for name in row) for row in past)
        judged = len(job.data.held_out) + (0 if progress.settled else len(job.data.inner))
        job.skip(sum(len(rows) for _, rows in done) + looks * judged)
        shares = [(epoch, job.ranks.share(rows)) for epoch, rows in phase.steps[len(done) :]]
        heed = self._heed if job.ranks.size == 1 else lambda: None  # several stop after the same step only
        batches = load_steps(phase.photos, shares, job.workers, pin=job.device.type == "cuda", heed=heed)
        outputs = None
        for epoch in phase.epochs[max(0, progress.epoch - phase.epochs.start) :]:
            if not progress.settled and 0 < job.config.patience <= progress.waited():
                break
            self._train_epoch(batches, phase, epoch)
            outputs = self._end_epoch(phase, epoch)
            job.epoch_done(progress.history[-1])
        return outputs

    def _train_epoch(self, batches: Iterator[Batch], phase: Phase, epoch: int) -> None:
        """Go on to the end of an epoch."""
        job, progress, config = self.job, self.progress, self.job.config
        ends = [phase.first, *phase.ends]
        first, end = ends[epoch - phase.epochs.start], ends[epoch - phase.epochs.start + 1]
        place = f"epoch {epoch + 1}/{config.epochs + config.finish_epochs + config.pseudo_epochs}"
        self.trainer.network.train()
        set_frozen(self.trainer.network, config, epoch)
        losses = [row["train_loss"] for row in progress.history]
        elapsed, before = clock(), progress.epoch_seconds
        while progress.step < end:
            batch = next(batches)
            n = len(phase.steps[progress.step - phase.first][1])
            progress.loss += self.trainer.step(progress.step, batch, n, losses)
            if not progress.settled:
                self.kept.after_step(self.trainer.network, progress.step)
            progress.photos += n
            progress.step += 1
            progress.epoch_seconds = before + elapsed()
            job.report(n, f"{place} batch {progress.step - first}/{end - first}")
            self._heed()
            if job.saver and job.saver.due(progress.step, epoch_ends=progress.step == end):
                self._save()

    def _end_epoch(self, phase: Phase, epoch: int) -> Tensor | None:
        """Judge the epoch where it is asked for, and note how it went; the held-out rows' outputs, if there are any."""
        job, progress, config = self.job, self.progress, self.job.config
        row = self._row(phase, epoch)
        outputs, inner = None, None
        if is_looked_at(epoch, phase.epochs.stop, config) and self._improved(row, phase):
            outputs = self._judge(job.data.held_out, f"epoch {epoch + 1} judged")
            if not progress.settled:  # later they are learnt from
                inner = self._judge(job.data.inner, f"epoch {epoch + 1} judged")
        if outputs is not None:
            for head, scores in head_scores(job.task, outputs, job.data.values[job.data.held_out]):
                row |= {f"{head}_{name}": value for name, value in scores.items()}
        if inner is not None:
            row |= self._inner_scores(inner)
        progress.end_epoch(row)
        if not progress.settled:
            if inner is not None:
                progress.judged(row["inner_macro_f1"] if config.metric == "macro_f1" else -row["inner_loss"])
            self.kept.after_epoch(self.trainer.network, progress, config)
        return outputs

    def _improved(self, row: Row, phase: Phase) -> bool:
        """Whether the training loss says that a look is worth its time; a phase's last epoch always is."""
        before = [other["train_loss"] for other in self.progress.history]
        last = row["epoch"] == phase.epochs.stop
        return last or self.job.config.validate_when == "always" or row["train_loss"] < min(before, default=np.inf)

    def _inner_scores(self, outputs: Tensor) -> Row:
        """How the inner people are predicted: the mean over the heads."""
        values = self.job.data.values[self.job.data.inner]
        scores = [scores for _, scores in head_scores(self.job.task, outputs, values)]
        return {
            "inner_macro_f1": float(np.mean([score["macro_f1"] for score in scores])),
            "inner_loss": float(np.mean([score["val_loss"] for score in scores])),
        }

    def _settle(self, main: Phase) -> bool:
        """Give the network the weights that its epochs chose; whether they are those that were judged last."""
        progress, config, kept = self.progress, self.job.config, self.kept
        judged = True
        if config.average != "none":
            self._load(self._averaged(main))
            judged = False
        elif config.keep == "best" and progress.best_epoch >= 0:
            self._load(kept.epochs[progress.best_epoch])
            judged = progress.best_epoch == progress.epoch - 1
        elif kept.ema is not None:
            self._load(kept.ema.module.state_dict())
        progress.settled = True
        kept.epochs, kept.ema = {}, None
        return judged

    def _averaged(self, main: Phase) -> Tensors:
        """The mean of the last epochs' weights, or of those of them that do no harm to the inner people."""
        config = self.job.config
        self.kept.ema = None  # its share is in the weights that were kept
        if config.average == "swa":
            self._load(mean_of(self.kept.epochs.values()))
        else:
            scores = dict(self.progress.scores)
            self._load(greedy_soup(self.kept.epochs, scores, lambda weights: self._soup_score(weights, main)))
        self._normalise_anew(main)
        return dict(self.trainer.network.state_dict())

    def _soup_score(self, weights: Tensors, main: Phase) -> float:
        self._load(weights)
        self._normalise_anew(main)
        outputs = self._judge(self.job.data.inner, "soup judged")
        row = {} if outputs is None else self._inner_scores(outputs)
        return row["inner_macro_f1"] if self.job.config.metric == "macro_f1" else -row["inner_loss"]

    def _load(self, weights: Tensors) -> None:
        self.trainer.network.load_state_dict(weights)

    def _normalise_anew(self, main: Phase) -> None:
        """Let batch normalisation measure the training photos under averaged weights, as Izmailov et al. 2018 do."""
        job = self.job
        last = main.steps[-len(main.steps) // len(main.epochs) :]
        shares = [(epoch, job.ranks.share(rows)) for epoch, rows in last]
        pixels = (batch[0] for batch in load_steps(main.photos, shares, workers=0))
        with torch.random.fork_rng():  # dropout must draw the same when this is done again after a stop
            torch.manual_seed(job.config.seed)
            update_bn(pixels, self.trainer.network, device=job.device)

    def _pseudo_phase(self, before: Phase) -> Phase:
        """Epochs on all that may be trained on and on the eval photos that the network is sure of."""
        job = self.job
        if not self.kept.pseudo:
            self.kept.pseudo = sure_of(job, self._judge_test())
        photos, rows = with_pseudo(job, self.kept.pseudo)
        epochs = range(before.epochs.stop, before.epochs.stop + job.config.pseudo_epochs)
        return phase_of(job, rows, photos, epochs=epochs, first=before.end)

    def _judge_test(self) -> Tensor:
        data, first = self.job.data, self.job.config.views[0]
        outputs = self._predict(data.test, np.arange(len(data.test)), [first], "eval judged")
        return outputs[first]

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
            tensors = tensors_of(trainer.network, trainer.optimizer, trainer.scaler)
            self.job.saver.save(self.progress, tensors | self.kept.tensors())

    def _take_stock(self) -> None:
        self.progress.seconds = self.before + self.elapsed()
        self.progress.peak_memory = max(self.progress.peak_memory, peak_memory(self.job.device))

    def _judge(self, rows: IntArray, what: str) -> Tensor | None:
        """The (n, K) outputs for these rows in the first view; None where there is no row."""
        first = self.job.config.views[0]
        return self._predict(self.job.data.photos, rows, [first], what).get(first)

    def _row(self, phase: Phase, epoch: int) -> Row:
        """One line of ``history.csv``, without what is judged."""
        job, progress, total = self.job, self.progress, self.trainer.total_steps
        last_step = phase.ends[epoch - phase.epochs.start] - 1
        return {
            "fold": float(job.data.fold),
            "epoch": float(epoch + 1),
            "train_loss": progress.loss / progress.photos,
            "lr": learning_rate(last_step, total, job.config, [row["train_loss"] for row in progress.history]),
            "seconds": progress.epoch_seconds,
            "images_per_second": progress.photos / progress.epoch_seconds,
        }

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
            network = self._network
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
