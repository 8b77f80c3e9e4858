"""The demo's line from drawn people to a scored submission, small; and that a second call goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from pipeline import demo
from pipeline.demo_data import draw_dataset
from tests.conftest import Cli


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """The demo asks for one thread; other tests compare bytes, which depend on how many there are."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_the_demo_prints_oof_beside_the_true_score(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "draw_dataset", partial(draw_dataset, people=36, eval_people=12))
    monkeypatch.setattr(demo, "SETTINGS", replace(demo.SETTINGS, epochs=1))
    code, out, err = cli("demo", "--folder", tmp_path / "demo")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    table = lines[lines.index("macro F1     out-of-fold   eval (true answers)") + 1 :][:4]
    assert [line.split("  ")[0] for line in table] == ["mask", "gender", "age", "18 classes"]
    assert all(0 <= float(number) <= 1 for line in table for number in line.split()[-2:])
    again = cli("demo", "--folder", tmp_path / "demo")[1]
    assert again.count("already finished") == 3
    assert again.splitlines()[-6:-2] == lines[-6:-2]


def test_data_only_draws_and_refuses_a_full_folder(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "draw_dataset", partial(draw_dataset, people=12, eval_people=12))
    assert cli("demo", "--data-only", tmp_path / "people")[0] == 0
    assert cli("data", "check", tmp_path / "people")[0] == 0
    code, _, err = cli("demo", "--data-only", tmp_path / "people")
    assert code == 2
    assert "is not empty" in err
