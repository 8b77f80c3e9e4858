"""Every transform that a list may name, under the pinned OpenCV and NumPy; what a list may not be."""

from __future__ import annotations

import pickle
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.augment import Pixels
from pipeline.errors import ConfigError
from pipeline.recipes import GROUPS, names, own_recipe

SIZE = 32
PHOTO: Pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
INNER = [{"name": "HorizontalFlip"}, {"name": "GaussNoise"}, {"name": "RandomCrop", "share": [0.5, 0.9]}]
NEED: dict[str, dict[str, Any]] = {  # what has no default
    "CenterCrop": {"height": 20, "width": 9},
    "Crop": {"x_max": 9, "y_max": 20},
    "CropAndPad": {"px": 2},
    "GridElasticDeform": {"num_grid_xy": [4, 4], "magnitude": 5},
    "LongestMaxSize": {"max_size": 20},
    "RandomCrop": {"height": 20, "width": 9},
    "RandomSizedCrop": {"min_max_height": [10, 20], "size": [16, 16]},
    "Resize": {"height": 9, "width": 30},
    "SmallestMaxSize": {"max_size": 20},
    "TimeMasking": {"time_mask_param": 9},
}
NO_PHOTO = ("FromFloat", "Normalize", "ToFloat", "ToRGB")
ADVERTISED = (
    "RandomCrop RandomResizedCrop CenterCrop HorizontalFlip VerticalFlip Rotate Affine CLAHE GaussNoise ToGray "
    "ColorJitter RandomBrightnessContrast GaussianBlur MotionBlur CoarseDropout RandAugment OneOf SomeOf"
)


def test_what_is_advertised_is_there() -> None:
    assert set(ADVERTISED.split()) <= set(names())


@pytest.mark.parametrize("name", [name for name in names() if name not in NO_PHOTO])
def test_a_transform_keeps_the_shape_and_belongs_to_its_randomness(name: str) -> None:
    need = {"transforms": INNER} if name in GROUPS else NEED.get(name, {})
    augment = own_recipe([{"name": name, "p": 1.0} | need], SIZE)
    for seed in range(2):
        np.random.seed(seed)
        random.seed(seed)
        first, again = (augment(PHOTO.copy(), np.random.default_rng(seed)) for _ in range(2))
        assert first.shape == (SIZE, SIZE, 3)
        assert first.dtype == np.uint8
        np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("name", NO_PHOTO)
def test_what_gives_no_photo_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        own_recipe([{"name": name}], SIZE)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), chance=st.floats(0, 1))
def test_photos_stay_as_large_whatever_a_list_does(seed: int, chance: float) -> None:
    tables = [{"name": "RandomCrop", "height": 20, "width": 9, "p": chance}, {"name": "Transpose", "p": chance}]
    tables += [{"name": "RandomScale", "p": chance}, {"name": "RandomCrop", "height": 30, "width": 30, "p": chance}]
    assert own_recipe(tables, SIZE)(PHOTO, np.random.default_rng(seed)).shape == PHOTO.shape


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_a_list_is_sent_to_workers_as_it_is(seed: int) -> None:
    augment = own_recipe([{"name": "RandAugment"}, {"name": "RandomCrop", "share": 0.75}], SIZE)
    sent = pickle.loads(pickle.dumps(augment))
    here, there = (one(PHOTO, np.random.default_rng(seed)) for one in (augment, sent))
    np.testing.assert_array_equal(here, there)


def ramps(size: int) -> Pixels:
    """A photo that says where each pixel comes from: 4 a column in red, 4 a row in green."""
    rows, columns = np.mgrid[0:size, 0:size] * 4
    return np.stack([columns, rows, 0 * rows], axis=2).astype(np.uint8)


@given(seed=st.integers(0, 2**32), low=st.floats(0.3, 0.9), high=st.floats(0.3, 1))
def test_a_random_crop_shows_a_share_of_each_side(seed: int, low: float, high: float) -> None:
    low, high = sorted((low, high))
    augment = own_recipe([{"name": "RandomCrop", "share": [low, high], "p": 1}], 64)
    cut = augment(ramps(64), np.random.default_rng(seed)).astype(int)
    for spread in (np.ptp(cut[..., 0]), np.ptp(cut[..., 1])):  # from the first to the last column, or row
        assert low * 64 - 1.5 <= spread / 4 + 1 <= high * 64 + 0.5


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75, 1])
def test_a_centre_crop_shows_the_middle(share: float) -> None:
    cut = own_recipe([{"name": "CenterCrop", "share": share}], 64)(ramps(64), np.random.default_rng(0))
    lowest = 64 * (1 - share) / 2 * 4
    assert (cut[..., 0].min(), cut[..., 0].max()) == (lowest, 252 - lowest)


def test_resized_crops_cost_no_size_argument() -> None:
    ours = own_recipe([{"name": "RandomResizedCrop", "scale": [0.5, 0.5], "ratio": [1, 1]}], SIZE)
    assert ours(PHOTO, np.random.default_rng(0)).shape == PHOTO.shape


def test_rand_augment_of_no_magnitude_does_nothing_and_of_much_does_much() -> None:
    flat: Pixels = np.tile(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), (2, 2, 3))  # nothing to stretch in it
    still, strong = (own_recipe([{"name": "RandAugment", "n": 1, "magnitude": m}], SIZE) for m in (0, 10))
    looks = {strong(flat, np.random.default_rng(seed)).tobytes() for seed in range(60)}
    assert len(looks) > 14  # turns, shears and shifts differ each time
    for seed in range(40):
        apart = np.abs(still(flat, np.random.default_rng(seed)).astype(int) - flat)
        assert apart[flat < 255].max() <= 1  # one bit less; pure white is solarised at any threshold


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": "RandomCorp"}, "unknown name 'RandomCorp'; did you mean 'RandomCrop'"),
    ({"name": "Compose"}, "unknown name 'Compose'; there are"),
    ({"name": "GaussNoise", "sdt_range": [0.1, 0.2]}, "no argument 'sdt_range'; did you mean 'std_range'"),
    ({"name": "GaussNoise", "std_range": [0.1, 2]}, "GaussNoise cannot be made of .*std_range"),
    ({"name": "Rotate", "p": 2}, "Rotate cannot be made of .*p: "),
    ({"name": "RandomCrop"}, "height: Field required"),
    ({"name": "RandomCrop", "height": 200, "width": 2}, "RandomCrop fails on a photo of 32 x 32: .*200"),
    ({"name": "RandomCrop", "share": [0.8, 0.7]}, "share of RandomCrop must be .*0.8, 0.7"),
    ({"name": "RandomCrop", "share": 0.5, "sahre": 1}, "no argument 'sahre'"),
    ({"name": "CenterCrop", "share": [0.5, 0.7]}, "CenterCrop takes one number"),
    ({"name": "RandAugment", "n": 0}, "n from 1 to 14"),
    ({"name": "RandAugment", "m": 9}, "no argument 'm'; it takes: n, magnitude, p"),
    ({"name": "OneOf"}, "OneOf needs transforms"),
    ({"name": "OneOf", "transforms": [{"name": "Foo"}]}, "unknown name 'Foo'"),
    ({"name": "OneOf", "transforms": [3]}, "a list of tables with a name"),
    ({"name": "RandomCrop", "height": 10**30, "width": 2}, "RandomCrop"),
    ({"name": "Mosaic"}, "Mosaic needs more than one photo"),
    ({"name": "MaskDropout"}, "MaskDropout needs more"),
]


@pytest.mark.parametrize(("table", "message"), BAD, ids=[str(table) for table, _ in BAD])
def test_a_bad_list_is_refused_by_name(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        own_recipe([table], SIZE)
