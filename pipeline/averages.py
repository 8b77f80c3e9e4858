"""Weights that are kept beside those that learn: a moving average, and those of whole epochs to choose or average from.

E epochs kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from pipeline.config import TrainConfig
from pipeline.state import Progress, Tensors, below

WARM_UP = 2 / 3  # power with which the moving average's memory grows at the beginning


@dataclass(slots=True)
class Kept:
    """What one fold keeps beside its network.

    Attributes:
        ema: The moving average, if one is asked for (Polyak & Juditsky 1992, https://doi.org/10.1137/0330046).
        epochs: Epoch -> the weights that predicted after it, of the epochs that may still be needed.
        pseudo: ``rows`` of the eval photos that are trained on, (P,), and their ``values``, (P, H), once chosen.
    """

    ema: ModelEmaV3 | None = None
    epochs: dict[int, Tensors] = field(default_factory=dict)
    pseudo: Tensors = field(default_factory=dict)

    @classmethod
    def of(cls, network: nn.Module, config: TrainConfig) -> Kept:
        """Nothing yet but, where asked for, a moving average that begins with the network."""
        if not config.ema:
            return cls()
        return cls(ModelEmaV3(network, decay=config.ema, use_warmup=True, warmup_power=WARM_UP))

    def predicting(self, network: nn.Module) -> nn.Module:
        """The network that is judged and kept: the moving average if there is one."""
        return network if self.ema is None else self.ema.module

    def after_step(self, network: nn.Module, step: int) -> None:
        """Let the moving average follow a step of the network."""
        if self.ema is not None:
            self.ema.update(network, step=step)

    def after_epoch(self, network: nn.Module, progress: Progress, config: TrainConfig) -> None:
        """Keep the weights of the epoch that just ended, and drop those that can no longer be needed."""
        epoch = progress.epoch - 1
        wanted = wanted_epochs(progress, config)
        if epoch in wanted:
            state = self.predicting(network).state_dict()
            self.epochs[epoch] = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
        self.epochs = {number: weights for number, weights in self.epochs.items() if number in wanted}

    def tensors(self) -> Tensors:
        """All of it under names, for a checkpoint."""
        found = {f"pseudo/{name}": tensor for name, tensor in self.pseudo.items()}
        if self.ema is not None:
            found |= {f"ema/{name}": tensor for name, tensor in self.ema.module.state_dict().items()}
        for epoch, weights in self.epochs.items():
            found |= {f"epoch/{epoch}/{name}": tensor for name, tensor in weights.items()}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave.

        Raises:
            RuntimeError: They are not of this network.
        """
        self.pseudo = below(tensors, "pseudo/")
        if self.ema is not None and (average := below(tensors, "ema/")):
            self.ema.module.load_state_dict(average)
        self.epochs = {}
        for key, tensor in below(tensors, "epoch/").items():
            epoch, name = key.split("/", 1)
            self.epochs.setdefault(int(epoch), {})[name] = tensor


def wanted_epochs(progress: Progress, config: TrainConfig) -> set[int]:
    """The epochs whose weights may still be used at the end."""
    wanted = {progress.best_epoch} if config.keep == "best" else set()
    if config.average != "none":
        wanted |= set(range(progress.epoch - config.average_epochs, progress.epoch))
    return wanted


def mean_of(states: Iterable[Tensors]) -> Tensors:
    """The mean of weights, tensor by tensor; counters are those of the last.

    Izmailov et al. 2018, https://arxiv.org/abs/1803.05407, equation 1 over whole epochs.
    """
    every = list(states)
    return {
        name: torch.stack([state[name].double() for state in every]).mean(dim=0).to(last.dtype)
        if last.is_floating_point()
        else last
        for name, last in every[-1].items()
    }


def greedy_soup(
    states: Mapping[int, Tensors], scores: Mapping[int, float], judge: Callable[[Tensors], float]
) -> Tensors:
    """The mean of those weights that do no harm: from the best on, each is taken if the score does not fall.

    Wortsman et al. 2022, https://arxiv.org/abs/2203.05482, recipe 1.

    Args:
        states: Epoch -> weights.
        scores: Epoch -> their score, greater is better; an epoch without one comes last.
        judge: The score of weights.
    """
    order = sorted(states, key=lambda epoch: (scores.get(epoch, float("-inf")), epoch), reverse=True)
    taken = [states[order[0]]]
    best = judge(taken[0])
    for epoch in order[1:]:
        tried = judge(mean_of([*taken, states[epoch]]))
        if tried >= best:
            taken, best = [*taken, states[epoch]], tried
    return mean_of(taken)
