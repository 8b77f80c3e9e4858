"""What a training must keep to go on as if it had never been interrupted: numbers, and named tensors.

The order of photos, their augmentation and the learning rate are functions of the settings and the step, so the step
stands for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Row = dict[str, float]
Tensors = dict[str, Tensor]


@dataclass(slots=True)
class Progress:
    """Where the training of one fold is; it grows while the fold trains.

    Attributes:
        micro_batch: Most photos that pass through the network at once.
        step: Steps done.
        loss: Sum of the losses of this epoch's photos so far.
        photos: Their number.
        epoch_seconds: Time that they took.
        seconds: Time that the fold took, in all processes that worked on it.
        checkpoint_seconds: Part of it that went into checkpoints.
        resumed: How often it went on from a checkpoint.
        peak_memory: Bytes.
        history: One row a finished epoch.
        epoch: The epoch to train next; those after an early stop are passed over.
        best: Best score on the inner people so far.
        best_epoch: When it was reached; -1 = never.
        scores: (epoch, score) of each judged epoch.
        settled: Whether the weights were chosen among those of the epochs.
    """

    micro_batch: int
    step: int = 0
    loss: float = 0.0
    photos: int = 0
    epoch_seconds: float = 0.0
    seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    resumed: int = 0
    peak_memory: int = 0
    history: list[Row] = field(default_factory=list)
    epoch: int = 0
    best: float | None = None
    best_epoch: int = -1
    scores: list[tuple[int, float]] = field(default_factory=list)
    settled: bool = False

    def fits(self, ends: Sequence[int]) -> bool:
        """Whether the step lies in the epoch that is to be trained next.

        Args:
            ends: Steps done at the end of each epoch.
        """
        if self.epoch >= len(ends):
            return self.step >= ends[-1]
        first = ends[self.epoch - 1] if self.epoch else 0
        return first <= self.step <= ends[self.epoch] and self.micro_batch >= 1

    def end_epoch(self, row: Row) -> None:
        """Begin the next epoch after this row of the history."""
        self.history.append(row)
        self.epoch += 1
        self.loss, self.photos, self.epoch_seconds = 0.0, 0, 0.0

    def judged(self, score: float) -> None:
        """Note the score of the epoch that just ended; greater is better, and the earlier of two equals."""
        self.scores.append((self.epoch - 1, score))
        if self.best is None or score > self.best:
            self.best, self.best_epoch = score, self.epoch - 1

    def waited(self) -> int:
        """Judged epochs since the best one."""
        return sum(epoch > self.best_epoch for epoch, _ in self.scores)


def tensors_of(network: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> Tensors:
    """Weights, buffers, the optimiser's moments, the loss scale and torch's random states, on the CPU."""
    found = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        found |= {f"optimizer/{number}/{name}": tensor for name, tensor in moments.items()}
    found |= {f"scaler/{name}": torch.tensor(value) for name, value in scaler.state_dict().items()}
    found |= {f"random/{name}": state for name, state in _random_states().items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}


def restore(
    tensors: Mapping[str, Tensor],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> None:
    """Put everything back where `tensors_of` took it from, the random states last.

    Raises:
        ValueError: The tensors are not of this network.
    """
    weights = below(tensors, "network/")
    own = network.state_dict()
    if {n: t.shape for n, t in weights.items()} != {n: t.shape for n, t in own.items()}:
        raise ValueError("it is of another network")
    network.load_state_dict(weights)
    optimizer.load_state_dict(optimizer.state_dict() | {"state": _moments(tensors, optimizer)})
    if scaler.is_enabled():
        scaler.load_state_dict({name: value.item() for name, value in below(tensors, "scaler/").items()})
    random_states = below(tensors, "random/")
    torch.set_rng_state(random_states["cpu"])
    if "cuda" in random_states and torch.cuda.is_available():
        torch.cuda.set_rng_state(random_states["cuda"])


def _random_states() -> Tensors:
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def below(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    """The tensors whose names begin so, under the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _moments(tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[int, Tensors]:
    """The optimiser's tensors by number of the parameter, laid out in memory as the parameter is.

    A fused step walks through parameter and moments by address, so moments that lie otherwise than a channels-last
    parameter would silently be paired with other weights.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, Tensors] = {}
    for key, tensor in below(tensors, "optimizer/").items():
        number, name = key.split("/")
        parameter = parameters[int(number)]
        if tensor.shape == parameter.shape:
            tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)  # keeps the parameter's strides
        state.setdefault(int(number), {})[name] = tensor
    return state
