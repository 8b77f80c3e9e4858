"""The doctor on machines and environments that are not this one: GPUs, containers, other versions, broken libraries."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from pipeline.config import TrainConfig
from pipeline.doctor import libraries, machine
from pipeline.doctor.case import Case, Check

ROOT = Path(__file__).parent.parent
GIB = 2**30
NETWORK = ("--backbone", "test_resnet", "--weights", "none")


def case(tmp_path: Path, **settings: object) -> Case:
    return Case(TrainConfig.load(None, {"device": "cpu"} | settings), None, tmp_path)


def found(check: Check, of: Case) -> tuple[str, str, str]:
    """Status, text and fix of the only finding."""
    (finding,) = check(of)
    return finding.status, finding.text, finding.fix


# the environment


@pytest.mark.parametrize(("here", "status"), [((3, 10, 9), "error"), ((3, 12, 1), "ok"), ((3, 14, 0), "error")])
def test_python_is_one_that_the_distribution_takes(
    here: tuple[int, int, int], status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", here)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert found(libraries.python, case(tmp_path))[0] == status


def test_other_systems_are_told_to_be_untested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    status, text, fix = found(libraries.python, case(tmp_path))
    assert (status, "only Linux is tested" in text, "pipe demo" in fix) == ("warning", True, True)


def pretend(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], needed: dict[str, list[str]]) -> None:
    """Let these versions be installed, and distributions need these."""

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", lambda name: needed.get(name))


def test_versions_are_those_required_and_extras_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {"headfold": ["torch>=2.6", "timm<2,>=1.0.15", "numpy>=2.0", 'scipy>=1.13; extra == "test"']}
    pretend(monkeypatch, {"torch": "2.7.1+cu128", "timm": "1.0.20", "numpy": "2.0"}, needed)
    assert found(libraries.versions, case(tmp_path))[:2] == (
        "ok",
        "as required: torch 2.7.1+cu128, timm 1.0.20, numpy 2.0",
    )
    pretend(monkeypatch, {"torch": "2.5.1", "timm": "2.0"}, needed)
    told = list(libraries.versions(case(tmp_path)))
    assert [finding.status for finding in told] == ["error"] * 3
    assert [finding.text for finding in told] == [
        "torch 2.5.1 is installed, >=2.6 is needed",
        "timm 2.0 is installed, <2,>=1.0.15 is needed",
        "numpy is not installed",
    ]
    assert [finding.fix for finding in told] == [
        "pip install 'torch>=2.6'",
        "pip install 'timm<2,>=1.0.15'",
        "pip install 'numpy>=2.0'",
    ]


@pytest.mark.parametrize(
    ("versions", "of_modules", "needs", "expected"),
    [
        ({"torch": "2.6.0", "torchvision": "0.21.0"}, ("2.6.0+cu124", "0.21.0+cu124"), "torch==2.6.0", "ok"),
        ({"torch": "2.6.0+cpu", "torchvision": "0.21.0+cpu"}, ("2.6.0+cpu", "0.21.0+cpu"), "torch==2.6.0", "ok"),
        ({"torch": "2.6.0", "torchvision": "0.21.0"}, ("2.6.0", "0.21.0+cpu"), "torch", "ok"),
        ({"torch": "2.6.0a0+abc.nv25", "torchvision": "0.21.0a0"}, ("2.6.0a0+abc.nv25", "0.21.0a0"), "torch", "ok"),
        ({"torch": "2.7.0", "torchvision": "0.21.0"}, ("2.7.0", "0.21.0"), "torch==2.6.0", "is made for torch==2.6.0"),
        ({"torch": "2.6.0", "torchvision": "0.21.0"}, ("2.6.0+cpu", "0.21.0+cu124"), "torch", "different builds"),
        ({"torch": "2.6.0"}, ("2.6.0", ""), "torch", "torchvision, which timm needs, is not installed"),
    ],
)
def test_torch_and_torchvision_belong_together(
    versions: dict[str, str],
    of_modules: tuple[str, str],
    needs: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, versions, {"torchvision": ["numpy", needs, 'gdown; extra == "gdown"']})
    monkeypatch.setattr(libraries, "load_fault", lambda module: "")
    monkeypatch.setattr(libraries, "build", lambda module, _: of_modules[module == "torchvision"])
    status, text, fix = found(libraries.torch_pair, case(tmp_path))
    assert status == ("ok" if expected == "ok" else "error")
    assert expected in text or status == "ok"
    assert ("torchvision" in fix) is (status != "ok")


# a module that raises at import -> the only line that FAILs
BROKEN = {
    "torchvision": (
        "RuntimeError('operator torchvision::nms does not exist')",
        "torchvision .* operator torchvision::nms does not exist fix: install both from one source: pip install",
    ),
    "cv2": (
        "ImportError('libGL.so.1: cannot open')",
        "cv2 .* libGL.so.1: cannot open fix: .* opencv-python-headless",
    ),
    "numpy": (
        "ImportError('numpy.core.multiarray failed to import')",
        "numpy .* fix: pip install --force-reinstall numpy",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "reason", "message"),
    [(name, *rest) for name, rest in BROKEN.items()],
    ids=BROKEN,
)
def test_a_broken_library_is_one_thing_to_mend(module: str, reason: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "lib" / module).mkdir(parents=True)
    (tmp_path / "lib" / module / "__init__.py").write_text(f"raise {reason}")
    (tmp_path / "here").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", "from pipeline.cli import main; main()", "doctor", "--device", "cpu", *NETWORK],
        cwd=tmp_path / "here",
        env=os.environ | {"PYTHONPATH": f"{tmp_path / 'lib'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.count("FAIL") == 1
    assert re.search(f"FAIL {message}", " ".join(done.stdout.split())), done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 thing would stop or spoil a training")


# the device


@pytest.mark.parametrize(
    ("builds", "capability", "runs"),
    [
        (["sm_75", "sm_80", "sm_86", "sm_90"], (8, 6), True),
        (["sm_75", "sm_80", "sm_86", "sm_90"], (8, 9), True),
        (["sm_75", "sm_80", "sm_86", "sm_90"], (7, 0), False),
        (["sm_75", "sm_80", "sm_86", "sm_90"], (12, 0), False),
        (["sm_75", "sm_80", "sm_90", "compute_90"], (12, 0), True),
        (["sm_90a", "sm_100", "sm_120"], (12, 0), True),
        (["gfx90a", "gfx942"], (9, 4), True),
        ([], (7, 0), True),
    ],
)
def test_code_runs_on_its_major_version_and_ptx_on_newer_ones(
    builds: list[str], capability: tuple[int, int], runs: bool
) -> None:
    assert machine.runs_on(builds, *capability) is runs


@pytest.mark.parametrize(
    ("builds", "free", "status", "message"),
    [
        (["sm_80", "sm_90"], 70, "ok", "device: Tester 9000, 70.0 GiB of 80.0 GiB free"),
        (["sm_80", "sm_90"], 1, "warning", "1.0 GiB of 80.0 GiB free"),
        (["sm_100", "sm_120"], 70, "error", "capability 9.0 is not among those of torch .*: sm_100, sm_120"),
    ],
)
def test_a_gpu_is_judged_by_its_age_and_its_free_memory(
    builds: list[str], free: int, status: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tester 9000")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: builds)
    told, text, fix = found(machine.device, case(tmp_path, device="auto"))
    assert told == status
    assert re.search(message, text)
    assert bool(fix) is (status != "ok")


def test_a_device_that_is_not_there_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    of = case(tmp_path, device="cuda")
    assert found(machine.device, of) == ("error", "device 'cuda' is not available here", "use --device auto")
    assert list(machine.shared_memory(of)) == []


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files in which a system tells of itself, all missing; and 64 GiB of memory, 16 cores."""
    monkeypatch.setattr(machine, "PROC", tmp_path / "proc")
    monkeypatch.setattr(machine, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "total_memory", lambda: 64 * GIB)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    return tmp_path


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_a_driver_that_torch_cannot_use_is_told(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    (system / "proc" / "driver" / "nvidia").mkdir(parents=True)
    assert [finding.status for finding in machine.device(case(system, device="auto"))] == ["ok", "warning"]
    assert [finding.status for finding in machine.device(case(system, device="cpu"))] == ["ok"]


def test_memory_is_the_least_of_what_is_there_free_and_granted(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(machine.memory, case(system))[:2] == ("ok", "memory: 64.0 GiB in all")
    write(system / "proc" / "meminfo", f"MemTotal: {64 * 2**20} kB\nMemAvailable:   {30 * 2**20} kB\n")
    assert found(machine.memory, case(system))[:2] == ("ok", "memory: 64.0 GiB in all, 30.0 GiB free")
    write(system / "proc" / "self" / "cgroup", "1:name=systemd:/\n0::/box/inner\n")
    write(system / "cgroup" / "box" / "inner" / "memory.max", "max\n")
    assert machine.memory_limit() is None
    write(system / "cgroup" / "box" / "memory.max", f"{GIB}\n")
    status, text, fix = found(machine.memory, case(system))
    assert (status, text.endswith("30.0 GiB free, 1.0 GiB granted to this container")) == ("warning", True)
    assert fix
    assert machine.usable_memory() == GIB


def test_memory_that_nobody_tells_of_is_unknown(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "total_memory", lambda: None)
    assert found(machine.memory, case(system)) == ("ok", "memory: unknown on this system", "")


@pytest.mark.parametrize(
    ("asked", "quota", "status", "message"),
    [
        ("8", "max 100000", "ok", "threads: OMP_NUM_THREADS=8 on 16 cores"),
        ("32", "max 100000", "warning", "threads: OMP_NUM_THREADS=32, but this process has 16 cores"),
        ("8", "150000 100000", "warning", "threads: OMP_NUM_THREADS=8, but this process has 2 cores"),
        ("", "50000 100000", "warning", "threads: torch takes 12 threads, but this process has 1 core"),
    ],
)
def test_threads_are_at_most_the_cores_granted(
    asked: str, quota: str, status: str, message: str, system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 12)
    write(system / "cgroup" / "cpu.max", quota)
    told, text, fix = found(machine.threads, case(system))
    assert (told, text) == (status, message)
    assert fix == ("" if status == "ok" else f"export OMP_NUM_THREADS={machine.cores()}")


@pytest.mark.parametrize(
    ("workers", "free", "status"),
    [(-1, 0, "ok"), (0, 0, "ok"), (8, 64 * 2**20, "ok"), (8, 16 * 2**20, "warning")],
)
def test_shared_memory_holds_two_batches_a_worker(
    workers: int, free: int, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.plan.SHARED_MEMORY", tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=free))
    told, text, fix = found(machine.shared_memory, case(tmp_path, workers=workers))
    assert told == status
    assert ("24.0 MiB" in text) is (workers > 0)  # 8 workers x 2 batches x 32 photos x 3 x 128 x 128 bytes
    assert ("--shm-size" in fix) is (status == "warning")
