"""Several processes that train one network together: who works on what, and how they come to one result.

R processes, N photos, K outputs. Numbers and objects go over gloo, gradients on GPUs over NCCL.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from datetime import timedelta
from typing import TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from heads.base import IntArray
from pipeline.batchnorm import span_processes
from pipeline.errors import ConfigError, RankError
from pipeline.interrupts import Terminated
from pipeline.launch import Place, place

LONGEST = timedelta(days=7)  # that one may wait for another: the first reads all photos while the others wait
STOPS: tuple[type[BaseException], ...] = (Terminated, KeyboardInterrupt)

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Ranks(Place):
    """This process among the others. Every method but `share` and `most` must be called by all of them, in one order.

    With one process each method gives back what it was given.
    """

    def share(self, rows: IntArray) -> IntArray:
        """The part of a step's rows that this process works on; may be empty."""
        return np.array_split(rows, self.size)[self.rank]

    def most(self, n: int) -> int:
        """The largest share of ``n`` rows."""
        return math.ceil(n / self.size)

    def total(self, value: float) -> float:
        """The sum of what the processes give."""
        if self.size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(tensor)
        return float(tensor)

    def joined(self, outputs: Tensor, n: int) -> Tensor:
        """The (N, K) outputs for all rows, on the CPU, out of each process's outputs for its share."""
        if self.size == 1:
            return outputs
        whole = torch.zeros(n, *outputs.shape[1:], dtype=outputs.dtype)
        whole[torch.from_numpy(self.share(np.arange(n)))] = outputs
        dist.all_reduce(whole)  # each row is zero everywhere but at one place
        return whole

    def same(self, value: Value) -> Value:
        """What the first process gives."""
        if self.size == 1:
            return value
        values = [value if self.first else None]
        dist.broadcast_object_list(values, src=0)
        return cast(Value, values[0])

    def agreed(self, stop: BaseException | None) -> BaseException | None:
        """What all stop with, when one of them is asked to."""
        if self.size == 1:
            return stop
        wish = torch.tensor([isinstance(stop, kind) for kind in STOPS], dtype=torch.int64)
        dist.all_reduce(wish)
        return next((kind() for kind, wished in zip(STOPS, wish.tolist(), strict=True) if wished), None)

    @contextlib.contextmanager
    def first_alone(self) -> Iterator[None]:
        """Do a block in the first process, then in the others."""
        if not self.first:
            self.same(None)
        yield
        if self.first:
            self.same(None)

    def spread(self, network: nn.Module, device: torch.device, image_size: int) -> nn.Module:
        """The network as it is called in training: gradients are the mean over the processes after each backward pass.

        Weights become those of the first process; the network itself stays what is saved and what predicts.
        """
        if self.size == 1:
            return network
        span_processes(network)
        _set_aside_unused(network, torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8, device=device))
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # the option's new name is too new
            return nn.parallel.DistributedDataParallel(
                network,
                device_ids=[device.index] if device.type == "cuda" else None,
                broadcast_buffers=False,  # running statistics are computed equally everywhere
            )

    def device(self, device: torch.device) -> torch.device:
        """The device of this process: of several GPUs its own.

        Raises:
            ConfigError: There are fewer GPUs than processes on this computer, or the device cannot be shared.
        """
        if self.size == 1 or device.type == "cpu":
            return device
        if device.type != "cuda":
            raise ConfigError(
                f"several processes train on CUDA devices or CPUs, not on {device.type}; use --device cpu"
            )
        if self.local >= torch.cuda.device_count():
            raise ConfigError(
                f"this computer has {torch.cuda.device_count()} CUDA devices, too few for so many processes; "
                "use a smaller --nproc-per-node, or --device cpu"
            )
        return torch.device("cuda", self.local)

    @contextlib.contextmanager
    def together(self, device: torch.device) -> Iterator[None]:
        """Be connected with the other processes, to the end or until this one fails.

        After a failure the connection goes with the process, when it has said what is wrong: only then do the others
        find it gone.

        Raises:
            RankError: Another one has gone.
        """
        if self.size == 1:
            yield
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=LONGEST)
            yield
            dist.destroy_process_group()
        except RuntimeError as error:
            if not _is_loss(error):
                raise
            raise RankError(
                "another process of this training has ended, see its own message or torchrun's; finished folds and "
                "the last checkpoint are kept, and the same command goes on"
            ) from error


def ranks_here() -> Ranks:
    """This process as torchrun has started it; alone when it was started otherwise."""
    return Ranks(*astuple(place()))


def _set_aside_unused(network: nn.Module, pixels: Tensor) -> None:
    """Mark parameters that no output depends on, such as layers for a classifier only: DDP would wait for them."""
    network.eval()
    network(pixels).sum().backward()
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.grad is not None)
    network.zero_grad(set_to_none=True)


def _is_loss(error: RuntimeError) -> bool:
    """Whether an error says that another process cannot be reached."""
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "Connection"))


ALONE = Ranks()
