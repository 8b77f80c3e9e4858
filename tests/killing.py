"""A process that trains and is killed: at a moment, or at the n-th step of writing a file.

Everything is imported once, in a nursery process that has run no kernel yet; every training is a fork of it, so that a
kill costs a fraction of a second. Used by tests/test_crash.py and benchmarks/kill.py.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class End:
    """How a training ended: the exit code, negative for a signal, the seconds it took, and what it printed."""

    code: int
    seconds: float
    output: str


class Nursery:
    """Forks trainings on request."""

    def __init__(self) -> None:
        """Start the process and wait until it has imported everything."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.killing"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def train(self, arguments: list[object], log: Path, **how: float | str) -> End:
        """Run ``pipe train-head`` with these arguments.

        Args:
            arguments: What follows ``train-head``.
            log: Where its output goes.
            how: ``after`` = seconds until it gets ``signal`` (9); ``at`` = step of writing at which it sends that to
                itself; ``forget`` = random state that is not restored.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = {"arguments": ["train-head", *map(str, arguments)], "log": str(log), "how": how}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return End(answer["code"], answer["seconds"], log.read_text())

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def predictions_and_weights(run: Path) -> dict[str, bytes]:
    """File name -> bytes of everything in a run's folder that may not depend on how often it was interrupted."""
    return {f.name: f.read_bytes() for f in sorted(run.iterdir()) if f.suffix in (".npz", ".safetensors")}


def die_at(step: int, number: int) -> Callable[[], int]:
    """Let this process send itself a signal at the ``step``-th step of writing; gives the number of steps so far.

    Steps are: making the temporary file, the middle of each write, each fsync, each replace, each removal.
    """
    files: Any = importlib.import_module("pipeline.files")

    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if done == step:
            os.kill(os.getpid(), number)

    def before(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            count()
            return function(*args, **kwargs)

        return counted

    class Torn:
        """A stream that loses its process in the middle of a write."""

        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def __enter__(self) -> Torn:
            return self

        def __exit__(self, *error: object) -> None:
            self.stream.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stream, name)

        def write(self, content: bytes) -> None:
            self.stream.write(content[: len(content) // 2])
            self.stream.flush()
            count()
            self.stream.write(content[len(content) // 2 :])

    honest = os.fdopen
    files.os = _Like(os, fdopen=lambda *a: Torn(honest(*a)), fsync=before(os.fsync), replace=before(os.replace))
    files.tempfile = _Like(files.tempfile, mkstemp=before(files.tempfile.mkstemp))
    Path.unlink = before(Path.unlink)  # type: ignore[method-assign]
    return lambda: done


class _Like:
    """A module with some functions replaced."""

    def __init__(self, module: object, **replaced: object) -> None:
        self.__dict__ |= {"module": module} | replaced

    def __getattr__(self, name: str) -> object:
        return getattr(self.__dict__["module"], name)


def forget(name: str) -> None:
    """Let this process restore everything but one random state."""
    import torch

    if name == "cpu":
        torch.set_rng_state = lambda state: None  # type: ignore[assignment]


def _child(request: Mapping[str, Any]) -> None:
    """Be the command; never returns."""
    from pipeline.cli import main

    os.setpgid(0, 0)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["pipe", *request["arguments"]]
    steps = die_at(int(request["how"].get("at", 0)), int(request["how"].get("signal", signal.SIGKILL)))
    forget(request["how"].get("forget", ""))
    code: Any = 0
    try:
        main()
    except SystemExit as leave:
        code = leave.code
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    print(f"steps of writing: {steps()}", flush=True)
    os._exit(code or 0)


def _serve() -> None:
    for module in ("pipeline.plan", "pipeline.train", "sklearn.model_selection", "joblib", "safetensors.torch"):
        importlib.import_module(module)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        start = time.perf_counter()
        pid = os.fork()
        if not pid:
            _child(request)
        after = request["how"].get("after")
        status = _wait(pid, None if after is None else start + after)
        if status is None:
            os.kill(pid, int(request["how"].get("signal", signal.SIGKILL)))
            status = _wait(pid, None)
        code = os.waitstatus_to_exitcode(status or 0)
        print(json.dumps({"code": code, "seconds": time.perf_counter() - start}), flush=True)


def _wait(pid: int, until: float | None) -> int | None:
    """The exit status; None when the process still runs at ``until``."""
    while until is None or time.perf_counter() < until:
        found, status = os.waitpid(pid, 0 if until is None else os.WNOHANG)
        if found:
            return status
        time.sleep(0.002)
    return None


if __name__ == "__main__":
    _serve()
