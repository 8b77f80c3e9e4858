"""The data check finds every kind of fault, names its file, and keeps quiet about data that is fine."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.check import Count, Report, check_data, render
from pipeline.errors import LayoutError
from pipeline.survey import Problem
from tests.builders import claiming, write_competition, write_picture, write_table

FIRST, SECOND = "000001_female_Asian_23", "000002_female_Asian_41"
TABLE, IMAGES = "train/train.csv", "train/images"
Fault = Callable[[Path], object]


def noted(report: Report) -> list[Problem]:
    """The problems beside rare classes: these tiny folders hold few people of each."""
    return [problem for problem in report.problems if problem.kind != "rare-class"]


def edit(file: str, old: str, new: str) -> Fault:
    """A fault that replaces text in a table."""

    def make(root: Path) -> None:
        text = (root / file).read_text()
        assert old in text
        (root / file).write_text(text.replace(old, new, 1))

    return make


def content(file: str, make: Callable[[bytes], bytes]) -> Fault:
    """A fault that changes the bytes of a file."""
    return lambda root: (root / file).write_bytes(make((root / file).read_bytes()))


def copy(source: str, target: str) -> Fault:
    """A fault that puts one file in the place of another."""
    return lambda root: shutil.copyfile(root / source, root / target)


def picture(file: str, *, size: tuple[int, int] = (32, 40)) -> Fault:
    """A fault that adds a picture."""
    return lambda root: write_picture(root / file, np.random.default_rng(99), size=size)


def remove(name: str) -> Fault:
    """A fault that takes a file or a folder away."""

    def make(root: Path) -> None:
        if (root / name).is_dir():
            shutil.rmtree(root / name)
        else:
            (root / name).unlink()

    return make


def emptied(folder: str) -> Fault:
    """A fault that takes all files of a folder away."""

    def make(root: Path) -> None:
        remove(folder)(root)
        (root / folder).mkdir()

    return make


def dangling(file: str) -> Fault:
    """A fault that leaves a link to nothing."""

    def make(root: Path) -> None:
        (root / file).unlink()
        (root / file).symlink_to("nowhere.jpg")

    return make


def first_eval(make: Callable[[str], Fault]) -> Fault:
    """A fault with the first photo of the template."""
    return lambda root: make((root / "eval/info.csv").read_text().splitlines()[1].split(",")[0])(root)


PERSON, OTHER = f"{IMAGES}/{FIRST}", f"{IMAGES}/{SECOND}"
COMPETITION_FAULTS = {
    "text named .jpg": ("error unreadable", f"{PERSON}/mask1.jpg", content(f"{PERSON}/mask1.jpg", lambda _: b"hello")),
    "truncated": ("error unreadable", f"{PERSON}/mask1.jpg", content(f"{PERSON}/mask1.jpg", lambda old: old[:-300])),
    "no bytes": ("error unreadable", f"{PERSON}/mask1.jpg", content(f"{PERSON}/mask1.jpg", lambda _: b"")),
    "link to nothing": ("error unreadable", f"{PERSON}/mask1.jpg", dangling(f"{PERSON}/mask1.jpg")),
    "no folder": ("error no-folder", PERSON, remove(PERSON)),
    "no images": ("error no-folder", IMAGES, remove(IMAGES)),
    "no photos": ("error no-photos", PERSON, emptied(PERSON)),
    "two photos for a shot": ("error shot-twice", f"{PERSON}/mask1.png", picture(f"{PERSON}/mask1.png")),
    "two folders by one name": (
        "error folder-twice",
        f"{IMAGES}/{FIRST}",
        picture(f"{IMAGES}/{FIRST.upper()}/mask1.jpg"),
    ),
    "gender is no class": ("error label", TABLE, edit(TABLE, "000001,female", "000001,woman")),
    "age above": ("error label", TABLE, edit(TABLE, "Asian,23", "Asian,121")),
    "age below": ("error label", TABLE, edit(TABLE, "Asian,23", "Asian,-1")),
    "age is no number": ("error label", TABLE, edit(TABLE, "Asian,23", "Asian,young")),
    "one picture, two people": (
        "error two-people",
        f"{OTHER}/mask2.jpg",
        copy(f"{PERSON}/mask1.jpg", f"{OTHER}/mask2.jpg"),
    ),
    "one picture, two labels": (
        "error two-labels",
        f"{PERSON}/normal.jpg",
        copy(f"{PERSON}/mask1.jpg", f"{PERSON}/normal.jpg"),
    ),
    "path listed twice": ("error path-twice", TABLE, edit(TABLE, SECOND, FIRST)),
    "path in other case": ("error path-twice", TABLE, edit(TABLE, SECOND, FIRST.upper())),
    "path leaves the folder": ("error path", TABLE, edit(TABLE, SECOND, f"../{SECOND}")),
    "no table": ("error table", TABLE, remove(TABLE)),
    "no column": ("error table", TABLE, edit(TABLE, "gender", "sex")),
    "empty table": ("error table", TABLE, content(TABLE, lambda _: b"")),
    "header alone": ("error table", TABLE, content(TABLE, lambda old: old.splitlines()[0])),
    "not UTF-8": ("error table", TABLE, content(TABLE, lambda old: old + b"\xff")),
    "eval photo missing": (
        "error eval-missing",
        "eval/images/",
        first_eval(lambda name: remove(f"eval/images/{name}")),
    ),
    "eval photo damaged": (
        "error unreadable",
        "eval/images/",
        first_eval(lambda name: content(f"eval/images/{name}", lambda _: b"hello")),
    ),
    "eval id twice": (
        "error eval-twice",
        "eval/info.csv",
        first_eval(lambda name: edit("eval/info.csv", ",0\n", f",0\n{name},0\n")),
    ),
    "eval id leaves the folder": ("error path", "eval/info.csv", edit("eval/info.csv", "ans\n", "ans\n../a.jpg,0\n")),
    "eval folder missing": ("error no-folder", "eval/images", remove("eval/images")),
    "eval column missing": ("error table", "eval/info.csv", edit("eval/info.csv", "ImageID", "photo")),
    "eval surplus": ("warning eval-surplus", "eval/images/new.jpg", picture("eval/images/new.jpg")),
    "no eval table": ("warning eval-surplus", "eval/images", remove("eval/info.csv")),
    "shot missing": ("warning shot-count", PERSON, remove(f"{PERSON}/mask3.jpg")),
    "unknown shot": ("warning unknown-shot", f"{PERSON}/selfie.jpg", picture(f"{PERSON}/selfie.jpg")),
    "folder name": ("warning folder-name", PERSON, edit(TABLE, "Asian,23", "Asian,24")),
    "folder not listed": ("warning unlisted-folder", f"{IMAGES}/stranger", picture(f"{IMAGES}/stranger/mask1.jpg")),
    "picture twice": (
        "warning picture-twice",
        f"{PERSON}/mask2.jpg",
        copy(f"{PERSON}/mask1.jpg", f"{PERSON}/mask2.jpg"),
    ),
    "tiny": ("warning tiny", f"{PERSON}/mask1.jpg", picture(f"{PERSON}/mask1.jpg", size=(31, 40))),
}
TABLE_FAULTS = {
    "photo missing": ("error no-photo", "p00_wear.png", remove("images/p00_wear.png")),
    "photo damaged": ("error unreadable", "images/p00_wear.png", content("images/p00_wear.png", lambda old: old[:-99])),
    "photo listed twice": ("error path-twice", "labels.csv", edit("labels.csv", "p01_wear.png", "p00_wear.png")),
    "photo outside": ("error path", "labels.csv", edit("labels.csv", "p00_wear.png", "../p00_wear.png")),
    "no person": ("error no-person", "labels.csv", edit("labels.csv", ",p00,", ",,")),
    "label": ("error label", "labels.csv", edit("labels.csv", "p00,wear", "p00,worn")),
    "no photo column": ("error table", "labels.csv", edit("labels.csv", "path", "url")),
    "no person column": ("error table", "labels.csv", edit("labels.csv", "person", "who")),
    "no label column": ("error table", "labels.csv", edit("labels.csv", "mask,gender,age", "a,b,c")),
    "ragged row": ("error table", "labels.csv", edit("labels.csv", "p00,wear", "p00,wear,wear")),
    "one picture, two people": (
        "error two-people",
        "images/p01_wear.png",
        copy("images/p00_wear.png", "images/p01_wear.png"),
    ),
}


def check_fault(root: Path, expected: str, file: str, fault: Fault) -> None:
    """Make a fault and look for it in the report; where ``file`` ends in a slash, any file of that folder will do."""
    fault(root)
    report = check_data(root)
    named = [p.file for p in noted(report) if f"{p.severity} {p.kind}" == expected]
    assert file in named or any(file.endswith("/") and name.startswith(file) for name in named)
    assert report.ok is expected.startswith("warning")
    if report.ok:
        assert len(noted(report)) == 1, "a warning comes alone"
    assert file in render(report)


@pytest.mark.parametrize(("expected", "file", "fault"), COMPETITION_FAULTS.values(), ids=COMPETITION_FAULTS)
def test_a_fault_of_a_competition_folder_is_found(tmp_path: Path, expected: str, file: str, fault: Fault) -> None:
    write_competition(tmp_path, people=3, eval_photos=3)
    check_fault(tmp_path, expected, file, fault)


@pytest.mark.parametrize(("expected", "file", "fault"), TABLE_FAULTS.values(), ids=TABLE_FAULTS)
def test_a_fault_of_a_table_is_found(tmp_path: Path, expected: str, file: str, fault: Fault) -> None:
    write_table(tmp_path, people=4)
    check_fault(tmp_path, expected, file, fault)


def test_one_id_for_two_people_is_a_warning(tmp_path: Path) -> None:
    write_competition(tmp_path, people=2)
    (tmp_path / IMAGES / SECOND).rename(tmp_path / IMAGES / "000001_female_Asian_41")
    fault = edit(TABLE, f"000002,female,Asian,41,{SECOND}", "000001,female,Asian,41,000001_female_Asian_41")
    check_fault(tmp_path, "warning shared-id", TABLE, fault)


@pytest.mark.parametrize("side", [9_500, 60_000], ids=["more than Pillow likes", "more than Pillow takes"])
def test_an_enormous_image_is_an_error(tmp_path: Path, side: int) -> None:
    write_competition(tmp_path, people=1, eval_photos=0)
    photo = tmp_path / PERSON / "mask1.jpg"
    photo.write_bytes(claiming(side, side))
    (problem,) = noted(check_data(tmp_path))
    assert (problem.kind, problem.file) == ("unreadable", f"{PERSON}/mask1.jpg")
    assert "is too large to be decoded safely" in problem.message
    assert "make it smaller, at most 89,478,485 pixels" in problem.message


def test_a_faultless_competition_folder_gives_no_problem(tmp_path: Path) -> None:
    write_competition(tmp_path, people=12, eval_photos=5)
    report = check_data(tmp_path)
    assert noted(report) == []
    assert (report.layout, report.people, report.photos, report.eval_photos) == ("competition", 12, 84, 5)
    assert len(report.classes) == 18
    assert sum(count.photos for count in report.classes.values()) == 84
    assert report.classes["wear/female/old"] == Count(photos=10, people=2)
    assert report.shares["age"] == pytest.approx({"young": 1 / 3, "middle": 1 / 3, "old": 1 / 3})
    assert report.sizes == {"32x40": 89}
    assert report.extensions == {".jpg": 89}


def test_a_faultless_table_gives_no_problem_and_says_what_lacks_a_label(tmp_path: Path) -> None:
    write_table(tmp_path, people=8)
    report = check_data(tmp_path)
    assert noted(report) == []
    assert (report.layout, report.people, report.photos, report.partly) == ("table", 8, 16, 4)
    assert sum(count.photos for count in report.classes.values()) == 12


def test_classes_are_those_of_the_labels_there(tmp_path: Path) -> None:
    write_table(tmp_path, people=2)
    edit("labels.csv", "gender,age", "x,y")(tmp_path)
    assert list(check_data(tmp_path).classes) == ["wear", "incorrect", "normal"]


def test_litter_is_counted_and_no_problem(tmp_path: Path) -> None:
    write_competition(tmp_path, people=1)
    for name in (f"{PERSON}/._mask1.jpg", f"{PERSON}/Thumbs.db", f"{IMAGES}/.DS_Store", "eval/images/._a.jpg"):
        (tmp_path / name).write_bytes(b"left behind")
    report = check_data(tmp_path)
    assert noted(report) == []
    assert report.litter == 4


def test_every_problem_is_found_at_once(tmp_path: Path) -> None:
    write_competition(tmp_path, people=3)
    for name in ("no column", "text named .jpg", "shot missing", "eval surplus", "eval id twice"):
        COMPETITION_FAULTS[name][2](tmp_path)
    report = check_data(tmp_path)
    assert [p.kind for p in noted(report)] == ["eval-twice", "table", "unreadable", "eval-surplus", "shot-count"]
    assert report.photos == 20, "photos are looked at although the table cannot be read"


def test_the_report_survives_json(tmp_path: Path) -> None:
    write_competition(tmp_path, people=2)
    remove(TABLE)(tmp_path)
    report = check_data(tmp_path)
    plain = json.loads(json.dumps(report.as_dict()))
    assert plain == report.as_dict()
    assert plain["ok"] is False
    assert plain["problems"][0]["file"] == TABLE


def test_the_text_is_narrow_and_cuts_long_lists(tmp_path: Path) -> None:
    write_competition(tmp_path, people=2, eval_photos=0, size=(16, 40))
    text = render(check_data(tmp_path))
    assert "tiny: 14" in text
    assert "... and 4 more (see --json)" in text
    assert text.count("is 16 x 40 pixels") == 10
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", ["red\x1b[31m.jpg", "two\nlines.jpg", "right\u202eleft.jpg"])
def test_a_file_name_cannot_steer_the_terminal(tmp_path: Path, name: str) -> None:
    write_competition(tmp_path, people=1)
    picture(f"{PERSON}/spare.jpg")(tmp_path)
    (tmp_path / PERSON / "spare.jpg").rename(tmp_path / PERSON / name)
    text = render(check_data(tmp_path))
    assert name not in text
    assert all(line.isprintable() for line in text.splitlines())


def test_progress_counts_every_picture(tmp_path: Path) -> None:
    write_competition(tmp_path, people=2, eval_photos=3)
    told: list[tuple[int, int]] = []
    check_data(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 17) for done in range(1, 18)]


def test_what_is_no_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="neither a competition folder"):
        check_data(tmp_path)


def test_classes_with_fewer_people_than_folds_are_noted(tmp_path: Path) -> None:
    write_competition(tmp_path, people=24)
    before = [p.message for p in check_data(tmp_path).problems]
    assert before == []
    text = (tmp_path / TABLE).read_text()
    (tmp_path / TABLE).write_text(text.replace(",Asian,60,", ",Asian,59,", 6))
    report = check_data(tmp_path)
    assert report.ok
    messages = [p.message for p in report.problems if p.kind == "rare-class"]
    assert messages == ["2 people are 'old' of age; use --folds 2"]
