"""The contact sheet shows what a training of the same settings sees, and the command says what it wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.contact_sheet import GAP, LINE, SIDE, show_person, write_sheet
from pipeline.errors import ConfigError
from pipeline.fold import FoldJob
from pipeline.images import read_photo, read_resized, stacked
from pipeline.plan import fold_data
from tests.conftest import Cli, planned


def test_what_is_shown_is_what_a_training_sees(data: Path) -> None:
    plan = planned(data, "mask", "age", epochs=2, mixing="mixup", per_class={"old": "heavy"})
    samples = plan.data.samples
    photos = stacked(samples.paths, 32)
    folds = set()
    for person in np.unique(samples.persons)[:6]:
        shown = show_person(plan, str(person), 3)
        rows = np.flatnonzero(samples.persons == person)[:3]
        assert shown.fold == (plan.folds[rows[0]] == 0)
        fold = fold_data(plan, shown.fold, photos, photos[:0])
        job = FoldJob(plan.task, fold, plan.config, torch.device("cpu"), 0, 8, lambda n, t: None, lambda row: None)
        seen = job.main_phase().photos
        for epoch, pixels in enumerate(shown.seen):
            wanted, *_ = seen[epoch, rows]
            np.testing.assert_array_equal(pixels, wanted.permute(0, 2, 3, 1))
        np.testing.assert_array_equal(shown.photos[0], read_resized(samples.paths[rows[0]], 32))
        assert len(shown.seen) == 2
        folds.add(shown.fold)
    assert folds == {0, 1}


def test_the_sheet_has_a_row_a_photo_and_a_column_an_epoch(data: Path, tmp_path: Path, cli: Cli) -> None:
    file = tmp_path / "new" / "sheet.png"
    settings = ("folds=3", "epochs=3", "image_size=32", "mixing=cutmix", "augment=medium")
    words = [word for setting in settings for word in ("--set", setting)]
    code, out, err = cli("show-augment", "age", "--data", data, "--out", file, "--rows", 2, *words)
    assert (code, err) == (0, "")
    assert f"wrote {file}: 2 photos of 000001_female_Asian_23 in 3 epochs, as fold" in out
    sheet = read_photo(file)
    assert sheet.shape == (LINE + GAP + 2 * (SIDE + LINE + GAP), GAP + 4 * (SIDE + GAP), 3)
    first = sheet[LINE + GAP : LINE + GAP + SIDE, GAP : GAP + SIDE]  # 32 pixels, each drawn as 6 x 6
    shot = next((data / "train" / "images" / "000001_female_Asian_23").glob("incorrect_mask.*"))
    np.testing.assert_array_equal(first[::6, ::6], read_resized(shot, 32))
    assert sorted(path.name for path in file.parent.iterdir()) == ["sheet.png"]
    again = tmp_path / "again.png"
    cli("show-augment", "age", "--data", data, "--out", again, "--rows", 2, *words)
    assert again.read_bytes() == file.read_bytes()


def test_what_cannot_be_shown_is_refused(data: Path, tmp_path: Path, cli: Cli) -> None:
    out = ["--data", data, "--out", tmp_path / "x.png", "--set", "folds=3"]
    cases: list[tuple[list[object], str]] = [
        (["--person", "000001_female_Asian_24", *out], "did you mean '000001_female_Asian_23'"),
        (["--person", "nobody", *out], "a person is, for example, '000001_female_Asian_23'"),
        (["--rows", 0, *out], "--rows must be from 1 to 20, got 0"),
        (["mask", "--set", "per_class={old='heavy'}", *out], "per_class names the class 'old'"),
        (["--set", "augment", *out], "--set takes NAME=VALUE"),
        (["--data", data, "--out", tmp_path / "x.jpg"], "--out must be a .png"),
    ]
    for arguments, message in cases:
        code, _, err = cli("show-augment", *arguments)
        assert (code, message in err) == (2, True), err
    assert not list(tmp_path.iterdir())


def test_without_heads_all_that_are_labelled_are_shown(data: Path, tmp_path: Path) -> None:
    plan = planned(data, "mask", "gender", "age")
    shown = write_sheet(tmp_path / "x.png", [], plan.config, data, person="", rows=1)
    assert len(shown.labels[0].split()) == 3
    with pytest.raises(ConfigError, match="nobody"):
        show_person(plan, "nobody", 1)
