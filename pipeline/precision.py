"""Which precision and memory layout trains a network fastest on a device: timed, since no rule tells.

bf16 doubles the speed of ResNets on some CPUs and halves that of depthwise networks on the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heads.task import Task
from pipeline.config import TrainConfig
from pipeline.engine import Trainer, clock, is_out_of_memory
from pipeline.errors import ArtifactError
from pipeline.files import SCHEMA, read_json, write_json
from pipeline.images import Batch
from pipeline.network import build_network
from pipeline.progress import say
from pipeline.rules import PRECISIONS

GAIN = 0.9  # an earlier candidate is taken when it reaches this share of the best: a tenth is not worth fewer digits
ROUNDS = 3
LEAST = 2  # photos: batch normalisation cannot do with one
STILL = 1e-9  # learning rate
SOME = 16  # photos that stand for a whole batch on a CPU, which need not be filled as a GPU must


@dataclass(frozen=True, slots=True)
class Timing:
    """What was seen.

    Attributes:
        chosen: The precision to train in.
        rates: Candidate -> photos a second; 0 = it cannot run here.
        remembered: Whether it was timed earlier.
    """

    chosen: str
    rates: dict[str, float]
    remembered: bool = False

    def table(self) -> str:
        """The candidates with their speeds, one a line."""
        lines = [
            f"  {name:<16} {f'{rate:8.0f} img/s' if rate else '  does not run'}{'  <' if name == self.chosen else ''}"
            for name, rate in self.rates.items()
        ]
        return "\n".join(lines)


def candidates(device: torch.device) -> tuple[str, ...]:
    """What may be fastest on a device, the most exact first."""
    kinds: tuple[str, ...] = ("fp32",)
    if device.type == "cuda":
        kinds += ("bf16",) if torch.cuda.is_bf16_supported(including_emulation=False) else ("fp16",)
    elif device.type == "cpu":
        kinds += ("bf16",)
    return tuple(name for name in PRECISIONS if name.split("-")[0] in kinds)


def fastest(rates: dict[str, float]) -> str:
    """The first candidate that is nearly as fast as the best."""
    return next(name for name, rate in rates.items() if rate >= GAIN * max(rates.values()))


def choose_precision(task: Task, config: TrainConfig, device: torch.device, file: Path) -> Timing:
    """Time the candidates, or look up what was seen when the same was timed before.

    Args:
        task: The heads.
        config: The settings.
        device: Where to run.
        file: Keeps what was seen, so that a second run of the same network gets the same precision.
    """
    key = _key(task, config, device)
    known = _known(file)
    rates = known.get(key, {})
    if tuple(rates) == candidates(device) and any(rates.values()):
        return Timing(fastest(rates), rates, remembered=True)
    say("timing which precision is fastest here ...")
    rates = time_all(task, config, device)
    write_json(file, {"schema": SCHEMA, "images_per_second": known | {key: rates}})
    return Timing(fastest(rates), rates)


def time_all(task: Task, config: TrainConfig, device: torch.device) -> dict[str, float]:
    """Photos a second that each candidate trains; 0 = it has no room or no kernels here.

    When none has room for a batch, parts of it are timed, as the training will have to use.
    """
    size = min(config.batch_size, SOME) if device.type == "cpu" else config.batch_size
    while True:
        rates = {name: _rate(task, replace(config, precision=name), device, size) for name in candidates(device)}
        if any(rates.values()) or size <= LEAST:
            return rates
        size = max(LEAST, size // 2)


def _rate(task: Task, config: TrainConfig, device: torch.device, size: int) -> float:
    """Photos a second that one candidate trains: of a few steps the quickest, which other work disturbs least."""
    if config.sam and config.precision.startswith("fp16"):
        return 0.0  # its gradients are scaled
    steady = replace(config, weights="none", lr=STILL)  # noise must not make the loss grow
    batch = _batch(task, config, size)
    try:
        network = build_network(steady, task.n_outputs).to(device).train()
        trainer = Trainer.of(network, task, steady, device, 1, size)
        _step(trainer, batch)  # builds kernels
        return size / min(_step(trainer, batch) for _ in range(ROUNDS))
    except RuntimeError as error:
        if not is_out_of_memory(error) and device.type == "cpu":
            raise
        return 0.0


def _step(trainer: Trainer, batch: Batch) -> float:
    """The seconds of one training step."""
    elapsed = clock()
    trainer.step(0, batch)
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    return elapsed()


def _batch(task: Task, config: TrainConfig, size: int) -> Batch:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (size, config.image_size, config.image_size, 3), dtype=np.uint8)
    return (
        torch.from_numpy(pixels).permute(0, 3, 1, 2),
        torch.zeros(size, 1, len(task.heads)),
        torch.ones(size, 1, len(task.heads)),
    )


def _key(task: Task, config: TrainConfig, device: torch.device) -> str:
    """All that the speeds depend on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    network = f"{config.backbone} {config.backbone_args} {config.image_size} px"
    network += " sam" if config.sam else ""
    return f"{network}, batch {config.batch_size}, {name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _known(file: Path) -> dict[str, Any]:
    """What was seen so far; nothing when the file is not there or no longer holds speeds."""
    try:
        content = read_json(file)["images_per_second"] if file.is_file() else {}
    except (ArtifactError, KeyError):
        return {}
    good = isinstance(content, dict) and all(isinstance(rates, dict) for rates in content.values())
    numbers = [rate for rates in content.values() for rate in rates.values()] if good else []
    return content if good and all(isinstance(rate, float) and 0 <= rate < float("inf") for rate in numbers) else {}
