"""Training photos that are made of two: how their pixels are mixed, what share each has, and who is mixed with whom.

N photos, H heads, S side of the network's input in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from heads.base import FloatArray, Head, IntArray, StrArray
from heads.registry import LABELS
from pipeline.arguments import Argument, Arguments, between, filled
from pipeline.augment import Pixels
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError, hint

BoolArray = npt.NDArray[np.bool_]
# a photo, its partner, alpha and randomness -> the mixed photo, and the share of the first in it, 0 to 1
Mix = Callable[[Pixels, Pixels, float, np.random.Generator], tuple[Pixels, float]]


def mixup(photo: Pixels, partner: Pixels, alpha: float, rng: np.random.Generator) -> tuple[Pixels, float]:
    """Both photos through one another, the share drawn from Beta(alpha, alpha).

    Zhang et al. 2018, https://arxiv.org/abs/1710.09412, section 2.
    """
    share = float(rng.beta(alpha, alpha))
    return np.asarray(cv2.addWeighted(photo, share, partner, 1 - share, 0), dtype=np.uint8), share


def cutmix(photo: Pixels, partner: Pixels, alpha: float, rng: np.random.Generator) -> tuple[Pixels, float]:
    """A box of the partner in the photo; the share is that of the area, exactly, after the box is cut off at the edge.

    Yun et al. 2019, https://arxiv.org/abs/1905.04899, equations 1 and 2.
    """
    size = len(photo)
    side = size * math.sqrt(1 - rng.beta(alpha, alpha))
    centre = rng.uniform(0, size, 2)
    (top, left), (bottom, right) = (np.clip(np.rint(centre + way * side / 2), 0, size).astype(int) for way in (-1, 1))
    mixed = photo.copy()
    mixed[top:bottom, left:right] = partner[top:bottom, left:right]
    return mixed, 1 - float((bottom - top) * (right - left)) / size**2


def halves(photo: Pixels, partner: Pixels, alpha: float, rng: np.random.Generator) -> tuple[Pixels, float]:
    """Cut down the middle: one side of the photo, the other of the partner; which is which by chance.

    ``alpha`` is not used. Where the side is odd, the photo to the right has the column more.
    """
    size, middle, is_left = len(photo), len(photo) // 2, bool(rng.random() < 0.5)
    left, right = (photo, partner) if is_left else (partner, photo)
    return np.concatenate([left[:, :middle], right[:, middle:]], axis=1), (middle if is_left else size - middle) / size


MIXINGS: dict[str, Mix] = {"cutmix": cutmix, "halves": halves, "mixup": mixup}


@dataclass(frozen=True, slots=True)
class MixingArgs:
    """The arguments of a mixing.

    Attributes:
        prob: Probability that a photo is mixed, 0 to 1.
        alpha: Of Beta(alpha, alpha), from which the share is drawn: small = mostly one photo, 1 = all shares alike.
        within: A label column whose class partners share; empty = anybody's photo.
        partner: A class that the partner must have; empty = any.
    """

    prob: float = 0.5
    alpha: float = 1.0
    within: str = ""
    partner: str = ""

    @classmethod
    def of(cls, config: TrainConfig) -> MixingArgs:
        """Those of ``mixing_args``.

        Raises:
            ConfigError: One is unknown, of the wrong kind or out of range.
        """
        known = _known(config.mixing)
        return cls(**filled("mixing_args", config.mixing_args, known, f"mixing {config.mixing!r}"))


def _known(mixing: str) -> Arguments:
    if mixing == "none":
        return {}
    return {name: argument for name, argument in ARGUMENTS.items() if (mixing, name) != ("halves", "alpha")}


ARGUMENTS: Arguments = {
    "prob": between(0, 1, 0.5),
    "alpha": between(1e-3, 1e3, 1.0),
    "within": Argument("", lambda name: True, "a label column"),
    "partner": Argument("", lambda name: True, "a class"),
}


@dataclass(frozen=True, slots=True)
class Mixing:
    """Which training photos are mixed, with whom and how.

    Attributes:
        mix: One of ``MIXINGS``.
        args: Its arguments.
        alike: (N,) what partners share; -1 = unknown; such photos are not mixed.
        pools: Group -> the row numbers, increasing, that partners are drawn from.
    """

    mix: Mix
    args: MixingArgs
    alike: IntArray
    pools: Mapping[int, IntArray]

    @classmethod
    def of(
        cls, config: TrainConfig, heads: Sequence[Head], values: FloatArray, train: IntArray, alike: IntArray
    ) -> Mixing | None:
        """The mixing that the settings ask for; None where they ask for none.

        Args:
            config: The settings.
            heads: H heads.
            values: (N, H) values of the heads, NaN = not labelled.
            train: Row numbers that are trained on.
            alike: What `alike_of` gave for the first photos; of those behind it is unknown, which matters only where
                partners must share something.

        Raises:
            ConfigError: Arguments are not as they must be, or no head has the partners' class.
        """
        args = MixingArgs.of(config)
        if config.mixing == "none":
            return None
        behind = np.full(len(values) - len(alike), -1 if args.within else 0)
        rows, alike = np.unique(train), np.concatenate([alike, behind])
        if args.partner:
            rows = rows[of_class(heads, values, args.partner, "partner in mixing_args")[rows]]
        pools = {int(group): rows[alike[rows] == group] for group in np.unique(alike[rows]) if group >= 0}
        return cls(MIXINGS[config.mixing], args, alike, pools)

    def partner(self, row: int, rng: np.random.Generator) -> int | None:
        """The row whose photo this one is mixed with, never itself; None = it is not mixed this time."""
        if rng.random() >= self.args.prob:
            return None
        pool = self.pools.get(int(self.alike[row]), np.empty(0, dtype=np.int64))
        place = int(np.searchsorted(pool, row))
        is_in = place < len(pool) and pool[place] == row
        if len(pool) == is_in:
            return None
        drawn = int(rng.integers(len(pool) - is_in))
        return int(pool[drawn + (is_in and drawn >= place)])


def alike_of(config: TrainConfig, columns: Mapping[str, StrArray], n: int) -> IntArray:
    """The (n,) class index that mixed photos must share, -1 = not labelled; zeros where they need not share any.

    Args:
        config: The settings; ``within`` in ``mixing_args`` names the column.
        columns: Label column -> (n,) raw labels.
        n: Number of photos.

    Raises:
        ConfigError: The data has no such label column.
    """
    within = MixingArgs.of(config).within
    if not within:
        return np.zeros(n, dtype=np.int64)
    for head in LABELS:
        if head.column == within and within in columns:
            return head.labels(head.values(columns))
    named = ", ".join(head.column for head in LABELS if head.column in columns)
    raise ConfigError(f"within in mixing_args must be a label column of the data ({named}), got {within!r}")


def of_class(heads: Sequence[Head], values: FloatArray, name: str, what: str) -> BoolArray:
    """The (N,) answers whether a photo is labelled as of a class of any of the heads.

    A head that is made of parts has their classes too: ``old`` is in ``wear/male/old``.

    Args:
        heads: H heads.
        values: (N, H) values of the heads, NaN = not labelled.
        name: The class.
        what: The setting that names it, for the message.

    Raises:
        ConfigError: No head has it.
    """
    found = [labels == classes.index(name) for classes, labels in _labels(heads, values) if name in classes]
    if not found:
        known = list(dict.fromkeys(one for classes, _ in _labels(heads, values) for one in classes))
        nearest = hint(name, known, f"classes are: {', '.join(known)}")
        raise ConfigError(f"{what} names the class {name!r}, which no head of this run has; {nearest}")
    return np.asarray(np.any(found, axis=0), dtype=np.bool_)


def _labels(heads: Sequence[Head], values: FloatArray) -> Iterator[tuple[tuple[str, ...], IntArray]]:
    """Class names and (N,) labels, -1 = none, of each head and each part of one."""
    for head, column in zip(heads, values.T, strict=True):
        labels = head.labels(column)
        yield head.classes, labels
        if head.parts:
            of_parts = np.unravel_index(np.maximum(labels, 0), tuple(len(part.classes) for part in head.parts))
            for part, index in zip(head.parts, of_parts, strict=True):
                yield part.classes, np.where(labels < 0, -1, index).astype(np.int64)
