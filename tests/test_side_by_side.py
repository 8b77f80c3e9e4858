"""Folds side by side: the bytes of one after another, named failures, workers that die, stop or cannot see."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import link
from pipeline.cache import cache_of
from pipeline.errors import ArtifactError, ConfigError, FoldError
from pipeline.files import file_checksum
from pipeline.interrupts import never
from pipeline.link import Command, Listener, Teller, Watch
from pipeline.ordering import fold_orders
from pipeline.orders import DONE, FAILED, STOPPED, FoldOrder, train_elsewhere, train_fold
from pipeline.plan import code_digest
from pipeline.pools import Side
from pipeline.store import Run, Store
from pipeline.train import Wanted, train_runs
from tests.conftest import TINY, Cli, planned

ROOT = Path(__file__).parent.parent


def result(folder: Path) -> dict[str, str]:
    """Checksums of everything a run predicts and knows, apart from what tells the time."""
    return {f.name: file_checksum(f) for f in sorted(folder.iterdir()) if f.suffix in (".npz", ".safetensors")}


def ordered(data: Path, root: Path, **settings: object) -> FoldOrder:
    """Fold 0 of the mask, asked for by a command whose file stands there."""
    plan, store = planned(data, "mask", **settings), Store(root)
    with cache_of(plan.config, root) as cache, ExitStack() as held:
        plan = replace(
            plan,
            photo_bytes={"train": cache.content(plan.data.samples.paths), "eval": cache.content(plan.data.test_paths)},
        )
        order = fold_orders(plan, cache, held, store.run("mask"), [0], Side(threads=1))[0][0]
    command = Command(order.run.progress)
    command.begin()
    return replace(order, token=command.token)


@pytest.mark.slow
def test_folds_and_heads_side_by_side_end_in_the_bytes_of_one_after_another(data: Path, tmp_path: Path) -> None:
    """One fold is made to fail: it is named, the others are kept, and the same command goes on."""

    def wanted(place: str) -> list[Wanted]:
        return [(planned(data, head), Store(tmp_path / place).run(head)) for head in ("mask", "gender")]

    train_runs(wanted("serial"), Store(tmp_path / "serial"), side=Side(threads=1))
    both, side = wanted("beside"), Side(jobs=2, threads=1)
    both[0][1].folder.mkdir(parents=True)
    obstacle = both[0][1].folder / "fold1.npz"
    obstacle.mkdir()  # what the fold predicts cannot be written there
    (obstacle / "file").touch()
    with pytest.raises(FoldError, match=r"1 of 6 folds failed: fold 1 of run 'mask': cannot write .*the same command"):
        train_runs(both, Store(tmp_path / "beside"), side=side)
    assert [run.whole for _, run in both] == [False, True]
    assert [both[0][1].fold_done(fold) for fold in range(3)] == [True, False, True]
    (obstacle / "file").unlink()
    obstacle.rmdir()
    train_runs(both, Store(tmp_path / "beside"), side=Side(threads=1))
    for _, run in both:
        assert result(run.folder) == result(tmp_path / "serial" / "runs" / run.name)
        assert not run.progress.exists()
    assert sorted(f.name for f in (tmp_path / "beside" / "runs").glob(".*")) == [".gender.lock", ".mask.lock"]


def test_a_fold_whose_command_asks_to_stop_keeps_a_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "LOOK", 0.0)
    monkeypatch.setattr("pipeline.store.Run.fold_done", lambda run, fold: False)
    train_fold(whole := ordered(data, tmp_path / "whole", epochs=3), lambda n, text: None, lambda n: None, never)
    order = ordered(data, tmp_path / "cut", epochs=3)
    honest = Teller.advance

    def stopped_in_the_middle(teller: Teller, n: int, text: str) -> None:
        if "epoch 2" in text:
            (order.run.progress / "command").unlink(missing_ok=True)
        honest(teller, n, text)

    with monkeypatch.context() as patch:
        patch.setattr(Teller, "advance", stopped_in_the_middle)
        assert train_elsewhere(code_digest(), pickle.dumps(order)) == (STOPPED, "")
    assert list(order.run.checkpoints.glob("*.json"))
    assert not (order.run.folder / "fold0.json").exists()
    again = ordered(data, tmp_path / "cut", epochs=3)
    assert train_elsewhere(code_digest(), pickle.dumps(again)) == (DONE, "")
    assert result(again.run.folder) == result(whole.run.folder)


def test_a_worker_that_cannot_see_the_folder_or_has_other_code_says_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "PATIENCE", 0.05)
    order = ordered(data, tmp_path)
    outcome, why = train_elsewhere("0+other", pickle.dumps(order))
    assert outcome == FAILED
    assert f"has other code ({code_digest()}, not 0+other); install the same version there" in why
    outcome, why = train_elsewhere(code_digest(), pickle.dumps(replace(order, token="of another computer")))
    assert outcome == FAILED
    assert f"does not see {order.run.progress / 'command'} of this command; the artifacts folder must be shared" in why
    for fault, said in (
        ({"photos": (tmp_path / "no.npy",)}, "no.npy on "),
        ({"weights": "x"}, "none on"),
    ):
        outcome, why = train_elsewhere(code_digest(), pickle.dumps(replace(order, **fault)))
        assert outcome == FAILED
        assert said in why


def test_a_fold_that_another_process_trains_is_refused_with_its_pid(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.orders.PATIENCE", 0.3)
    order = ordered(data, tmp_path)
    code = f"""
import pathlib, sys
from pipeline.locks import locked
with locked(pathlib.Path({str(order.run.fold_lock(0))!r}), "it"):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as held:
        assert held.stdout is not None
        held.stdout.readline()
        with pytest.raises(ArtifactError, match=f"fold 0 of run 'mask' is being trained by .*process {held.pid} on"):
            train_fold(order, lambda n, text: None, lambda n: None, never)
        held.kill()


def test_a_fold_goes_on_while_its_command_lives_and_stops_when_it_is_silent_or_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    command = Command(tmp_path / "progress")
    command.begin()
    watch = Watch(command.file, command.token, looked=now)
    watch.require()
    for beat in range(100):
        now += 4
        os.utime(command.file, (beat, beat))  # of a computer whose clock is far behind
        assert watch.stopping() is None
    now += 10_000  # this process was paused: that counts as one look
    assert watch.stopping() is None
    looks = 0
    while watch.stopping() is None:
        now += 5
        looks += 1
    assert 10 + looks * 5 == link.SILENCE
    for end in (command.stop, command.begin, lambda: command.file.write_text("another command")):
        command.begin()
        watch = Watch(command.file, command.token, looked=now)
        if end == command.begin:  # a bound method is a new object each time
            end = Command(tmp_path / "progress").begin
        now += 2
        assert watch.stopping() is None
        end()
        now += 2
        assert watch.stopping() is not None


def test_what_a_fold_tells_is_heard_once_and_half_lines_wait(tmp_path: Path) -> None:
    teller, listener = Teller(tmp_path / "fold0.jsonl", told=0.0), Listener(tmp_path / "fold0.jsonl")
    heard: list[object] = []

    def hear() -> list[object]:
        heard.clear()
        listener.hear(heard.append, lambda n: heard.append(-n), heard.append)
        return list(heard)

    assert not listener.begun
    assert hear() == []
    teller.begin()
    assert listener.begun
    teller.advance(3, "")
    teller.advance(4, "")  # within the pace: told with the next
    teller.skip(2)
    teller.say("a\nline")
    teller.flush()
    assert hear() == [3, -2, "a\nline", 4]
    assert hear() == []
    with teller.file.open("a") as stream:
        stream.write('{"done": 5')
    assert hear() == []
    with teller.file.open("a") as stream:
        stream.write("}\nno json\n[1]\n")
    assert hear() == [5]
    assert listener.seen == 3 + 2 + 4 + 5


@pytest.mark.parametrize("engine", ["", "dask", "dask=", "ray", "loky=here", "slurm=x"])
def test_an_engine_is_a_word_and_an_address(engine: str) -> None:
    with pytest.raises(ConfigError, match=r"--engine must be loky, dask=ADDRESS or ray=ADDRESS, got"):
        Side.of(1, 0, engine)
    with pytest.raises(ConfigError, match="--jobs must be from 1"):
        Side.of(0, 0, "loky")
    assert Side.of(4, 0, "loky").divided(10).threads == 2
    assert Side.of(4, 0, "loky").divided(2).threads == 1
    assert Side.of(4, 3, "loky").divided(10).threads == 3
    assert Side.of(4, 0, "dask=tcp://x:1").divided(10).threads == 0


@contextmanager
def ray_cluster() -> Iterator[str]:
    ray = [str(Path(sys.executable).parent / "ray")]
    flags = ["--head", "--port", "6397", "--num-cpus", "2", "--include-dashboard=false", "--disable-usage-stats"]
    subprocess.run([*ray, "start", *flags], check=True, capture_output=True, cwd=ROOT)
    try:
        yield "ray=127.0.0.1:6397"
    finally:
        subprocess.run([*ray, "stop"], check=True, capture_output=True)


@contextmanager
def dask_cluster() -> Iterator[str]:
    code = (
        "import sys; from distributed import LocalCluster\n"
        "if __name__ == '__main__':\n"
        "    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:\n"
        "        print(cluster.scheduler_address, flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as held:
        assert held.stdout is not None
        assert held.stdin is not None
        yield f"dask={held.stdout.readline().decode().strip()}"
        held.stdin.close()


def pipe(*arguments: object) -> subprocess.Popen[str]:
    """The command, in a process of its own."""
    code = "from pipeline.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.parametrize(("library", "cluster"), [("distributed", dask_cluster), ("ray", ray_cluster)])
def test_a_real_cluster_of_two_workers_gives_the_same_bytes(
    library: str, cluster: object, data: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_folder = Path(sys.executable).parent
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0123456789abcdef" * 4)  # as there is where Ray was once used alone
    assert any((bin_folder.parent / "lib").glob(f"python*/site-packages/{library}")), f"pip install {library}"
    flags = ["train-head", "mask", "age", "--separate", "--data", data, *TINY, "--precision", "fp32"]
    flags += ["--device", "cpu", "--threads", "1"]
    assert cli(*flags, "--artifacts", tmp_path / "serial")[0] == 0
    with cluster() as engine:  # type: ignore[operator]
        command = pipe(*flags, "--artifacts", tmp_path / "far", "--jobs", 2, "--engine", engine)
        output, _ = command.communicate(timeout=120)
    assert command.returncode == 0, output
    for head in ("mask", "age"):
        assert result(tmp_path / "far" / "runs" / head) == result(tmp_path / "serial" / "runs" / head)


@pytest.mark.slow
def test_killed_processes_mean_fewer_and_a_killed_command_leaves_none(data: Path, tmp_path: Path) -> None:
    flags = [
        "train-head",
        "mask",
        "--data",
        data,
        *TINY,
        "--precision",
        "fp32",
        "--device",
        "cpu",
        "--threads",
        "1",
        "--epochs",
        "60",
    ]
    serial = pipe(*flags, "--artifacts", tmp_path / "serial")
    output, _ = serial.communicate(timeout=120)
    assert serial.returncode == 0, output
    run = Run(tmp_path / "far" / "runs" / "mask")
    command = pipe(*flags, "--artifacts", tmp_path / "far", "--jobs", 2)
    owner = begun(run)
    os.kill(owner, signal.SIGKILL)
    output, _ = command.communicate(timeout=120)
    assert command.returncode == 0, output
    assert "ended unexpectedly (memory is what lacks most often); going on with 1 fold at once instead of 2" in output
    assert result(run.folder) == result(tmp_path / "serial" / "runs" / "mask")
    command = pipe(*flags, "--artifacts", tmp_path / "far", "--jobs", 2, "--fresh")
    owner = begun(run)
    command.kill()
    command.wait()
    assert command.stdout
    command.stdout.close()  # its processes hold the other end and live on
    again = pipe(*flags, "--artifacts", tmp_path / "far", "--jobs", 2)  # its processes still train
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert "left run 'mask' unfinished; its work is kept" in output
    assert result(run.folder) == result(tmp_path / "serial" / "runs" / "mask")


def begun(run: Run) -> int:
    """The process that trains fold 0, once it is in its first epochs."""
    import json

    lines = ""
    for _ in range(600):
        time.sleep(0.05)
        file = run.progress / "fold0.jsonl"
        lines = file.read_text() if file.is_file() else ""
        if "epoch  2" in lines:
            break
    assert "epoch  2" in lines
    return int(json.loads(run.fold_lock(0).read_text())["pid"])
