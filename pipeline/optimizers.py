"""What changes the weights: the optimiser, and which parameters it treats alike."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import timm.optim
import torch
from torch import Tensor, nn

from pipeline.config import TrainConfig
from pipeline.errors import ConfigError, hint
from pipeline.freezing import ABOVE, layers_of

# settings of their own, or not for users
OWN = {"params", "lr", "weight_decay", "self", "kwargs", "foreach", "fused", "capturable", "differentiable", "maximize"}
ONLY_CUDA = ("bnb", "fused")  # timm's names of optimisers whose steps a CPU cannot take
Group = dict[str, Any]
TIMM: Any = timm.optim  # whose annotations and exports are incomplete


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser of a network; its weight decay leaves biases and normalisation alone.

    Raises:
        ConfigError: It is unknown, or its arguments are wrong.
        NetworkError: Layers are to learn at different rates, but timm does not know them.
    """
    groups = [group for group in parameter_groups(network, config) if group["params"]]
    args: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in config.optimizer_args.items()}
    try:
        _require_arguments(config)
        if config.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=config.lr, fused=True, **args)
        return TIMM.create_optimizer_v2(groups, opt=config.optimizer, lr=config.lr, **args)  # type: ignore[no-any-return]
    except ConfigError:
        raise
    except Exception as error:  # each optimiser has its own way to refuse
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"optimizer {config.optimizer!r} cannot be made with optimizer_args = {config.optimizer_args}: {reason}"
        ) from error


def parameter_groups(network: nn.Module, config: TrainConfig) -> list[Group]:
    """Matrices, then vectors, which do not decay; for each layer apart when layers learn at different rates."""
    if config.layer_decay == 1:
        return _by_shape(list(network.parameters()), config, {})
    layers = layers_of(network.get_submodule("backbone"), coarse=False, setting="layer_decay")
    top = layers[ABOVE]
    found: dict[int, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        found.setdefault(layers.get(name.removeprefix("backbone."), top), []).append(parameter)
    return [
        group
        for layer, parameters in sorted(found.items())
        for group in _by_shape(parameters, config, {"lr_scale": config.layer_decay ** (top - layer)})
    ]


def _by_shape(parameters: list[nn.Parameter], config: TrainConfig, entries: Group) -> list[Group]:
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": config.weight_decay} | entries,
        {"params": vectors, "weight_decay": 0.0} | entries,
    ]


def try_optimizer(config: TrainConfig) -> None:
    """Make the optimiser and take a step, for a layer that nobody needs.

    Raises:
        ConfigError: It is unknown, or its arguments are wrong; of some it shows in a step only.
    """
    parameters = nn.ParameterList([torch.zeros(2, 2), torch.zeros(2)])
    optimizer = make_optimizer(parameters, replace(config, layer_decay=1.0))
    if config.optimizer.startswith(ONLY_CUDA):
        return
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    try:
        optimizer.step()
    except Exception as error:  # each optimiser has its own way to fail
        raise ConfigError(
            f"optimizer {config.optimizer!r} cannot take a step with optimizer_args = {config.optimizer_args}: "
            f"{(str(error).splitlines() or [type(error).__name__])[0]}"
        ) from error


def _require_arguments(config: TrainConfig) -> None:
    """Refuse an unknown optimiser, and arguments that it does not take.

    Raises:
        ConfigError: With the nearest name, or with the arguments that there are.
    """
    known = TIMM.list_optimizers()
    if config.optimizer not in known:
        nearest = hint(config.optimizer, known, f"there are: {', '.join(known)}")
        raise ConfigError(f"unknown optimizer {config.optimizer!r}; {nearest}")
    if TIMM.get_optimizer_info(config.optimizer).second_order:
        raise ConfigError(f"optimizer {config.optimizer!r} needs second derivatives, which are not computed here")
    kind = TIMM.get_optimizer_class(config.optimizer, bind_defaults=False)
    takes = [name for name in inspect.signature(kind).parameters if name not in OWN]
    for name in config.optimizer_args:
        if name not in takes:
            raise ConfigError(
                f"unknown {name!r} in optimizer_args; optimizer {config.optimizer!r} takes {', '.join(takes)}"
            )


def set_rates(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let every group learn at this rate, scaled as its layers are."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


def gradients(optimizer: torch.optim.Optimizer) -> list[tuple[nn.Parameter, Tensor]]:
    """The parameters that the last backward pass reached, with their gradients."""
    every = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return [(parameter, parameter.grad) for parameter in every if parameter.grad is not None]


@contextmanager
def sharpened(optimizer: torch.optim.Optimizer, radius: float) -> Iterator[None]:
    """The weights at the nearby point where the loss is highest, by its slope; afterwards they are as before.

    Foret et al. 2021, https://arxiv.org/abs/2010.01412, equation 2 with p = 2. The gradients are left at none.
    """
    found = gradients(optimizer)
    kept = [parameter.detach().clone() for parameter, _ in found]
    with torch.no_grad():
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(grad) for _, grad in found]))
        for parameter, grad in found:
            parameter.add_(grad * (radius / (norm + 1e-12)))
    optimizer.zero_grad(set_to_none=True)
    yield
    with torch.no_grad():
        for (parameter, _), before in zip(found, kept, strict=True):
            parameter.copy_(before)
