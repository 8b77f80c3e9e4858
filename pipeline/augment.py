"""What a training photo goes through, with randomness that is handed in. S side of the network's input in pixels."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Chain:
    """Augmentations one after the other, of one stream of random numbers.

    Attributes:
        steps: They.
    """

    steps: tuple[Augment, ...]

    def __call__(self, photo: Pixels, rng: np.random.Generator) -> Pixels:
        """The photo after all of them."""
        for step in self.steps:
            photo = step(photo, rng)
        return photo


def medium() -> Augment:
    """`light`; then now and then other colours, grey, blur or a covered place."""
    import albumentations as A

    return Chain(
        (
            light,
            Composed(
                A.Compose(
                    [
                        A.HueSaturationValue(hue_shift_limit=6, sat_shift_limit=30, val_shift_limit=0, p=0.3),
                        A.ToGray(p=0.05),
                        A.OneOf([A.GaussianBlur(blur_limit=(3, 5)), A.MotionBlur(blur_limit=(3, 5))], p=0.15),
                        A.CoarseDropout((1, 1), (0.1, 0.25), (0.1, 0.25), fill="random_uniform", p=0.25),
                    ]
                )
            ),
        )
    )


def heavy() -> Augment:
    """A crop, a wide turn and shear; strong light, colours, grey, blur, noise, compression and covered places."""
    import albumentations as A

    edge = cv2.BORDER_REFLECT_101
    moved = A.Affine((0.9, 1.35), 0.08, rotate=(-20, 20), shear=(-8, 8), border_mode=edge, p=0.9)
    colours = A.HueSaturationValue(hue_shift_limit=12, sat_shift_limit=50, val_shift_limit=0, p=0.5)
    blurs = [A.GaussianBlur(blur_limit=(3, 5)), A.MotionBlur(blur_limit=(3, 7)), A.Downscale((0.4, 0.7))]
    return Composed(
        A.Compose(
            [
                A.HorizontalFlip(p=0.5),
                moved,
                A.RandomBrightnessContrast(0.3, 0.3, p=0.8),
                colours,
                A.ToGray(p=0.1),
                A.RandomGamma((70, 150), p=0.2),
                A.OneOf(blurs, p=0.25),
                A.OneOf([A.GaussNoise((0.02, 0.08)), A.ImageCompression(quality_range=(30, 80))], p=0.25),
                A.CoarseDropout((1, 2), (0.1, 0.3), (0.1, 0.3), fill="random_uniform", p=0.5),
            ]
        )
    )


AUGMENTATIONS: dict[str, Callable[[], Augment | None]] = {
    "heavy": heavy,
    "light": lambda: light,
    "medium": medium,
    "none": lambda: None,
}
