"""Training and predicting with one network: the loops, the learning-rate curve, the device.

N samples, H heads, C classes, K outputs.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ensemble.metrics import confusion, precision_recall_f1
from heads.base import FloatArray
from heads.task import Task
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.images import VIEWS, Batch


def choose_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: It is asked for but not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if there[kind])
    if not there[name]:
        raise ConfigError(f"device {name!r} is not available here; use --device auto")
    return torch.device(name)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """The context in which the network runs in its precision; ``auto`` is bf16 on CUDA devices that have it."""
    capable = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    use = precision == "bf16" or (precision == "auto" and capable)
    return torch.autocast(device.type, torch.bfloat16, enabled=use)


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """The learning rate of a step: a linear warm-up, then half a cosine down to zero (Loshchilov & Hutter 2017).

    https://arxiv.org/abs/1608.03983, equation 5 without restarts.
    """
    warm = max(1, round(config.warmup * total))
    if step < warm:
        return config.lr * (step + 1) / warm
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW whose weight decay leaves biases and normalisation alone."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, fused=True)


@dataclass(frozen=True, slots=True)
class Trainer:
    """A network with all that a training step needs."""

    network: nn.Module
    task: Task
    optimizer: torch.optim.Optimizer
    config: TrainConfig
    device: torch.device
    total_steps: int

    def step(self, number: int, batch: Batch) -> float:
        """Learn from one batch; return the sum of its samples' losses.

        Raises:
            ConfigError: The loss is no longer finite.
        """
        rate = learning_rate(number, self.total_steps, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        pixels, values = (part.to(self.device, non_blocking=True) for part in batch)
        with autocast(self.config.precision, self.device):
            outputs = self.network(pixels)
        loss = self.task.losses(outputs, values).sum(dim=1).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        mean = float(loss.detach())
        if not math.isfinite(mean):
            raise ConfigError(f"the loss became {mean} at step {number}; use a lower --lr than {self.config.lr:g}")
        return mean * len(pixels)


def train_steps(trainer: Trainer, batches: Iterable[Batch], first: int, done: Callable[[int], None]) -> float:
    """Train on ``batches``, the first being step number ``first``; return the mean loss of a sample.

    Args:
        trainer: Network, task and optimiser.
        batches: Pixels and values.
        first: Number of the first step in the whole training.
        done: Called after each step with the number of photos it held.
    """
    trainer.network.train()
    total, count = 0.0, 0
    for number, batch in enumerate(batches, start=first):
        total += trainer.step(number, batch)
        count += len(batch[0])
        done(len(batch[0]))
    return total / count


@torch.inference_mode()
def outputs_of(
    network: nn.Module,
    batches: Iterable[Batch],
    view: str,
    *,
    config: TrainConfig,
    device: torch.device,
    done: Callable[[int], None],
) -> Tensor:
    """The (N, K) outputs for one view of all photos, on the CPU.

    Raises:
        ConfigError: An output is no longer finite.
    """
    network.eval()
    see = VIEWS[view]
    parts: list[Tensor] = []
    for pixels, _ in batches:
        with autocast(config.precision, device):
            parts.append(network(see(pixels.to(device, non_blocking=True))).cpu())
        done(len(pixels))
    outputs = torch.cat(parts)
    if not outputs.isfinite().all():
        raise ConfigError(f"the network's outputs are no numbers any more; use a lower --lr than {config.lr:g}")
    return outputs


def head_scores(task: Task, outputs: Tensor, values: FloatArray) -> Iterator[tuple[str, dict[str, float]]]:
    """Loss, accuracy, macro F1 and F1 per class of each head on its labelled rows."""
    losses = task.losses(outputs, torch.from_numpy(values).float()).numpy()
    for index, (head, probs) in enumerate(zip(task.heads, task.decode(outputs), strict=True)):
        targets = head.labels(values[:, index])
        rows = targets >= 0
        if not rows.any():
            continue
        counts = confusion(targets[rows], probs.numpy()[rows].argmax(axis=1), len(head.classes))
        f1 = precision_recall_f1(counts)[:, 2]
        scores = {
            "val_loss": float(losses[rows, index].mean()),
            "accuracy": float(np.trace(counts) / counts.sum()),
            "macro_f1": float(f1.mean()),
        }
        yield head.name, scores | {f"f1_{name}": float(value) for name, value in zip(head.classes, f1, strict=True)}


def peak_memory(device: torch.device) -> int:
    """The most memory used so far, in bytes: of the CUDA device, else of this process; 0 = unknown."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return 0
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def seed_everything(seed: int, *key: int) -> None:
    """Seed torch for one fold and ask for the deterministic kernels where there are some."""
    torch.manual_seed(int(np.random.default_rng([seed, *key]).integers(2**63)))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    torch.backends.cudnn.benchmark = False
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time
    torch.use_deterministic_algorithms(mode=True, warn_only=True)


def clock() -> Callable[[], float]:
    """A function that tells the seconds since now."""
    start = time.perf_counter()
    return lambda: time.perf_counter() - start
