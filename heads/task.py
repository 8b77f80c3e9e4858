"""Heads side by side: one head is a separate model, several are one network with shared features.

N samples, H heads, K outputs in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heads.base import Head, HeadError
from heads.objectives import OBJECTIVES, Objective


@dataclass(frozen=True, slots=True)
class Task:
    """What one network learns.

    Attributes:
        heads: The heads, in the order of the network's outputs.
        names: The objective's name of each head.
        objectives: The objective of each head.
    """

    heads: tuple[Head, ...]
    names: tuple[str, ...]
    objectives: tuple[Objective, ...]

    @classmethod
    def of(cls, *heads: Head, objective: str | None = None, bins: Sequence[float] = ()) -> Task:
        """The task of learning ``heads``, with ``objective`` for those that offer it.

        Raises:
            HeadError: No head, a head given twice, or an objective that none of them offers, or bins that none uses.
        """
        if not heads:
            raise HeadError("no head given; name one or more of: mask, gender, age, joint")
        if len({head.name for head in heads}) < len(heads):
            raise HeadError(f"a head is given twice: {' '.join(head.name for head in heads)}")
        if objective and not any(objective in head.objectives for head in heads):
            offered = "; ".join(f"{head.name} has {', '.join(head.objectives)}" for head in heads)
            raise HeadError(f"unknown objective {objective!r}; {offered}")
        names = tuple(objective if objective in head.objectives else head.objectives[0] for head in heads)
        if bins and not {"bins", "regression"} & set(names):
            raise HeadError("bins are set, but no head learns them; add objective bins")
        built = tuple(OBJECTIVES[name](head, bins) for head, name in zip(heads, names, strict=True))
        return cls(heads, names, built)

    @property
    def n_outputs(self) -> int:
        """K, the outputs that the network must give."""
        return sum(objective.n_outputs for objective in self.objectives)

    def split(self, outputs: Tensor) -> tuple[Tensor, ...]:
        """The (N, K) outputs cut into one (N, K_h) a head."""
        return torch.split(outputs, [objective.n_outputs for objective in self.objectives], dim=1)

    def losses(self, outputs: Tensor, values: Tensor, done: float = 0.0) -> Tensor:
        """The (N, H) loss of every sample and head; 0 where the sample carries no label of the head.

        Args:
            outputs: (N, K) network outputs.
            values: (N, H) values of the heads, NaN = not labelled.
            done: Share of the training that is done, for losses that change on the way.
        """
        columns = []
        for part, objective, value in zip(self.split(outputs), self.objectives, values.unbind(dim=1), strict=True):
            labelled = ~value.isnan()
            # a value inside the range stands in for a missing one: NaN would survive multiplication by zero
            columns.append(torch.where(labelled, objective.loss(part, value.nan_to_num(0.0)), part.new_zeros(())))
        return torch.stack(columns, dim=1)

    def decode(self, outputs: Tensor) -> tuple[Tensor, ...]:
        """The class probabilities of every head: (N, C_h) each."""
        return tuple(o.decode(part) for part, o in zip(self.split(outputs), self.objectives, strict=True))
