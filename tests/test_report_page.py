"""The page of the out-of-fold report: its numbers, its photos, its gallery, and what it does when things lack."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from benchmarks.valid import write_run
from ensemble.bootstrap import Draws, person_interval
from ensemble.combine import compose
from ensemble.predictions import Predictions
from ensemble.reliability import curves
from heads.registry import HEADS, JOINT, LABELS
from pipeline.config import TrainConfig
from pipeline.errors import NetworkError
from pipeline.layouts import load_dataset
from pipeline.members import persons_in
from pipeline.report.detail import by_value, make_detail
from pipeline.report.gallery import wrong_photos
from pipeline.report.html import write_html
from pipeline.report.oof import report_on
from pipeline.report.plots import reliability_chart
from pipeline.report.shown import Seen, choose
from pipeline.samples import Samples
from pipeline.store import Run, Store
from tests.browser import NARROW, WIDE, needs_browser, opened
from tests.builders import write_table
from tests.conftest import Cli

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&'\"$x_1$"


def block(page: str, name: str) -> Any:
    """The JSON of this id in a page."""
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def write_runs(artifacts: Path, samples: Samples, root: Path, *, seeds: int = 1, folds: int = 3) -> None:
    """Finished runs of all heads with made-up predictions of a folder's photos."""
    store = Store(artifacts)
    persons = np.unique(samples.persons, return_inverse=True)[1]
    for head in LABELS:
        targets = head.labels(head.values(samples.columns))
        known = targets >= 0
        for seed in range(seeds):
            run = store.run(f"{head.name}-{seed}")
            write_run(run, head)
            rng = np.random.default_rng([seed, len(head.name)])
            for view in ("identity", "hflip"):
                probs = rng.dirichlet(np.full(len(head.classes), 0.7), int(known.sum()))
                held_out = (persons % folds)[known]
                oof = Predictions(samples.ids[known], head.classes, probs, held_out, targets[known])
                run.save_predictions(head.name, "oof", view, oof)
            _write_rows(run.folder / "folds.csv", ["sample_id", "person_id", "fold"], samples, persons % folds)
            rows = [[k, e, 1 / e, 0.9 / e, e / 10] for k in range(folds) for e in (1, 2)]
            _write(run.folder / "history.csv", f"fold,epoch,train_loss,{head.name}_val_loss,{head.name}_macro_f1", rows)
            change(run, data=samples.digest(), data_root=str(root), finished=f"2026-01-0{seed + 1}")


def _write_rows(file: Path, header: list[str], samples: Samples, folds: Any) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *zip(samples.ids, samples.persons, folds, strict=True)])


def _write(file: Path, header: str, rows: list[list[float]]) -> None:
    file.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]))


def change(run: Run, **values: object) -> None:
    """Let ``run.json`` say other things."""
    file = run.folder / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Artifacts of two runs a head, and their data: 24 photos, some without an age."""
    root = tmp_path_factory.mktemp("page")
    write_table(root / "data")
    write_runs(root / "artifacts", load_dataset(root / "data").samples, root / "data", seeds=2)
    return root / "artifacts", root / "data"


@pytest.fixture(scope="module")
def page(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of these runs."""
    file = tmp_path_factory.mktemp("written") / "report.html"
    runs = [(run, run.info()) for run in Store(made[0]).finished()]
    shown = choose(runs)
    write_html(file, report_on(runs, shown), make_detail(shown), shown, runs, data=None, most=120, cams=0)
    return file.read_text()


def parts_of(artifacts: Path) -> tuple[list[Predictions], Run]:
    """The predictions of the newest runs of mask, gender and age, views averaged, read without the report."""
    found = []
    for head in LABELS:
        run = Store(artifacts).run(f"{head.name}-1")
        one, two = (run.load_predictions(head.name, "oof", view) for view in ("identity", "hflip"))
        found.append(Predictions(one.ids, one.classes, (one.probs + two.probs) / 2, one.folds, one.targets))
    return found, Store(artifacts).run("mask-1")


def test_numbers_are_those_of_scikit_learn(page: str, made: tuple[Path, Path]) -> None:
    numbers = block(page, "numbers")
    parts, run = parts_of(made[0])
    whole = compose(parts, classes=JOINT.classes)
    whole = whole.take(whole.targets >= 0)
    for counts, classes, oof in (
        *((numbers["detail"]["heads"][h.name]["confusion"], h.classes, p) for h, p in zip(LABELS, parts, strict=True)),
        (numbers["report"]["joint"]["confusion"], JOINT.classes, whole),
    ):
        labels = range(len(classes))
        assert counts == confusion_matrix(oof.targets, oof.labels, labels=labels).tolist()
    told = numbers["report"]["joint"]
    wanted = f1_score(whole.targets, whole.labels, labels=range(18), average="macro", zero_division=0)
    assert told["macro_f1"] == pytest.approx(wanted)
    table = precision_recall_fscore_support(whole.targets, whole.labels, labels=range(18), zero_division=0)
    for number, column in enumerate(("precision", "recall", "f1", "photos")):
        assert [row[column] for row in told["classes"].values()] == pytest.approx(table[number])
    persons = persons_in(run, whole.ids)
    assert told["interval_95"] == pytest.approx(person_interval(whole.targets, whole.labels, persons, 18))
    answers = [dict(zip(oof.ids.tolist(), oof.labels.tolist(), strict=True)) for oof in parts]
    answers[2] = dict(zip(parts[2].ids.tolist(), parts[2].targets.tolist(), strict=True))  # age always right
    mask, gender, age = ([of_head[name] for name in whole.ids.tolist()] for of_head in answers)
    perfect = np.asarray(mask) * 6 + np.asarray(gender) * 3 + np.asarray(age)
    wanted = f1_score(whole.targets, perfect, labels=range(18), average="macro", zero_division=0)
    assert told["if_perfect"]["age"] == pytest.approx(wanted)
    draws = Draws.of(persons)
    gained = draws.macro_f1(whole.targets * 18 + perfect, 18) - draws.macro_f1(whole.targets * 18 + whole.labels, 18)
    assert told["costs"]["age"] == pytest.approx(np.quantile(gained, [0.025, 0.975]))


def test_intervals_of_classes_are_of_the_draws_of_the_macro_score(page: str, made: tuple[Path, Path]) -> None:
    parts, run = parts_of(made[0])
    for head, oof in zip(LABELS, parts, strict=True):
        draws = Draws.of(persons_in(run, oof.ids))
        cells, n = oof.targets * len(head.classes) + oof.labels, len(head.classes)
        scores = draws.class_scores(cells, n)
        np.testing.assert_allclose(scores[..., 2].mean(axis=1), draws.macro_f1(cells, n))
        one = next(one for one in block(page, "numbers")["report"]["heads"] if one["run"] == f"{head.name}-1")
        for number, name in enumerate(head.classes):
            wanted = np.quantile(scores[:, number, 0], [0.025, 0.975])
            assert one["classes"][name]["precision_95"] == pytest.approx(wanted)


def test_class_scores_of_a_draw_are_those_of_its_rows() -> None:
    rng = np.random.default_rng(0)
    persons, targets, labels = rng.integers(9, size=60).astype(str), rng.integers(3, size=60), rng.integers(3, size=60)
    draws = Draws.of(persons, rounds=5)
    people = np.unique(persons)
    for times, found in zip(next(draws.times()), draws.class_scores(targets * 3 + labels, 3), strict=True):
        rows = np.repeat(np.arange(60), times[np.searchsorted(people, persons)].astype(int))
        wanted = precision_recall_fscore_support(targets[rows], labels[rows], labels=range(3), zero_division=0)
        np.testing.assert_allclose(found.T, np.stack(wanted[:3]))


def test_reliability_curves_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    probs, targets = rng.dirichlet(np.ones(3), 500), rng.integers(3, size=500)
    for number, points in enumerate(curves(targets, probs)):
        share, probability = calibration_curve(targets == number, probs[:, number], n_bins=15)
        np.testing.assert_allclose([p for p, _, _ in points], probability)
        np.testing.assert_allclose([s for _, s, _ in points], share)
        assert sum(n for _, _, n in points) == 500


def test_the_gallery_holds_the_most_confident_mistakes(made: tuple[Path, Path]) -> None:
    runs = [(run, run.info()) for run in Store(made[0]).finished()]
    shown = choose(runs)
    wrong = wrong_photos(shown, runs, 5)
    for head, oof in zip(LABELS, parts_of(made[0])[0], strict=True):
        other = Store(made[0]).run(f"{head.name}-0")
        views = [other.load_predictions(head.name, "oof", view) for view in ("identity", "hflip")]
        others = (views[0].probs + views[1].probs).argmax(axis=1)
        mistakes = np.flatnonzero(oof.targets != oof.labels)
        confidence = oof.probs.max(axis=1)[mistakes]
        found = wrong[head.name]
        assert [one["probs"][one["taken"]] for one in found] == pytest.approx(np.sort(confidence)[::-1][:5], abs=1e-4)
        for one in found:
            row = oof.ids.tolist().index(one["photo"])
            assert (one["true"], one["taken"], one["runs"]) == (oof.targets[row], oof.labels[row], 2)
            assert one["wrong_in"] == 1 + (others[row] != oof.targets[row])


def test_every_photo_by_its_true_age_is_counted_once() -> None:
    rng = np.random.default_rng(2)
    years = rng.integers(18, 80, 300).astype(float)
    targets = HEADS["age"].labels(years)
    oof = Predictions(
        np.arange(300).astype(str), HEADS["age"].classes, rng.dirichlet(np.ones(3), 300), targets, targets
    )
    for most in (5, 40, 100):
        points = by_value(Seen(oof, oof.ids), years, most=most)
        assert sum(point["photos"] for point in points) == 300
        assert sum(point["wrong"] for point in points) == (oof.labels != targets).sum()
        assert len(points) <= most + 1
    assert by_value(Seen(oof, oof.ids), np.full(300, np.nan)) == []


def test_shares_of_few_photos_are_not_drawn() -> None:
    many, few = {"probability": 0.2, "share": 0.2, "photos": 10}, {"probability": 0.6, "share": 0.0, "photos": 9}
    assert reliability_chart("age", {"old": [many, few]}) != reliability_chart(
        "age", {"old": [many, few | {"photos": 10}]}
    )
    assert reliability_chart("age", {"old": [many, few]}) == reliability_chart("age", {"old": [many]})


def test_photos_and_ages_are_there_when_the_data_is(page: str) -> None:
    gallery = block(page, "wrong")
    assert gallery["thumbs"]
    assert {one["photo"] for each in gallery["wrong"].values() for one in each} <= gallery["thumbs"].keys()
    assert sum(point["photos"] for point in block(page, "numbers")["by_value"]["age"]) == 18, "a quarter has no age"
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", page)


def test_without_photos_and_history_the_page_stands(tmp_path: Path, cli: Cli) -> None:
    for head in LABELS:
        write_run(Store(tmp_path).run(head.name), head)
    code, out, err = cli("oof-report", "--html", tmp_path / "r.html", "--artifacts", tmp_path)
    assert (code, err) == (0, "")
    assert "no photos: no data at nowhere" in out
    page = (tmp_path / "r.html").read_text()
    assert "No photos here: no data at nowhere" in page
    assert "No learning curves" in page
    assert block(page, "wrong")["thumbs"] == {}
    (Store(tmp_path).run("age").folder / "history.csv").write_text("fold,epoch,age_macro_f1\n0,1,high")
    assert cli("oof-report", "--html", tmp_path / "r.html", "--artifacts", tmp_path)[0] == 0
    assert "could not convert" in (tmp_path / "r.html").read_text()
    (Store(tmp_path).run("age").folder / "history.csv").write_text("fold,epoch,age_macro_f1\n0,1,\n0,2,0.5\n1,2,0.6")
    assert cli("oof-report", "--html", tmp_path / "r.html", "--artifacts", tmp_path)[0] == 0
    assert "judged one epoch only" in (tmp_path / "r.html").read_text()
    code, _, err = cli("oof-report", "--html", tmp_path / "r.html", "--data", tmp_path, "--artifacts", tmp_path)
    assert code == 2
    assert err.count("\n") == 1


def test_other_photos_than_the_runs_are_not_shown(made: tuple[Path, Path], tmp_path: Path, cli: Cli) -> None:
    write_table(tmp_path / "data", people=11)
    where = ["--html", tmp_path / "r.html", "--artifacts", made[0]]
    code, _, err = cli("oof-report", *where, "--data", tmp_path / "data")
    assert code == 2
    assert "are not those of the run" in err


def test_one_head_alone_says_what_lacks(tmp_path: Path, cli: Cli) -> None:
    write_run(Store(tmp_path).run("age"), HEADS["age"])
    code, out, _ = cli("oof-report", "--html", tmp_path / "r.html", "--artifacts", tmp_path)
    assert code == 0
    assert "next: Train mask and gender" in out
    assert "no 18-class score" in (tmp_path / "r.html").read_text()


def test_what_files_say_is_escaped(tmp_path: Path, cli: Cli) -> None:
    for head in LABELS:
        run = Store(tmp_path).run(head.name)
        write_run(run, head)
        oof = run.load_predictions(head.name, "oof", "identity")
        names = np.asarray([EVIL + name for name in oof.ids.tolist()])
        for view in ("identity", "hflip"):
            run.save_predictions(
                head.name, "oof", view, Predictions(names, oof.classes, oof.probs, oof.folds, oof.targets)
            )
        with (run.folder / "folds.csv").open("w", newline="") as stream:
            rows = zip(names, names, oof.folds, strict=True)
            csv.writer(stream).writerows([["sample_id", "person_id", "fold"], *rows])
        (run.folder / "history.csv").write_text(f'fold,epoch,{head.name}_macro_f1\n0,1,"{EVIL.replace(chr(34), "")}"')
        change(run, heads={head.name: EVIL}, data_root=EVIL)
    code, _, _ = cli("oof-report", "--html", tmp_path / "r.html", "--artifacts", tmp_path)
    assert code == 0
    page = (tmp_path / "r.html").read_text()
    assert page.count("<script") == 4, "the frame's, two of data, the page's own"
    assert "<img src=x" not in page
    assert all(one["photo"].startswith(EVIL) for one in block(page, "wrong")["wrong"]["age"])


def test_json_has_the_numbers_of_the_page(page: str, made: tuple[Path, Path], tmp_path: Path, cli: Cli) -> None:
    code, out, err = cli("oof-report", "--json", "--html", tmp_path / "r.html", "--artifacts", made[0])
    assert code == 0
    assert (tmp_path / "r.html").read_text() == page
    assert err.startswith("page: ")
    told, numbers = json.loads(out), block(page, "numbers")
    assert told == numbers["report"] | {"detail": numbers["detail"]}


def test_grad_cam_of_a_linear_head_is_the_class_activation_map() -> None:
    """Zhou et al. 2016, equation 2: after a mean over the map, the class's weights times the features."""
    from pipeline.network import build_network
    from pipeline.report.cam import grad_cam

    torch.manual_seed(0)
    network = build_network(TrainConfig(backbone="test_resnet", weights="none", image_size=64), 3).eval()
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    taken = torch.tensor([2, 0])
    found = grad_cam(network, pixels, lambda outputs: outputs.gather(1, taken[:, None])[:, 0])
    with torch.no_grad():
        backbone: Any = network.backbone
        features = backbone.forward_features((pixels.float() - network.mean) / network.std)
        weights = next(w for w in network.head.parameters() if w.ndim == 2)[taken]
        wanted = torch.einsum("nf,nfhw->nhw", weights, features).clamp(min=0)
        wanted = wanted / wanted.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4)


@pytest.mark.parametrize(("backbone", "cells"), [("test_convnext", 1), ("test_efficientnet", 1), ("test_vit", 0)])
def test_maps_are_of_networks_that_have_places(backbone: str, cells: int) -> None:
    from pipeline.network import build_network
    from pipeline.report.cam import grad_cam

    config = TrainConfig(backbone=backbone, weights="none", image_size=32)
    network = build_network(config, 3).eval()
    pixels = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    if cells:
        found = grad_cam(network, pixels, lambda outputs: outputs[:, 0])
        assert found.shape == (2, cells, cells)
        assert ((found >= 0) & (found <= 1)).all()
    else:
        with pytest.raises(NetworkError, match="needs a backbone with a feature map"):
            grad_cam(network, pixels, lambda outputs: outputs[:, 0])


@pytest.mark.slow
def test_maps_come_from_the_network_of_the_fold(made: tuple[Path, Path], tmp_path: Path, cli: Cli) -> None:
    from safetensors.torch import save_file

    from pipeline.network import build_network
    from pipeline.plan import task_of, values_of

    samples = load_dataset(made[1]).samples
    write_runs(tmp_path, samples, made[1])
    small = TrainConfig(folds=3, weights="none", backbone="test_resnet", image_size=32, views=("identity", "hflip"))
    for head in LABELS:
        change(Store(tmp_path).run(f"{head.name}-0"), config=small.as_dict())
    where = ["oof-report", "--html", tmp_path / "r.html", "--cam", 2, "--artifacts", tmp_path]
    code, _, err = cli(*where)
    assert code == 2
    assert "fold" in err
    for head in LABELS:
        task = task_of([head], small, values_of([head], samples))
        for fold in range(3):
            file = Store(tmp_path).run(f"{head.name}-0").folder / f"fold{fold}.safetensors"
            save_file({k: v.contiguous() for k, v in build_network(small, task.n_outputs).state_dict().items()}, file)
    code, _, err = cli(*where)
    assert (code, err) == (0, "")
    maps = block((tmp_path / "r.html").read_text(), "wrong")["cams"]
    assert len(maps) == 2 * len(LABELS)
    assert all(address.startswith("data:image/jpeg;base64,") for address in maps.values())


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(WIDE, False), (NARROW, True)])
def test_the_gallery_filters_and_the_keyboard_works(
    width: int, dark: bool, made: tuple[Path, Path], tmp_path: Path, cli: Cli
) -> None:
    file = tmp_path / "oof.html"
    assert cli("oof-report", "--html", file, "--artifacts", made[0])[0] == 0
    gallery = block(file.read_text(), "wrong")
    with opened(file, width=width, dark=dark) as shown:
        for head, mistakes in gallery["wrong"].items():
            shown.select_option("select[name=head]", head)
            assert shown.locator("#gallery figure").count() == len(mistakes)
            first = mistakes[0]
            shown.select_option("select[name=true]", str(first["true"]))
            shown.select_option("select[name=fold]", str(first["fold"]))
            wanted = [m["photo"] for m in mistakes if (m["true"], m["fold"]) == (first["true"], first["fold"])]
            assert shown.locator("#gallery figure").evaluate_all("all => all.map(f => f.dataset.photo)") == wanted
            shown.get_by_role("button", name="All", exact=True).click()
            shown.select_option("select[name=head]", head)
            shown.select_option("select[name=kind]", "always")
            always = [m["photo"] for m in mistakes if m["wrong_in"] == m["runs"]]
            assert shown.locator("#gallery figure").count() == len(always)
            shown.select_option("select[name=kind]", "")
        shown.locator("#gallery figure").first.focus()
        shown.keyboard.press("ArrowRight")
        assert shown.evaluate("document.activeElement === document.querySelectorAll('#gallery figure')[1]")
        cell = shown.locator(".heat-box[data-head=age] td[data-count]").first
        cell.focus()
        shown.keyboard.press("ArrowRight")
        says = shown.locator(".heat-box[data-head=age] .cell-says p").first.inner_text()
        assert says.startswith("young, taken for middle: ")
        shown.keyboard.press("Enter")
        chosen = [m for m in gallery["wrong"]["age"] if (m["true"], m["taken"]) == (0, 1)]
        assert shown.locator("#gallery figure").count() == len(chosen)
        shown.locator(".heat-box[data-head=age] .as-rates").click()
        assert "%" in shown.locator(".heat-box[data-head=age] td.right").first.inner_text()
