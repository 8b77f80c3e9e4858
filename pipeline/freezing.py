"""Which layers learn, and since when: a function of the settings and the epoch alone."""

from __future__ import annotations

from itertools import chain

from timm.models._manipulate import group_with_matcher
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.config import TrainConfig
from pipeline.errors import ConfigError, NetworkError

ABOVE = "(above)"  # stands for what lies on the backbone


def layers_of(backbone: nn.Module, *, coarse: bool, setting: str) -> dict[str, int]:
    """Parameter or buffer of a backbone -> number of its group of layers, the stem's being 0, as timm groups them.

    ``ABOVE`` is in the group of timm's classifier, which a last normalisation may share.

    Args:
        backbone: Of timm.
        coarse: Whether groups are stages, else single blocks.
        setting: What needs them, for the message.

    Raises:
        NetworkError: timm does not know the layers of this backbone.
    """
    try:
        matcher = backbone.group_matcher(coarse=coarse)  # type: ignore[operator]
    except (AttributeError, TypeError, NotImplementedError):
        name = type(backbone).__name__
        raise NetworkError(
            f"timm cannot tell the layers of {name} apart; leave {setting} as it is by default"
        ) from None
    names = [name for name, _ in chain(backbone.named_parameters(), backbone.named_buffers())]
    patterns = isinstance(matcher, dict)  # else a function, which may know no other names
    placed = [(name, None) for name in (*names, ABOVE)[: None if patterns else -1]]
    layers: dict[str, int] = group_with_matcher(iter(placed), matcher, reverse=True)
    return {ABOVE: max(layers.values()) + 1} | layers


def frozen_names(backbone: nn.Module, freeze: int) -> set[str]:
    """The parameters and buffers of the first ``freeze`` stages; of all with -1.

    Raises:
        NetworkError: There are fewer stages.
    """
    if freeze == 0:
        return set()
    if freeze < 0:
        return {name for name, _ in chain(backbone.named_parameters(), backbone.named_buffers())}
    layers = layers_of(backbone, coarse=True, setting="freeze")
    count = 1 + max(number for name, number in layers.items() if name != ABOVE)
    if freeze > count:
        raise NetworkError(f"freeze = {freeze}, but the backbone has {count} groups of layers; -1 freezes all of it")
    return {name for name, number in layers.items() if number < freeze}


def is_frozen(config: TrainConfig, epoch: int) -> bool:
    """Whether anything is kept from learning in an epoch, counted from 0."""
    return config.freeze != 0 and not 0 < config.unfreeze_epoch <= epoch


def set_frozen(network: nn.Module, config: TrainConfig, epoch: int) -> None:
    """Let the layers that ``freeze`` names learn or not; to be called after each ``network.train()``.

    Frozen parameters need no gradient, so that no backward pass reaches them, and their batch normalisation keeps its
    statistics.

    Args:
        network: Its ``backbone`` is what may be frozen.
        config: The settings.
        epoch: Counted from 0.

    Raises:
        NetworkError: There are fewer groups of layers, or timm does not know them.
    """
    if config.freeze == 0:
        return
    backbone, learns = network.get_submodule("backbone"), not is_frozen(config, epoch)
    names = frozen_names(backbone, config.freeze)
    for name, parameter in backbone.named_parameters():
        if name in names:
            parameter.requires_grad_(learns)
    for name, module in backbone.named_modules():
        if isinstance(module, _BatchNorm) and not learns and {f"{name}.running_mean", f"{name}.weight"} & names:
            module.eval()


def require_steady(config: TrainConfig, processes: int) -> None:
    """Refuse layers that begin to learn on the way when several processes train one network.

    Raises:
        ConfigError: They would; gradients of what is frozen at the start are never shared.
    """
    if processes > 1 and config.freeze and config.unfreeze_epoch:
        raise ConfigError("unfreeze_epoch does not work under torchrun; set it to 0, or train in one process")
