"""What a training photo goes through, with randomness that is handed in. S side of the network's input in pixels."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
import numpy.typing as npt

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for its newest version at import

if TYPE_CHECKING:
    import albumentations as A

Pixels = npt.NDArray[np.uint8]
Augment = Callable[[Pixels, np.random.Generator], Pixels]  # (S, S, 3) photo, its own randomness -> (S, S, 3)

SHIFT, ZOOM, TURN = 0.06, 0.1, 10.0  # most, as share of the side, as share, in degrees
LIGHT = 0.2  # most change of contrast, and of brightness as share of white
HALF, OFTEN = 0.5, 0.8  # probabilities: of a mirror image; of a move, and of another light


def light(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """Mirror, shift, zoom, turn a little; light and contrast.

    One warp and one table do it all: a photo takes a third of the time that the same steps one by one take, which
    is what a small network can spare.
    """
    mirror, move, relight, *drawn = rng.random(10).tolist()
    x, y, wider, higher, turn, contrast, brightness = (2 * number - 1 for number in drawn)
    if move < OFTEN:
        photo = warped(photo, around_centre(len(photo), (x, y), (wider, higher), turn, mirror=mirror < HALF))
    elif mirror < HALF:
        photo = cast(Pixels, cv2.flip(photo, 1))
    return relit(photo, 1 + LIGHT * contrast, LIGHT * brightness * 255) if relight < OFTEN else photo


def around_centre(
    size: int, shift: tuple[float, float], zoom: tuple[float, float], turn: float, *, mirror: bool
) -> npt.NDArray[np.float64]:
    """The (2, 3) matrix from old to new pixel positions; every number runs from -1 to 1, as share of the most."""
    angle, centre = math.radians(TURN * turn), (size - 1) / 2
    wider, higher = (1 + ZOOM * zoom[0]) * (-1 if mirror else 1), 1 + ZOOM * zoom[1]
    cos, sin = math.cos(angle), math.sin(angle)
    rows = ((cos * wider, sin * higher), (-sin * wider, cos * higher))  # counter-clockwise: y runs down
    return np.array(
        [[a, b, centre * (1 - a - b) + SHIFT * size * move] for (a, b), move in zip(rows, shift, strict=True)]
    )


def warped(photo: Pixels, matrix: npt.NDArray[np.float64]) -> Pixels:
    """The photo with its pixels moved; what comes in from outside is the photo reflected."""
    four = cv2.cvtColor(photo, cv2.COLOR_RGB2RGBA)  # OpenCV warps four channels in half the time of three
    moved = cv2.warpAffine(four, matrix, photo.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101)
    return cast(Pixels, cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB))


def relit(photo: Pixels, contrast: float, brightness: float) -> Pixels:
    """The photo with every value times ``contrast`` plus ``brightness``, 0-255."""
    table = (np.arange(256) * contrast + brightness).clip(0, 255).round().astype(np.uint8)
    return cast(Pixels, cv2.LUT(photo, table))


class Composed:
    """An albumentations pipeline that draws from the randomness it is handed.

    Left to itself, albumentations 2.0.8 replays one stream in every worker, and gives all transforms the same seed.
    """

    def __init__(self, compose: A.Compose) -> None:
        self.compose = compose

    def __call__(self, photo: Pixels, rng: np.random.Generator) -> Pixels:
        """The photo after the pipeline."""
        self.compose.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        return cast(Pixels, self.compose(image=photo)["image"])


AUGMENTATIONS: dict[str, Callable[[], Augment | None]] = {"light": lambda: light, "none": lambda: None}
