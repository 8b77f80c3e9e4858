"""Ways to joint probabilities from heads' probabilities.

Legend: N samples, H heads, C classes of a head, J joint classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

from ensemble.predictions import Array, Indices


class JointFit(Protocol):
    """A fitted joint rule."""

    def __call__(self, heads: Sequence[Array]) -> Array:
        """(N, J) of H arrays (N, C)."""

    def as_dict(self) -> dict[str, Any]:
        """What was fitted, for JSON."""


@dataclass(frozen=True, slots=True)
class Product:
    """Heads taken as independent given the photo."""

    def __call__(self, heads: Sequence[Array]) -> Array:
        """(N, J) of H arrays (N, C)."""
        return product(heads)

    def as_dict(self) -> dict[str, Any]:
        """What was fitted, for JSON."""
        return {"kind": "product"}


def product(heads: Sequence[Array]) -> Array:
    """(N, J) products of heads' probabilities; the last head's class runs fastest."""
    joint = reduce(lambda a, b: (a[:, :, None] * b[:, None, :]).reshape(len(a), -1), heads)
    made: Array = joint / joint.sum(axis=1, keepdims=True)
    return made


JOINT_RULES: dict[str, Callable[[Sequence[Array], Indices], JointFit]] = {"product": lambda heads, targets: Product()}
