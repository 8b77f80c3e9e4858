"""The range test of learning rates: what it suggests, what it leaves alone."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import lr_find
from pipeline.fold import FoldJob
from pipeline.lr_find import Range, find_rates, has_exploded, rates_of, smoothed, write_plot
from pipeline.tables import read_table
from tests.builders import write_table
from tests.conftest import Cli, planned


def test_the_suggestion_for_a_loss_with_a_known_slope() -> None:
    rates = rates_of(400)
    falling = [2 - math.tanh(math.log10(rate) + 3) + 30 * max(0.0, math.log10(rate)) for rate in rates]
    found = Range(rates, tuple(falling))  # steepest at 1e-3, lowest at 1
    assert 1e-3 <= found.steepest < 3e-3  # the moving average lags behind
    assert 0.8 < found.lowest < 2
    assert f"try --lr {found.steepest:.1e} or, a tenth of the lowest, {found.lowest / 10:.1e}" in found.table()


@given(st.lists(st.integers(0, 10), min_size=1, max_size=20))
def test_a_moving_average_stays_between_the_losses_and_forgets_no_start(losses: list[int]) -> None:
    smooth = smoothed(losses)
    assert len(smooth) == len(losses)
    assert smooth[0] == pytest.approx(losses[0])
    assert min(losses) - 1e-9 <= min(smooth) <= max(smooth) <= max(losses) + 1e-9


def test_rates_rise_by_one_factor_and_an_explosion_is_seen() -> None:
    assert np.ptp(np.diff(np.log(rates_of(50)))) < 1e-9
    assert has_exploded([1.0] * 20 + [100.0])
    assert not has_exploded([1.0] * 20 + [2.0])


def test_the_command_prints_a_table_draws_and_touches_no_run(
    data: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_rates, "__defaults__", (15,))  # steps
    tiny = ["backbone=test_resnet", "weights=none", "image_size=32", "folds=3", "device=cpu", "batch_size=8"]
    words = [word for setting in tiny for word in ("--set", setting)]
    plot = tmp_path / "lr.png"
    code, out, err = cli("lr-find", "mask", "--data", data, *words, "--artifacts", tmp_path / "a", "--out", plot)
    assert code == 0, err
    assert plot.stat().st_size > 1000
    assert "try --lr " in out
    table = read_table(tmp_path / "lr.csv")
    assert np.all(np.diff(np.array(table["rate"], dtype=float)) > 0)
    assert not (tmp_path / "a" / "runs").exists()
    assert cli("lr-find", "mask", "--out", "lr.txt") == (
        2,
        "",
        "error: --out must end in .png, .svg, .pdf, got lr.txt\n",
    )


@pytest.mark.parametrize("settings", [{}, {"sampler": "one-per-person"}])
def test_extra_photos_are_read_and_there_are_as_many_steps_as_asked_for(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]
) -> None:
    def follow(job: FoldJob, steps: int) -> Range:
        assert len(job.data.photos) == len(job.data.values) > len(plan.values)
        assert len(job.main_phase().steps) >= steps
        return Range((), ())

    monkeypatch.setattr(lr_find, "_follow", follow)
    write_table(tmp_path / "more", people=3)
    plan = planned(data, "mask", batch_size=4, extra=(str(tmp_path / "more"),), **settings)
    find_rates(plan, tmp_path / "a")


def test_the_same_seed_sees_the_same_losses_and_a_plot_is_drawn(data: Path, tmp_path: Path) -> None:
    plan = planned(data, "mask", batch_size=8)
    found, again = (find_rates(plan, tmp_path / "a", steps=12) for _ in range(2))
    assert found == again
    write_plot(found, tmp_path / "lr.svg")
    assert b"learning rate" in (tmp_path / "lr.svg").read_bytes() or (tmp_path / "lr.svg").stat().st_size > 1000
