"""Heads side by side: one head is a separate model, several are one network with shared features.

N samples, H heads, K outputs in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from heads.base import FloatArray, Head, HeadError
from heads.objective import Objective
from heads.objectives import WITH_LOSS, WITHOUT_BINS, build
from heads.recipe import PLAIN, UNKNOWN, Recipe


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
    def of(cls, *heads: Head, recipe: Recipe = PLAIN, values: FloatArray | None = None) -> Task:
        """The task of learning ``heads``, with the recipe's objective for those that offer it.

        Args:
            heads: What is learnt.
            recipe: How.
            values: (N, H) values of the training photos, NaN = not labelled, from which come the counts of classes and
                bins, edges of equal frequency and the decoding of ``train_edges``; None = as if all were even.

        Raises:
            HeadError: No head, a head given twice, or a recipe that none of them can follow.
        """
        if not heads:
            raise HeadError("no head given; name one or more of: mask, gender, age, joint")
        if len({head.name for head in heads}) < len(heads):
            raise HeadError(f"a head is given twice: {' '.join(head.name for head in heads)}")
        wanted = recipe.objective
        if wanted and not any(wanted in head.objectives for head in heads):
            offered = "; ".join(f"{head.name} has {', '.join(head.objectives)}" for head in heads)
            raise HeadError(f"unknown objective {wanted!r}; {offered}")
        names = tuple(wanted if wanted in head.objectives else head.objectives[0] for head in heads)
        _require_use(heads, names, recipe)
        known = [UNKNOWN] * len(heads) if values is None else [column[~np.isnan(column)] for column in values.T]
        built = (build(head, name, recipe, column) for head, name, column in zip(heads, names, known, strict=True))
        return cls(heads, names, tuple(built))

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
            found = objective.loss(part[labelled], value[labelled], done)
            column = found.new_zeros(len(part))
            column[labelled] = found
            columns.append(column)
        return torch.stack(columns, dim=1)

    def decode(self, outputs: Tensor) -> tuple[Tensor, ...]:
        """The class probabilities of every head: (N, C_h) each."""
        return tuple(o.decode(part) for part, o in zip(self.split(outputs), self.objectives, strict=True))

    def mix(self, index: int, photos: FloatArray) -> FloatArray:
        """The (C,) class mix that the decoded probabilities of a head are under.

        Args:
            index: Of the head.
            photos: (C,) class mix of the photos as the network saw them in training.
        """
        return self.objectives[index].mix(photos)


def _require_use(heads: Sequence[Head], names: Sequence[str], recipe: Recipe) -> None:
    """Refuse what no head would heed: silence would pass for an effect."""
    if recipe.own_bins and set(names) <= WITHOUT_BINS:
        raise HeadError("bins are set, but no head learns them; add objective bins")
    if recipe.own_loss and not set(names) & WITH_LOSS:
        raise HeadError(
            f"loss and label_smoothing are for objectives {' and '.join(sorted(WITH_LOSS))}, and heads are trained as "
            f"{', '.join(names)}"
        )
    for setting in ("auxiliary", "train_edges"):
        if getattr(recipe, setting) and not any(head.edges for head in heads):
            named = ", ".join(head.name for head in heads)
            raise HeadError(f"{setting} is for heads of a quantity, such as age; {named} names classes")
