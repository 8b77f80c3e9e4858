"""Photos come out upright, 8 bits, RGB; augmentation belongs to the sample; steps cover every row."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.augmentation import Augmentation
from pipeline.errors import LayoutError
from pipeline.images import VIEWS, PhotoSet, load_steps, read_photo
from pipeline.sampling import training_steps


def picture() -> Image.Image:
    """A smooth 60 x 40 picture, red to the left, bright at the top."""
    y, x = np.mgrid[0:40, 0:60]
    return Image.fromarray(np.stack([255 - 4 * x, 4 * x, 255 - 6 * y], axis=2).astype(np.uint8))


def grey16(file: Path) -> None:
    Image.fromarray(np.asarray(picture().convert("L"), dtype=np.uint16) * 257).save(file)


KINDS: dict[str, tuple[str, Callable[[Path], None], bool]] = {
    "grey": ("g.png", lambda file: picture().convert("L").save(file), True),
    "palette": ("p.png", lambda file: picture().quantize(256).save(file), False),
    "rgba": ("a.png", lambda file: picture().convert("RGBA").save(file), False),
    "sixteen-bit": ("d.png", grey16, True),
    "cmyk": ("c.jpg", lambda file: picture().convert("CMYK").save(file, quality=95), False),
    "webp": ("w.webp", lambda file: picture().save(file, lossless=True), False),
}


@pytest.mark.parametrize(("name", "write", "grey"), KINDS.values(), ids=KINDS)
def test_every_kind_of_photo_comes_out_as_8_bit_rgb(
    name: str, write: Callable[[Path], None], grey: bool, tmp_path: Path
) -> None:
    write(tmp_path / name)
    got = read_photo(tmp_path / name)
    wanted = np.asarray(picture().convert("L").convert("RGB") if grey else picture())
    assert got.dtype == np.uint8
    assert got.shape == (40, 60, 3)
    assert np.abs(got.astype(int) - wanted).mean() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_come_out_upright(orientation: int, tmp_path: Path) -> None:
    undo = {1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}[
        orientation
    ]  # Image.Transpose of the storage
    stored = picture()
    for turn in undo:
        stored = stored.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_photo(tmp_path / "turned.png"), np.asarray(picture()))


def test_what_is_no_whole_image_is_refused(tmp_path: Path) -> None:
    picture().save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("hello")
    for name, message in (("half.jpg", "(?i)truncated"), ("text.jpg", "not an image"), ("none.jpg", "No such file")):
        with pytest.raises(LayoutError, match=message):
            read_photo(tmp_path / name)


def photo_set(key: tuple[int, ...] = (0, 1, 2)) -> PhotoSet:
    photos = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    return PhotoSet(photos, np.arange(12.0)[:, None], Augmentation("light", key))


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentation_is_a_function_of_seed_epoch_and_sample_alone(workers: int) -> None:
    steps = [(e, np.array(rows)) for e in (0, 1) for rows in ([3, 4, 5], [0, 1], [2])]
    got = {}
    for (epoch, rows), (images, values, _) in zip(steps, load_steps(photo_set(), steps, workers), strict=True):
        assert values[:, 0, 0].tolist() == rows.tolist()
        got.update({(epoch, int(row)): image for row, image in zip(rows, images, strict=True)})
    for epoch, row in got:  # alone, in another order, in this process
        torch.testing.assert_close(photo_set()[epoch, np.array([row])][0][0], got[epoch, row], rtol=0, atol=0)
    assert not torch.equal(got[0, 3], got[1, 3])
    assert not torch.equal(got[0, 3], photo_set((1, 1, 2))[0, np.array([3])][0][0])


def test_workers_that_are_slow_give_all_batches_and_one_can_look_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, looks = PhotoSet.__getitem__, []

    def slow(photos: PhotoSet, step: tuple[int, object]) -> object:
        time.sleep(0.7)
        return honest(photos, step)  # type: ignore[arg-type]

    monkeypatch.setattr(PhotoSet, "__getitem__", slow)
    monkeypatch.setattr("pipeline.images.LOOK", 0.3)
    steps = [(0, np.array(rows)) for rows in ([3, 4], [0], [2, 1])]
    got = [values[:, 0, 0].tolist() for _, values, _ in load_steps(photo_set(), steps, 1, heed=lambda: looks.append(1))]
    assert got == [[3, 4], [0], [2, 1]]
    assert len(looks) >= 3
    monkeypatch.setattr("pipeline.images.SILENCE", 0.1)
    with pytest.raises(RuntimeError, match="timed out"):
        list(load_steps(photo_set(), steps, 1))


def test_photos_in_a_file_are_not_sent_to_workers(tmp_path: Path) -> None:
    # where processes are spawned, as on macOS, a data set is pickled for each of them
    whole = photo_set()
    np.save(tmp_path / "photos.npy", whole.photos)
    mapped = PhotoSet(np.load(tmp_path / "photos.npy", mmap_mode="r"), whole.values, whole.augmentation)
    sent = pickle.dumps(mapped)
    assert b"photos.npy" in sent
    assert whole.photos.tobytes()[:1000] not in sent
    step = (0, np.array([1, 2]))
    torch.testing.assert_close(pickle.loads(sent)[step], whole[step], rtol=0, atol=0)


def test_flips_and_shifts_are_independent() -> None:
    # a library that gives all its transforms one seed lets them fire together
    photos = np.full((400, 16, 16, 3), 50, dtype=np.uint8)
    photos[:, :, :8] = 100
    flipped = PhotoSet(photos, np.zeros((400, 1)), Augmentation("light", (0,)))
    images, *_ = flipped[0, np.arange(400)]
    left = images[:, 0, :, :4].float().mean(dim=(1, 2))
    right = images[:, 0, :, -4:].float().mean(dim=(1, 2))
    mirrored = (right > left).float()
    untouched = (images[:, 0].float().amax(dim=(1, 2)) == 100).float()  # brightness left as it was
    assert 0.4 < float(mirrored.mean()) < 0.6
    assert abs(float(untouched[mirrored == 1].mean() - untouched[mirrored == 0].mean())) < 0.1


@given(st.integers(2, 60), st.integers(2, 9), st.integers(1, 3))
def test_every_epoch_sees_every_row_once_and_no_batch_has_one(n: int, batch_size: int, epochs: int) -> None:
    rows = np.arange(n) * 7
    steps = training_steps(rows, batch_size=batch_size, epochs=range(epochs), key=(0,))
    assert len(steps) % epochs == 0
    for epoch in range(epochs):
        seen = [batch for e, batch in steps if e == epoch]
        assert sorted(np.concatenate(seen).tolist()) == rows.tolist()
        assert all(2 <= len(batch) <= batch_size + 1 for batch in seen)


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_view_keeps_shape_and_pixels(view: Callable[[torch.Tensor], torch.Tensor]) -> None:
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    seen = view(images)
    assert seen.shape == images.shape
    torch.testing.assert_close(seen.sort(dim=3).values, images.sort(dim=3).values)


def test_hflip_mirrors() -> None:
    images = torch.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)
    torch.testing.assert_close(VIEWS["hflip"](images)[..., 0], images[..., -1])
