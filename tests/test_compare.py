"""Runs beside each other: who gains, whether it is real, what is refused; and the experiments as a table."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.valid import VIEWS, write_run
from ensemble.differences import Change, sign_test
from ensemble.metrics import accuracy
from ensemble.predictions import Predictions
from heads.registry import HEADS
from pipeline.errors import ArtifactError
from pipeline.report import runs_table
from pipeline.report.compare import compare_runs
from pipeline.report.compare_text import EPOCHS_SHOWN, render, shown_epochs
from pipeline.report.curves import read_curves
from pipeline.report.runs import table
from pipeline.report.text import FORMULA
from pipeline.store import Run, Store
from tests.browser import NARROW, WIDE, needs_browser, opened
from tests.conftest import Cli

HOSTILE = "=1+1<script>alert(1)</script>\x1b[31m\ud800"


@pytest.fixture
def age(tmp_path: Path) -> Run:
    """A finished run of made-up predictions."""
    run = Run(tmp_path / "runs" / "age")
    write_run(run, HEADS["age"])
    return run


def copied(run: Run, name: str, **info: Any) -> Run:
    """The run under another name, with other entries in ``run.json``; those of ``config`` are changed one by one."""
    other = Run(run.folder.with_name(name))
    shutil.copytree(run.folder, other.folder)
    known = json.loads((other.folder / "run.json").read_text())
    info["config"] = known["config"] | info.get("config", {})
    (other.folder / "run.json").write_text(json.dumps(known | info))
    return other


def answering(run: Run, change: Callable[[Predictions], Predictions]) -> Run:
    """The run, its out-of-fold predictions changed."""
    for view in VIEWS:
        run.save_predictions("age", "oof", view, change(run.load_predictions("age", "oof", view)))
    return run


def perfect(oof: Predictions) -> Predictions:
    return Predictions(oof.ids, oof.classes, np.eye(len(oof.classes))[oof.targets], oof.folds, oof.targets)


@settings(max_examples=30)
@given(st.integers(0, 300), st.integers(0, 300))
def test_the_sign_test_is_the_share_of_signs_that_are_as_uneven(better: int, worse: int) -> None:
    n = better + worse
    uneven = sum(math.comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= abs(better - worse))
    assert sign_test(better, worse) == pytest.approx(uneven / 2**n, rel=1e-9)


@settings(max_examples=50)
@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3, st.sampled_from("abcdef")), min_size=1, max_size=60))
def test_a_change_adds_up_to_the_change_of_accuracy_and_turns_round(rows: list[tuple[int, int, int, str]]) -> None:
    before, after, targets = (np.asarray(column) for column in list(zip(*rows, strict=True))[:3])
    persons = np.asarray([who for *_, who in rows])
    change, back = (Change.between(*pair, targets, persons) for pair in ((before, after), (after, before)))
    gain = accuracy(targets, after, 3) - accuracy(targets, before, 3)
    assert (len(change.gained) - len(change.lost)) / len(rows) == pytest.approx(gain)
    assert [*change.gained, *change.lost] == [*back.lost, *back.gained]
    balance = {who: sum((a == t) - (b == t) for b, a, t, w in rows if w == who) for who in set(persons.tolist())}
    assert (change.better, change.worse) == (sum(n > 0 for n in balance.values()), sum(n < 0 for n in balance.values()))
    assert change.p_value == back.p_value


def test_a_copy_is_within_noise_and_changes_nothing(age: Run) -> None:
    (head,) = compare_runs([age, copied(age, "copy", config={"seed": 7})]).heads
    found = head.against["copy"]
    assert (found.gain, found.gain_interval_95, found.verdict) == (0, (0, 0), "within noise")
    assert not found.became_right + found.became_wrong
    np.testing.assert_allclose([head.same_answers, head.error_correlation], 1)


def test_a_gain_for_everybody_is_real_and_a_loss_turned_round(age: Run) -> None:
    better = answering(copied(age, "better"), perfect)
    (up,), (down,) = (compare_runs(pair).heads for pair in ([age, better], [better, age]))
    gained, lost = up.against["better"], down.against["age"]
    assert (gained.verdict, lost.verdict) == ("real: better", "real: worse")
    assert gained.gain == -lost.gain > 0
    assert up.macro_f1["better"] == 1
    assert gained.gain_interval_95 == pytest.approx(tuple(-end for end in lost.gain_interval_95[::-1]))
    assert [row.id for row in gained.became_right] == [row.id for row in lost.became_wrong]
    assert len(gained.became_right) == round((1 - up.same_answers[0][1]) * up.photos)
    assert all(row.after == row.truth != row.before for row in gained.became_right)
    shifts = [row.shift for row in gained.became_right]
    assert shifts == sorted(shifts, reverse=True)


def test_the_order_of_rows_in_the_files_does_not_matter(age: Run) -> None:
    turned = answering(copied(age, "turned"), lambda oof: oof.take(np.arange(len(oof.ids))[::-1]))
    assert not compare_runs([age, turned]).heads[0].against["turned"].became_right


def test_the_settings_that_differ_are_all_told_and_no_others(age: Run) -> None:
    other = copied(age, "other", config={"lr": 0.5, "loss": "focal"}, code="2")
    found = compare_runs([age, other]).settings
    assert {name: row["other"] for name, row in found.items()} == {"lr": 0.5, "loss": "focal", "code": "2"}
    assert "the seed alone" in "".join(compare_runs([age, copied(age, "s", config={"seed": 9})]).remarks)


def test_other_folds_are_not_judged(age: Run) -> None:
    other = answering(copied(age, "other", folds="g"), perfect)
    comparison = compare_runs([age, other])
    assert comparison.heads[0].against["other"].verdict == "other folds: not judged"
    assert "same folds" in render(comparison)


def other_labels(oof: Predictions) -> Predictions:
    return Predictions(oof.ids, oof.classes, oof.probs, oof.folds, (oof.targets + 1) % len(oof.classes))


def fewer(oof: Predictions) -> Predictions:
    return oof.take(np.arange(len(oof.ids) - 1))


@pytest.mark.parametrize(("change", "message"), [(other_labels, "other labels"), (fewer, "other photos")])
def test_other_data_is_refused(change: Callable[[Predictions], Predictions], message: str, age: Run) -> None:
    with pytest.raises(ArtifactError, match=message):
        compare_runs([age, answering(copied(age, "other"), change)])


def test_other_people_are_refused(age: Run) -> None:
    other = copied(age, "other")
    file = other.folder / "folds.csv"
    file.write_text(file.read_text().replace(",p00_x,", ",somebody,"))
    with pytest.raises(ArtifactError, match="other people"):
        compare_runs([age, other])


def test_runs_without_a_head_in_common_are_refused_and_so_is_one_run(age: Run) -> None:
    mask = Run(age.folder.with_name("mask"))
    write_run(mask, HEADS["mask"])
    with pytest.raises(ArtifactError, match="runs of the same head"):
        compare_runs([age, mask])
    with pytest.raises(ArtifactError, match="2 to 12 runs"):
        compare_runs([age])


def test_heads_of_shared_and_joint_networks_and_the_18_classes_are_compared(artifacts: Path) -> None:
    runs = Store(artifacts)
    comparison = compare_runs([runs.run("joint"), runs.run("mask"), runs.run("mask+age-classes")])
    assert {head.head: head.runs[1:] for head in comparison.heads} == {
        "mask": ("mask", "mask+age-classes"),
        "age": ("mask+age-classes",),
    }
    assert max(map(len, render(comparison).splitlines())) <= 80


def test_curves_are_means_over_the_folds_of_epochs_that_all_reached(age: Run) -> None:
    rows = [(0, 1, 0.5, ""), (1, 1, 0.7, ""), (0, 2, 0.25, 0.5), (1, 2, 0.75, 0.25), (0, 3, 0.1, 0.9)]
    text = "\n".join(",".join(map(str, row)) for row in [("fold", "epoch", "train_loss", "age_macro_f1"), *rows])
    (age.folder / "history.csv").write_text(text)
    found = read_curves(age, ["train_loss", "age_macro_f1", "mask_macro_f1"])
    assert found == {"train_loss": {1: pytest.approx(0.6), 2: 0.5}, "age_macro_f1": {2: 0.375}}
    (age.folder / "history.csv").write_text(text.replace("0.25", "nan"))
    assert "damaged" in "".join(compare_runs([age, copied(age, "other")]).remarks), "a comparison without curves"


@given(st.lists(st.integers(1, 40), min_size=1, max_size=EPOCHS_SHOWN))
def test_the_last_epoch_of_every_run_is_shown(lengths: list[int]) -> None:
    epochs = list(range(1, max(lengths) + 1))
    shown = shown_epochs(epochs, set(lengths))
    assert set(lengths) <= set(shown) <= set(epochs)
    assert shown == sorted(shown)
    assert len(shown) == min(EPOCHS_SHOWN, len(epochs)) or len(epochs) > EPOCHS_SHOWN >= len(shown)


def test_the_command_says_json_text_and_page_alike(age: Run, cli: Cli) -> None:
    answering(copied(age, "better", config={"backbone": HOSTILE}), perfect)
    root, page = age.folder.parent.parent, age.folder.parent.parent / "page.html"
    code, text, _ = cli("compare", "age", "better", "--artifacts", root, "--html", page)
    assert (code, "Take better" in text, "\x1b" in text) == (0, True, False)
    known = json.loads(cli("compare", "age", "better", "--artifacts", root, "--json")[1])
    gain = f"{known['heads'][0]['against']['better']['gain']:+.4f}"
    shown = page.read_text()
    assert gain in text
    assert gain in shown
    assert "<script>alert" not in shown
    code, _, error = cli("compare", "age", "nobody", "--artifacts", root)
    assert (code, len(error.splitlines())) == (2, 1)


def test_no_cell_of_the_table_is_a_formula_and_nothing_is_lost(age: Run, cli: Cli) -> None:
    root = age.folder.parent.parent
    copied(age, "other", config={"note": HOSTILE, "lr": 0.125, "sam": 0.5, "freeze": -1})
    copied(age, "broken").folder.joinpath("run.json").write_text("{")
    page, file = root / "runs.html", root / "runs.csv"
    assert cli("runs", "--artifacts", root, "--html", page, "--csv", file)[0] == 0
    rows = {row["run"]: row for row in csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"), newline=""))}
    assert {name: (row["lr"], row["sam"], row["freeze"]) for name, row in rows.items()} == {
        "age": ("0.001", "0", "0"),
        "other": ("0.125", "0.5", "-1"),
        "broken": ("", "", ""),
    }
    text = [row[name] for row in rows.values() for name in ("run", "note", "state", "heads", "backbone", "loss")]
    assert not [cell for cell in text if cell[:1] and cell[0] in FORMULA]
    assert rows["age"]["macro_f1 age"] == "0.5"
    assert "<script>alert" not in page.read_text()
    assert cli("runs", "--artifacts", root / "empty", "--html", page)[0] == 0


def test_settings_in_which_no_run_differs_get_no_column(age: Run) -> None:
    copied(age, "other", config={"lr": 0.125})
    names = runs_table.columns(table(Store(age.folder.parent.parent).runs()))
    assert "sam" not in names
    assert set(runs_table.SHOWN) <= names.keys()


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(WIDE, False), (NARROW, True)])
def test_the_table_filters_hides_and_sorts(width: int, dark: bool, age: Run, cli: Cli) -> None:
    root = age.folder.parent.parent
    copied(age, "b" * 100, config={"note": "wide " * 60, "lr": 0.125})
    copied(age, "other", config={"note": HOSTILE, "lr": 0.25, "backbone": "resnet18"})
    cli("runs", "--artifacts", root, "--html", root / "runs.html")
    with opened(root / "runs.html", width=width, dark=dark) as shown:
        rows, lr, loss = (shown.locator(f"#runs {what}") for what in ("tbody tr:visible", "th:has-text('lr')", "th"))
        assert rows.count() == 3
        before = loss.filter(visible=True).count()
        shown.locator("#all").check()
        assert loss.filter(visible=True).count() > before
        lr.locator("button").click()
        assert rows.first.inner_text().startswith("other")
        shown.locator("#words").fill("RESNET18 age")
        assert (rows.count(), shown.locator("#shown").inner_text()) == (1, "1 of 3 runs")


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(WIDE, False), (NARROW, True)])
def test_the_page_of_a_comparison_shows_photos_and_curves(
    width: int, dark: bool, artifacts: Path, tmp_path: Path, cli: Cli
) -> None:
    page = tmp_path / "compare.html"
    assert cli("compare", "age", "age-regression", "mask+age-classes", "--artifacts", artifacts, "--html", page)[0] == 0
    with opened(page, width=width, dark=dark) as shown:
        assert shown.locator("details[open] img").count()
        assert shown.locator("svg.chart").count()
        assert shown.locator("nav a").count() >= 4
