"""Trackers beside a training: told what there is, and whatever they do, the training neither waits nor changes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heads.registry import HEADS
from heads.task import Task
from pipeline.engine import head_scores
from pipeline.errors import ConfigError, PipelineError
from pipeline.store import Run, Store
from pipeline.tracking import beside, trackers
from pipeline.tracking.beside import Beside, Follower, tell_again
from pipeline.tracking.events import WHOLE, Event, Reader, begin, begun, forget, key_of, numbers, row_teller, tell
from pipeline.tracking.gathered import tell_rest
from pipeline.tracking.pictures import confusion_picture
from pipeline.tracking.trackers import chosen
from pipeline.train import train_runs
from tests.conftest import TINY, Cli, planned
from tests.killing import predictions_and_weights

ROOT = Path(__file__).parent.parent
CLOSING = """
import time
class Settings:
    def __init__(self, **settings): pass
class Run:
    def log(self, *values, **step): pass
    def finish(self): time.sleep(1000)
def init(**settings): return Run()
def Image(*words, **more): pass
"""
BROKEN = {  # what importing a tracker's library does -> what is said of it
    "raise RuntimeError('broken\\n\\x1b[31mred')": "RuntimeError: broken",
    "import sys; print('rubbish'); sys.exit(3)": "SystemExit: 3",
    "import os; os._exit(7)": "ended unexpectedly (code 7)",
    "import time; time.sleep(1000)": "did not keep up",
    CLOSING: "did not keep up",
}


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a library of this name and source before the real one, for processes that are started."""
    folder = tmp_path / "libraries"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)

    def put(name: str, source: str) -> None:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(source)

    return put


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of which a little was told."""
    found = Store(tmp_path / "a").run("mask")
    begin(found, {"lr": 0.1, "views": ["identity"]})
    tell(found, numbers("fold0", 1, {"train_loss": 1.0}))
    return found


def tracked(data: Path, root: Path, *names: str, **settings: object) -> Run:
    """Train the mask, and tell these trackers."""
    store = Store(root)
    train_runs([(planned(data, "mask", **settings), store.run("mask"))], store, track=names)
    return store.run("mask")


def events_of(run: Run) -> dict[str, Event]:
    """All that was told, by key."""
    return {key_of(event): event for event in Reader(run.tracking).new()}


@pytest.mark.parametrize(("source", "said"), BROKEN.items(), ids=["raises", "leaves", "dies", "hangs", "hangs at end"])
def test_a_tracker_that_breaks_is_named_with_its_log_and_the_way_to_tell_it_again(
    source: str, said: str, run: Run, library: Callable[[str, str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    library("wandb", source)
    follower = Follower.start("wandb", [run], "on")
    follower.let_go()
    (line,) = Beside([follower]).end(120.0 if "keep up" not in said else 2.0)
    assert line == f"wandb: {said}; its log is {follower.log}, and `pipe track mask --to wandb` tells it all"
    assert follower.process.returncode is not None
    assert capfd.readouterr() == ("", "")
    if "rubbish" in source:
        assert follower.log.read_text().startswith("rubbish\n")


def test_three_broken_trackers_change_no_byte_of_a_training(
    data: Path,
    artifacts: Path,
    tmp_path: Path,
    library: Callable[[str, str], None],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(beside, "PATIENCE", 2.0)
    sources = [*BROKEN]
    library("tensorboard", sources[0])
    library("mlflow", sources[1])
    library("wandb", CLOSING)
    run = tracked(data, tmp_path, "tensorboard", "wandb", "mlflow")
    assert predictions_and_weights(run.folder) == predictions_and_weights(artifacts / "runs" / "mask")
    assert {f.name for f in run.folder.iterdir()} == {f.name for f in (artifacts / "runs" / "mask").iterdir()}
    assert run.settings() == Run(artifacts / "runs" / "mask").settings()
    told = re.findall(r"^(tensorboard|wandb|mlflow): (.*); its log is ", capfd.readouterr().out, re.MULTILINE)
    why = dict(told)
    assert sorted(why) == ["mlflow", "tensorboard", "wandb"]
    late = "did not keep up"  # on a busy machine also of those that have not come to their own end yet
    assert why["wandb"] == late
    assert why["mlflow"] in ("SystemExit: 3", late)
    assert why["tensorboard"] in ("RuntimeError: broken", late)


def test_a_process_whose_command_was_killed_ends_even_if_its_tracker_hangs(
    run: Run, library: Callable[[str, str], None]
) -> None:
    library("wandb", "import time; time.sleep(1000)")
    code = "import pipeline.tracking.follow as follow; follow.ALONE = 0.5; follow.main()"
    follower = subprocess.Popen(
        [sys.executable, "-c", code, "wandb", "on", str(run.tracking)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    _, log = follower.communicate(timeout=60)  # closes its standard input, as the end of the command does
    assert follower.returncode == 1
    assert b"time.sleep" in log or b"Timeout" in log


def test_a_tracker_of_a_killed_command_is_told_what_is_left(run: Run, tmp_path: Path) -> None:
    """SIGKILL ends the command; the process beside it reads on, writes, and ends."""
    code = f"""
import os, signal
from pathlib import Path
from pipeline.store import Run
from pipeline.tracking.beside import Follower
from pipeline.tracking.events import numbers, tell
run = Run(Path({str(run.folder)!r}))
print(Follower.start("tensorboard", [run], "on").process.pid, flush=True)
tell(run, numbers("fold1", 1, {{"train_loss": 2.0}}))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    process = Path(f"/proc/{int(done.stdout)}")
    for _ in range(600):
        if not process.exists():
            break
        time.sleep(0.1)
    assert not process.exists()
    assert scalars(tmp_path / "a" / "tracking" / "tensorboard" / "mask" / "fold1") == {"train_loss": [(1, 2.0)]}


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Name -> (step, value), as TensorBoard's own reader sees them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: Any = EventAccumulator(str(folder))
    found.Reload()
    return {name: [(s.step, s.value) for s in found.Scalars(name)] for name in found.Tags()["scalars"]}


def test_tensorboard_has_curves_confusions_mistakes_settings_and_scores(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tracked(data, tmp_path, "tensorboard", epochs=2)
    tell_again(["tensorboard"], [run])  # a training this short may not leave it the time
    folder = tmp_path / "tracking" / "tensorboard" / "mask"
    assert f"tensorboard: tensorboard --logdir {folder.parent}\n" in capfd.readouterr().out
    classes = HEADS["mask"].classes
    each = ("val_loss", "accuracy", "macro_f1", *(f"{w}_{c}" for w in ("f1", "val_loss", "accuracy") for c in classes))
    for fold in range(3):
        curves = scalars(folder / f"fold{fold}")
        assert curves.keys() == {"lr", "train_loss", "seconds", "images_per_second"} | {f"mask/{n}" for n in each}
        assert all([step for step, _ in curve] == [1, 2] for curve in curves.values())
        reader: Any = EventAccumulator(str(folder / f"fold{fold}"))
        reader.Reload()
        tags = reader.Tags()["images"]
        oof = run.load_predictions("mask", "oof", "identity")
        assert "mask/confusion" in tags
        assert 0 < len(tags) - 1 <= min(16, (oof.folds == fold).sum())
        about = reader.SummaryMetadata(tags[-1]).display_name
        true, taken, photo = re.fullmatch(r"true (\w+), taken for (\w+) 0\.\d\d, (.*)", about).groups()  # type: ignore[union-attr]
        (row,) = np.flatnonzero(oof.ids == photo)
        assert (classes[oof.targets[row]], oof.folds[row]) == (true, fold)
        assert taken != true
    whole: Any = EventAccumulator(str(folder / WHOLE))
    whole.Reload()
    ((_, score),) = scalars(folder / WHOLE)["mask/oof_macro_f1"]
    assert score == pytest.approx(run.info()["scores"]["mask"]["macro_f1"])
    assert [*whole.PluginTagToContent("hparams")] == ["_hparams_/session_start_info"]
    assert b"backbone" in whole.PluginTagToContent("hparams")["_hparams_/session_start_info"]


def test_what_is_told_while_training_is_what_the_finished_run_tells(
    data: Path, tmp_path: Path, library: Callable[[str, str], None]
) -> None:
    library("wandb", "raise RuntimeError")
    run = tracked(data, tmp_path, "wandb", epochs=2)
    live = events_of(run)
    assert Counter(event["kind"] for event in live.values()) == {"settings": 1, "numbers": 3 * 2 + 1, "answers": 3 + 1}
    forget(run)
    tell_rest(run, {})
    later = events_of(run)
    assert later.keys() == live.keys()
    for key, event in live.items():
        if event["kind"] == "numbers":
            assert later[key]["values"] == pytest.approx(event["values"], rel=1e-5)
        elif event["kind"] == "answers":
            assert later[key]["heads"]["mask"]["confusion"] == event["heads"]["mask"]["confusion"]
    tell_rest(run, {})
    told = [
        key_of(json.loads(line)) for f in run.tracking.glob("*.jsonl") for line in f.read_text().split("\n") if line
    ]
    assert sorted(told) == sorted(live), "nothing is told twice"


def test_an_interrupted_run_tells_every_epoch_once_and_a_fresh_one_starts_anew(
    data: Path, tmp_path: Path, library: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.errors import Stopped
    from tests.conftest import press_ctrl_c_in_fold_2

    library("wandb", "raise RuntimeError")
    with monkeypatch.context() as patch:
        press_ctrl_c_in_fold_2(patch)
        with pytest.raises(Stopped):
            tracked(data, tmp_path, "wandb")
    run = tracked(data, tmp_path, "wandb")
    first = events_of(run)
    assert [key for key in first if key.startswith("fold")] == [
        f"fold{fold} {kind} 1" for fold in range(3) for kind in ("numbers", "answers")
    ]
    store = Store(tmp_path)
    train_runs([(planned(data, "mask"), run)], store, fresh=True)
    assert not begun(run)
    train_runs([(planned(data, "mask"), run)], store, track=["wandb"])
    assert events_of(run)[f"{WHOLE} settings 0"]["key"] != first[f"{WHOLE} settings 0"]["key"]


def test_lines_that_were_half_written_or_told_twice_are_read_once(run: Run) -> None:
    file = run.tracking / "fold0.jsonl"
    with file.open("a") as stream:
        stream.write('{"series": "fold0", "kind": "numb')
    tell(run, numbers("fold0", 3, {"train_loss": 3.0}))
    tell(run, numbers("fold0", 2, {"train_loss": 2.0}))
    tell(run, numbers("fold0", 1, {"train_loss": 9.0}))
    reader = Reader(run.tracking)
    assert [event["step"] for event in reader.new()] == [0, 1, 2, 3]
    with file.open("a") as stream:
        stream.write(line := json.dumps(numbers("fold0", 4, {})))
    assert [*reader.new()] == [], "the line has no end yet"
    with file.open("a") as stream:
        stream.write("\n[1]\nnull\n{}\n")
    assert [*reader.new()] == [json.loads(line)]


def test_a_disk_that_refuses_is_told_once_and_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Store(tmp_path).run("mask")
    begin(run, {})
    teller = row_teller(run, ("mask",), "fold0")
    (run.tracking / "fold0.jsonl").mkdir()
    for epoch in (1, 2):
        teller({"fold": 0.0, "epoch": epoch, "train_loss": 1.0})
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("trackers are told nothing more of fold0 of run 'mask': cannot write ")
    row_teller(Store(tmp_path).run("other"), ("mask",), "fold0")({"fold": 0.0, "epoch": 1.0})
    assert not Store(tmp_path).run("other").tracking.exists(), "nobody asked for trackers"


def test_trackers_that_do_not_exist_or_are_not_installed_are_refused_before_anything_is_done(
    cli: Cli, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    words = ["train-head", "mask", "--data", data, "--artifacts", tmp_path / "a", *TINY, "--track"]
    for given, said in (
        ("nonsense", "--track knows no tracker 'nonsense'; trackers are: tensorboard, wandb, mlflow"),
        ("tensorbord", "--track knows no tracker 'tensorbord'; did you mean 'tensorboard'?"),
        ("wandb", "--track wandb needs its library; pip install wandb"),
        ("mlflow", "--track mlflow needs its library; pip install mlflow-skinny sqlalchemy alembic"),
    ):
        assert cli(*words, given) == (2, "", f"error: {said}\n")
    assert not (tmp_path / "a").exists()


def test_a_folder_that_is_called_like_a_library_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nothing_else").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(trackers, "TRACKERS", ("nothing_else",))
    with pytest.raises(ConfigError, match="nothing_else needs its library"):
        chosen("nothing_else")


def test_a_run_that_is_not_there_cannot_be_told(cli: Cli, tmp_path: Path) -> None:
    code, _, err = cli("track", "mask", "--to", "tensorboard", "--artifacts", tmp_path)
    assert (code, err) == (2, f"error: run 'mask' does not exist in {tmp_path}; `pipe runs` lists them\n")


def test_a_tracker_that_fails_fails_the_command_that_is_for_it(run: Run, library: Callable[[str, str], None]) -> None:
    library("wandb", "raise RuntimeError('broken')")
    with pytest.raises(PipelineError, match="wandb: RuntimeError: broken; its log is"):
        tell_again(["wandb"], [run])


def test_losses_and_accuracies_of_classes_add_up_to_those_of_the_head() -> None:
    head = HEADS["age"]
    outputs, values = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)), np.arange(60.0)[:, None] + 20
    values[::7] = np.nan
    ((_, scores),) = head_scores(Task.of(head), outputs, values)
    targets = head.labels(values[:, 0])
    counts = np.bincount(targets[targets >= 0], minlength=3)
    for name in ("val_loss", "accuracy"):
        of_classes = [scores[f"{name}_{c}"] for c in head.classes]
        assert np.average(of_classes, weights=counts) == pytest.approx(scores[name], rel=1e-5)
    values[values >= 60] = np.nan
    ((_, scores),) = head_scores(Task.of(head), outputs, values)
    assert "val_loss_old" not in scores, "nobody is old"


def test_the_confusion_is_a_picture_of_the_size_that_it_tells() -> None:
    from io import BytesIO

    from PIL import Image

    for classes in (2, 18):
        picture = confusion_picture(np.eye(classes, dtype=int).tolist(), [f"c{n}" for n in range(classes)], "head")
        assert Image.open(BytesIO(picture.content)).size == (picture.width, picture.height)
