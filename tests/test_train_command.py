"""What ``pipe train-head`` makes of file, ``--set``, options and ``--seeds``, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli_train import configured, overridden, planned, require_folds
from pipeline.config import assigned
from pipeline.errors import ConfigError
from pipeline.ranks import ALONE
from pipeline.store import Store
from tests.conftest import TINY, Cli

FILE = """
backbone = "test_resnet"
weights = "none"
image_size = 32
folds = 3
epochs = 1
precision = "fp32"
batch_size = 10
lr = 0.1

[heads.age]
batch_size = 11
lr = 0.2
epochs = 2
objective = "bins"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Settings with others for age."""
    path = tmp_path / "settings.toml"
    path.write_text(FILE)
    return path


def test_a_flag_wins_over_set_over_the_heads_table_over_the_file(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {"epochs": 7, "note": None}
    overrides = overridden(assigned(["lr=0.3", "epochs=6", "sampler=balanced", "border=[57, 59]"]), flags)
    (_, mask), (_, age) = configured(["mask", "age"], file, overrides, separate=True)
    assert (mask.batch_size, mask.lr, mask.epochs, mask.objective) == (10, 0.3, 7, "")
    assert (age.batch_size, age.lr, age.epochs, age.objective) == (11, 0.3, 7, "bins")
    assert (age.sampler, age.border) == ("balanced", (57, 59))
    assert capsys.readouterr().out == "--epochs wins over --set epochs\n"


def test_heads_that_share_a_network_have_the_settings_of_the_file(file: Path) -> None:
    ((heads, config),) = configured(["mask", "age"], file, {}, separate=False)
    assert [head.name for head in heads] == ["mask", "age"]
    assert (config.batch_size, config.lr, config.objective) == (10, 0.1, "")


def test_what_a_command_has_one_of_cannot_differ_between_heads(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('[heads.age]\ncache = "off"\n')
    with pytest.raises(ConfigError, match="cache differs between the heads"):
        configured(["mask", "age"], path, {}, separate=True)


def test_a_fold_must_exist_in_every_run(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("folds = 5\n[heads.age]\nfolds = 3\n")
    configs = [config for _, config in configured(["mask", "age"], path, {}, separate=True)]
    require_folds(2, configs)
    with pytest.raises(ConfigError, match="--fold 3 does not exist; folds are 0 to 2"):
        require_folds(3, configs)


def test_seeds_are_runs_of_their_own_that_differ_in_nothing_else(file: Path, data: Path, tmp_path: Path) -> None:
    parts = configured(["mask", "age"], file, {"seed": 4}, separate=True)
    wanted = planned(parts, data, ALONE, Store(tmp_path), "big", seeds=2, separate=True)
    assert [run.name for _, run in wanted] == ["big-mask-seed4", "big-mask-seed5", "big-age-seed4", "big-age-seed5"]
    assert [plan.config.seed for plan, _ in wanted] == [4, 5, 4, 5]
    first, second = wanted[0][0], wanted[1][0]
    assert first.folds.tolist() == second.folds.tolist()
    assert first.config.as_dict() | {"seed": 5} == second.config.as_dict()


def test_one_seed_keeps_the_name_and_none_is_refused(file: Path, data: Path, tmp_path: Path) -> None:
    parts = configured(["mask"], file, {}, separate=False)
    ((_, run),) = planned(parts, data, ALONE, Store(tmp_path), None, seeds=1, separate=False)
    assert run.name == "mask"
    with pytest.raises(ConfigError, match="--seeds must be from 1"):
        planned(parts, data, ALONE, Store(tmp_path), None, seeds=0, separate=False)


def test_the_command_says_what_is_wrong_with_set_and_extra(cli: Cli, data: Path, tmp_path: Path) -> None:
    where = ["--data", data, "--artifacts", tmp_path, *TINY]
    for words, said in (
        (["--set", "sampler"], "--set takes NAME=VALUE, got 'sampler'"),
        (["--set", "sampler=shufled"], "sampler must be one of shuffled, balanced"),
        (["--set", "samplr=balanced"], "did you mean 'sampler'?"),
        (["--extra", str(tmp_path / "none")], "no extra data at"),
    ):
        code, _, err = cli("train-head", "mask", *words, *where)
        assert code == 2
        assert said in " ".join(err.split())
