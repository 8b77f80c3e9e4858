"""The ensemble stage and the reports, on real tiny runs: fair scores, whole submissions, refusals by name."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from ensemble.combine import compose
from ensemble.voting import VOTERS
from ensemble.weights import WEIGHT_RULES
from heads.registry import JOINT, LABELS
from pipeline.competition import template
from pipeline.members import head_predictions
from pipeline.report.oof import make_report
from pipeline.report.shown import newest_complete_set
from pipeline.samples import list_digest
from pipeline.store import Store
from tests.builders import write_competition
from tests.conftest import Cli, train


def rows_of(file: Path) -> list[list[str]]:
    with file.open(newline="") as stream:
        return list(csv.reader(stream))


@pytest.fixture
def copy(artifacts: Path, tmp_path: Path) -> Path:
    """Artifacts that a test may damage."""
    return Path(shutil.copytree(artifacts, tmp_path / "artifacts"))


@pytest.mark.parametrize(
    ("strategy", "rule"), [*(("soft", rule) for rule in WEIGHT_RULES), *((strategy, "f1") for strategy in VOTERS)]
)
def test_the_submission_is_the_template_answered(
    strategy: str, rule: str, artifacts: Path, data: Path, tmp_path: Path, cli: Cli
) -> None:
    name = f"{strategy}-{rule}"
    code, out, err = cli(
        "ensemble", "--strategy", strategy, "--weights", rule, "--artifacts", artifacts, "--name", name
    )
    assert (code, err) == (0, "")
    assert "cross-fitted" in out
    header, *rows = rows_of(artifacts / "ensembles" / name / "submission.csv")
    assert header == ["ImageID", "ans"]
    assert tuple(row[0] for row in rows) == template(data)
    assert {int(row[1]) for row in rows} <= set(range(18))
    info = json.loads((artifacts / "ensembles" / name / "ensemble.json").read_text())
    assert [member["run"] for member in info["heads"]["age"]["members"]] == [
        "age",
        "age-regression",
        "joint",
        "mask+age-classes",
    ]
    for head in info["heads"].values():
        assert sum(member["weight"] for member in head["members"]) == pytest.approx(1)
    low, high = info["cross_fitted"]["interval_95"]
    assert 0 <= low < high <= 1


def test_one_run_a_head_and_one_view_is_the_product_of_the_heads(artifacts: Path, cli: Cli) -> None:
    flags = [flag for run in ("mask", "gender", "age") for flag in ("--run", run)]
    plain = ["--calibration", "none", "--joint", "product", "--prior", "none", "--decoder", "argmax"]
    assert cli("ensemble", *flags, *plain, "--views", "identity", "--artifacts", artifacts, "--name", "plain")[0] == 0
    runs = {run.name: run for run in Store(artifacts).runs()}
    heads = [head_predictions(runs[h.name], runs[h.name].info(), h, "test", ["identity"]) for h in LABELS]
    labels = [head.probs.argmax(axis=1) for head in heads]
    wanted = labels[0] * 6 + labels[1] * 3 + labels[2]
    rows = rows_of(artifacts / "ensembles" / "plain" / "submission.csv")[1:]
    assert [int(row[1]) for row in rows] == wanted.tolist()


def test_joint_oof_scores_what_is_printed(artifacts: Path, cli: Cli) -> None:
    _, out, _ = cli("ensemble", "--artifacts", artifacts, "--name", "scored", "--json")
    info = json.loads(out)
    with np.load(artifacts / "ensembles" / "scored" / "joint.oof.npz", allow_pickle=False) as kept:
        targets, labels = kept["targets"], kept["labels"]
    assert info["mix"] == "train"  # six photos to predict are too few to estimate another
    score = f1_score(targets, labels, labels=range(18), average="macro", zero_division=0)
    assert info["cross_fitted"]["macro_f1"] == pytest.approx(score)


def test_equal_commands_write_equal_bytes(artifacts: Path, cli: Cli) -> None:
    written = []
    for name in ("one", "two"):
        cli("ensemble", "--weights", "logloss", "--artifacts", artifacts, "--name", name)
        folder = artifacts / "ensembles" / name
        written.append([(file.name, file.read_bytes()) for file in sorted(folder.iterdir())])
    assert written[0] == written[1]


def refused(cli: Cli, artifacts: Path, *flags: object) -> str:
    code, _, err = cli("ensemble", "--artifacts", artifacts, "--name", "refused", *flags)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (artifacts / "ensembles" / "refused").exists()
    return err


def test_no_age_run_is_refused(artifacts: Path, cli: Cli) -> None:
    err = refused(cli, artifacts, "--run", "mask", "--run", "gender")
    assert "no run predicts 'age' (runs: mask, gender); run `pipe train-head age`" in err


def test_wrong_words_are_refused(artifacts: Path, cli: Cli) -> None:
    assert "strategy must be one of soft, hard, borda, got 'sft'" in refused(cli, artifacts, "--strategy", "sft")
    err = refused(cli, artifacts, "--weights", "best")
    assert "weights must be one of auto, uniform, f1, accuracy, logloss, greedy" in err
    assert "views must be one of identity, hflip, got 'vflip'" in refused(cli, artifacts, "--views", "identity,vflip")


def test_a_run_that_lacks_a_view_is_named(copy: Path, cli: Cli) -> None:
    (copy / "runs" / "age" / "age.oof.hflip.npz").unlink()
    err = refused(cli, copy)
    assert "run 'age' has no oof predictions of 'age' in view 'hflip'" in err


def test_a_run_with_other_folds_is_named(copy: Path, data: Path, cli: Cli) -> None:
    train(data, copy, "age", name="other-folds", fold_seed=1)
    err = refused(cli, copy)
    assert "other-folds" in err
    assert "choose runs that fit with --run" in err


def test_a_run_on_other_photos_is_named(copy: Path, tmp_path: Path, cli: Cli) -> None:
    write_competition(tmp_path / "more", people=24)
    train(tmp_path / "more", copy, "age", name="other-people")
    assert "other-people" in refused(cli, copy)


def test_a_run_that_lacks_its_eval_predictions_is_named(copy: Path, cli: Cli) -> None:
    (copy / "runs" / "age" / "age.test.hflip.npz").unlink()
    assert "run 'age' has no test predictions of 'age' in view 'hflip'" in refused(cli, copy)


def test_answers_for_part_of_the_list_are_not_written(copy: Path, data: Path, tmp_path: Path, cli: Cli) -> None:
    # the template may be gone where the vote is held; the runs still know which list they predicted
    fewer = Path(shutil.copytree(data, tmp_path / "fewer"))
    info = fewer / "eval" / "info.csv"
    info.write_text("\n".join(info.read_text().splitlines()[:4]))
    train(fewer, copy, "age", name="age-of-three")
    shutil.rmtree(fewer)
    flags = [flag for run in ("mask", "gender", "age-of-three") for flag in ("--run", run)]
    assert "runs 'mask' and 'age-of-three' predicted different eval lists" in refused(cli, copy, *flags)


def test_a_damaged_file_is_named(copy: Path, cli: Cli) -> None:
    file = copy / "runs" / "age" / "age.oof.identity.npz"
    file.write_bytes(file.read_bytes()[:200])
    assert "age.oof.identity.npz is damaged" in refused(cli, copy)


def test_an_eval_list_that_changed_is_refused(artifacts: Path, data: Path, tmp_path: Path, cli: Cli) -> None:
    changed = Path(shutil.copytree(data, tmp_path / "changed"))
    info = changed / "eval" / "info.csv"
    lines = info.read_text().splitlines()
    info.write_text("\n".join([*lines, "0123.jpg,0"]))
    assert "1 ids were not predicted, 0 are not listed, e.g. 0123.jpg" in refused(cli, artifacts, "--data", changed)
    info.write_text("\n".join([lines[0], *reversed(lines[1:])]))
    assert "in another order" in refused(cli, artifacts, "--data", changed)
    info.write_text("\n".join(lines))
    assert cli("ensemble", "--artifacts", artifacts, "--name", "asked", "--data", changed)[0] == 0


def test_the_report_agrees_with_scikit_learn(artifacts: Path, cli: Cli, tmp_path: Path) -> None:
    code, out, _ = cli("oof-report", "--json", "--csv", tmp_path / "report.csv", "--artifacts", artifacts)
    assert code == 0
    report = json.loads(out)
    assert [(head["run"], head["head"]) for head in report["heads"]][-2:] == [
        ("mask+age-classes", "mask"),
        ("mask+age-classes", "age"),
    ]
    run = Store(artifacts).run("gender")
    oof = head_predictions(run, run.info(), LABELS[1], "oof", ["identity", "hflip"])
    wanted = f1_score(oof.targets, oof.labels, average=None, labels=[0, 1])
    gender = next(head for head in report["heads"] if head["run"] == "gender")
    assert [row["f1"] for row in gender["classes"].values()] == pytest.approx(wanted)
    assert gender["macro_f1"] == pytest.approx(wanted.mean())
    header, *rows = rows_of(tmp_path / "report.csv")
    assert header[:4] == ["run", "head", "macro_f1", "class"]
    assert len(rows) == 3 + 2 + 3 + 3 + 18 + 3 + 3 + 18


def test_what_a_head_costs_is_what_its_truth_would_give(artifacts: Path) -> None:
    runs = Store(artifacts).finished(["mask", "gender", "age"])
    report = make_report(runs).joint
    assert report is not None
    heads = [
        head_predictions(run, run.info(), head, "oof", ["identity", "hflip"])
        for run, head in zip(runs, LABELS, strict=True)
    ]
    joint = compose(heads, classes=JOINT.classes)
    parts = np.stack(np.unravel_index(joint.labels, (3, 2, 3)))
    truth = np.stack(np.unravel_index(joint.targets, (3, 2, 3)))
    for index, head in enumerate(LABELS):
        mended = parts.copy()
        mended[index] = truth[index]
        labels = np.ravel_multi_index(tuple(mended), (3, 2, 3))
        wanted = f1_score(joint.targets, labels, labels=range(18), average="macro", zero_division=0)
        assert report.if_perfect[head.name] == pytest.approx(wanted)


def test_the_newest_complete_set_is_taken(artifacts: Path) -> None:
    runs = [(run, run.info()) for run in Store(artifacts).finished()]
    chosen = newest_complete_set(runs)
    assert chosen is not None
    assert {head: run.name for head, (run, _) in chosen.items()} == {
        "mask": "mask+age-classes",
        "gender": "joint",
        "age": "mask+age-classes",
    }
    assert newest_complete_set(runs[:2]) is None


def test_text_fits_a_terminal_of_80_columns(artifacts: Path, data: Path, cli: Cli) -> None:
    commands: list[list[object]] = [
        ["oof-report", "--artifacts", artifacts],
        ["runs", "--artifacts", artifacts],
        ["ensemble", "--artifacts", artifacts, "--name", "wide", "--strategy", "hard"],
    ]
    for command in commands:
        out = cli(*command)[1]
        assert [line for line in out.splitlines() if len(line) > 80 and str(artifacts) not in line] == []


def test_a_damaged_run_is_listed_as_such(copy: Path, cli: Cli) -> None:
    (copy / "runs" / "age" / "run.json").write_text('{"schema": 1')
    code, out, _ = cli("runs", "--artifacts", copy)
    assert code == 0
    assert "damaged; train it again with --fresh" in out
    assert "gender" in out


def test_runs_lists_finished_and_unfinished_ones(copy: Path, cli: Cli) -> None:
    run = copy / "runs" / "age"
    (run / "run.json").unlink()
    rows = {row["name"]: row for row in json.loads(cli("runs", "--json", "--artifacts", copy)[1])}
    assert rows["age"]["state"] == "0 of 3 folds"
    assert rows["mask"]["state"] == "finished"
    assert rows["mask"]["backbone"] == "test_resnet"
    assert rows["mask"]["seconds"] > 0
    out = cli("runs", "--artifacts", copy)[1]
    assert "age-regression" in out


def test_nothing_of_an_earlier_ensemble_stays(copy: Path, cli: Cli) -> None:
    assert cli("ensemble", "--artifacts", copy, "--name", "again")[0] == 0
    assert (copy / "ensembles" / "again" / "submission.csv").is_file()
    for file in (copy / "runs").glob("*/run.json"):  # as if trained where there is no eval set
        info = json.loads(file.read_text())
        file.write_text(json.dumps(info | {"eval": list_digest([])}))
    code, out, _ = cli("ensemble", "--artifacts", copy, "--name", "again")
    assert code == 0
    assert "no submission" in out
    assert sorted(f.name for f in (copy / "ensembles" / "again").iterdir()) == ["ensemble.json", "joint.oof.npz"]


def test_a_run_named_twice_is_refused(artifacts: Path, cli: Cli) -> None:
    assert "run 'mask' is named twice" in refused(cli, artifacts, "--run", "mask", "--run", "mask")
