"""Shared test settings, and three tiny real trainings that many tests look at."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.builders import write_competition

if TYPE_CHECKING:
    from pipeline.plan import Plan

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny networks are faster so; before torch is imported
# a busy machine is no failure, and every run of the suite tries the same cases
settings.register_profile("calm", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("calm")

Cli = Callable[..., tuple[int, str, str]]
TINY = ["--backbone", "test_resnet", "--weights", "none", "--image-size", "32", "--epochs", "1", "--folds", "3"]


def call(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    """Run ``pipe`` with these arguments in this process: exit code, standard output, standard error."""
    from pipeline.cli import main

    before, sys.argv = sys.argv, ["pipe", *map(str, args)]
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = before
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run ``pipe`` in this process."""
    return lambda *args: call(capsys, *args)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A faultless competition folder of 18 people."""
    root = tmp_path_factory.mktemp("competition") / "data"
    write_competition(root)
    return root


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """Finished runs: mask, gender, age, age-regression, joint and one network of two heads. Not to be changed."""
    root = tmp_path_factory.mktemp("line") / "artifacts"
    train(data, root, "mask")
    train(data, root, "gender")
    train(data, root, "age")
    train(data, root, "age", objective="regression", seed=1)
    train(data, root, "joint")
    train(data, root, "mask", "age", objective="classes")
    return root


def planned(data: Path, *heads: str, **settings: object) -> Plan:
    """What the training of a tiny network is going to do."""
    from heads.registry import head_named
    from pipeline.config import TrainConfig
    from pipeline.plan import make_plan

    tiny = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "epochs": 1, "folds": 3, "device": "cpu"}
    # timed anew in every artifacts folder, the precision would differ between runs that are compared
    config = TrainConfig.load(None, tiny | {"precision": "fp32"} | settings)
    return make_plan([head_named(head) for head in heads], config, data)


def train(data: Path, artifacts: Path, *heads: str, name: str | None = None, **settings: object) -> Path:
    """Train a tiny network for real; the run's folder."""
    from pipeline.store import Store
    from pipeline.train import default_name, train_heads

    plan = planned(data, *heads, **settings)
    return train_heads(plan, Store(artifacts), name or default_name(plan.task.heads, plan.config)).folder


def press_ctrl_c_in_fold_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every training be interrupted when fold 2 begins."""
    from pipeline.fold import FoldJob

    honest = FoldJob.run

    def interrupted(job: FoldJob) -> object:
        if job.data.fold == 2:
            raise KeyboardInterrupt
        return honest(job)

    monkeypatch.setattr(FoldJob, "run", interrupted)
