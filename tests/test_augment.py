"""The light augmentation against albumentations' own transforms, and its laws."""

from __future__ import annotations

import albumentations as A
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.augment import AUGMENTATIONS, LIGHT, SHIFT, TURN, ZOOM, Composed, Pixels, around_centre, relit, warped


def smooth(size: int, seed: int = 0) -> Pixels:
    """A photo without sharp edges, on which a rounded coordinate changes little."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


unit = st.floats(-1, 1)


pixels = st.integers(-2, 2)  # whole ones: the library rounds shifts


@given(pixels, pixels, unit, unit, st.booleans(), st.sampled_from([47, 48, 64]))
def test_a_move_is_that_of_albumentations(
    right: int, down: int, zoom: float, turn: float, mirror: bool, size: int
) -> None:
    photo = smooth(size)
    shift, scale, angle = (right / size, down / size), 1 + ZOOM * zoom, TURN * turn
    matrix = around_centre(size, (shift[0] / SHIFT, shift[1] / SHIFT), (zoom, zoom), turn, mirror=mirror)
    oracle = A.Affine(
        translate_percent={"x": (shift[0], shift[0]), "y": (shift[1], shift[1])},
        scale=(scale, scale),
        rotate=(angle, angle),
        border_mode=cv2.BORDER_REFLECT_101,
        p=1,
    )
    wanted = oracle(image=np.ascontiguousarray(photo[:, ::-1]) if mirror else photo)["image"]
    np.testing.assert_allclose(warped(photo, matrix).astype(int), wanted.astype(int), atol=2)


@given(unit, unit)
def test_other_light_is_that_of_albumentations(contrast: float, brightness: float) -> None:
    photo = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    alpha, beta = LIGHT * contrast, LIGHT * brightness
    oracle = A.RandomBrightnessContrast(brightness_limit=(beta, beta), contrast_limit=(alpha, alpha), p=1)
    apart = np.abs(relit(photo, 1 + alpha, beta * 255).astype(int) - oracle(image=photo)["image"].astype(int))
    assert apart.max() <= 1  # rounding or cutting off


@pytest.mark.parametrize("name", AUGMENTATIONS)
@given(seed=st.integers(0, 2**32))
def test_an_augmentation_keeps_the_shape_and_belongs_to_its_randomness(name: str, seed: int) -> None:
    augment, photo = AUGMENTATIONS[name](), smooth(32)
    if augment is None:
        return
    kept = photo.copy()
    first, again = (augment(photo, np.random.default_rng(seed)) for _ in range(2))
    assert first.shape == photo.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(photo, kept)


def test_an_albumentations_pipeline_draws_from_what_it_is_handed() -> None:
    augment, photo = Composed(A.Compose([A.HorizontalFlip(p=0.5), A.RandomCrop(24, 24, p=1)])), smooth(32)
    seen = [augment(photo, np.random.default_rng(seed)) for seed in range(200)]
    again = [augment(photo, np.random.default_rng(seed)) for seed in range(200)]
    for one, other in zip(seen, again, strict=True):
        np.testing.assert_array_equal(one, other)
    corners = {photo_out[0].tobytes() for photo_out in seen}
    assert len(corners) > 100  # 9 x 9 places, mirrored or not
