"""Real, tiny trainings: complete out-of-fold predictions, equal bytes, kept folds, other heads' equal folds."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ensemble.predictions import Predictions
from heads.registry import HEADS
from heads.task import Task
from pipeline.config import TrainConfig
from pipeline.engine import Trainer
from pipeline.errors import ArtifactError, ConfigError, Stopped
from pipeline.folds import make_folds
from pipeline.images import VIEWS, read_resized
from pipeline.layouts import load_dataset
from pipeline.network import build_network
from pipeline.plan import fold_data, make_plan
from pipeline.schedules import learning_rate
from pipeline.store import Run, Store
from tests.builders import batch_of, write_table
from tests.conftest import TINY, Cli, press_ctrl_c_in_fold_2, train


def run_files(folder: Path) -> dict[str, bytes]:
    """Everything a run predicts and knows, apart from what tells the time."""
    return {f.name: f.read_bytes() for f in sorted(folder.iterdir()) if f.suffix in (".npz", ".safetensors")}


def test_oof_holds_every_row_once_predicted_by_its_fold(artifacts: Path, data: Path) -> None:
    samples = load_dataset(data).samples
    folds = make_folds(samples, 3)
    for run in Store(artifacts).runs():
        info = run.info()
        for head in info["classes"]:
            for view in ("identity", "hflip"):
                oof = run.load_predictions(head, "oof", view)
                np.testing.assert_array_equal(oof.ids, samples.ids)
                np.testing.assert_array_equal(oof.folds, folds)
                np.testing.assert_array_equal(oof.targets, HEADS[head].labels(HEADS[head].values(samples.columns)))
                test = run.load_predictions(head, "test", view)
                assert tuple(test.ids.tolist()) == load_dataset(data).test_ids


def test_equal_settings_give_equal_bytes_whatever_the_workers(artifacts: Path, data: Path, tmp_path: Path) -> None:
    known = run_files(artifacts / "runs" / "age")
    assert len(known) == 3 + 4
    assert run_files(train(data, tmp_path, "age", workers=2)) == known


def test_another_seed_gives_other_bytes_on_the_same_folds(artifacts: Path, data: Path, tmp_path: Path) -> None:
    first, second = Run(artifacts / "runs" / "gender"), Run(train(data, tmp_path, "gender", seed=1))
    one, two = (run.load_predictions("gender", "oof", "identity") for run in (first, second))
    assert not np.allclose(one.probs, two.probs)
    np.testing.assert_array_equal(one.folds, two.folds)


def test_fold_by_fold_equals_all_at_once(artifacts: Path, data: Path, tmp_path: Path, cli: Cli) -> None:
    for fold in (2, 0, 1):
        code, out, err = cli(
            "train-head",
            "age",
            "--data",
            data,
            *TINY,
            "--fold",
            fold,
            "--artifacts",
            tmp_path,
            "--device",
            "cpu",
            "--precision",
            "fp32",
        )
        assert (code, err) == (0, "")
    assert "finished" in out
    assert run_files(tmp_path / "runs" / "age") == run_files(artifacts / "runs" / "age")


def test_no_network_learns_from_the_people_it_predicts(data: Path) -> None:
    config = TrainConfig(backbone="test_resnet", weights="none", image_size=32, folds=3)
    plan = make_plan([HEADS["age"]], config, data)
    persons = plan.data.samples.persons
    for fold in range(3):
        job = fold_data(plan, fold, np.empty((0, 32, 32, 3), np.uint8), np.empty((0, 32, 32, 3), np.uint8))
        assert not set(persons[job.train]) & set(persons[job.held_out])
        assert sorted([*job.train, *job.held_out]) == plan.labelled.tolist()


def test_eval_predictions_are_the_mean_of_the_stored_networks(artifacts: Path, data: Path) -> None:
    from safetensors.torch import load_file

    run, found = Run(artifacts / "runs" / "mask"), load_dataset(data)
    config = TrainConfig.load(None, run.info()["config"])
    photos = np.stack([read_resized(path, 32) for path in found.test_paths]).transpose(0, 3, 1, 2)
    for view, see in VIEWS.items():
        probs = []
        for fold in range(3):
            network = build_network(config, 3).eval()
            network.load_state_dict(load_file(run.folder / f"fold{fold}.safetensors"))
            with torch.inference_mode():
                probs.append(network(see(torch.from_numpy(photos.copy()))).double().softmax(dim=1).numpy())
        np.testing.assert_allclose(run.load_predictions("mask", "test", view).probs, np.mean(probs, axis=0), atol=1e-4)


def test_fresh_starts_over_and_is_refused_with_one_fold(data: Path, tmp_path: Path, cli: Cli) -> None:
    flags = ["--data", data, *TINY, "--artifacts", tmp_path, "--device", "cpu"]
    assert cli("train-head", "mask", *flags)[0] == 0
    assert "already finished" in cli("train-head", "mask", *flags)[1]
    code, _, err = cli("train-head", "mask", *flags, "--fresh", "--fold", "0")
    assert code == 2
    assert "use it without --fold" in err
    assert "fold 2 of 3 done" in cli("train-head", "mask", *flags, "--seed", "5", "--fresh")[1]
    assert Run(tmp_path / "runs" / "mask").info()["config"]["seed"] == 5


@pytest.mark.slow
def test_folds_of_other_settings_are_not_joined(data: Path, tmp_path: Path, cli: Cli) -> None:
    flags = ["train-head", "mask", "--data", data, *TINY, "--artifacts", tmp_path]
    assert cli(*flags, "--fold", "0")[0] == 0
    assert cli(*flags, "--fold", "1")[0] == 0
    file = tmp_path / "runs" / "mask" / "fold1.json"
    fact = json.loads(file.read_text())
    file.write_text(json.dumps(fact | {"settings": "0123"}))
    code, _, err = cli(*flags)
    assert code == 2
    assert "fold 1 of run 'mask' was trained with other settings" in err
    assert not (tmp_path / "runs" / "mask" / "run.json").exists()


@pytest.mark.slow
def test_bf16_trains_and_gives_outputs_in_full_precision(data: Path, tmp_path: Path) -> None:
    probs = Run(train(data, tmp_path, "mask", precision="bf16")).load_predictions("mask", "oof", "identity").probs
    logits = np.log(probs[:, 0] / probs[:, 1]).astype(np.float32)
    assert (torch.from_numpy(logits).bfloat16().float().numpy() != logits).mean() > 0.5


def test_a_backbone_that_does_not_take_the_size_is_one_line(data: Path, tmp_path: Path, cli: Cli) -> None:
    flags = ["--data", data, *TINY, "--backbone", "vit_tiny_patch16_224", "--artifacts", tmp_path / "a"]
    code, _, err = cli("train-head", "mask", *flags)
    assert code == 2
    assert "vit_tiny_patch16_224 does not take photos of 32 px" in err
    assert not (tmp_path / "a").exists()


def test_stored_weights_predict_the_stored_oof(artifacts: Path, data: Path) -> None:
    from safetensors.torch import load_file

    run = Run(artifacts / "runs" / "mask")
    config = TrainConfig.load(None, run.info()["config"])
    oof, samples = run.load_predictions("mask", "oof", "identity"), load_dataset(data).samples
    for fold in range(3):
        network = build_network(config, 3)
        network.load_state_dict(load_file(run.folder / f"fold{fold}.safetensors"))
        network.eval()
        rows = np.flatnonzero(oof.folds == fold)[:5]
        photos = np.stack([read_resized(samples.paths[row], 32) for row in rows]).transpose(0, 3, 1, 2)
        with torch.inference_mode():
            probs = network(torch.from_numpy(photos.copy())).double().softmax(dim=1).numpy()
        np.testing.assert_allclose(probs, oof.probs[rows], atol=1e-4)


def test_ctrl_c_in_a_later_fold_keeps_the_finished_ones(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.fold import FoldJob

    honest = FoldJob.run
    press_ctrl_c_in_fold_2(monkeypatch)
    with pytest.raises(Stopped, match="2 of 3 folds are kept"):
        train(data, tmp_path, "mask")
    run = Store(tmp_path).run("mask")
    assert not run.whole
    assert [run.fold_done(fold) for fold in range(3)] == [True, True, False]
    monkeypatch.undo()
    trained = []

    def noted(job: FoldJob) -> object:
        trained.append(job.data.fold)
        return honest(job)

    monkeypatch.setattr(FoldJob, "run", noted)
    train(data, tmp_path, "mask")
    assert trained == [2]
    assert run.whole
    assert not list(run.folder.glob("fold*.npz"))


def test_other_settings_under_one_name_are_refused_and_fresh_starts_over(
    artifacts: Path, data: Path, tmp_path: Path
) -> None:
    train(data, tmp_path, "mask", name="r")
    with pytest.raises(ArtifactError, match="epochs was 1, is 2"):
        train(data, tmp_path, "mask", name="r", epochs=2)
    with pytest.raises(ArtifactError, match="heads"):
        train(data, tmp_path, "gender", name="r")
    train(data, tmp_path, "mask", name="r", note="a note may differ", workers=1)


def test_history_has_a_row_an_epoch(data: Path, tmp_path: Path) -> None:
    from pipeline.tables import read_table

    history = read_table(train(data, tmp_path, "mask", "age", epochs=2) / "history.csv")
    assert list(zip(history["fold"], history["epoch"], strict=True)) == [
        (str(f), str(e)) for f in range(3) for e in (1, 2)
    ]
    for name in (
        "train_loss",
        "lr",
        "mask_val_loss",
        "mask_accuracy",
        "mask_macro_f1",
        "mask_f1_incorrect",
        "age_f1_old",
    ):
        assert all(float(value) >= 0 for value in history[name])


def test_a_head_trains_on_the_rows_that_have_its_label(tmp_path: Path) -> None:
    write_table(tmp_path / "table")
    samples = load_dataset(tmp_path / "table").samples
    run = Run(train(tmp_path / "table", tmp_path, "gender", "age", folds=2))
    gender, age = (run.load_predictions(head, "oof", "identity") for head in ("gender", "age"))
    np.testing.assert_array_equal(gender.ids, samples.ids)
    np.testing.assert_array_equal(age.ids, samples.ids[samples.columns["age"] != ""])
    assert not list(run.folder.glob("*.test.*"))


def test_a_network_learns_what_can_be_learnt() -> None:
    # bright photos are 'female': a few steps must find that out
    torch.manual_seed(0)
    config = TrainConfig(backbone="test_resnet", weights="none", lr=5e-3)
    task = Task.of(HEADS["gender"])
    network = build_network(config, task.n_outputs)
    values = torch.arange(64).remainder(2).float()[:, None]
    pixels = (torch.rand(64, 3, 32, 32) * 60 + values[:, :, None, None] * 120).to(torch.uint8)
    trainer = Trainer.of(network, task, config, torch.device("cpu"), 20, 64)
    network.train()
    losses = [trainer.step(step, batch_of(pixels, values)) / 64 for step in range(20)]
    assert losses[-1] < 0.2 < losses[0]


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    config = TrainConfig(lr=1.0, warmup=0.1)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[:10] == pytest.approx(np.linspace(0.1, 1, 10))
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))
    assert rates[-1] < 0.001


def test_a_loss_that_is_no_number_stops_with_advice(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use a lower --lr than 1e\\+30"):
        train(data, tmp_path, "mask", lr=1e30, epochs=3)
    assert not list((tmp_path / "runs" / "mask").glob("fold*"))


def test_dry_run_writes_nothing(data: Path, tmp_path: Path, cli: Cli) -> None:
    code, out, _ = cli("train-head", "mask", "age", "--data", data, *TINY, "--dry-run", "--artifacts", tmp_path / "a")
    assert code == 0
    assert "dry run passed: 32 photos trained" in out
    assert not (tmp_path / "a").exists()


def test_run_json_tells_everything(artifacts: Path) -> None:
    info = json.loads((artifacts / "runs" / "age-regression" / "run.json").read_text())
    assert info["heads"] == {"age": "regression"}
    assert info["config"]["seed"] == 1
    assert info["config"]["image_size"] == 32
    assert info["people"] == 18
    assert info["scores"]["age"]["mean_absolute_error"] > 0
    assert {
        "data",
        "folds",
        "code",
        "files",
        "resumed",
        "micro_batch",
        "libraries",
        "device",
        "seconds",
        "peak_memory",
    } <= info.keys()


def test_predictions_survive_the_store(tmp_path: Path) -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    kept = Predictions(np.array(list("abcde")), ("x", "y", "z"), probs, np.arange(5), np.array([0, 1, 2, -1, 0]))
    Run(tmp_path).save_predictions("age", "oof", "identity", kept)
    read = Run(tmp_path).load_predictions("age", "oof", "identity")
    assert read.classes == kept.classes
    for name in ("ids", "probs", "folds", "targets"):
        np.testing.assert_array_equal(getattr(read, name), getattr(kept, name))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_line_runs_on_cuda(data: Path, tmp_path: Path) -> None:
    run = Run(train(data, tmp_path, "mask", device="cuda", workers=2))
    assert run.info()["device"] == ["cuda"]
    assert len(run.load_predictions("mask", "oof", "hflip").ids) == 126


def test_a_damaged_cache_of_photos_is_read_again_and_leftovers_are_swept(
    data: Path, tmp_path: Path, artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(data, tmp_path, "mask")
    caches = sorted((tmp_path / "cache").glob("*.npy"))
    for file in caches:
        file.write_bytes(file.read_bytes()[:40])
        (file.parent / f".{file.name}.left").write_bytes(b"x")
    train(data, tmp_path, "mask", name="again")
    told = "is damaged: its checksum differs; the photos are read again"
    assert capsys.readouterr().out.count(told) == len(caches) == 2
    assert not list((tmp_path / "cache").glob("*.left"))
    assert run_files(tmp_path / "runs" / "again") == run_files(artifacts / "runs" / "mask")


def test_a_run_that_saw_another_mix_tells_the_score_that_reports_and_votes_see(data: Path, tmp_path: Path) -> None:
    from pipeline.report.oof import make_report
    from pipeline.store import Run, Store
    from pipeline.verify import verify_runs

    run = Run(train(data, tmp_path, "mask", sampler="balanced", epochs=2))
    mix = run.info()["mix"]["mask"]
    assert not np.allclose(mix["trained"], mix["photos"])
    (head,) = make_report([run]).heads
    assert run.info()["scores"]["mask"]["macro_f1"] == pytest.approx(head.macro_f1)
    assert verify_runs(Store(tmp_path), ["mask"], data).ok
