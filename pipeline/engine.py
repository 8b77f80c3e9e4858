"""Training and predicting with one network: the loops, the learning-rate curve, the device.

N samples, H heads, C classes, K outputs.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ensemble.metrics import confusion, precision_recall_f1
from heads.base import FloatArray
from heads.task import Task
from pipeline.batchnorm import still_statistics
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.freezing import set_frozen
from pipeline.images import VIEWS, Batch
from pipeline.optimizers import gradients, make_optimizer, set_rates, sharpened
from pipeline.ranks import ALONE, Ranks
from pipeline.schedules import learning_rate


class OutOfMemory(Exception):
    """The device has no room for ``micro_batch`` photos at once."""

    def __init__(self, micro_batch: int) -> None:
        super().__init__(f"no room for {micro_batch} photos at once")
        self.micro_batch = micro_batch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's or the computer's memory is used up; each device has its own words."""
    words = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    if "in DataLoader worker process" in str(error):
        return False  # smaller micro-batches would not help a worker
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or (isinstance(error, RuntimeError) and any(text in str(error) for text in words))


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
    """The context in which the network runs; ``auto`` is fp32 until it was decided."""
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision.split("-")[0])
    return torch.autocast(device.type, half, enabled=half is not None)


def make_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """What keeps small gradients above zero in fp16; it does nothing in other precisions.

    Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740, section 3.2.
    """
    return torch.amp.GradScaler(device.type, enabled=precision.startswith("fp16"))


@dataclass(frozen=True, slots=True)
class Trainer:
    """A network with all that a training step needs.

    Attributes:
        network: What learns.
        task: Its heads.
        optimizer: Of its parameters.
        config: The settings.
        device: Where it is.
        total_steps: Of the whole training.
        micro_batch: Most photos that pass through the network at once; a larger batch goes in parts whose gradients are
            added up. The step stays that of the whole batch, but batch normalisation sees one part at a time.
        scaler: Of the loss, in fp16.
        ranks: The processes that share each batch.
        spread: The network as it is called in training, when several do; its gradients are their mean.
    """

    network: nn.Module
    task: Task
    optimizer: torch.optim.Optimizer
    config: TrainConfig
    device: torch.device
    total_steps: int
    micro_batch: int
    scaler: torch.amp.GradScaler
    ranks: Ranks = ALONE
    spread: nn.Module | None = None

    @classmethod
    def of(
        cls, network: nn.Module, task: Task, config: TrainConfig, device: torch.device, total_steps: int, micro: int
    ) -> Trainer:
        """The network with a fresh optimiser and loss scale, for micro-batches of ``micro`` photos.

        Raises:
            ConfigError: The optimiser is unknown, or sharpness-aware steps are to be taken in fp16.
            NetworkError: Layers are to be frozen or to learn apart that the backbone does not have.
        """
        optimizer, scaler = make_optimizer(network, config), make_scaler(config.precision, device)
        if config.sam and scaler.is_enabled():
            raise ConfigError(
                "sam does not work in fp16, whose scaled gradients it would follow; use --precision bf16 or fp32"
            )
        set_frozen(network, config, 0)
        return cls(network, task, optimizer, config, device, total_steps, micro, scaler)

    def step(self, number: int, batch: Batch, whole: int | None = None, losses: Sequence[float] = ()) -> float:
        """Learn from one batch; return the sum of all losses.

        Args:
            number: Of the step, counted from 0.
            batch: This process's share of the photos.
            whole: How many photos there are in all processes; None = those of ``batch``.
            losses: Mean training loss of each epoch that is finished.

        Raises:
            ConfigError: The loss is no longer finite.
        """
        set_rates(self.optimizer, learning_rate(number, self.total_steps, self.config, losses))
        self.optimizer.zero_grad(set_to_none=True)
        n = len(batch[0]) if whole is None else whole
        done = min(1.0, number / self.total_steps)
        parts = self._pass(batch, n, done)
        if self.config.sam:
            with sharpened(self.optimizer, self.config.sam), still_statistics(self.network):
                self._pass(batch, n, done)
        if self.config.clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_([parameter for parameter, _ in gradients(self.optimizer)], self.config.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        mean = self.ranks.total(sum(float(part) for part in parts))
        if not math.isfinite(mean):
            raise ConfigError(
                f"the loss became {mean} at step {number}; use a lower --lr than {self.config.lr:g} (and --fresh, "
                "or another --name)"
            )
        return mean * n

    def _pass(self, batch: Batch, n: int, done: float) -> list[Tensor]:
        """Add the gradients of a batch, part by part; each part's share of the mean loss."""
        return [self._learn(part, n, done) for part in parts_of(batch, self.micro_batch)]

    def _learn(self, part: Batch, n: int, done: float) -> Tensor:
        """Add the gradients of one part of a batch of ``n`` photos; its share of the batch's mean loss."""
        pixels, values, shares = (tensor.to(self.device, non_blocking=True) for tensor in part)
        with autocast(self.config.precision, self.device):
            outputs = (self.spread or self.network)(pixels)
        made_of = zip(values.unbind(dim=1), shares.unbind(dim=1), strict=True)
        losses = sum(self.task.losses(outputs, value, done) * share for value, share in made_of)
        loss = torch.as_tensor(losses).sum(dim=1).sum() / n
        computed_twice = still_statistics(self.network) if self.config.grad_checkpointing else nullcontext()
        with computed_twice:
            self.scaler.scale(loss * self.ranks.size).backward()  # type: ignore[no-untyped-call]
        return loss.detach()


def parts_of(batch: Batch, size: int) -> list[Batch]:
    """The batch in nearly equal parts of about ``size`` photos; never one alone: batch normalisation needs two."""
    n = len(batch[0])
    count = max(1, min(math.ceil(n / size), n // 2))
    return list(zip(*(part.tensor_split(count) for part in batch), strict=True))


@torch.inference_mode()
def outputs_of(
    network: nn.Module,
    batches: Iterable[Batch],
    views: Sequence[str],
    *,
    config: TrainConfig,
    device: torch.device,
    done: Callable[[int], None],
) -> dict[str, Tensor]:
    """View -> the (N, K) outputs for all photos, on the CPU; every photo is fetched once.

    Raises:
        ConfigError: An output is no longer finite.
    """
    network.eval()
    parts: dict[str, list[Tensor]] = {view: [] for view in views}
    for pixels, *_ in batches:
        there = pixels.to(device, non_blocking=True)
        for view in views:
            with autocast(config.precision, device):
                parts[view].append(network(VIEWS[view](there)))
            done(len(pixels))
    outputs = {view: torch.cat(found).cpu() for view, found in parts.items()}
    if not all(found.isfinite().all() for found in outputs.values()):
        raise ConfigError(f"the network's outputs are no numbers any more; use a lower --lr than {config.lr:g}")
    return outputs


def head_scores(task: Task, outputs: Tensor, values: FloatArray) -> Iterator[tuple[str, dict[str, float]]]:
    """Loss, accuracy and macro F1 of each head on its labelled rows; F1, loss and accuracy (recall) of each class."""
    losses = task.losses(outputs, torch.from_numpy(values).float()).numpy()
    for index, (head, probs) in enumerate(zip(task.heads, task.decode(outputs), strict=True)):
        targets = head.labels(values[:, index])
        rows = targets >= 0
        if not rows.any():
            continue
        counts = confusion(targets[rows], probs.numpy()[rows].argmax(axis=1), len(head.classes))
        _, recall, f1 = precision_recall_f1(counts).T
        there = [(number, name) for number, name in enumerate(head.classes) if (targets == number).any()]
        scores = {
            "val_loss": float(losses[rows, index].mean()),
            "accuracy": float(np.trace(counts) / counts.sum()),
            "macro_f1": float(f1.mean()),
        }
        scores |= {f"f1_{name}": float(value) for name, value in zip(head.classes, f1, strict=True)}
        scores |= {f"val_loss_{name}": float(losses[targets == number, index].mean()) for number, name in there}
        yield head.name, scores | {f"accuracy_{name}": float(recall[number]) for number, name in there}


def probabilities(task: Task, outputs: Tensor) -> tuple[FloatArray, ...]:
    """The (N, C) probabilities of every head, in double precision so that rows sum to 1."""
    return tuple(probs.numpy() for probs in task.decode(outputs.double()))


def absolute_errors(task: Task, views: Sequence[Tensor], values: FloatArray) -> dict[str, tuple[float, int]]:
    """Sum and number of absolute errors of each head that expects a value, in the label's unit, views averaged.

    Args:
        task: The heads.
        views: (N, K) outputs of each view.
        values: (N, H) values of the heads, NaN = not labelled.
    """
    errors = {}
    for index, (head, objective) in enumerate(zip(task.heads, task.objectives, strict=True)):
        if objective.expect is not None and len(views):  # a full fit holds nobody out
            of_views = [objective.expect(task.split(view.double())[index]).numpy() for view in views]
            apart = np.abs(np.mean(of_views, axis=0) - values[:, index])
            errors[head.name] = float(np.nansum(apart)), int((~np.isnan(apart)).sum())
    return errors


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
