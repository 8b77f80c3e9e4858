"""What Weights & Biases and MLflow themselves read back of a run, and that nothing is sent where nobody logged in."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pipeline.pools import Side
from pipeline.store import Run, Store
from pipeline.tracking.beside import tell_again
from pipeline.tracking.events import WHOLE
from pipeline.train import train_runs
from tests.conftest import TINY, planned
from tests.test_track import events_of, scalars

pytestmark = pytest.mark.slow  # importing either takes seconds
ROOT = Path(__file__).parent.parent
BLOCK = 32 * 2**10  # of a .wandb file, whose form is that of LevelDB's log behind seven bytes
HEADER = struct.Struct("<IHB")  # checksum, length, kind: 1 = whole, 2 = first, 3 = middle, 4 = last
LIMIT = 300  # seconds


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[socket.socket]:
    """What every connection to the outside would go through; nobody is logged in."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, address)
        monkeypatch.setenv("NETRC", str(tmp_path / "none"))
        for name in ("WANDB_MODE", "WANDB_API_KEY", "MLFLOW_TRACKING_URI", "NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield listening


def records(file: Path) -> Iterator[Any]:
    """The records of a .wandb file."""
    proto: Any = import_module("wandb.proto.wandb_internal_pb2")
    content, at, whole = file.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while at + HEADER.size <= len(content):
        if BLOCK - at % BLOCK < HEADER.size:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = HEADER.unpack_from(content, at)
        at += HEADER.size
        whole += content[at : at + length]
        at += length
        if kind in (1, 4):
            record = proto.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def name_of(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def test_wandb_has_a_group_of_runs_on_disk_and_sends_nothing(
    data: Path, tmp_path: Path, proxy: socket.socket, capfd: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    train_runs([(planned(data, "mask", epochs=2), store.run("mask"))], store, track=["wandb"])
    capfd.readouterr()
    for _ in range(2):  # told again, it stands there once
        tell_again(["wandb"], [store.run("mask")])
    out, err = capfd.readouterr()
    assert err == ""
    assert all(line.startswith("wandb: kept offline; after `wandb login`: wandb sync ") for line in out.splitlines())
    with pytest.raises(TimeoutError):
        proxy.accept()
    found = sorted((tmp_path / "tracking" / "wandb").glob("wandb/offline-run-*/*.wandb"))
    told = {file.stem.split("-", 2)[2]: list(records(file)) for file in found}
    assert told.keys() == {"fold0", "fold1", "fold2", WHOLE}
    assert len(found) == 4
    for series, lines in told.items():
        (run,) = [line.run for line in lines if line.HasField("run")]
        assert (run.run_group, run.display_name, run.project) == ("mask", f"mask {series}", "headfold")
        assert "backbone" in {name_of(item) for item in run.config.update}
        history = [{name_of(item): item.value_json for item in line.history.item} for line in lines]
        history = [row for row in history if row]
        if series == WHOLE:
            score = store.run("mask").info()["scores"]["mask"]["macro_f1"]
            assert float(history[0]["mask/oof_macro_f1"]) == pytest.approx(score)
        else:
            assert [float(row["_step"]) for row in history] == [1, 2]
            assert all("mask/val_loss_wear" in row for row in history)
            assert "true " in history[1]["mask/mistakes/captions"]
            assert history[1]["mask/confusion/count"] == "1"


def test_mlflow_has_a_run_with_settings_and_scores_and_one_below_it_for_each_fold(
    data: Path, tmp_path: Path, proxy: socket.socket, capfd: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    train_runs([(planned(data, "mask", epochs=2), store.run("mask"))], store)  # without any tracker
    for _ in range(2):
        tell_again_after_all(store.run("mask"))
    assert capfd.readouterr().err == ""
    with pytest.raises(TimeoutError):
        proxy.accept()
    database = tmp_path / "tracking" / "mlflow" / "mlflow.db"
    code = f"""
import json
from mlflow.tracking import MlflowClient
client = MlflowClient(tracking_uri="sqlite:///{database}")
experiment = client.get_experiment_by_name("headfold").experiment_id
found = {{}}
for run in client.search_runs([experiment]):
    history = {{name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
               for name in run.data.metrics}}
    files = [f.path for f in client.list_artifacts(run.info.run_id, "mask")]
    files += [f.path for f in client.list_artifacts(run.info.run_id, "mask/mistakes")]
    assert run.info.run_name not in found, run.info.run_name
    found[run.info.run_name] = [run.info.run_id, run.info.status, run.data.params, history, files,
                                run.data.tags.get("mlflow.parentRunId")]
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.keys() == {"mask", "mask fold0", "mask fold1", "mask fold2"}
    parent, status, params, history, files, above = found["mask"]
    score = store.run("mask").info()["scores"]["mask"]["macro_f1"]
    assert (status, above, params["backbone"], params["epochs"]) == ("FINISHED", None, "test_resnet", "2")
    assert history["mask/oof_macro_f1"] == [[0, pytest.approx(score)]]
    assert files == ["mask/confusion.png"]
    for fold in range(3):
        _, status, _, history, files, above = found[f"mask fold{fold}"]
        assert (status, above) == ("FINISHED", parent)
        assert [step for step, _ in history["mask/accuracy_wear"]] == [1, 2]
        assert any(name.startswith("mask/mistakes/01 true ") for name in files)


def tell_again_after_all(run: Run) -> None:
    """What ``pipe track`` does, without looking for photos."""
    from pipeline.layouts import load_dataset
    from pipeline.tracking.gathered import tell_rest

    samples = load_dataset(Path(run.info()["data_root"])).samples
    tell_rest(run, dict(zip(samples.ids.tolist(), samples.paths, strict=True)))
    tell_again(["mlflow"], [run])


def test_a_file_of_mlflow_that_is_being_made_by_a_killed_process_harms_nobody(
    tmp_path: Path, proxy: socket.socket
) -> None:
    folder = tmp_path / "mlflow"
    code = f"""
from pathlib import Path
from pipeline.tracking.to_mlflow import tracker
tracker("mask", "key", Path({str(tmp_path)!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    for _ in range(LIMIT * 20):
        if [*folder.glob("*/made.db")]:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not (folder / "mlflow.db").exists()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    assert (folder / "mlflow.db").exists()


def test_folds_side_by_side_tell_what_one_after_another_do(data: Path, tmp_path: Path) -> None:
    for place, side in (("one", Side(threads=1)), ("two", Side(jobs=2, threads=1))):
        store = Store(tmp_path / place)
        wanted = [(planned(data, head, epochs=2), store.run(head)) for head in ("mask", "gender")]
        train_runs(wanted, store, side=side, track=["tensorboard"])
        tell_again(["tensorboard"], [run for _, run in wanted])
    for head in ("mask", "gender"):
        one, two = (events_of(Store(tmp_path / place).run(head)) for place in ("one", "two"))
        assert one.keys() == two.keys()
        for fold in range(3):
            one_, two_ = (
                scalars(tmp_path / place / "tracking" / "tensorboard" / head / f"fold{fold}")
                for place in ("one", "two")
            )
            timed = {"seconds", "images_per_second"}
            assert {n: c for n, c in one_.items() if n not in timed} == {
                n: c for n, c in two_.items() if n not in timed
            }


def test_ctrl_c_to_the_whole_terminal_lets_trackers_write_what_there_is(data: Path, tmp_path: Path) -> None:
    words = ["train-head", "mask", "--data", data, *TINY, "--epochs", "300", "--precision", "fp32", "--device", "cpu"]
    command = [sys.executable, "-m", "pipeline", *map(str, words), "--artifacts", str(tmp_path)]
    process = subprocess.Popen(
        [*command, "--track", "tensorboard"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "epoch  3" in line:
            os.killpg(process.pid, signal.SIGINT)
            break
    rest, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert "same command goes on" in rest
    assert "tensorboard: " in rest
    curve = scalars(tmp_path / "tracking" / "tensorboard" / "mask" / "fold0")["train_loss"]
    assert [step for step, _ in curve][:3] == [1, 2, 3]
