"""Which training photo goes through which recipe, and with whose photo it is mixed.

N photos, H heads, B photos of a batch, M photos that a mixed photo is made of (1 or 2), S side in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from heads.base import FloatArray, Head, IntArray
from pipeline.augment import AUGMENTATIONS, Pixels
from pipeline.config import TrainConfig
from pipeline.mixing import Mixing, of_class
from pipeline.recipes import own_recipe
from pipeline.rules import RECIPES

AGAIN = 2  # stands before the number of a repetition in the key of a photo that is shown again in an epoch
MIXING = 1  # the last number of the key of all that mixing draws: it leaves augmentation's own numbers as they are


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What a training photo goes through; sample i in epoch e always gets the same, whoever prepares it.

    Attributes:
        name: Key of ``AUGMENTATIONS``.
        key: What the randomness belongs to beside epoch and sample: (seed, task, fold).
        transforms: A recipe of the user's own, which then stands in for ``name``.
        size: S, which such a recipe must know.
        others: Recipe -> row numbers that go through it instead; a later one wins.
        mixing: Who is mixed with whom, if any.
    """

    name: str
    key: tuple[int, ...]
    transforms: tuple[dict[str, Any], ...] = ()
    size: int = 0
    others: Mapping[str, IntArray] = field(default_factory=dict)
    mixing: Mixing | None = None

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        key: tuple[int, ...],
        heads: Sequence[Head],
        values: FloatArray,
        *,
        train: IntArray,
        alike: IntArray,
    ) -> Augmentation:
        """What the settings ask for.

        A photo of several classes that have a recipe of their own goes through the strongest.

        Args:
            config: The settings.
            key: (seed, task, fold).
            heads: H heads.
            values: (N, H) values of the heads, NaN = not labelled.
            train: Row numbers that are trained on.
            alike: What mixed photos share, see `Mixing.of`.

        Raises:
            ConfigError: A class is of no head, or arguments are not as they must be.
        """
        rows: dict[str, IntArray] = {}
        for recipe in RECIPES:  # from weak to strong
            named = [name for name, wanted in config.per_class.items() if wanted == recipe]
            found = [np.flatnonzero(of_class(heads, values, name, "per_class")) for name in named]
            rows |= {recipe: np.unique(np.concatenate(found))} if found else {}
        mixing = Mixing.of(config, heads, values, train, alike)
        return cls(config.augment, key, config.transforms, config.image_size, rows, mixing)


def check_augmentation(config: TrainConfig, heads: Sequence[Head], values: FloatArray) -> None:
    """Refuse what `PhotoSet` would refuse once the photos are read.

    Args:
        config: The settings.
        heads: H heads.
        values: (N, H) values of the heads, NaN = not labelled.

    Raises:
        ConfigError: A transform, class or argument is not as it must be.
    """
    rows = np.arange(len(values))
    Augmentation.of(config, (), heads, values, train=rows, alike=np.zeros_like(rows))
    if config.transforms:
        own_recipe(config.transforms, config.image_size)


class Augmenter:
    """Augments and mixes the photos of a batch; the recipes are made once."""

    def __init__(self, augmentation: Augmentation, n: int) -> None:
        """Make the recipes for ``n`` photos."""
        own = own_recipe(augmentation.transforms, augmentation.size) if augmentation.transforms else None
        self.recipes = [own or AUGMENTATIONS[augmentation.name]()]
        self.which = np.zeros(n, dtype=np.int64)  # each photo's recipe
        for number, (name, rows) in enumerate(augmentation.others.items(), start=1):
            self.recipes.append(AUGMENTATIONS[name]())
            self.which[rows] = number
        self.key, self.mixing = augmentation.key, augmentation.mixing

    def __call__(
        self, photos: Pixels, images: Pixels, epoch: int, rows: IntArray, times: IntArray
    ) -> tuple[IntArray, FloatArray]:
        """Change a batch's photos in place.

        Args:
            photos: (N, S, S, 3), from which partners come.
            images: (B, S, S, 3) copies of the photos of ``rows``.
            epoch: Counted from 0.
            rows: (B,) row numbers.
            times: (B,) how often each photo was shown before in this epoch.

        Returns:
            The (B, M) row numbers that each photo is now made of, and the (B, M) share of each, rows sum to 1.
        """
        keys = [
            (*self.key, epoch, row, *((AGAIN, time) if time else ()))
            for row, time in zip(rows.tolist(), times.tolist(), strict=True)
        ]
        for image, row, key in zip(images, rows.tolist(), keys, strict=True):
            image[:] = self._augmented(image, row, np.random.default_rng(key))
        if self.mixing is None:
            return rows[:, None], np.ones((len(rows), 1))
        made_of, shares = np.stack([rows, rows], axis=1), np.repeat([[1.0, 0.0]], len(rows), axis=0)
        for place, row in enumerate(rows.tolist()):
            rng = np.random.default_rng([*keys[place], MIXING])
            partner = self.mixing.partner(row, rng)
            if partner is not None:
                other = self._augmented(np.asarray(photos[np.array([partner])])[0], partner, rng)
                images[place], share = self.mixing.mix(images[place], other, self.mixing.args.alpha, rng)
                made_of[place, 1], shares[place] = partner, (share, 1 - share)
        return made_of, shares

    def _augmented(self, photo: Pixels, row: int, rng: np.random.Generator) -> Pixels:
        """The photo of this row after its recipe."""
        augment = self.recipes[self.which[row]]
        return augment(photo, rng) if augment else photo
