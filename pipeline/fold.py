"""One fold from fresh network to predictions, in memory: nothing here reads or writes a file.

N photos, T eval photos, H heads, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.averages import Kept
from pipeline.engine import (
    OutOfMemory,
    Trainer,
    clock,
    is_out_of_memory,
    seed_everything,
)
from pipeline.errors import ArtifactError, ConfigError
from pipeline.fold_data import FoldResult
from pipeline.job import Job
from pipeline.network import build_network
from pipeline.phases import Phase, phase_of, photos_for
from pipeline.state import Progress, restore
from pipeline.work import Work


@dataclass(frozen=True, slots=True)
class FoldJob(Job):
    """One fold to be run; see `Job` for what it holds."""

    def run(self) -> FoldResult:
        """Train a network on the training rows and predict what it has not seen.

        It is a fresh one, or that of the newest checkpoint, and ends in the same bytes. Which epoch's weights are used
        is never chosen by the held-out rows: that would flatter their predictions.

        Raises:
            ArtifactError: The checkpoint is of another network.
            OutOfMemory: The device has no room for so many photos at once.
        """
        config = self.config
        main = self.main_phase()
        seed_everything(*self.key)
        progress = Progress(self.micro_batch)
        try:
            network = build_network(config, self.task.n_outputs).to(self.device)
            trainer = Trainer.of(network, self.task, config, self.device, len(main.steps), self.micro_batch)
            kept = Kept.of(network, config)
            progress = self.begin(trainer, kept, main)
            if not self.ranks.first:
                seed_everything(*self.key, self.ranks.rank, progress.step)  # else all would drop out alike
            spread = self.ranks.spread(network, self.device, config.image_size)
            trainer = replace(trainer, micro_batch=progress.micro_batch, ranks=self.ranks, spread=spread)
            if config.compile:
                network.compile()
            return Work(self, trainer, progress, kept, clock(), progress.seconds).run(main)
        except Exception as error:
            if is_out_of_memory(error):
                raise OutOfMemory(progress.micro_batch) from error
            raise

    def main_phase(self) -> Phase:
        """The epochs on the training rows."""
        photos = photos_for(self, self.data.photos, self.data.values, self.data.train)
        return phase_of(self, self.data.train, photos, epochs=range(self.config.epochs), first=0)

    def begin(self, trainer: Trainer, kept: Kept, main: Phase) -> Progress:
        """Where to begin: at the newest checkpoint, which is then put in place, or at the first step.

        Raises:
            ArtifactError: The checkpoint is of another network.
        """
        found = self.ranks.same(self.saver.load() if self.saver else None)
        if found is None:
            return Progress(self.micro_batch)
        progress, tensors = found
        try:
            if not progress.fits(main.ends):
                raise ValueError(f"it is at step {progress.step} in epoch {progress.epoch + 1}")
            restore(tensors, trainer.network, trainer.optimizer, trainer.scaler)
            kept.restore(tensors)
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
