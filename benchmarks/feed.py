"""How much of the training speed the feeding of photos costs.

Trains the same network for the same number of steps twice: on batches that already lie in memory, and on batches that
are read from the cache of resized photos and augmented on the way. The difference is what feeding costs.

    python -m benchmarks.feed --data demo/data-seed0 --backbone test_resnet --image-size 48
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from heads.registry import head_named
from pipeline.cache import PhotoCache
from pipeline.config import TrainConfig
from pipeline.engine import Trainer, make_optimizer, seed_everything
from pipeline.fold import FoldData
from pipeline.images import Augmentation, Batch, PhotoSet, load_steps, training_steps
from pipeline.network import build_network
from pipeline.plan import Plan, fold_data, make_plan


def speed(plan: Plan, batches: Iterable[Batch], steps: int) -> float:
    """Photos a second over ``steps`` training steps on ``batches``, the first two steps not counted."""
    config = plan.config
    seed_everything(0)
    network = build_network(config, plan.task.n_outputs).to(plan.device)
    optimizer = make_optimizer(network, config)
    trainer = Trainer(network, plan.task, optimizer, config, plan.device, steps, config.batch_size)
    network.train()
    times, counts = [], []
    start = time.perf_counter()
    for number, batch in enumerate(batches):
        trainer.step(number, batch)
        times.append(time.perf_counter() - start)
        counts.append(len(batch[0]))
    return sum(counts[2:]) / (times[-1] - times[1])


def main() -> None:
    """Measure and print three lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--backbone")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    given = parser.parse_args()
    overrides = {
        "backbone": given.backbone,
        "image_size": given.image_size,
        "weights": "none",
        "workers": given.workers,
    }
    plan = make_plan([head_named("age")], TrainConfig.load(given.config, overrides), given.data)
    paths, cache = plan.data.samples.paths, PhotoCache(given.artifacts / "cache", limit=20 * 2**30)
    with cache.opened(paths, cache.content(paths), plan.config.image_size, "reading photos") as kept:
        photos = kept.open()
    job: FoldData = fold_data(plan, 0, photos, photos[:0])
    epochs = 1 + given.steps * plan.config.batch_size // len(job.train)
    steps = training_steps(job.train, batch_size=plan.config.batch_size, epochs=epochs, key=(0,))[: given.steps]
    augmented = PhotoSet(np.asarray(photos), plan.values, Augmentation(plan.config.augment, (0,)))
    ready = list(load_steps(augmented, steps, 0))
    in_memory = speed(plan, ready, len(steps))
    fed = speed(plan, load_steps(augmented, steps, plan.workers), len(steps))
    print(f"{plan.config.backbone} {plan.config.image_size} px, batch {plan.config.batch_size}, {plan.device.type}")
    print(f"batches in memory      {in_memory:8.0f} img/s")
    print(f"fed, {plan.workers} workers         {fed:8.0f} img/s  ({fed / in_memory:.0%})")


if __name__ == "__main__":
    main()
