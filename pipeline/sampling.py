"""Which photos make each training step, how often each is seen, and how much it counts.

N photos, n of them trained on, H heads, C classes, B photos a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heads.base import FloatArray, Head, IntArray
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError

BoolArray = npt.NDArray[np.bool_]
Steps = list[tuple[int, IntArray]]  # (epoch, row numbers) each


@dataclass(frozen=True, slots=True)
class Groups:
    """What photos have in common.

    Attributes:
        classes: (N,) joint class of the heads; *not labelled* is a class of each head too.
        persons: (N,) number of the person.
    """

    classes: IntArray
    persons: IntArray

    def take(self, rows: IntArray) -> Groups:
        """Those of these rows, numbered from 0 without gaps."""
        classes, persons = (np.unique(of[rows], return_inverse=True)[1] for of in (self.classes, self.persons))
        return Groups(classes.astype(np.int64), persons.astype(np.int64))


def groups_of(heads: Sequence[Head], values: FloatArray, persons: IntArray) -> Groups:
    """The groups of all photos; those behind the last one whose person is known show a person of their own each.

    Args:
        heads: The heads of the network.
        values: (N, H) their values, NaN = not labelled.
        persons: Numbers of the people on the first photos, at most N.
    """
    labels = [head.labels(column) for head, column in zip(heads, values.T, strict=True)]
    classes = np.unique(np.stack(labels), axis=1, return_inverse=True)[1].reshape(-1)
    others = persons.max(initial=-1) + 1 + np.arange(len(values) - len(persons))
    return Groups(classes.astype(np.int64), np.concatenate([persons, others]).astype(np.int64))


@dataclass(frozen=True, slots=True)
class Sampler:
    """A way to see photos.

    Attributes:
        order: (groups of n photos, generator) -> positions 0 to n - 1 in the order of an epoch.
        shares: (groups of n photos, (n,) how often each is there) -> (n,) how often it is seen, to a common factor.
    """

    order: Callable[[Groups, np.random.Generator], IntArray]
    shares: Callable[[Groups, FloatArray], FloatArray]


def _drawn(power: float) -> Sampler:
    """As many draws with replacement as there are photos: a class by its size to this power, then a photo of it."""

    def shares(groups: Groups, there: FloatArray) -> FloatArray:
        sizes = np.bincount(groups.classes, weights=there)
        return np.asarray(there * sizes[groups.classes] ** (power - 1))

    def order(groups: Groups, rng: np.random.Generator) -> IntArray:
        n = len(groups.classes)
        wanted = shares(groups, np.ones(n))
        return rng.choice(n, size=n, p=wanted / wanted.sum())

    return Sampler(order, shares)


def _in_turn(groups: Groups, rng: np.random.Generator) -> IntArray:
    """Classes one after the other, over and over: whatever is cut from it holds each class equally often, plus one.

    The photos of a class come in a new order each time that all have been seen.
    """
    n, n_classes = len(groups.classes), int(groups.classes.max()) + 1
    rounds = -(-n // n_classes)
    lines = []
    for label in rng.permutation(n_classes):
        members = np.flatnonzero(groups.classes == label)
        times = -(-rounds // len(members))
        lines.append(np.concatenate([rng.permutation(members) for _ in range(times)])[:rounds])
    return np.stack(lines, axis=1).reshape(-1)[:n]


def _one_each(groups: Groups, rng: np.random.Generator) -> IntArray:
    """One photo of each person, by chance.

    Raises:
        ConfigError: There is but one person, and batch normalisation needs two photos.
    """
    shuffled = rng.permutation(len(groups.persons))
    first = np.unique(groups.persons[shuffled], return_index=True)[1]
    if len(first) == 1 < len(shuffled):
        raise ConfigError("sampler 'one-per-person' needs two people to train on, and there is one; use 'shuffled'")
    return rng.permutation(shuffled[first])


SAMPLERS: dict[str, Sampler] = {
    "shuffled": Sampler(lambda groups, rng: rng.permutation(len(groups.classes)), lambda groups, there: there),
    "balanced": _drawn(0.0),
    "sqrt-balanced": _drawn(0.5),
    "balanced-batches": Sampler(_in_turn, _drawn(0.0).shares),
    "one-per-person": Sampler(_one_each, lambda groups, there: there / np.bincount(groups.persons)[groups.persons]),
}


def training_steps(
    rows: IntArray,
    *,
    batch_size: int,
    epochs: range,
    key: tuple[int, ...],
    sampler: str = "shuffled",
    groups: Groups | None = None,
    drop_last: bool = False,
) -> Steps:
    """Every step of a training as (epoch, row numbers): each epoch a new order, a function of the key alone.

    A photo that a sampler shows again in an epoch has its row number plus N, then plus 2 N, so that it is augmented
    in another way each time.

    A last batch of one photo is merged into the one before it: batch normalisation needs two.

    Args:
        rows: Row numbers to train on.
        batch_size: B, photos a step.
        epochs: Numbers of the epochs.
        key: What the randomness belongs to.
        sampler: Key of ``SAMPLERS``.
        groups: Of all N photos; None = one class, and a person a photo.
        drop_last: Whether a last batch that is not full is left out, unless it is the only one.
    """
    alone = Groups(np.zeros(len(rows), dtype=np.int64), np.arange(len(rows)))
    own = groups.take(rows) if groups else alone
    steps: Steps = []
    for epoch in epochs:
        order = rows[SAMPLERS[sampler].order(own, np.random.default_rng([*key, epoch]))]
        order = order + (len(groups.classes) if groups else 0) * earlier(order)
        if drop_last and len(order) > batch_size:
            order = order[: len(order) // batch_size * batch_size]
        cuts = list(range(batch_size, len(order), batch_size))
        if cuts and len(order) - cuts[-1] == 1:
            cuts.pop()
        steps += [(epoch, batch) for batch in np.split(order, cuts)]
    return steps


def earlier(order: IntArray) -> IntArray:
    """How often each of the (n,) numbers has come before in the order."""
    by_number = np.argsort(order, kind="stable")
    numbers = order[by_number]
    first = np.searchsorted(numbers, numbers, side="left")
    counts = np.empty_like(order)
    counts[by_number] = np.arange(len(order)) - first
    return counts


def weights_of(heads: Sequence[Head], values: FloatArray, config: TrainConfig) -> FloatArray:
    """(N, H) how much each photo counts for each head in training.

    Photos whose quantity lies in the border band, its ends included, count ``border_weight``.

    Args:
        heads: The heads of the network; those without a quantity have no band.
        values: (N, H) their values, NaN = not labelled.
        config: The settings.
    """
    low, high = config.border or (np.inf, -np.inf)
    has_quantity = np.asarray([bool(head.edges) for head in heads])
    inside = (low <= values) & (values <= high) & has_quantity
    return np.where(inside, config.border_weight, 1.0)


def require_border(heads: Sequence[Head], values: FloatArray, config: TrainConfig) -> None:
    """Refuse a border band that no head has a quantity for, or that leaves nothing of a class to learn from.

    Args:
        heads: The heads of the network.
        values: (N, H) their values, NaN = not labelled.
        config: The settings.

    Raises:
        ConfigError: It is such a band.
    """
    if config.border and not any(head.edges for head in heads):
        names = ", ".join(head.name for head in heads)
        raise ConfigError(f"border is for heads of a quantity, such as age; {names} names classes")
    for head, column, weights in zip(heads, values.T, weights_of(heads, values, config).T, strict=True):
        lost = set(head.labels(column).tolist()) - set(head.labels(column[weights > 0]).tolist())
        if lost:
            band = "-".join(f"{end:g}" for end in config.border)
            raise ConfigError(
                f"border {band} leaves out every photo of {head.classes[min(lost)]!r}; "
                "use a narrower band or a border_weight above 0"
            )


def counted(values: FloatArray, weights: FloatArray) -> BoolArray:
    """(N,) whether a photo counts for any head; one that does not would waste a step.

    Args:
        values: (N, H) values of the heads, NaN = not labelled.
        weights: (N, H) see `weights_of`.
    """
    return np.asarray((~np.isnan(values) & (weights > 0)).any(axis=1))


def seen_mix(
    sampler: str, groups: Groups, targets: IntArray, n_classes: int, *, there: FloatArray, weights: FloatArray
) -> FloatArray:
    """(C,) the class mix of one head as its network sees it.

    Args:
        sampler: Key of ``SAMPLERS``.
        groups: Of the N photos that carry a label of any head of the network.
        targets: (N,) the head's classes, -1 = not labelled.
        n_classes: C.
        there: (N,) in which share of the folds each photo is trained on, to a common factor.
        weights: (N,) how much the photo counts for the head when it is seen.
    """
    shares = SAMPLERS[sampler].shares(groups, there) * weights
    known = targets >= 0
    mass = np.bincount(targets[known], weights=shares[known], minlength=n_classes)
    return np.asarray(mass / mass.sum())
