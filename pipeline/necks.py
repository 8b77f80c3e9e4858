"""Between a backbone's features and the outputs, and how its layers begin. N photos, F features, K outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.arguments import Argument, Arguments, between, filled
from pipeline.config import TrainConfig

Settings = Mapping[str, Any]
Neck = Callable[[int, int, Settings], nn.Module]
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


def linear(features: int, outputs: int, args: Settings) -> nn.Module:
    """One linear layer."""
    return nn.Linear(features, outputs)


def batchnorm(features: int, outputs: int, args: Settings) -> nn.Module:
    """Batch normalisation, dropout, and a linear layer."""
    return nn.Sequential(nn.BatchNorm1d(features), nn.Dropout(args["dropout"]), nn.Linear(features, outputs))


def mlp(features: int, outputs: int, args: Settings) -> nn.Module:
    """Hidden layers of these ``widths``, each with activation and dropout, and a linear layer."""
    widths = (features, *args["widths"])
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), ACTIVATIONS[args["activation"]](), nn.Dropout(args["dropout"])]
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))


class MultiDropout(nn.Module):
    """A linear layer whose outputs are, in training, the mean over several dropout masks.

    Inoue 2019, https://arxiv.org/abs/1905.09788, section 3, who averages the losses; of outputs one loss is computed
    here, so that every objective can follow.
    """

    def __init__(self, features: int, outputs: int, *, dropout: float, samples: int) -> None:
        """Map (N, F) features to (N, K) outputs under ``samples`` masks that each drop a share ``dropout``."""
        super().__init__()
        self.linear, self.dropout, self.samples = nn.Linear(features, outputs), nn.Dropout(dropout), samples

    def forward(self, features: Tensor) -> Tensor:
        """The (N, K) outputs for (N, F) features."""
        if not self.training:
            return self.linear(features)  # type: ignore[no-any-return]
        return torch.stack([self.linear(self.dropout(features)) for _ in range(self.samples)]).mean(dim=0)


def multi_dropout(features: int, outputs: int, args: Settings) -> nn.Module:
    """See `MultiDropout`."""
    return MultiDropout(features, outputs, dropout=args["dropout"], samples=args["samples"])


def build_neck(config: TrainConfig, features: int, outputs: int) -> nn.Module:
    """What maps (N, F) features to (N, K) outputs, its layers drawn from torch's global generator.

    Raises:
        ConfigError: Its arguments are not as they must be.
    """
    args = filled("neck_args", config.neck_args, NECK_ARGS[config.neck], f"neck {config.neck!r}")
    neck = NECKS[config.neck](features, outputs, args)
    layers = [module for module in neck.modules() if isinstance(module, nn.Linear)]
    # hidden layers of zeros would pass no gradient on
    for layer in layers[-1:] if config.init == "zeros" else layers:
        INITS[config.init](layer)
    return neck


def _default(layer: nn.Linear) -> None:
    """As torch has it: uniform within 1 / sqrt(F)."""


def _trunc_normal(layer: nn.Linear) -> None:
    """Normal of deviation 0.02, as vision transformers begin."""
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)


def _xavier(layer: nn.Linear) -> None:
    """Glorot & Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html, equation 16."""
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)


def _kaiming(layer: nn.Linear) -> None:
    """He et al. 2015, https://arxiv.org/abs/1502.01852, equation 10."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)


def _zeros(layer: nn.Linear) -> None:
    """All outputs equal at first."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


_DROPOUT = Argument(0.5, lambda x: 0 <= x < 1, "from 0 to below 1")
NECKS: dict[str, Neck] = {"linear": linear, "batchnorm": batchnorm, "mlp": mlp, "multi-dropout": multi_dropout}
NECK_ARGS: dict[str, Arguments] = {
    "linear": {},
    "batchnorm": {"dropout": _DROPOUT},
    "mlp": {
        "widths": Argument(
            (256,),
            lambda w: 1 <= len(w) <= 20 and all(type(n) is int and 1 <= n <= 10**5 for n in w),
            "a list of 1 to 20 whole numbers from 1 to 100000",
        ),
        "dropout": Argument(0.0, _DROPOUT.holds, _DROPOUT.wanted),
        "activation": Argument("relu", lambda name: name in ACTIVATIONS, f"one of {', '.join(ACTIVATIONS)}"),
    },
    "multi-dropout": {"dropout": _DROPOUT, "samples": between(1, 100, 5)},
}
INITS: dict[str, Callable[[nn.Linear], None]] = {
    "default": _default,
    "trunc-normal": _trunc_normal,
    "xavier": _xavier,
    "kaiming": _kaiming,
    "zeros": _zeros,
}
