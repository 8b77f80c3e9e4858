"""Checkpoints of a fold in training: written whole, verified, two kept, so that a damaged one never costs the work.

A checkpoint is ``fold<k>.<step>.safetensors`` and, written after it, ``fold<k>.<step>.json`` with its checksum.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import ArtifactError
from pipeline.files import SCHEMA, checksum, remove, write_bytes, write_json
from pipeline.progress import say
from pipeline.schema import CheckpointFacts, read_checked
from pipeline.state import Progress, Tensors

KEPT = 2
SHARE = 0.01  # of the time, spent on checkpoints when no interval is given
FIRST = 0.1  # seconds that the first one is taken to cost


@dataclass(slots=True)
class Checkpoints:
    """The checkpoints of one fold.

    Attributes:
        folder: Where they are kept.
        fold: Its number.
        settings: Fingerprint of the settings, data and folds that they belong to.
        machine: What the bytes of a result depend on beside that: device, threads, torch.
        every: Steps between two; 0 = as often as takes about 1 % of the time.
        last: When the last one was written, on the clock of ``time.perf_counter``.
        cost: Seconds that it took.
    """

    folder: Path
    fold: int
    settings: str
    machine: dict[str, Any]
    every: int = 0
    last: float = field(default_factory=time.perf_counter)
    cost: float = FIRST

    def due(self, step: int, *, epoch_ends: bool) -> bool:
        """Whether one should be written after ``step`` steps.

        At an epoch's end it comes at half the interval already, since that is the better place to go on from.
        """
        if self.every:
            return epoch_ends or step % self.every == 0
        return time.perf_counter() - self.last >= self.cost / SHARE * (0.5 if epoch_ends else 1.0)

    def save(self, progress: Progress, tensors: Tensors) -> None:
        """Write one, read it back, and only then remove all but the one before.

        Raises:
            ArtifactError: It cannot be written, or comes back other than it was written.
        """
        from safetensors.torch import save

        start = time.perf_counter()
        file = self.folder / f"fold{self.fold}.{progress.step:08}.safetensors"
        content = save(tensors)
        write_bytes(file, content)
        key = {"schema": SCHEMA, "fold": self.fold, "settings": self.settings, "machine": self.machine}
        facts = {"progress": dataclasses.asdict(progress), "sha256": checksum(content)}
        write_json(file.with_suffix(".json"), key | facts)
        try:
            self._read(file)
        except ArtifactError as error:
            remove([file.with_suffix(".json"), file])
            raise ArtifactError(f"{file} {error} right after it was written; check the disk") from error
        for old in self._files()[KEPT:]:
            remove([old.with_suffix(".json"), old])
        self.last = time.perf_counter()
        self.cost = self.last - start
        progress.checkpoint_seconds += self.cost

    def load(self) -> tuple[Progress, Tensors] | None:
        """The newest one that is whole; None when there is none. Damaged ones are told and removed."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        for file in self._files():
            try:
                facts, content = self._read(file)
                progress, tensors = Progress(**facts["progress"]), load(content)
            except (ArtifactError, SafetensorError) as error:
                say(f"the checkpoint {file} is damaged ({error}); it is not used")
                remove([file.with_suffix(".json"), file])
                continue
            for name, now in self.machine.items():
                if (then := facts["machine"].get(name)) != now:
                    say(f"fold {self.fold} was begun with {name} {then}, now {now}: as good, but not the same bytes")
            say(f"fold {self.fold} goes on after step {progress.step}, in epoch {len(progress.history) + 1}")
            return progress, tensors
        return None

    def clear(self) -> None:
        """Remove all checkpoints of the fold: it is kept whole, or starts anew."""
        remove(file for file in self.folder.glob(f"fold{self.fold}.*"))

    def _files(self) -> list[Path]:
        """The tensors' files that have their JSON, newest first."""
        found = sorted(self.folder.glob(f"fold{self.fold}.*.safetensors"), reverse=True)
        return [file for file in found if file.with_suffix(".json").is_file()]

    def _read(self, file: Path) -> tuple[CheckpointFacts, bytes]:
        """What the JSON of a checkpoint says, and the bytes of its tensors, when both are as they were written.

        Raises:
            ArtifactError: They are not.
        """
        facts = read_checked(file.with_suffix(".json"), CheckpointFacts)
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ArtifactError(f"cannot be read: {error.strerror}") from error
        if checksum(content) != facts["sha256"]:
            raise ArtifactError("its checksum differs")
        if facts["settings"] != self.settings:
            raise ArtifactError("it is of other settings")
        return facts, content


def machine_of(device: torch.device, processes: int) -> dict[str, Any]:
    """What the bytes of a result depend on, beside settings and data."""
    return {
        "device": device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "processes": processes,
    }
