"""What keeping freed memory is worth: photos that a training step learns a second of its processor's time.

    python -m benchmarks.heap --sizes 80 128

Each figure is the best of several steps, in a process of its own with one thread; the processor's own time is counted,
so that other work beside disturbs it little.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time

import torch

from heads.registry import head_named
from heads.task import Task
from pipeline.config import TrainConfig
from pipeline.heap import keep_freed_memory
from pipeline.network import build_network

STEPS = 7
BATCH = 64


def rate(kept: bool, size: int, backbone: str) -> float:
    """Photos of a second."""
    if kept:
        keep_freed_memory()
    torch.set_num_threads(1)
    task = Task.of(head_named("age"))
    config = TrainConfig(backbone=backbone, weights="none", image_size=size)
    network = build_network(config, task.n_outputs).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    photos = torch.randn(BATCH, 3, size, size).contiguous(memory_format=torch.channels_last)
    best = 0.0
    for _ in range(STEPS):
        start = time.process_time()
        network(photos).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        best = max(best, BATCH / (time.process_time() - start))
    return best


def main() -> None:
    """Measure both ways at each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[80, 128])
    parser.add_argument("--backbone", default="mobilenetv2_100")
    given = parser.parse_args()
    print("| network | as it comes | freed memory kept |\n|---|---|---|")
    fresh = multiprocessing.get_context("spawn")
    for size in given.sizes:
        rates = []
        for kept in (False, True):
            with fresh.Pool(1) as pool:  # mallopt cannot be taken back
                rates.append(pool.apply(rate, (kept, size, given.backbone)))
        plain, reused = rates
        print(f"| {given.backbone}, {size} px | {plain:.0f} img/s | {reused:.0f} img/s ({reused / plain:.2f}) |")


if __name__ == "__main__":
    main()
