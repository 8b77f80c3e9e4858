"""Layouts read what real folders look like, and refuse what training could not use."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.competition import SHOTS, template
from pipeline.errors import LayoutError
from pipeline.layouts import LAYOUTS, layout_of, load_dataset, persons_of
from pipeline.samples import Dataset
from tests.builders import write_competition, write_csv, write_people, write_picture, write_table

FIRST, SECOND = "000001_female_Asian_23", "000002_female_Asian_41"
RNG = np.random.default_rng(0)
BUILDERS: dict[str, Callable[[Path], None]] = {"competition": write_competition, "table": write_table}


def labels_of(data: Dataset, column: str) -> dict[str, str]:
    """The raw labels of a column by photo."""
    return dict(zip(data.samples.ids.tolist(), data.samples.columns[column].tolist(), strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_knows_its_own_and_gives_whole_samples(tmp_path: Path, layout: str) -> None:
    BUILDERS[layout](tmp_path)
    assert layout_of(tmp_path) == layout
    data = load_dataset(tmp_path)
    samples = data.samples
    assert len(set(samples.ids.tolist())) == len(samples.ids) == len(samples.paths) == len(samples.persons)
    assert all(path.is_file() for path in samples.paths)
    assert all(samples.persons.tolist())
    assert all(len(cells) == len(samples.ids) for cells in samples.columns.values())
    assert len(data.test_ids) == len(data.test_paths)
    assert data.remarks == ()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_reads_the_same_however_the_disk_lists_it(
    tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    BUILDERS[layout](tmp_path)
    before = load_dataset(tmp_path)
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: listdir(folder)[::-1])
    after = load_dataset(tmp_path)
    assert after.samples.ids.tolist() == before.samples.ids.tolist()
    assert after.samples.digest() == before.samples.digest()


def test_a_competition_folder_is_read_shot_by_shot(tmp_path: Path) -> None:
    write_competition(tmp_path, people=2, eval_photos=3)
    data = load_dataset(tmp_path)
    assert persons_of(data) == 2
    assert labels_of(data, "mask")[f"{FIRST}/incorrect_mask.jpg"] == "incorrect"
    assert labels_of(data, "age")[f"{SECOND}/normal.jpg"] == "41"
    assert sorted(data.samples.columns["mask"].tolist()) == sorted(2 * list(SHOTS.values()))
    assert data.test_ids == template(tmp_path)
    assert [path.name for path in data.test_paths] == list(data.test_ids)


def test_ids_with_a_suffix_and_ids_of_two_people_are_different_people(tmp_path: Path) -> None:
    folders = {
        "000061_male_Asian_47": "000061",
        "000061_female_Asian_53": "000061",
        "000061-1_male_Asian_47": "000061-1",
    }
    write_people(tmp_path, folders, RNG)
    assert set(load_dataset(tmp_path).samples.persons.tolist()) == folders.keys()


@pytest.mark.parametrize("suffix", [".jpeg", ".png", ".JPG"])
def test_extensions_may_differ(tmp_path: Path, suffix: str) -> None:
    write_people(tmp_path, {FIRST: "000001"}, RNG, suffix=suffix)
    (tmp_path / "train" / "images" / FIRST / f"mask1{suffix}").unlink()
    write_picture(tmp_path / "train" / "images" / FIRST / "mask1.bmp", RNG)
    data = load_dataset(tmp_path)
    assert labels_of(data, "mask")[f"{FIRST}/mask1.bmp"] == "wear"
    assert labels_of(data, "mask")[f"{FIRST}/normal{suffix}"] == "normal"


def test_litter_is_no_photo_and_an_unknown_shot_is_remarked(tmp_path: Path) -> None:
    write_competition(tmp_path, people=1)
    folder = tmp_path / "train" / "images" / FIRST
    (folder / "._mask1.jpg").write_bytes(b"\0")
    (folder / ".DS_Store").write_bytes(b"\0")
    (folder.parent / "._odd.jpg").write_bytes(b"\0")
    assert load_dataset(tmp_path).remarks == ()
    write_picture(folder / "selfie.jpg", RNG)
    data = load_dataset(tmp_path)
    assert len(data.samples.ids) == 7
    assert data.remarks == ("photos left out because their shot name is unknown: 1",)


def test_case_and_accents_of_a_folder_may_differ_from_the_table(tmp_path: Path) -> None:
    write_people(tmp_path, {"000001_female_Créole_23": "000001"}, RNG)
    images = tmp_path / "train" / "images"
    (images / "000001_female_Créole_23").rename(images / "000001_Female_Cre\u0301ole_23")
    assert set(load_dataset(tmp_path).samples.persons.tolist()) == {"000001_female_Créole_23"}


def test_a_competition_folder_may_lack_eval(tmp_path: Path) -> None:
    write_competition(tmp_path, people=1, eval_photos=0)
    assert load_dataset(tmp_path).test_ids == template(tmp_path) == ()


def test_empty_cells_of_a_table_are_no_labels(tmp_path: Path) -> None:
    write_table(tmp_path, people=4)
    data = load_dataset(tmp_path)
    assert labels_of(data, "age")["p03_wear.png"] == ""
    assert labels_of(data, "mask")["p03_wear.png"] == "wear"
    assert data.test_ids == ()


def test_a_table_can_be_given_by_name_and_call_its_columns_otherwise(tmp_path: Path) -> None:
    write_table(tmp_path, people=2)
    text = (tmp_path / "labels.csv").read_text().replace("path,person,mask,gender,age", "image,subject,mask,notes,more")
    (tmp_path / "labels.csv").write_text("\ufeff" + text, encoding="utf-8")
    (tmp_path / "other.csv").write_text("a,b\n")
    data = load_dataset(tmp_path / "labels.csv")
    assert set(data.samples.columns) == {"mask"}
    assert persons_of(data) == 2
    assert load_dataset(tmp_path / "labels.csv").samples.paths[0].parent == tmp_path / "images"


COMPETITION_REFUSALS = {
    "id,gender,age\n1,male,20\n": "train.csv: has no column 'path'; its columns are: id, gender, age",
    "": "train.csv: is empty; it must hold a header",
    "id,gender,age,path\n": "train.csv: has a header but no rows",
    "id,id,gender,age,path\n": "train.csv: has the column 'id' twice",
    "id,gender,age,path\n1,male\n": "train.csv: line 2 has 2 cells, the header has 4",
    "id,gender,age,path\n1,male,20,../x\n": "train.csv: path '../x' must be the plain name of a folder",
    f"id,gender,age,path\n1,male,20,{FIRST}\n2,male,20,{FIRST}\n": "is listed twice; one row a person",
    "id,gender,age,path\n1,male,20,nobody\n": "images/nobody: no such folder, but train.csv lists it",
    "id,gender,age,path\n1,male,20,a\n2,male,20,b\n": r"\(1 more errors: `pipe data check .*`\)",
    f"id,gender,age,path\n1,man,20,{FIRST}\n": "gender 'man' is not a class; classes are: male, female",
    f"id,gender,age,path\n1,male,old,{FIRST}\n": "age 'old' is not a number",
    f"id,gender,age,path\n1,male,121,{FIRST}\n": r"age '121' is outside 0-120 \(000001_female_Asian_23/",
}
TABLE_REFUSALS = {
    "photo,mask\na.png,wear\n": "needs a column named one of: person, person_id, .*; it has: photo, mask",
    "url,person,mask\na.png,p,wear\n": "needs a column named one of: path, image, .*; it has: url, person, mask",
    "path,person\na.png,p\n": "has no label column; it needs one of: mask, gender, age; it has: path, person",
    "path,person,mask\np00_wear.png,,wear\n": "photo 'p00_wear.png' has no person; a photo without a person",
    "path,person,mask\np00_wear.png,p,wear\np00_wear.png,p,wear\n": "lists the photo 'p00_wear.png' twice",
    "path,person,mask\n/etc/a.png,p,wear\n": "photo '/etc/a.png' must be a path inside",
    "path,person,mask\na.png,p,wear\n": "a.png: listed in labels.csv, but neither here nor in images",
    "path,person,mask\np00_wear.png,p,worn\n": r"mask 'worn' is not a class; .* \(p00_wear.png\)",
}


@pytest.mark.parametrize(("table", "message"), COMPETITION_REFUSALS.items(), ids=COMPETITION_REFUSALS.values())
def test_a_competition_table_that_training_cannot_use_is_refused(tmp_path: Path, table: str, message: str) -> None:
    write_competition(tmp_path, people=1, eval_photos=0)
    (tmp_path / "train" / "train.csv").write_text(table)
    with pytest.raises(LayoutError, match=message):
        load_dataset(tmp_path)


@pytest.mark.parametrize(("table", "message"), TABLE_REFUSALS.items(), ids=TABLE_REFUSALS.values())
def test_a_table_that_training_cannot_use_is_refused(tmp_path: Path, table: str, message: str) -> None:
    write_table(tmp_path, people=1)
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(LayoutError, match=message):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("mask1.png", "mask1.png: there is mask1.jpg already; one photo a shot"),
        (f"../{FIRST.upper()}/mask1.jpg", f"goes by the same name as {FIRST.upper()}; keep one"),
    ],
)
def test_a_photo_or_folder_that_stands_there_twice_is_refused(tmp_path: Path, file: str, message: str) -> None:
    write_competition(tmp_path, people=1)
    write_picture(tmp_path / "train" / "images" / FIRST / file, RNG)
    with pytest.raises(LayoutError, match=message):
        load_dataset(tmp_path)


def test_a_person_without_photos_is_refused(tmp_path: Path) -> None:
    write_competition(tmp_path, people=1)
    for file in (tmp_path / "train" / "images" / FIRST).iterdir():
        file.unlink()
    with pytest.raises(LayoutError, match="holds none of the shots mask1, mask2"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("none.jpg,0\n", "eval/images/none.jpg: no such photo, but info.csv lists it"),
        ("a/b.jpg,0\n", "info.csv: ImageID 'a/b.jpg' must be the plain name of a file"),
        ("a.jpg,0\na.jpg,0\n", "info.csv: ImageID 'a.jpg' is listed 2 times"),
    ],
)
def test_a_template_that_cannot_be_predicted_is_refused(tmp_path: Path, rows: str, message: str) -> None:
    write_competition(tmp_path, people=1, eval_photos=1)
    write_picture(tmp_path / "eval" / "images" / "a.jpg", RNG)
    (tmp_path / "eval" / "info.csv").write_text(f"ImageID,ans\n{rows}")
    with pytest.raises(LayoutError, match=message):
        load_dataset(tmp_path)


def test_a_template_is_read_without_its_photos(tmp_path: Path) -> None:
    write_csv(tmp_path / "eval" / "info.csv", ("ImageID", "ans"), [("b.jpg", 0), ("a.jpg", 0)])
    assert template(tmp_path) == ("b.jpg", "a.jpg")
    write_csv(tmp_path / "eval" / "info.csv", ("ImageID", "ans"), [("b.jpg", 0), ("b.jpg", 0)])
    with pytest.raises(LayoutError, match=r"'b.jpg' is listed 2 times"):
        template(tmp_path)


def test_a_place_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        LayoutError, match=r"no data at .*; give the competition's folder or a CSV of photos with --data"
    ):
        load_dataset(tmp_path / "nothing")
    with pytest.raises(LayoutError, match=r"neither a competition folder .* nor a CSV of photos nor a folder with one"):
        load_dataset(tmp_path)
    write_picture(tmp_path / "photo.jpg", RNG)
    with pytest.raises(LayoutError, match="neither a competition folder"):
        load_dataset(tmp_path / "photo.jpg")
    (tmp_path / "table.csv").write_bytes(b"path\xff")
    with pytest.raises(LayoutError, match=r"table\.csv: cannot be read as a CSV in UTF-8"):
        load_dataset(tmp_path)
