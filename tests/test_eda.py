"""The look at the data: counts, means, components and near-duplicates agree with second ways to find them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from heads.registry import LABELS
from pipeline.check import check_data
from pipeline.config import TrainConfig
from pipeline.demo_data import draw_dataset
from pipeline.eda.alike import LIKENESS, perceptual_hashes
from pipeline.eda.counts import tally
from pipeline.eda.explore import Report, Seen, explore
from pipeline.eda.looking import SIDE
from pipeline.eda.page import write_report
from pipeline.eda.story import findings_of, hindered, tables, verdict
from pipeline.findings import render
from pipeline.folds import make_folds
from pipeline.layouts import load_dataset
from tests.browser import NARROW, WIDE, needs_browser, opened
from tests.builders import write_competition, write_csv, write_picture, write_table
from tests.conftest import Cli

CONFIG = TrainConfig(folds=3)
COPY = "a.jpg"  # of the photos to predict


def rewritten(source: Path, target: Path, *, brightness: float = 1.0, scale: float = 1.0) -> None:
    """Write a photo again: other light, other size, coded anew."""
    photo = ImageEnhance.Brightness(Image.open(source).convert("RGB")).enhance(brightness)
    photo = photo.resize((round(photo.width * scale), round(photo.height * scale)))
    photo.save(target, quality=60)  # of which a PNG takes no notice


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn people, of whom two share a photo that was coded again, and one stands in the eval set too."""
    root = tmp_path_factory.mktemp("eda") / "drawn"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.demo_data._draw_eval", lambda *_: None)
        draw_dataset(root, people=12, eval_people=12, size=(48, 64), seed=3)
    folders = sorted((root / "train" / "images").iterdir())
    shot = {folder: {f.stem: f for f in folder.iterdir() if not f.name.startswith("._")} for folder in folders}
    rewritten(shot[folders[0]]["mask1"], shot[folders[5]]["mask3"], brightness=0.85)
    (root / "eval" / "images").mkdir(parents=True)
    rewritten(shot[folders[2]]["normal"], root / "eval" / "images" / COPY, scale=0.75)
    write_picture(root / "eval" / "images" / "b.jpg", np.random.default_rng(0), size=(48, 64))
    write_csv(root / "eval" / "info.csv", ("ImageID", "ans"), [(COPY, 0), ("b.jpg", 0)])
    return root


@pytest.fixture(scope="module")
def explored(planted: Path) -> tuple[Report, Seen]:
    return explore(planted, CONFIG)


def people_of(root: Path) -> list[dict[str, str]]:
    with (root / "train" / "train.csv").open(newline="") as rows:
        return list(csv.DictReader(rows))


def band(age: str) -> str:
    return "young" if int(age) < 30 else "middle" if int(age) < 60 else "old"


def test_counts_are_those_of_the_table(planted: Path, explored: tuple[Report, Seen]) -> None:
    report, _ = explored
    rows = people_of(planted)
    per_kind = Counter((row["gender"], band(row["age"])) for row in rows)
    for name, count in report.classes.items():
        mask, gender, age = name.split("/")
        assert (count.photos, count.people) == (
            per_kind[gender, age] * (5 if mask == "wear" else 1),
            per_kind[gender, age],
        )
    cross = {(g, a): c.people for g, row in report.crossings["gender x age"].items() for a, c in row.items()}
    assert {kind: people for kind, people in cross.items() if people} == per_kind
    assert report.quantities["age"].people == dict(sorted(Counter(float(row["age"]) for row in rows).items()))
    for edge, (below, above) in report.quantities["age"].near.items():
        ages = [int(row["age"]) for row in rows]
        assert below == sum(edge - 2 <= age < edge for age in ages)
        assert above == sum(edge <= age < edge + 2 for age in ages)


def test_folds_are_those_of_a_training(planted: Path, explored: tuple[Report, Seen]) -> None:
    report, _ = explored
    samples = load_dataset(planted).samples
    table = make_folds(samples, CONFIG.folds, CONFIG.fold_seed)
    assert report.folds is not None
    for fold in range(CONFIG.folds):
        rows = np.flatnonzero(table == fold)
        masks, genders = samples.columns["mask"][rows], samples.columns["gender"][rows]
        names = Counter(
            f"{m}/{g}/{band(a)}" for m, g, a in zip(masks, genders, samples.columns["age"][rows], strict=True)
        )
        assert {name: counts[fold] for name, counts in report.folds.classes.items() if counts[fold]} == names
        assert report.folds.people[fold] == len(set(samples.persons[rows]))
        assert report.folds.shares["mask"]["wear"][fold] == pytest.approx((masks == "wear").mean())


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 5)), min_size=1))
def test_a_tally_counts_photos_and_people(rows: list[tuple[int, int]]) -> None:
    classes, persons = np.asarray(rows).T
    counts = tally(classes, persons, "abcd")
    for k, name in enumerate("abcd"):
        assert counts[name].photos == sum(c == k for c, _ in rows)
        assert counts[name].people == len({p for c, p in rows if c == k})


def test_near_duplicates_are_those_that_were_planted(planted: Path, explored: tuple[Report, Seen]) -> None:
    report, _ = explored
    folders = sorted(folder.name for folder in (planted / "train" / "images").iterdir())
    assert {(twins.person, twins.other, twins.to_predict) for twins in report.twins} == {
        (folders[0], folders[5], False),
        (folders[2], COPY, True),
    }
    assert all(twins.pairs == 1 and twins.likeness > LIKENESS for twins in report.twins)
    between = next(twins for twins in report.twins if not twins.to_predict)
    assert [Path(name).stem for name in between.ids] == ["mask1", "mask3"]
    one, two = (next(row for row in people_of(planted) if row["path"] == name) for name in (folders[0], folders[5]))
    differ = [name for name in ("gender",) if one[name] != two[name]]
    assert between.contrary == (*differ, *(["age"] if band(one["age"]) != band(two["age"]) else []))


@pytest.mark.parametrize("change", ["jpeg", "lighter", "darker", "smaller"])
def test_the_hash_hardly_changes_with_the_photo(change: str, explored: tuple[Report, Seen]) -> None:
    small = explored[1].looked.small[:60]
    copies = []
    for photo in small:
        image = Image.fromarray(photo)
        if change == "jpeg":
            coded = io.BytesIO()
            image.save(coded, "JPEG", quality=60)
            image = Image.open(coded)
        elif change == "smaller":
            image = image.resize((36, 36)).resize((SIDE, SIDE))
        else:
            image = ImageEnhance.Brightness(image).enhance(1.1 if change == "lighter" else 0.8)
        copies.append(np.asarray(image))
    bits = np.bitwise_count(perceptual_hashes(small) ^ perceptual_hashes(np.stack(copies)))
    assert np.quantile(bits, 0.9) <= 6
    others = np.bitwise_count(perceptual_hashes(small) ^ np.roll(perceptual_hashes(small), 30))
    assert np.median(others) > 16, "photos of other people are far"


def test_odd_photos_are_told_with_what_is_odd(tmp_path: Path) -> None:
    write_competition(tmp_path, people=6, eval_photos=2, size=(70, 80))
    first = tmp_path / "train" / "images" / "000001_female_Asian_23"
    Image.new("RGB", (70, 80), (9, 9, 9)).save(first / "mask1.jpg")
    Image.new("RGB", (70, 80), (250, 250, 250)).save(first / "mask2.jpg")
    write_picture(first / "mask3.jpg", np.random.default_rng(5), size=(40, 80))
    report, _ = explore(tmp_path, CONFIG)
    odd = {odd.reason: odd for odd in report.odd}
    assert [odd[r].photos[0].id for r in ("dark", "bright", "small")] == [
        f"{first.name}/mask{n}.jpg" for n in (1, 2, 3)
    ]
    assert (odd["flat"].count, len(odd["flat"].photos)) == (2, 1), "one photo a person is shown"
    assert odd["small"].photos[0].text == "40 pixels"


def test_the_text_is_narrow_and_ends_in_a_verdict(explored: tuple[Report, Seen]) -> None:
    report, _ = explored
    fine = replace(report, refused="", fold_faults=())
    text = f"{tables(report)}\n{render(findings_of(report), verdict(report))}\n{verdict(fine)}"
    assert max(map(len, text.splitlines())) <= 80
    assert f"wear/male/young {report.classes['wear/male/young'].photos:>23}" in text
    assert "1 pairs of people share nearly the same picture" in " ".join(text.split())
    assert "1 photos to predict are nearly photos to learn from" in " ".join(text.split())


def test_the_page_says_it_all_and_is_small(explored: tuple[Report, Seen], tmp_path: Path) -> None:
    report, seen = explored
    hostile = replace(report, fold_faults=("<script>alert(1)</script>",))
    size = write_report(tmp_path / "page.html", hostile, seen)
    page = (tmp_path / "page.html").read_text()
    assert size == len(page.encode()) < 2_000_000
    assert "<script>alert" not in page
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", page)
    for name in (*report.classes, *(name for twins in report.twins for name in twins.ids)):
        assert name in page
    assert page.count('alt="mean of') == sum(count.photos > 0 for count in report.classes.values())
    assert page.count('role="img" aria-label="Photos on the first two') == len(LABELS) + 1


def test_a_table_with_missing_labels_is_looked_at(tmp_path: Path, cli: Cli) -> None:
    write_table(tmp_path, people=12)
    out = tmp_path / "page.html"
    code, text, err = cli("eda", "--data", tmp_path, "--out", out, "--folds", 2, "--json")
    assert (code, err) == (0, "")
    found = json.loads(text)
    assert found["partly"] == 6
    assert sum(count["photos"] for count in found["classes"].values()) == 18
    assert sum(count["photos"] for count in found["heads"]["mask"].values()) == 24
    assert found["twins"] == []
    assert found["page"] == str(out)
    assert out.read_text().startswith("<!doctype html>")


def test_data_with_faults_is_looked_at_too(tmp_path: Path) -> None:
    write_competition(tmp_path, people=6, eval_photos=2)
    table = tmp_path / "train" / "train.csv"
    table.write_text(table.read_text().replace("000001,female", "000001,woman"))
    (tmp_path / "train" / "images" / "000002_female_Asian_41" / "mask1.jpg").write_bytes(b"hello")
    report, _ = explore(tmp_path, CONFIG)
    assert hindered(report)
    assert report.folds is None
    assert report.heads["gender"]["female"].people == 2, "what is no label counts as not given"
    assert {problem.kind for problem in report.check.problems} >= {"label", "unreadable"}
    assert report.check == check_data(tmp_path)


def test_what_cannot_be_looked_at_is_refused(tmp_path: Path, cli: Cli, data: Path) -> None:
    cases = [
        (["--data", tmp_path / "none"], "no data at"),
        (["--data", data, "--out", tmp_path / "page.pdf"], "--out must be a .html"),
        (["--data", data, "--fixes", tmp_path / "none.csv"], "none.csv"),
        (["--data", data, "--folds", "1"], "folds must be"),
    ]
    for arguments, message in cases:
        code, _, err = cli("eda", "--out", tmp_path / "x.html", *arguments)
        assert (code, message in err) == (2, True), err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(WIDE, False), (NARROW, True)])
def test_the_page_shows_in_a_browser(explored: tuple[Report, Seen], width: int, dark: bool, tmp_path: Path) -> None:
    write_report(tmp_path / "eda.html", *explored)
    with opened(tmp_path / "eda.html", width=width, dark=dark) as shown:
        assert "Near-duplicates" in shown.locator("nav a").all_inner_texts()
        shown.get_by_role("button", name="photos").first.click()
        first = shown.locator("#classes ~ .scroll tbody tr td.number").first.inner_text()
        assert first == str(max(count.photos for count in explored[0].classes.values()))
