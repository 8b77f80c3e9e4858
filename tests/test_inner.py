"""The people held back to judge epochs by, in data of few people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heads.recipe import Recipe
from heads.registry import HEADS
from heads.task import Task
from pipeline.engine import absolute_errors
from pipeline.errors import ConfigError
from pipeline.plan import fold_data
from tests.builders import write_csv, write_picture
from tests.conftest import planned


def test_inner_people_are_found_where_every_class_is_rarer_than_the_parts(data: Path) -> None:
    plan = planned(data, "joint", folds=2, inner=0.1)
    none = np.empty((0, 1, 1, 3), np.uint8)
    for fold in range(2):
        made = fold_data(plan, fold, none, none)
        assert len(made.inner)
        assert not set(made.persons[made.inner]) & set(made.persons[made.train])
        assert len(made.inner) + len(made.train) + len(made.held_out) == len(plan.values)


def test_epochs_of_less_than_two_photos_are_refused_before_the_training(data: Path) -> None:
    seldom = {"sampler": "one-per-person", "folds": 2, "inner": 0.1}
    planned(data, "age", **seldom)
    with pytest.raises(ConfigError, match="needs two photos to finish on, held back by inner"):
        planned(data, "age", **seldom, finish_epochs=1)


def test_one_person_cannot_be_held_back(tmp_path: Path) -> None:
    rng, rows = np.random.default_rng(0), [(f"{p}{m}.png", p, m) for p in "ab" for m in HEADS["mask"].classes]
    for name, *_ in rows:
        write_picture(tmp_path / name, rng)
    write_csv(tmp_path / "labels.csv", ("path", "group", "mask"), rows)
    planned(tmp_path, "mask", folds=2)
    with pytest.raises(ConfigError, match="fold 0 has but one"):
        planned(tmp_path, "mask", folds=2, inner=0.1, average="greedy")
    with pytest.raises(ConfigError, match="needs two photos to train on"):
        planned(tmp_path, "mask", folds=2, sampler="one-per-person")


def test_a_full_fit_has_no_errors_to_tell() -> None:
    assert absolute_errors(Task.of(HEADS["age"], recipe=Recipe(objective="l1")), [], np.empty((0, 1))) == {}
