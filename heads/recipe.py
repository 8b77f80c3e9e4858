"""How heads are trained: settings that reach the objectives and losses, and the check of their arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from heads.base import FloatArray, HeadError

UNKNOWN: FloatArray = np.empty(0)  # the values of the training photos, when nobody knows them yet


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings of a training that its heads need; `pipeline.config.TrainConfig` tells what each means."""

    objective: str = ""
    objective_args: Mapping[str, Any] = field(default_factory=dict)
    bins: tuple[float, ...] = ()
    bin_rule: str = "edges"
    bin_count: int = 10
    loss: str = "cross-entropy"
    loss_args: Mapping[str, Any] = field(default_factory=dict)
    label_smoothing: float = 0.0
    auxiliary: float = 0.0
    train_edges: tuple[float, ...] = ()

    @property
    def own_bins(self) -> bool:
        """Whether it asks for other bins than the head's."""
        return bool(self.bins) or self.bin_rule != "edges"

    @property
    def own_loss(self) -> bool:
        """Whether it asks for another loss than plain cross-entropy."""
        return self.loss != "cross-entropy" or bool(self.loss_args) or self.label_smoothing > 0


PLAIN = Recipe()


def numbers(of: str, given: Mapping[str, Any], **known: tuple[float, float, float]) -> list[float]:
    """The arguments of a loss or objective, in the order of ``known``.

    Args:
        of: What takes them, as the user calls it.
        given: Name -> value.
        known: Name -> default, lowest and highest value.

    Raises:
        HeadError: One is unknown, no number, or out of range.
    """
    for name in given:
        if name not in known:
            raise HeadError(f"{of} takes no argument {name!r}; it takes: {', '.join(known) or 'none'}")
    for name, (_, low, high) in known.items():
        value = given.get(name, low)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise HeadError(f"{name} of {of} must be a number from {low:g} to {high:g}, got {value!r}")
    return [float(given.get(name, default)) for name, (default, _, _) in known.items()]
