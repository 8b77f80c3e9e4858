"""Extra data: every fold trains on it, none holds it out, and nobody of the data is in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from heads.registry import head_named
from pipeline.config import TrainConfig
from pipeline.errors import LayoutError
from pipeline.extra import load_extra
from pipeline.finish import seen
from pipeline.images import one_behind_another
from pipeline.layouts import load_dataset
from pipeline.plan import Plan, describe, fold_data, make_plan
from tests.builders import write_csv, write_picture, write_table
from tests.conftest import Cli, planned, train

MASK, AGE, JOINT = head_named("mask"), head_named("age"), head_named("joint")
PEOPLE = 6


@pytest.fixture(scope="session")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of masks alone: ten photos of six people, called like people of the data."""
    root = tmp_path_factory.mktemp("extra") / "masks"
    rng = np.random.default_rng(5)
    rows = [(f"m{n}.png", f"00000{n % PEOPLE + 1}", ("wear", "incorrect", "incorrect")[n % 3]) for n in range(10)]
    for name, _, _ in rows:
        write_picture(root / name, rng)
    write_csv(root / "labels.csv", ("path", "group", "mask"), rows)
    return root


@pytest.fixture(scope="session")
def plan(data: Path, masks: Path) -> Plan:
    return planned(data, "mask", "age", extra=(f"table:{masks}",), folds=3)


def test_folds_are_the_same_with_and_without_extra_photos(data: Path, plan: Plan) -> None:
    plain = planned(data, "mask", "age", folds=3)
    assert plan.folds.tolist() == plain.folds.tolist()
    assert plan.settings()["folds"] == plain.settings()["folds"]
    assert plan.settings()["data"] == plain.settings()["data"]
    assert "extra" not in plain.settings()
    assert plan.settings()["extra"] == plan.extra.samples.digest()


def test_every_fold_trains_on_all_extra_photos_and_holds_none_out(plan: Plan) -> None:
    n = len(plan.data.samples.ids)
    photos = np.zeros((n + 10, 2, 2, 3), dtype=np.uint8)
    for fold in range(3):
        given = fold_data(plan, fold, photos, photos[:0])
        assert set(given.train[given.train >= n].tolist()) == set(range(n, n + 10))
        assert given.held_out.max() < n
        assert set(given.train.tolist()).isdisjoint(given.held_out.tolist())
        assert set(given.persons[given.train].tolist()).isdisjoint(given.persons[given.held_out].tolist())
        assert len(np.unique(given.persons[n:])) == PEOPLE  # whatever they are called
        assert len(given.values) == len(given.persons) == n + 10
        assert np.isnan(given.values[n:, 1]).all()


def test_inner_people_are_never_extra_ones(data: Path, masks: Path) -> None:
    plan = planned(data, "mask", extra=(str(masks),), inner=0.3)
    photos = np.zeros((len(plan.all_values), 2, 2, 3), dtype=np.uint8)
    inner = fold_data(plan, 0, photos, photos[:0]).inner
    assert len(inner)
    assert inner.max() < len(plan.values)


def test_rows_without_a_label_of_the_heads_are_left_out(data: Path, masks: Path) -> None:
    samples = load_dataset(data).samples
    assert len(load_extra([str(masks)], [MASK], samples)) == 10
    assert len(load_extra([str(masks)], [AGE], samples)) == 0
    assert len(load_extra([str(masks)], [JOINT], samples)) == 0
    assert len(load_extra([str(masks), str(masks / "labels.csv")], [MASK], samples)) == 20
    assert load_extra([str(masks), str(masks)], [MASK], samples).people == 2 * PEOPLE
    assert not load_extra([], [MASK], samples).remarks


def test_people_of_whom_a_photo_is_in_the_data_are_left_out(data: Path, masks: Path, tmp_path: Path) -> None:
    samples = load_dataset(data).samples
    copy = tmp_path / "masks"
    shutil.copytree(masks, copy)
    shutil.copyfile(samples.paths[3], copy / "m1.png")  # the person also has m7
    extra = load_extra([str(copy)], [MASK], samples)
    assert sorted(path.name for path in extra.samples.paths) == sorted(f"m{n}.png" for n in range(10) if n % 6 != 1)
    assert "2 photos of people who are in the data left out" in extra.remarks[0]
    assert len(load_extra([str(data)], [MASK], samples)) == 0


def test_ids_and_people_of_extra_data_clash_with_nobody(data: Path, plan: Plan) -> None:
    samples = load_dataset(data).samples
    assert set(samples.persons.tolist()).isdisjoint(plan.extra.samples.persons.tolist())
    assert set(samples.ids.tolist()).isdisjoint(plan.extra.samples.ids.tolist())


def test_the_mix_counts_extra_photos_once_in_every_fold(plan: Plan) -> None:
    n = len(plan.values)
    photos = np.zeros((n + 10, 2, 2, 3), dtype=np.uint8)
    counts = np.zeros(3)
    for fold in range(3):
        given = fold_data(plan, fold, photos, photos[:0])
        counts += np.bincount(MASK.labels(given.values[given.train, 0]), minlength=3)
    np.testing.assert_allclose(seen(plan, 0), counts / counts.sum())


def test_what_is_no_source_is_refused_with_what_would_be_one(data: Path, tmp_path: Path) -> None:
    samples = load_dataset(data).samples
    with pytest.raises(LayoutError, match=r"no extra data at .*none; extra takes PATH or LAYOUT:PATH"):
        load_extra([f"table:{tmp_path / 'none'}"], [MASK], samples)
    (tmp_path / "labels.csv").write_text("path,group,mask\na.png,x,perhaps\n")
    with pytest.raises(LayoutError, match=r"a\.png"):
        load_extra([str(tmp_path)], [MASK], samples)


def test_photos_of_several_arrays_are_fetched_as_of_one() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8) for n in (5, 1, 3)]
    rows = rng.integers(0, 9, 20)
    joined = one_behind_another(parts)
    assert np.array_equal(joined[rows], np.concatenate(parts)[rows])
    assert joined.shape == (9, 4, 4, 3)
    assert one_behind_another(parts[:1]) is parts[0]


def test_a_run_with_extra_photos_keeps_and_verifies_what_is_of_the_data(
    data: Path, masks: Path, tmp_path: Path, cli: Cli
) -> None:
    from pipeline.store import Store

    ages = tmp_path / "ages"
    write_picture(ages / "a.png", np.random.default_rng(0))
    write_csv(ages / "labels.csv", ("path", "group", "age"), [("a.png", "a", 58)])
    train(data, tmp_path, "mask", "age", folds=2, extra=(str(masks), str(ages)), train_edges=(30.0, 58.0))
    (run,) = Store(tmp_path).runs()
    info = run.info()
    assert (info["extra_photos"], info["extra_people"]) == (11, PEOPLE + 1)  # type: ignore[typeddict-item]
    samples = load_dataset(data).samples
    assert run.load_predictions("mask", "oof", "identity").ids.tolist() == samples.ids.tolist()
    assert len((run.folder / "folds.csv").read_text().splitlines()) == len(samples.ids) + 1
    assert cli("verify", "--artifacts", tmp_path)[0] == 0


def test_bins_are_cut_from_the_data_alone(data: Path, tmp_path: Path) -> None:
    write_table(tmp_path)
    bins = {"objective": "bins", "bin_rule": "frequency", "bin_count": 4}
    with_extra, plain = planned(data, "age", extra=(str(tmp_path),), **bins), planned(data, "age", **bins)
    outputs = torch.randn(20, plain.task.n_outputs, generator=torch.Generator().manual_seed(0))
    assert len(with_extra.extra)
    torch.testing.assert_close(with_extra.task.decode(outputs), plain.task.decode(outputs), rtol=0, atol=0)


def test_the_plan_tells_of_extra_photos_and_other_ones_are_another_run(
    data: Path, masks: Path, plan: Plan, tmp_path: Path
) -> None:
    assert f"extra table:{masks}: {PEOPLE} people, 10 photos with labels of mask+age" in describe(plan)
    write_table(tmp_path)
    other = make_plan([MASK, AGE], TrainConfig.load(None, plan.config.as_dict() | {"extra": (str(tmp_path),)}), data)
    assert other.digest() != plan.digest()
