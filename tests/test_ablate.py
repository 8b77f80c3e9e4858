"""One experiment at toy size: its row agrees with scikit-learn on the predictions that were kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss

from benchmarks.ablate import main
from benchmarks.recipes import Cookbook

TOY = """
[base]
backbone = "test_resnet"
image_size = 32
epochs = 1
folds = 3
device = "cpu"
precision = "fp32"

[recipes]
base = { head = "age" }
age-plain = { head = "age", settings = { augment = "none" }, verdict = "dropped" }
age-bag = { head = "age", of = "base", bag = true }
"""


def oof(artifacts: Path, run: str, head: str) -> tuple[np.ndarray, np.ndarray]:
    """True classes, and the mean of the views' probabilities."""
    views = [np.load(artifacts / "runs" / run / f"{head}.oof.{view}.npz") for view in ("identity", "hflip")]
    return views[0]["targets"], np.mean([view["probs"] for view in views], axis=0)


def test_a_row_is_what_scikit_learn_finds_in_the_kept_predictions(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipes, artifacts = tmp_path / "recipes.toml", tmp_path / "artifacts"
    recipes.write_text(TOY)
    where = ["--recipes", str(recipes), "--artifacts", str(artifacts), "--data", str(data), "--weights", "none"]
    assert main(["--recipe", "base", "--recipe", "age-plain", *where]) == 0
    stamp = (artifacts / "runs" / "age-plain.s0" / "run.json").stat().st_mtime_ns
    assert main(["--recipe", "age-plain", *where]) == 0
    assert (artifacts / "runs" / "age-plain.s0" / "run.json").stat().st_mtime_ns == stamp, "it was trained again"
    capsys.readouterr()
    assert main(["--table", "--artifacts", str(artifacts), "--recipes", str(recipes)]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    lines = {line["recipe"]: line for line in json.loads((artifacts / "ablate.json").read_text())["lines"]}
    f1, loss = {}, {}
    for name in ("base", "age-plain"):
        targets, probs = oof(artifacts, f"{name}.s0", "age")
        f1[name] = f1_score(targets, probs.argmax(axis=1), average="macro", zero_division=0)
        assert lines[name]["score"]["macro_f1"] == pytest.approx(f1[name])
        loss[name] = log_loss(targets, probs)
        assert lines[name]["score"]["log_loss"] == pytest.approx(loss[name])
    assert lines["age-plain"]["score"]["gain"] == pytest.approx(f1["age-plain"] - f1["base"])
    assert lines["age-plain"]["score"]["saved"] == pytest.approx(loss["base"] - loss["age-plain"])
    assert lines["base"]["score"]["gain_interval_95"] == [0, 0]
    assert lines["age-bag"]["score"]["macro_f1"] == pytest.approx(f1["base"]), "of one run, the average is itself"
    assert len(rows) == 3
    assert 'augment = "none"' in rows[1]
    assert rows[1].endswith("| dropped |")


def test_the_18_classes_are_composed_with_the_base_runs_of_other_heads(
    data: Path, artifacts: Path, tmp_path: Path
) -> None:
    from benchmarks.scores import score_runs
    from heads.registry import JOINT
    from pipeline.store import Store

    store = Store(artifacts)
    found = {
        name: [(store.run(name), store.run(name).info())]
        for name in ("mask", "gender", "age", "age-regression", "joint")
    }
    base = {head: found[head] for head in ("mask", "gender", "age")}
    (line,) = score_runs("tried", found["age-regression"], base, bag=False)
    truth, probs = zip(
        *(oof(artifacts, run, run.split("-")[0]) for run in ("mask", "gender", "age-regression")), strict=True
    )
    joint = np.einsum("na,nb,nc->nabc", *probs).reshape(len(probs[0]), -1)
    targets = truth[0] * 6 + truth[1] * 3 + truth[2]
    expected = f1_score(targets, joint.argmax(axis=1), average="macro", zero_division=0, labels=range(18))
    assert line.joint is not None
    assert line.joint["macro_f1"] == pytest.approx(expected)
    direct = {
        line.head: line
        for line in score_runs("joint", [(store.run("joint"), store.run("joint").info())], base, bag=False)
    }
    assert set(direct) == {"mask", "gender", "age", JOINT.name}
    targets, probs_joint = oof(artifacts, "joint", "joint")
    expected = f1_score(targets, probs_joint.argmax(axis=1), average="macro", zero_division=0, labels=range(18))
    assert direct[JOINT.name].score["macro_f1"] == pytest.approx(expected)


def test_probabilities_of_another_mix_are_scored_as_trained_and_as_the_vote_takes_them(artifacts: Path) -> None:
    from benchmarks.scores import AS_TRAINED, UNDONE, score_runs
    from pipeline.store import Store

    run = Store(artifacts).run("age")
    photos, trained = np.array([0.4, 0.4, 0.2]), np.array([0.2, 0.3, 0.5])
    info = run.info()
    info["mix"] = {"age": {"photos": photos.tolist(), "trained": trained.tolist()}}
    lines = score_runs("tried", [(run, info)], {}, bag=False)
    targets, _ = oof(artifacts, "age", "age")
    for line, ratio in zip(lines, (np.ones(3), photos / trained), strict=True):
        views = [np.load(run.folder / f"age.oof.{view}.npz")["probs"] * ratio for view in ("identity", "hflip")]
        probs = sum(view / view.sum(axis=1, keepdims=True) for view in views)
        f1 = f1_score(targets, probs.argmax(axis=1), average="macro", zero_division=0)
        assert line.score["macro_f1"] == pytest.approx(f1)
        assert line.joint is None, "no base runs of mask and gender"
    assert [line.way for line in lines] == [AS_TRAINED, UNDONE]


def test_all_recipes_hold_settings_that_can_be() -> None:
    book = Cookbook.read()
    for recipe in book.recipes.values():
        book.config(recipe, {"weights": "none"}, Path("photos"), 0)
