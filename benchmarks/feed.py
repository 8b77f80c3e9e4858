"""How much of a network's speed the feeding of photos costs, in training and in prediction.

Trains and predicts the same photos in two ways that take turns: as batches that already lie in memory, and as the
program does it, from the file of resized photos, augmented on the way. Reported is the median over the rounds of the
ratio of their speeds, so that what else the machine does cancels out.

    python -m benchmarks.feed
    python -m benchmarks.feed --backbone mobilenetv2_100 --precision bf16 --image-size 224 --workers 1
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from heads.registry import head_named
from heads.task import Task
from pipeline.augmentation import Augmentation
from pipeline.config import TrainConfig
from pipeline.engine import (
    Trainer,
    choose_device,
    outputs_of,
    peak_memory,
    seed_everything,
)
from pipeline.images import Batch, PhotoSet, load_steps
from pipeline.network import build_network
from pipeline.precision import choose_precision
from pipeline.sampling import training_steps

BACKBONES = ("mobilenetv2_100", "resnet18", "mobilenetv3_small_100")
PHOTOS = 1024
Batches = Iterable[Batch]


def trained(trainer: Trainer) -> Callable[[Batches], None]:
    """What trains on batches."""

    def run(batches: Batches) -> None:
        trainer.network.train()
        for number, batch in enumerate(batches):
            trainer.step(number, batch)

    return run


def predicted(trainer: Trainer) -> Callable[[Batches], None]:
    """What predicts batches."""

    def run(batches: Batches) -> None:
        outputs_of(
            trainer.network, batches, ["identity"], config=trainer.config, device=trainer.device, done=lambda n: None
        )

    return run


def seconds(run: Callable[[Batches], None], batches: Batches, device: torch.device) -> float:
    """How long a run over these batches takes."""
    start = time.perf_counter()
    run(batches)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(run: Callable[[Batches], None], photos: PhotoSet, steps: int, rounds: int, trainer: Trainer) -> str:
    """One line: speed on batches in memory, speed when fed, and the median ratio."""
    config = trainer.config
    epochs = 1 + steps * config.batch_size // PHOTOS
    plan = training_steps(np.arange(PHOTOS), batch_size=config.batch_size, epochs=range(epochs), key=(0,))[:steps]
    workers = max(0, config.workers)
    ready = list(load_steps(photos, plan, 0))
    n = sum(len(rows) for _, rows in plan)
    seconds(run, ready, trainer.device)  # kernels are built
    pairs = []
    for number in range(rounds):
        fed: Batches = load_steps(photos, plan, workers, pin=trainer.device.type == "cuda")
        order = (ready, fed) if number % 2 else (fed, ready)
        took = {id(batches): seconds(run, batches, trainer.device) for batches in order}
        pairs.append((took[id(ready)], took[id(fed)]))
    memory, speed = (n / statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    ratio = statistics.median(a / b for a, b in pairs)
    low, high = np.quantile([a / b for a, b in pairs], [0.25, 0.75])
    return f"{memory:8.0f} {speed:8.0f}   {ratio:.3f} ({low:.3f}-{high:.3f})"


def main() -> None:
    """Measure and print a line a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", action="append")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    device, task = choose_device(given.device), Task.of(head_named("age"))
    size, rng = given.image_size, np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "photos.npy", rng.integers(0, 256, (PHOTOS, size, size, 3), dtype=np.uint8))
        photos = np.load(Path(folder) / "photos.npy", mmap_mode="r")
        values = rng.integers(18, 60, (PHOTOS, 1)).astype(np.float64)
        print(f"{size} px, batch {given.batch_size}, {given.workers} workers, {device.type}, images/s, quartiles")
        print("network                precision              in memory      fed   ratio")
        for backbone in given.backbone or BACKBONES:
            config = TrainConfig(
                backbone=backbone,
                weights="none",
                image_size=size,
                batch_size=given.batch_size,
                precision=given.precision,
                workers=given.workers,
            )
            if given.precision == "auto":
                timing = choose_precision(task, config, device, Path(folder) / "precision.json")
                config = TrainConfig.load(None, config.as_dict() | {"precision": timing.chosen})
            seed_everything(0)
            network = build_network(config, task.n_outputs).to(device)
            trainer = Trainer.of(network, task, config, device, 10**6, config.batch_size)
            light = PhotoSet(photos, values, Augmentation("light", (0,)))
            line = compare(trained(trainer), light, given.steps, given.rounds, trainer)
            print(f"{backbone:<22} {config.precision:<16} train {line}", flush=True)
            line = compare(predicted(trainer), PhotoSet(photos, values), 3 * given.steps, given.rounds, trainer)
            print(f"{backbone:<22} {config.precision:<16} predict {line}", flush=True)
        print(f"peak memory of this process: {peak_memory(device) / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
