"""Killed trainings end in the bytes of undisturbed ones: at any moment, inside writes, on full disks."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.store import Run
from tests.builders import write_competition
from tests.conftest import Cli
from tests.killing import End, Nursery, predictions_and_weights

CHECKPOINT_EVERY = 2


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """Where trainings are forked."""
    made = Nursery()
    yield made
    made.close()


class Line:
    """One training that may be repeated: dropout, two folds of two epochs, a checkpoint every second step."""

    def __init__(self, root: Path, nursery: Nursery) -> None:
        """Draw people, cache their photos and train once without disturbance."""
        self.root, self.nursery = root, nursery
        write_competition(root / "data", people=12, eval_photos=4)
        (root / "settings.toml").write_text(
            "backbone_args = { drop_rate = 0.3 }\nbatch_size = 16\nfolds = 2\nepochs = 2\nprecision = 'fp32'\n"
        )
        self.flags = ["mask", "--data", root / "data", "--config", root / "settings.toml", "--backbone", "test_resnet"]
        self.flags += ["--weights", "none", "--image-size", "32", "--device", "cpu"]
        self.flags += ["--threads", "1"]  # in this process and in forked ones: other threads give other bytes
        self.undisturbed = self.train("undisturbed")
        self.bytes = self.result("undisturbed")
        self.seconds = self.train("again").seconds  # with cached photos, as all that follow

    def train(self, name: str, *flags: object, **how: float | str) -> End:
        """Train into ``name``; photos are cached already but for the first time."""
        artifacts = self.root / name
        if not artifacts.exists() and name != "undisturbed":
            shutil.copytree(self.root / "undisturbed" / "cache", artifacts / "cache")
        every = ["--checkpoint-every", CHECKPOINT_EVERY, "--artifacts", artifacts]
        return self.nursery.train([*self.flags, *every, *flags], self.root / f"{name}.log", **how)

    def run(self, name: str) -> Run:
        """The run in ``name``."""
        return Run(self.root / name / "runs" / "mask")

    def result(self, name: str) -> dict[str, bytes]:
        """What may not depend on interruptions."""
        return predictions_and_weights(self.run(name).folder)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Line:
    """The training, once done without disturbance."""
    made = Line(tmp_path_factory.mktemp("crash"), nursery)
    assert made.undisturbed.code == 0, made.undisturbed.output
    assert len(made.bytes) == 2 + 2 * 2
    return made


def leftovers(line: Line, name: str) -> list[str]:
    """What a finished run should have swept up, by name."""
    found = [*line.run(name).folder.parent.glob(".*"), *line.run(name).folder.glob(".*"), line.run(name).checkpoints]
    return [file.name for file in found if file.exists() and file.name != ".mask.lock"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2, 4])
def test_a_run_killed_at_random_moments_ends_in_the_same_bytes(line: Line, workers: int) -> None:
    rng, name = random.Random(workers), f"random{workers}"
    ends = [line.train(name, "--workers", workers, at=60)]  # one kill at least, whatever the load does to the others
    assert ends[0].code == -signal.SIGKILL
    ends += [line.train(name, "--workers", workers, after=rng.uniform(0.3, 0.9) * line.seconds) for _ in range(3)]
    assert {end.code for end in ends} <= {0, -signal.SIGKILL}, ends
    end = line.train(name, "--workers", workers)
    assert end.code == 0, end.output
    assert line.result(name) == line.bytes
    assert leftovers(line, name) == []


def test_a_run_killed_inside_writes_ends_in_the_same_bytes(line: Line) -> None:
    steps = int(re.findall(r"steps of writing: (\d+)", line.undisturbed.output)[0])
    rng, kills = random.Random(0), 0
    while (end := line.train("torn", at=rng.randint(2, steps // 3))).code:
        assert end.code == -signal.SIGKILL, end.output
        kills += 1
        if kills == 12:
            assert line.train("torn").code == 0
            break
    assert kills >= 3
    assert line.result("torn") == line.bytes
    assert leftovers(line, "torn") == []


@pytest.mark.slow
def test_a_random_state_that_is_not_restored_changes_the_bytes(line: Line) -> None:
    assert line.train("forgetful", at=40).code == -signal.SIGKILL
    assert list(line.run("forgetful").checkpoints.glob("*.json"))
    shutil.copytree(line.root / "forgetful", line.root / "remembering")
    assert line.train("forgetful", forget="cpu").code == 0
    assert line.train("remembering").code == 0
    assert line.result("remembering") == line.bytes
    assert line.result("forgetful").keys() == line.bytes.keys()
    assert line.result("forgetful") != line.bytes


@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow), (signal.SIGINT, 130)]
)
@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_a_signal_writes_a_checkpoint_and_leaves_with_its_code(
    line: Line, number: signal.Signals, code: int, workers: int
) -> None:
    name = f"signal{number}-{workers}"
    flags = ["--checkpoint-every", 3, "--epochs", 50, "--workers", workers]
    end = line.train(name, *flags, at=25, signal=int(number))
    assert end.code == code, end.output
    assert "stopped; 0 of 2 folds and a checkpoint of the next are kept" in end.output
    assert "Traceback" not in end.output
    newest = max(file.name for file in line.run(name).checkpoints.glob("*.json"))
    step = int(newest.split(".")[1])
    again = line.train(name, *flags, at=25, signal=int(number))
    assert f"goes on after step {step}," in again.output


@pytest.mark.slow
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(line: Line) -> None:
    assert line.train("damaged", at=60).code == -signal.SIGKILL
    older, newest = sorted(line.run("damaged").checkpoints.glob("*.safetensors"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    end = line.train("damaged")
    assert end.code == 0, end.output
    assert f"{newest.name} is damaged (its checksum differs); it is not used" in end.output
    assert f"goes on after step {int(older.name.split('.')[1])}," in end.output
    assert line.result("damaged") == line.bytes


@pytest.mark.parametrize(
    "suffix", ["json", *(pytest.param(name, marks=pytest.mark.slow) for name in ("npz", "safetensors"))]
)
def test_a_damaged_fold_is_told_and_trained_again(line: Line, suffix: str) -> None:
    name = f"fold-{suffix}"
    assert line.train(name, "--fold", 0).code == 0
    file = line.run(name).folder / f"fold0.{suffix}"
    file.write_bytes(file.read_bytes()[:-9])
    end = line.train(name)
    assert end.code == 0, end.output
    assert "fold 0 of run 'mask': " in end.output
    assert "it is trained again" in end.output
    assert line.result(name) == line.bytes


@pytest.mark.slow
def test_other_settings_do_not_touch_a_checkpoint(line: Line) -> None:
    assert line.train("other", at=40).code == -signal.SIGKILL
    before = predictions_and_weights(line.run("other").checkpoints)
    end = line.train("other", "--lr", 0.5)
    assert end.code == 2
    assert "run 'mask' was trained differently: lr was 0.001, is 0.5. Give another --name, or --fresh" in end.output
    assert predictions_and_weights(line.run("other").checkpoints) == before
    assert line.train("other", "--checkpoint-every", 3).code == 0
    assert line.result("other") == line.bytes


@pytest.mark.slow
def test_a_second_command_is_refused_with_the_firsts_pid_and_host(line: Line, cli: Cli) -> None:
    import socket
    import subprocess
    import sys

    folder = line.root / "held" / "runs"
    code = f"""
import pathlib, sys
from pipeline.store import Run
with Run(pathlib.Path({str(folder / "mask")!r})).locked():
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        exit_code, _, err = cli("train-head", *line.flags, "--artifacts", line.root / "held")
        assert exit_code == 2
        where = f"process {holder.pid} on {socket.gethostname()}"
        assert f"run 'mask' is being trained by another command ({where}, since" in err
        assert not (folder / "mask").exists()
        holder.kill()
    end = line.train("held")
    assert end.code == 0, end.output
    assert f"{where}, since" in end.output
    assert "left run 'mask' unfinished; its work is kept" in end.output


FAULTS = {"full": errno.ENOSPC, "read-only": errno.EROFS, "broken": errno.EIO}


@pytest.mark.parametrize(
    "fault", ["full", *(pytest.param(name, marks=pytest.mark.slow) for name in sorted(FAULTS.keys() - {"full"}))]
)
def test_a_disk_fault_at_any_write_is_one_line_and_loses_nothing(
    line: Line, fault: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"fault-{fault}"
    artifacts = line.root / name
    shutil.copytree(line.root / "undisturbed" / "cache", artifacts / "cache")
    flags = ["train-head", *line.flags, "--checkpoint-every", CHECKPOINT_EVERY, "--artifacts", artifacts]
    rng, faults = random.Random(fault), 0
    monkeypatch.setattr("pipeline.contents.SETTLED", float("inf"))  # what is only remembered may fail to be written
    for _ in range(15):
        with monkeypatch.context() as patch:
            fail_at(patch, rng.randint(1, 60), FAULTS[fault])
            code, _, err = cli(*flags)
        if code == 0:
            break
        faults += 1
        assert code == 2
        assert err.startswith("error: cannot ")
        assert err.count("\n") == 1
        assert [file for file in artifacts.rglob(".*") if file.suffix != ".lock"] == []
    assert faults >= 3
    assert cli(*flags)[0] == 0
    assert line.result(name) == line.bytes


def fail_at(patch: pytest.MonkeyPatch, step: int, number: int) -> None:
    """Let the ``step``-th of the steps of writing fail."""
    done = 0

    def failing(honest: Callable[..., object]) -> Callable[..., object]:
        def step_of_writing(*args: object, **kwargs: object) -> object:
            nonlocal done
            done += 1
            if done == step:
                raise OSError(number, os.strerror(number))
            return honest(*args, **kwargs)

        return step_of_writing

    for place in ("os.fsync", "os.replace", "os.fdopen", "tempfile.mkstemp"):
        module, function = place.split(".")
        target = f"pipeline.files.{place}"
        patch.setattr(target, failing(getattr(__import__(module), function)))
