"""Ways in which calibrated members become one: a vote under weights, or a stacked model.

Legend: n samples to fit on, C classes, M members, B rows of a block.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from ensemble.predictions import Array, EnsembleError, Indices, Names
from ensemble.stacking import stacked
from ensemble.voting import Voter, soft_vote
from ensemble.weights import WEIGHT_RULES, WeightRule


class Blend(Protocol):
    """A fitted blend."""

    def __call__(self, probs: Array) -> Array:
        """(B, C) probabilities of (M, B, C)."""

    def as_dict(self) -> dict[str, Any]:
        """What was fitted, for JSON."""


BlendFit = Callable[[Voter, Array, Indices, Names], Blend]  # a voter, (M, n, C), (n,) truth, (n,) persons


@dataclass(frozen=True, slots=True, eq=False)
class Weighted:
    """A vote under weights.

    Attributes:
        voter: How members vote.
        weights: (M,) shares.
    """

    voter: Voter
    weights: Array

    def __call__(self, probs: Array) -> Array:
        """(B, C) probabilities of (M, B, C)."""
        return self.voter(probs, self.weights)

    def as_dict(self) -> dict[str, Any]:
        """What was fitted, for JSON."""
        return {"weights": self.weights.tolist()}

    def without(self, member: int) -> "Weighted":
        """The same vote without one member, the others keeping their proportions; equal ones when it had all."""
        weights = self.weights.copy()
        weights[member] = 0.0
        if not weights.any():
            weights[:] = 1.0
            weights[member] = 0.0
        return Weighted(self.voter, weights / weights.sum())


def weighted(rule: WeightRule, voter: Voter, probs: Array, targets: Indices, persons: Names) -> Blend:
    """The vote under the weights that a rule gives."""
    return Weighted(voter, rule(probs, targets))


def stack(voter: Voter, probs: Array, targets: Indices, persons: Names) -> Blend:
    """The stacked model, which takes the place of a soft vote.

    Raises:
        EnsembleError: If another vote than the soft one was asked for.
    """
    if voter is not soft_vote:
        raise EnsembleError("stack learns from probabilities and casts no ballots; use it with the soft strategy")
    return stacked(probs, targets, persons)


BLENDS: dict[str, BlendFit] = {name: partial(weighted, rule) for name, rule in WEIGHT_RULES.items()} | {"stack": stack}
