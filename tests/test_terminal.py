"""What files say reaches terminals and spreadsheets as text, never as a command."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.valid import write_run
from heads.registry import HEADS, LABELS
from pipeline import progress
from pipeline.report.text import defused
from pipeline.store import Store
from pipeline.terminal import LONGEST, error_line, harmless, json_text, listed, one_line
from tests.builders import write_competition
from tests.conftest import Cli, train

EVIL = "\x1b[31mred\x1b]0;title\x07\rback\u202egnp.\u2066\x9b1m\x7f\ud800[bold]x[/bold]"


@given(st.text(st.characters()))
def test_nothing_that_steers_is_left(text: str) -> None:
    assert one_line(text).isprintable()
    assert harmless(text).count("\n") == text.count("\n")
    assert all(line.isprintable() for line in harmless(text).split("\n"))
    assert error_line(text).isprintable()
    assert one_line(one_line(text)) == one_line(text)


@given(st.recursive(st.text() | st.floats(allow_nan=False), st.lists))
def test_json_stays_json_in_characters_that_print(value: object) -> None:
    assert json.loads(json_text(value)) == value
    assert harmless(json_text(value)) == json_text(value)


def test_printable_text_stays_as_it_is() -> None:
    for text in ("Créole_23", "마스크", "a  b", "[bold]", "x" * 10_000):
        assert harmless(text) == text
    assert one_line("two\nlines\t\x1b") == r"two\nlines\t\x1b"


def test_long_errors_and_long_lists_are_cut() -> None:
    assert error_line("x" * LONGEST) == "x" * LONGEST
    assert error_line("x" * 10**6) == "x" * LONGEST + "... (1,000,000 characters)"
    assert listed(["a"] * 10) == "a, a, a, a, a, a, a, a, a, a"
    assert listed(["a"] * 1_000) == "a, a, a, a, a, a, a, a, a, a, ... (1,000 in all)"


def test_live_lines_and_plain_lines_print_text_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress.say(f"first\n{EVIL}")
    out = capsys.readouterr().out
    assert out.count("\n") == 2
    assert out.replace("\n", "").isprintable()
    assert "[bold]x[/bold]" in out
    screen = io.StringIO()
    live = Console(file=screen, force_terminal=True, width=200, color_system=None)
    monkeypatch.setattr(progress, "CONSOLE", live)
    with progress.counted(EVIL, 3) as display:
        display.advance(1, EVIL)
    assert "[bold]x[/bold]" in screen.getvalue()
    assert not [mark for mark in ("\x1b]0", "\u202e", "\x9b", "\x07", "\x1b[31m") if mark in screen.getvalue()]


def test_what_run_json_says_cannot_steer_the_terminal(tmp_path: Path, cli: Cli) -> None:
    run = Store(tmp_path).run("mask")
    write_run(run, HEADS["mask"])
    file = run.folder / "run.json"
    info = json.loads(file.read_text())
    info["config"] |= {"note": f"a{EVIL}\nfake line", "backbone": EVIL, "weights": f"x/{EVIL}"}
    info["heads"] = {"mask": EVIL}
    file.write_text(json.dumps(info))
    for command in ("runs", "oof-report"):
        code, out, err = cli(command, "--artifacts", tmp_path)
        assert (code, err) == (0, "")
        assert all(line.isprintable() for line in out.splitlines())
        assert "\nfake line" not in out
    info["config"]["views"] = [f"{EVIL}"]
    file.write_text(json.dumps(info))
    code, _, err = cli("oof-report", "--artifacts", tmp_path)
    assert code == 2
    assert err[:-1].isprintable()


@pytest.mark.parametrize(
    "cell",
    ["=1+1", "+1", "-1+cmd", "@SUM(A1)", "\t=1", "\r=1", ' "=1', "'=1", "  =HYPERLINK(1)", "\uff1d1+1", "\n=1", "''=1"],
)
def test_what_a_spreadsheet_would_take_for_a_formula_is_made_text(cell: str) -> None:
    assert defused(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "mask", "18 classes", "a=b", "0.5", "wear/male/young", "  x", '"', "'"])
def test_other_cells_stay(cell: str) -> None:
    assert defused(cell) == cell


def test_only_the_table_for_spreadsheets_is_defused(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.report import text

    for head in LABELS:
        write_run(Store(tmp_path).run(head.name), head)
    monkeypatch.setattr(text, "FORMULA", text.FORMULA + "mw")  # no name that we write begins like a formula
    code, _, _ = cli("oof-report", "--csv", tmp_path / "r.csv", "--artifacts", tmp_path)
    assert code == 0
    with (tmp_path / "r.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["head"] for row in rows} == {"'mask", "gender", "age", "18 classes"}
    assert all(float(row["macro_f1"]) >= 0 and int(row["photos"]) >= 0 for row in rows), "numbers stay numbers"


def test_tables_that_programs_read_keep_their_names(tmp_path: Path, cli: Cli) -> None:
    data = tmp_path / "data"
    write_competition(data, people=12, eval_photos=1)
    (photo,) = (data / "eval" / "images").iterdir()
    photo.rename(photo.with_name("=1+1.jpg"))
    (data / "eval" / "info.csv").write_text("ImageID,ans\n=1+1.jpg,0\n")
    person = min((data / "train" / "images").iterdir())
    person.rename(person.with_name(f"={person.name}"))
    table = data / "train" / "train.csv"
    table.write_text(table.read_text().replace(f",{person.name}", f",={person.name}"))
    for head in LABELS:
        folder = train(data, tmp_path / "a", head.name, folds=2)
    assert f"\n={person.name}/mask1.jpg,={person.name}," in (folder / "folds.csv").read_text()
    assert (folder / "history.csv").read_text().startswith("fold,epoch")
    assert cli("ensemble", "--artifacts", tmp_path / "a")[0] == 0
    assert "\n=1+1.jpg," in (tmp_path / "a" / "ensembles" / "latest" / "submission.csv").read_text()
