"""Photos as numbers: small pictures, hashes, means and components agree with second ways to find them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.fft import dctn

from pipeline.eda.alike import near_pairs, perceptual_hashes
from pipeline.eda.looking import SIDE, greys, lights, look_closely, mean_faces
from pipeline.eda.space import distances, features, principal_axes, projected
from pipeline.images import read_resized
from pipeline.opening import decoded, glanced
from pipeline.pictures import look_at_all
from tests.builders import write_competition, write_picture


def test_the_hash_is_the_sign_of_low_frequencies() -> None:
    small = np.random.default_rng(0).integers(0, 256, (9, SIDE, SIDE, 3), dtype=np.uint8)
    for photo, found in zip(small, perceptual_hashes(small), strict=True):
        waves = dctn(greys(photo[None])[0].astype(np.float64), norm="ortho")[:8, :8].ravel()
        wanted = waves > np.median(waves[1:])
        np.testing.assert_array_equal(np.unpackbits(np.asarray([found]).view(np.uint8)), wanted)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(2, 14), st.integers(0, 4))
def test_pairs_are_those_of_a_comparison_of_all_with_all(seed: int, searched: int, extra: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 256, (4, 16, 16, 3)).repeat(3, axis=1).repeat(3, axis=2)
    which = rng.integers(4, size=searched + extra)
    small = (kinds[which] + rng.normal(0, 3, (len(which), SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)
    owners = rng.integers(3, size=len(which))
    found = near_pairs(small, owners, searched)
    wanted = {
        (i, j)
        for i in range(searched)
        for j in range(i + 1, len(which))
        if owners[i] != owners[j] and which[i] == which[j]
    }
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == wanted
    assert found.complete
    assert (np.diff(found.likeness) <= 0).all()


def test_mean_faces_are_means() -> None:
    rng = np.random.default_rng(0)
    small, classes = rng.integers(0, 256, (40, SIDE, SIDE, 3), dtype=np.uint8), rng.integers(-1, 3, 40)
    means = mean_faces(small, classes, 4)
    for k in range(3):
        np.testing.assert_allclose(means[k], small[classes == k].astype(float).mean(axis=0))
    assert np.isnan(means[3]).all()
    brightness, contrast = lights(small)
    grey = small @ np.asarray([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(brightness, grey.mean(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(contrast, grey.std(axis=(1, 2)), atol=1e-5)


@settings(max_examples=15)
@given(st.integers(4, 60), st.integers(2, 12), st.integers(0, 99))
def test_components_are_those_of_scikit_learn(n: int, d: int, seed: int) -> None:
    from sklearn.decomposition import PCA

    points = np.random.default_rng(seed).normal(size=(n, d)) * np.arange(1, d + 1)
    axes = principal_axes(points, 2)
    oracle = PCA(2, svd_solver="full").fit(points)
    np.testing.assert_allclose(axes.shares, oracle.explained_variance_ratio_)
    np.testing.assert_allclose(np.abs(projected(points, axes)), np.abs(oracle.transform(points)), atol=1e-7)


def test_features_are_mean_colours() -> None:
    small = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    found = features(small).reshape(3, 12, 12, 3)
    np.testing.assert_allclose(found[1, 2, 5], small[1, 8:12, 20:24].reshape(16, 3).mean(axis=0) / 255, rtol=1e-5)


def test_what_lies_far_from_its_class_is_far() -> None:
    rng = np.random.default_rng(0)
    points, classes = rng.normal(size=(200, 4)), np.repeat([0, 1], 100)
    points[classes == 1] += 50
    points[7] += 20
    found = distances(points, classes)
    assert found.argmax() == 7
    assert np.median(found[classes == 0]) == pytest.approx(1)
    assert np.isnan(distances(points[:6], np.asarray([0, 0, 0, 0, 1, -1]))).all(), "too few for a middle"


def test_reading_at_a_small_size_finds_the_same_faults(tmp_path: Path) -> None:
    write_competition(tmp_path, people=1, eval_photos=0, size=(300, 400))
    files = sorted((tmp_path / "train" / "images").rglob("*.jpg"))
    files[0].write_bytes(files[0].read_bytes()[:-300])
    files[1].write_bytes(b"hello")
    files[2].unlink()
    write_picture(tmp_path / "plain.png", np.random.default_rng(0))
    files.append(tmp_path / "plain.png")
    looked = look_closely(files, lambda done, total: None)
    assert looked.pictures == look_at_all(files, lambda done, total: None)
    assert looked.readable.tolist() == [False] * 3 + [True] * 5
    np.testing.assert_array_equal(looked.small[-1], read_resized(files[-1], SIDE))


def test_a_quickly_decoded_photo_is_the_same_photo(tmp_path: Path) -> None:
    y, x = np.mgrid[0:512, 0:384]
    smooth = np.stack([x / 2, y / 2, 128 + 90 * np.sin(x / 40) * np.cos(y / 50)], axis=2).clip(0, 255)
    Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / "photo.jpg", quality=95)
    content = (tmp_path / "photo.jpg").read_bytes()
    size, quick = glanced(content, 96)
    assert (size, decoded(content).size, quick.size) == ((384, 512), (384, 512), (96, 128))
    whole = np.asarray(decoded(content), dtype=float).reshape(128, 4, 96, 4, 3).mean(axis=(1, 3))
    assert np.abs(whole - np.asarray(quick)).mean() < 2
