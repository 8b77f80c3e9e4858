"""Fixes are laid over labels: of a person, of one photo, of two shots that change places; the disk stays as it is."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.competition import SHOTS
from pipeline.errors import LayoutError
from pipeline.fixes import known_fixes
from pipeline.layouts import load_dataset
from pipeline.samples import Dataset
from tests.builders import write_competition, write_csv, write_people

FIRST, SECOND = "000001_female_Asian_23", "000002_female_Asian_41"


def labels_of(data: Dataset, column: str) -> dict[str, str]:
    """The raw labels of a column by photo."""
    return dict(zip(data.samples.ids.tolist(), data.samples.columns[column].tolist(), strict=True))


def fixed(root: Path, *rows: tuple[str, str, str]) -> Dataset:
    """The data at ``root`` with fixes of one's own."""
    write_csv(root / "fixes.csv", ("path", "column", "value"), rows)
    return load_dataset(root, fixes=str(root / "fixes.csv"))


def test_a_fix_sets_the_label_of_a_person(tmp_path: Path) -> None:
    write_competition(tmp_path, people=2)
    data = fixed(tmp_path, (FIRST, "gender", "male"))
    genders = labels_of(data, "gender")
    assert {genders[f"{FIRST}/{shot}.jpg"] for shot in SHOTS} == {"male"}
    assert {genders[f"{SECOND}/{shot}.jpg"] for shot in SHOTS} == {"female"}
    assert data.fixed == 1


def test_a_fix_sets_the_label_of_one_photo(tmp_path: Path) -> None:
    write_competition(tmp_path, people=1)
    masks = labels_of(fixed(tmp_path, (f"{FIRST}/mask2.jpg", "mask", "incorrect")), "mask")
    assert masks[f"{FIRST}/mask2.jpg"] == "incorrect"
    assert masks[f"{FIRST}/mask1.jpg"] == "wear"


def test_a_fix_swaps_two_shots_and_leaves_the_disk_alone(tmp_path: Path) -> None:
    write_competition(tmp_path, people=2)
    data = fixed(tmp_path, (FIRST, "swap", "normal incorrect_mask"))
    masks = labels_of(data, "mask")
    assert (masks[f"{FIRST}/normal.jpg"], masks[f"{FIRST}/incorrect_mask.jpg"]) == ("incorrect", "normal")
    assert masks[f"{SECOND}/normal.jpg"] == "normal"
    assert labels_of(load_dataset(tmp_path), "mask")[f"{FIRST}/normal.jpg"] == "normal"


def test_a_fix_may_mend_a_label_that_would_be_refused(tmp_path: Path) -> None:
    write_competition(tmp_path, people=1)
    table = tmp_path / "train" / "train.csv"
    table.write_text(table.read_text().replace("Asian,23", "Asian,230"))
    with pytest.raises(LayoutError, match="age '230' is outside 0-120"):
        load_dataset(tmp_path)
    assert set(fixed(tmp_path, (FIRST, "age", "23")).samples.columns["age"].tolist()) == {"23"}


def test_fixes_that_match_nothing_are_remarked(tmp_path: Path) -> None:
    write_competition(tmp_path, people=1)
    data = fixed(tmp_path, (FIRST, "gender", "male"), ("nobody", "gender", "male"))
    assert data.remarks == (f"1 of 2 fixes in {tmp_path / 'fixes.csv'} match no photo",)


def test_known_fixes_bite_in_their_own_folders_only(tmp_path: Path) -> None:
    mislabelled = next(fix for fix in known_fixes() if fix.column == "gender")
    write_people(tmp_path / "own", {mislabelled.path: "1"}, np.random.default_rng(0))
    write_competition(tmp_path / "other", people=3)
    own = load_dataset(tmp_path / "own")
    assert set(own.samples.columns["gender"].tolist()) == {mislabelled.value}
    assert own.fixed == 1
    assert load_dataset(tmp_path / "own", no_fixes=True).fixed == 0
    assert load_dataset(tmp_path / "other").fixed == 0


def test_known_fixes_change_something() -> None:
    for fix in known_fixes():
        gender = fix.path.split("_")[1]
        assert fix.column == "swap" or (fix.column == "gender" and fix.value != gender)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((FIRST, "height", "170"), "no label column 'height'; there are: swap, mask, gender, age"),
        ((FIRST, "swap", "normal"), "swap needs two different ones of its shots"),
        ((FIRST, "swap", "normal selfie"), "got 'normal selfie'"),
        ((FIRST, "gender", "woman"), "gender 'woman' is not a class; classes are: male, female"),
    ],
)
def test_a_fix_that_cannot_be_is_refused(tmp_path: Path, row: tuple[str, str, str], message: str) -> None:
    write_competition(tmp_path, people=1)
    with pytest.raises(LayoutError, match=message):
        fixed(tmp_path, row)


def test_fixes_that_are_not_there_are_refused(tmp_path: Path) -> None:
    write_competition(tmp_path, people=1)
    with pytest.raises(LayoutError, match=r"fixes\.csv: no such file"):
        load_dataset(tmp_path, fixes=str(tmp_path / "fixes.csv"))


def test_a_built_in_fix_that_does_not_fit_is_no_obstacle(tmp_path: Path) -> None:
    swap = next(fix for fix in known_fixes() if fix.column == "swap")
    write_people(tmp_path, {swap.path: "000020"}, np.random.default_rng(0))
    assert load_dataset(tmp_path).fixed == 1
    (tmp_path / "train" / "images" / swap.path / "normal.jpg").unlink()
    assert load_dataset(tmp_path).fixed == 0
