"""Drawn people come in the competition's layout, defects included, and are the same each time."""

import csv
from pathlib import Path

import cv2
import pytest

from pipeline.demo_data import draw_dataset
from pipeline.errors import LayoutError

SIZE = (48, 64)
SHOTS = {"mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal"}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "people"
    draw_dataset(folder, people=100, eval_people=12, size=SIZE)
    return folder


def test_the_same_arguments_draw_the_same_bytes(tmp_path: Path) -> None:
    for name in ("once", "again"):
        draw_dataset(tmp_path / name, people=12, eval_people=12, seed=3, size=SIZE)
    assert bytes_of(tmp_path / "once") == bytes_of(tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "once"]


@pytest.mark.slow
def test_another_seed_draws_other_people(tmp_path: Path) -> None:
    for seed in (0, 1):
        draw_dataset(tmp_path / str(seed), people=12, eval_people=12, seed=seed, size=SIZE)
    photos = [{data for name, data in bytes_of(tmp_path / str(seed)).items() if "images" in name} for seed in (0, 1)]
    assert not photos[0] & photos[1]


def test_everyone_has_seven_readable_shots_in_the_folder_the_table_names(drawn: Path) -> None:
    rows = rows_of(drawn / "train" / "train.csv")
    images = drawn / "train" / "images"
    assert sorted(row["path"] for row in rows) == sorted(folder.name for folder in images.iterdir())
    for row in rows:
        assert row["path"] == f"{row['id']}_{row['gender']}_{row['race']}_{row['age']}"
        photos = [file for file in (images / row["path"]).iterdir() if not file.name.startswith("._")]
        assert {file.stem for file in photos} == SHOTS
        pixels = [cv2.imread(str(file)) for file in photos]
        assert all(photo is not None and photo.shape == (64, 48, 3) for photo in pixels)


def test_the_defects_of_the_real_folder_are_there(drawn: Path) -> None:
    ids = [row["id"] for row in rows_of(drawn / "train" / "train.csv")]
    files = [file for file in (drawn / "train" / "images").rglob("*") if file.is_file()]
    litter = [file for file in files if file.name.startswith("._normal.")]
    assert {file.suffix for file in files} == {".jpg", ".jpeg", ".png"}
    assert litter
    assert all(file.read_bytes().startswith(b"\x00\x05\x16\x07") for file in litter)
    assert len(ids) - len(set(ids)) == 1
    suffixed = [name for name in ids if name.endswith("-1")]
    assert len(suffixed) == 1
    assert suffixed[0].removesuffix("-1") in ids


@pytest.mark.parametrize("gender", ["male", "female"])
def test_every_fold_can_hold_an_old_man_and_an_old_woman(drawn: Path, gender: str) -> None:
    rows = rows_of(drawn / "train" / "train.csv")
    assert sum(row["gender"] == gender and int(row["age"]) >= 60 for row in rows) >= 6


def test_answers_cover_the_template_and_all_18_classes(drawn: Path) -> None:
    template, answers = rows_of(drawn / "eval" / "info.csv"), rows_of(drawn / "answers.csv")
    names = [row["ImageID"] for row in template]
    assert names == [row["ImageID"] for row in answers]
    assert sorted(names) == sorted(file.name for file in (drawn / "eval" / "images").iterdir())
    assert len(names) == len(set(names)) == 12 * 7
    assert {row["ans"] for row in template} == {"0"}
    assert {int(row["ans"]) for row in answers} == set(range(18))


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(LayoutError, match="not empty; name a new folder"):
        draw_dataset(tmp_path, people=12, eval_people=12)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.demo_data._draw_eval", interrupt)
    with pytest.raises(KeyboardInterrupt):
        draw_dataset(tmp_path / "people", people=12, eval_people=12, size=SIZE)
    assert list(tmp_path.iterdir()) == []


def test_too_few_people_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="with 5 people and 60 to evaluate; draw at least 12"):
        draw_dataset(tmp_path / "people", people=5)
