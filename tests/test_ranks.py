"""One network on several processes learns what it learns on one; a real torchrun, and forks that compare with one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import launch
from pipeline.engine import OutOfMemory
from pipeline.errors import ConfigError
from pipeline.fold import FoldJob
from pipeline.ranks import Ranks
from pipeline.store import Run
from pipeline.tables import read_table
from tests.conftest import train

ROOT = Path(__file__).parent.parent
# in batches of 20, the last of each epoch has 3 photos
SETTINGS: dict[str, Any] = {"folds": 2, "epochs": 2, "batch_size": 20, "seed": 3}
LAWS = (
    "batch_normalisation_is_that_of_the_whole_batch",
    "a_step_is_that_of_one_process",
    "every_row_comes_back_in_its_place",
    "one_word_counts_for_all",
)


@given(n=st.integers(0, 50), size=st.integers(1, 9))
def test_shares_are_all_rows_in_order_and_nearly_equal(n: int, size: int) -> None:
    rows = np.arange(n) * 3
    shares = [Ranks(rank, size).share(rows) for rank in range(size)]
    np.testing.assert_array_equal(np.concatenate(shares), rows)
    lengths = [len(share) for share in shares]
    assert max(lengths) == lengths[0] == Ranks(0, size).most(n)
    assert max(lengths) - min(lengths) <= 1


def start(*command: object) -> subprocess.Popen[str]:
    """Start a module of Python with one thread a process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", *map(str, command)]
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=environment
    )


def torchrun(data: Path, artifacts: Path, *flags: object, processes: int = 2) -> subprocess.Popen[str]:
    """Start ``pipe train-head mask`` on several processes."""
    settings = [word for name, value in SETTINGS.items() for word in (f"--{name.replace('_', '-')}", value)]
    settings += [
        "--backbone",
        "test_resnet",
        "--weights",
        "none",
        "--image-size",
        32,
        "--device",
        "cpu",
        "--precision",
        "fp32",
    ]
    launched = ["torch.distributed.run", "--standalone", "--nproc-per-node", processes, "-m", "pipeline"]
    where = ["--data", data, "--artifacts", artifacts]
    return start(*launched, "train-head", "mask", *settings, *where, *flags)


@dataclass(frozen=True, slots=True)
class Line:
    """A run on one process, the same on two, what that printed, and the verdicts on the laws for three."""

    one: Run
    two: Run
    output: str
    laws: dict[str, list[str]]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Line:
    """All of it, at once: most of the time goes into imports."""
    root = tmp_path_factory.mktemp("ranks")
    together, laws = torchrun(data, root / "two"), start("tests.together", 3)
    with together, laws:
        one = Run(train(data, root / "one", "mask", **SETTINGS))
        output, verdicts = together.communicate(timeout=120)[0], laws.communicate(timeout=120)[0]
    assert together.returncode == 0, output
    return Line(one, Run(root / "two" / "runs" / "mask"), output, json.loads(verdicts.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
def test_three_processes_keep_the_law(line: Line, law: str) -> None:
    assert line.laws.keys() == set(LAWS)
    assert line.laws[law] == [""] * 3, "\n".join(line.laws[law])


@pytest.mark.slow
def test_two_processes_keep_the_laws() -> None:
    with start("tests.together", 2) as process:
        verdicts = json.loads(process.communicate(timeout=120)[0].splitlines()[-1])
    assert verdicts == {law: ["", ""] for law in LAWS}


def require_close(one: Run, two: Run) -> None:
    """Both runs learnt the same but for rounding, and predict the same photos in the same order."""
    from safetensors.numpy import load_file

    mine, theirs = (read_table(run.folder / "history.csv") for run in (one, two))
    assert mine.keys() == theirs.keys()
    for column in mine.keys() - {"seconds", "images_per_second"}:
        expected = np.asarray(mine[column], dtype=float)
        np.testing.assert_allclose(np.asarray(theirs[column], dtype=float), expected, rtol=1e-4, atol=1e-4)
    for part in ("oof", "test"):
        for view in ("identity", "hflip"):
            known, found = (run.load_predictions("mask", part, view) for run in (one, two))
            np.testing.assert_array_equal(found.ids, known.ids)
            np.testing.assert_array_equal(found.folds, known.folds)
            np.testing.assert_allclose(found.probs, known.probs, atol=1e-3)
    for fold in range(2):
        weights, others = (load_file(run.folder / f"fold{fold}.safetensors") for run in (one, two))
        assert weights.keys() == others.keys()
        for name in weights:
            np.testing.assert_allclose(others[name], weights[name], rtol=1e-3, atol=2e-3, err_msg=name)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(line: Line) -> None:
    require_close(line.one, line.two)


@pytest.mark.slow
def test_only_the_first_process_writes_and_speaks(line: Line) -> None:
    names = [sorted(file.name for file in run.folder.iterdir()) for run in (line.one, line.two)]
    assert names[0] == names[1]
    leftovers = [file for file in line.two.folder.parents[1].rglob(".*") if file.suffix != ".lock"]
    assert leftovers == []
    said = [text for text in line.output.splitlines() if text]
    assert "on cpu, 2 processes together" in said[1]
    assert len(said) == 2 + 2 * 3 + 1, line.output  # two lines of plan, three a fold, and the end
    assert max(Counter(said).values()) == 1
    assert (line.one.info()["processes"], line.two.info()["processes"]) == (1, 2)  # type: ignore[typeddict-item]


def until_a_checkpoint(process: subprocess.Popen[str], artifacts: Path) -> None:
    """Wait for the training's first checkpoint."""
    while not list(artifacts.glob("runs/mask/checkpoints/*.json")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def of_rank(process: subprocess.Popen[str], rank: int) -> int:
    """The process id of one of the processes that torchrun has started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (found,) = [pid for pid in children if f"\0RANK={rank}\0" in Path(f"/proc/{pid}/environ").read_text()]
    return int(found)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1, None], ids=["first killed", "second killed", "all told to stop"])
@pytest.mark.parametrize("processes", [1, 2])
def test_what_was_ended_goes_on_with_any_number_of_processes(
    line: Line, data: Path, tmp_path: Path, rank: int | None, processes: int
) -> None:
    flags = ["--checkpoint-every", 2]
    with torchrun(data, tmp_path, *flags) as process:
        until_a_checkpoint(process, tmp_path)
        if rank is None:
            process.send_signal(signal.SIGTERM)
        else:
            os.kill(of_rank(process, rank), signal.SIGKILL)
        output = process.communicate(timeout=60)[0]
    assert process.returncode
    assert "Error" not in output.split("Traceback")[0]
    if rank is None:
        assert output.count("checkpoint of the next are kept") == 1
    with torchrun(data, tmp_path, *flags, processes=processes) as process:
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert len(re.findall("goes on after step", output)) == 1
    assert output.count("with processes 2, now 1: as good, but not the same bytes") == (processes == 1)
    run = Run(tmp_path / "runs" / "mask")
    assert run.info()["resumed"] == 1
    require_close(line.one, run)


@pytest.mark.slow
def test_a_run_that_is_refused_says_so_once(line: Line, data: Path) -> None:
    before = sorted((file.name, file.read_bytes()) for file in line.two.folder.iterdir() if file.is_file())
    with torchrun(data, line.two.folder.parents[1], "--lr", 0.5) as process:
        output = process.communicate(timeout=60)[0]
    assert process.returncode  # torchrun's own, always 1
    assert output.count("error: run 'mask' was trained differently: lr was 0.001, is 0.5") == 1
    assert "(exitcode: 2) local_rank: 0" in output
    assert sorted((f.name, f.read_bytes()) for f in line.two.folder.iterdir() if f.is_file()) == before


def test_only_the_first_process_speaks_for_all_unless_it_lives_on(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("pipeline.launch.time.sleep", waited.append)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert launch.place() == launch.Place()  # a cluster's variables alone mean nothing
    assert (launch.last_words("error: x", 2), waited) == ("error: x", [])
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "any")
    assert launch.last_words("error: x", 2) == "process 1 of 2: error: x"
    assert launch.last_words("stopped", 143) == ""
    assert waited == [launch.PATIENCE] * 2
    monkeypatch.setenv("RANK", "0")
    assert (launch.last_words("error: x", 2), len(waited)) == ("error: x", 2)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OutOfMemory(10), "out of memory on cpu, and 2 processes cannot go on with less; use a smaller --batch-size"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed"),
            "2 processes cannot go on with less; use fewer --workers",
        ),
    ],
)
def test_a_process_that_lacks_something_does_not_go_on_alone(
    error: Exception, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from pipeline.config import TrainConfig
    from pipeline.recover import run_patiently

    def fails(job: FoldJob) -> None:
        raise error

    monkeypatch.setattr(FoldJob, "run", fails)
    nothing: Any = None
    job = FoldJob(nothing, nothing, TrainConfig(), torch.device("cpu"), 2, 32, nothing, nothing, ranks=Ranks(0, 2))
    with pytest.raises(ConfigError, match=advice):
        run_patiently(job)
