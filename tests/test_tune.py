"""The search: spaces are checked, studies go on, nothing is scored on rows that chose it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config import TrainConfig
from pipeline.errors import ConfigError, Stopped
from pipeline.tune.search import Asked, report, search
from pipeline.tune.space import applied, read_space, toml_of
from pipeline.tune.study import STARTUP, opened
from pipeline.tune.trials import Scored
from tests.conftest import Cli, planned

SPACE = """
[space.lr]
low = 1e-4
high = 1e-2
log = true
[space.batch_size]
low = 8
high = 64
[space.loss]
choices = ["cross-entropy", "focal"]
[space."loss_args.gamma"]
low = 0
high = 4.0
[space.bins]
choices = [[], [20, 40]]
"""
BASE = TrainConfig(weights="none", folds=5)


RATE = "[space.lr]\nlow = 1e-4\nhigh = 1e-2\nlog = true"


def asked_of(folder: Path, *, trials: int, text: str = SPACE, seed: int = 0) -> Asked:
    file = folder / "space.toml"
    file.write_text(text)
    return Asked("age", BASE, read_space(file, BASE), folder / "data", folder, "toy", trials, 3, seed)


def fake(config: TrainConfig, folds: Sequence[int], name: str) -> Iterator[Scored]:
    """A score that is highest at the rate 0.001, lower on the folds that are left."""
    score = 0.9 - 200 * abs(config.lr - 1e-3) / 3 - (0.1 if folds[0] else 0)
    for _ in folds:
        yield Scored(max(score, 0), (0.0, 1.0))


def trials_of(asked: Asked) -> list[tuple[str, dict[str, object], float | None]]:
    with opened(asked.folder, asked.study, asked.space, asked.same(), asked.seed) as study:
        return [(t.state.name, study.values(t), t.value) for t in study.finished()]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[space.learning]\nlow=1\nhigh=2", "unknown setting 'learning'"),
        ("[space.epoch]\nlow=1\nhigh=2", "did you mean 'epochs'"),
        ("[space.lr]\nlow=0\nhigh=1", "lr must be above 0, got 0.0"),
        ("[space.lr]\nlow=2\nhigh=1", "low < high"),
        ("[space.lr]\nchoices=[1e-3]", "two or more"),
        ("[space.lr]\nlow=1\nhi=1", "has hi"),
        ("[space.loss]\nchoices=['focal', 'vocal']", "got 'vocal'"),
        ("[space.folds]\nlow=3\nhigh=5", "folds cannot be searched"),
        ('[space."lr.x"]\nlow=3\nhigh=5', "lr is no table"),
        ("lr = 3", "and nothing else"),
    ],
)
def test_a_space_that_cannot_be_is_refused(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        asked_of(tmp_path, trials=1, text=table)


def test_settings_as_toml_load_as_the_same_settings(tmp_path: Path) -> None:
    values = {"lr": 1e-05, "loss_args.gamma": 2.0, "views": ("identity",), "compile": True, "note": 'a "b" \\ ü'}
    config = applied(replace(BASE, backbone_args={"bn_eps": 1e-3, "pad_type": "same"}), values)
    file = tmp_path / "best.toml"
    file.write_text(toml_of(config), encoding="utf-8")
    assert TrainConfig.load(file) == config


@pytest.mark.parametrize(
    ("trials", "text"),
    [pytest.param(4, RATE, id="drawn"), pytest.param(14, SPACE, id="modelled", marks=pytest.mark.slow)],
)
def test_an_interrupted_search_ends_in_the_trials_of_one_that_was_not(tmp_path: Path, trials: int, text: str) -> None:
    folders = [tmp_path / name for name in ("whole", "parts")]
    for folder in folders:
        folder.mkdir()
    whole, parts = (asked_of(folder, trials=trials, text=text) for folder in folders)
    search(whole, fake)
    calls = 0

    def stopping(config: TrainConfig, folds: Sequence[int], name: str) -> Iterator[Scored]:
        nonlocal calls
        calls += 1
        yield from fake(config, folds[:1], name)
        if calls == 3:
            raise KeyboardInterrupt
        yield from list(fake(config, folds, name))[1:]

    with pytest.raises(Stopped, match="2 trials are kept"):
        search(parts, stopping)
    search(replace(parts, trials=3), fake)
    search(parts, fake)
    assert trials_of(parts) == trials_of(whole)
    assert {state for state, *_ in trials_of(whole)} == ({"COMPLETE", "PRUNED"} if trials > STARTUP else {"COMPLETE"})


def test_the_best_is_judged_on_other_folds_and_written(tmp_path: Path) -> None:
    seen: list[list[int]] = []
    asked = asked_of(tmp_path, trials=2, text=RATE)

    def noting(config: TrainConfig, folds: Sequence[int], name: str) -> Iterator[Scored]:
        seen.append(list(folds))
        yield from fake(config, folds, name)

    search(asked, noting)
    text = report(asked, noting)
    assert report(asked, noting) == text
    assert seen == [[0, 1, 2]] * 2 + [[3, 4]], "and the best is judged once"
    best = max((trial for trial in trials_of(asked) if trial[0] == "COMPLETE"), key=lambda trial: trial[2] or 0)
    assert TrainConfig.load(tmp_path / "studies" / "toy.toml") == applied(BASE, best[1])
    assert f"{best[2]:.4f}" in text
    assert f"{(best[2] or 0) - 0.1:.4f}" in text


def test_settings_that_do_not_go_together_cost_one_trial(tmp_path: Path) -> None:
    def refusing(config: TrainConfig, folds: Sequence[int], name: str) -> Iterator[Scored]:
        if config.loss == "focal":
            raise ConfigError("no")
        yield from fake(config, folds, name)

    asked = asked_of(tmp_path, trials=4, text="[space.loss]\nchoices = ['cross-entropy', 'focal']")
    search(asked, refusing)
    assert len(trials_of(asked)) == 4
    assert {state for state, *_ in trials_of(asked)} == {"COMPLETE", "PRUNED"}
    assert all(state == "PRUNED" for state, values, _ in trials_of(asked) if values["loss"] == "focal")


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.test_tune import asked_of, fake
from pipeline.tune.search import search
def scores(config, folds, name):
    if sys.argv[2] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    yield from fake(config, folds, name)
search(asked_of(Path(sys.argv[1]), trials=12), scores)
"""


@pytest.mark.slow
def test_two_processes_share_a_study_and_a_killed_ones_trial_is_tried_again(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    both = [subprocess.Popen([*command, "dies"], cwd=root), subprocess.Popen([*command, "lives"], cwd=root)]
    codes = [process.wait() for process in both]
    subprocess.run([*command, "lives"], cwd=root, check=True)
    assert codes == [-9, 0]
    assert len(trials_of(asked_of(tmp_path, trials=12))) == 12


@pytest.mark.slow
def test_pipe_tune_trains_for_real_and_leaves_scores_only(cli: Cli, data: Path, tmp_path: Path) -> None:
    config, space = tmp_path / "config.toml", tmp_path / "space.toml"
    config.write_text(toml_of(replace(planned(data, "age").config, device="cpu")))
    space.write_text(RATE)
    command = ["tune", "age", "--data", data, "--config", config, "--space", space, "--search-folds", 2]
    code, out, err = cli(*command, "--trials", 2, "--artifacts", tmp_path, "--threads", 1)
    assert (code, err) == (0, "")
    assert "folds that it did not use" in out
    left = {file.name for file in (tmp_path / "studies").rglob("*") if not file.name.startswith(".")}
    assert left == {"age.db", "age.toml", "age.png"}
    code, out, _ = cli(*command, "--trials", 4, "--jobs", 2, "--artifacts", tmp_path)
    assert code == 0
    assert "4 trials" in out
