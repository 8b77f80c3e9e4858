"""The full fit: one more network for the eval photos, which changes nothing else of its run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ensemble.predictions import Predictions
from heads.registry import head_named
from pipeline.errors import ConfigError, Stopped
from pipeline.finish import _epochs_used
from pipeline.fold import FoldJob
from pipeline.full import full_plan
from pipeline.members import head_predictions
from pipeline.store import Run
from tests.builders import write_competition
from tests.conftest import Cli, planned, train


def files(folder: Path) -> dict[str, bytes]:
    """What a run predicts with."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix in (".npz", ".safetensors")}


@pytest.fixture(scope="module")
def grown(data: Path, artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run (age in years), asked for a full fit later; the artifacts folder."""
    root = tmp_path_factory.mktemp("full")
    shutil.copytree(artifacts / "runs" / "age-regression", root / "runs" / "age-regression")
    train(data, root, "age", objective="regression", seed=1, full=True)
    return root


def test_a_finished_run_gets_one_more_network_and_nothing_else_changes(grown: Path, artifacts: Path) -> None:
    before, after = (files(root / "runs" / "age-regression") for root in (artifacts, grown))
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {
        "fold3.safetensors",
        "age.full.identity.npz",
        "age.full.hflip.npz",
    }
    old, new = (Run(root / "runs" / "age-regression").info() for root in (artifacts, grown))
    assert new["full"]["epochs"] == 1
    assert new["files"].keys() - old["files"].keys() == after.keys() - before.keys()
    ours = {key: value for key, value in new.items() if key not in ("full", "files")}
    assert ours == {key: value for key, value in old.items() if key != "files"}


def test_it_has_one_vote_beside_each_folds_on_eval_photos_and_none_on_others(grown: Path, artifacts: Path) -> None:
    run, plain = (Run(root / "runs" / "age-regression") for root in (grown, artifacts))

    def seen(run: Run, part: str) -> Predictions:
        return head_predictions(run, run.info(), head_named("age"), part, ["identity"])

    folds, full = (run.load_predictions("age", part, "identity") for part in ("test", "full"))
    assert not np.allclose(folds.probs, full.probs)
    np.testing.assert_allclose(seen(run, "test").probs, (3 * folds.probs + full.probs) / 4)
    np.testing.assert_array_equal(seen(run, "oof").probs, seen(plain, "oof").probs)


def test_the_other_commands_take_the_run(grown: Path, cli: Cli) -> None:
    code, out, err = cli("verify", "age-regression", "--artifacts", grown)
    assert (code, err) == (0, ""), out
    assert cli("runs", "--artifacts", grown)[0] == 0
    file = grown / "runs" / "age-regression" / "age.full.hflip.npz"
    kept = file.read_bytes()
    file.unlink()
    code, out, _ = cli("verify", "age-regression", "--artifacts", grown)
    file.write_bytes(kept)
    assert code == 1
    assert "age.full.hflip.npz" in "".join(out.split())


def test_only_the_one_network_is_trained_on_everything_and_a_stop_leaves_the_run_whole(
    artifacts: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(artifacts / "runs" / "mask", tmp_path / "runs" / "mask")
    honest, trained = FoldJob.run, []

    def stopped(job: FoldJob) -> object:
        trained.append((job.data.fold, len(job.data.train), len(job.data.held_out)))
        raise KeyboardInterrupt

    monkeypatch.setattr(FoldJob, "run", stopped)
    with pytest.raises(Stopped, match="3 of 3 folds"):
        train(data, tmp_path, "mask", full=True)
    run = Run(tmp_path / "runs" / "mask")
    assert trained == [(3, 126, 0)]
    assert run.whole
    assert "full" not in run.info()
    assert files(run.folder) == files(artifacts / "runs" / "mask")
    monkeypatch.setattr(FoldJob, "run", honest)
    train(data, tmp_path, "mask", full=True)
    whole = files(run.folder)
    monkeypatch.setattr(FoldJob, "run", stopped)  # nothing is trained any more, with the flag or without
    (run.folder / "fold3.npz").touch()  # a kill after `run.json` leaves it
    train(data, tmp_path, "mask")
    train(data, tmp_path, "mask", full=True)
    assert files(run.folder) == whole


def test_without_eval_photos_it_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    write_competition(tmp_path / "data", eval_photos=0)
    with pytest.raises(ConfigError, match="this data has none"):
        planned(tmp_path / "data", "mask", full=True)


@pytest.mark.parametrize(("settings", "inner"), [({"keep": "best", "patience": 2}, 0.0), ({"finish_epochs": 1}, 0.2)])
def test_it_trains_as_long_as_the_folds_did_and_holds_back_only_who_is_learnt_from_later(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], inner: float
) -> None:
    monkeypatch.setattr(Run, "info", lambda run: {"epochs_used": [4, 9, 5]})
    plan = full_plan(planned(data, "mask", epochs=9, full=True, inner=0.2, **settings), Run(tmp_path))
    config = plan.config
    assert (config.epochs, config.keep, config.patience, config.inner) == (5, "last", 0, inner)


@pytest.mark.parametrize(
    ("settings", "rows", "best", "used"),
    [
        ({}, 9, 3, 9),
        ({"keep": "best"}, 9, 3, 4),
        ({"patience": 2}, 6, 3, 6),
        ({"patience": 2, "finish_epochs": 2}, 6, 3, 6),
        ({"finish_epochs": 2}, 9, 3, 9),
        ({"keep": "best", "average": "swa"}, 9, 3, 9),
    ],
)
def test_the_epochs_that_a_fold_used(data: Path, settings: dict[str, object], rows: int, best: int, used: int) -> None:
    plan = planned(data, "mask", epochs=9, inner=0.2, **settings)
    epochs = [*range(1, rows + 1), *range(10, 10 + plan.config.finish_epochs)]
    facts = {"best_epoch": best, "history": [{"epoch": float(epoch)} for epoch in epochs]}
    assert _epochs_used(plan, json.loads(json.dumps(facts))) == used
