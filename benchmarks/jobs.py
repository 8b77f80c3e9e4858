"""How long the same folds take one after another and side by side, and whether they end in the same bytes.

Trains mask and age with one thread a fold, so that bytes can be compared: serially, with two folds at once on this
computer, and on Dask and Ray where they are installed. A serial run with all threads stands beside it, which is what
one would do otherwise. Photos are cached before the first.

    python -m benchmarks.jobs --data FOLDER --folds 2 --epochs 1
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HEADS = ("mask", "age")


def train(arguments: list[str], artifacts: Path, *flags: str) -> float:
    """The seconds of one ``pipe train-head``."""
    code = "from pipeline.cli import main; main()"
    command = [sys.executable, "-c", code, "train-head", *HEADS, "--separate", "--fresh", "--artifacts", str(artifacts)]
    start = time.perf_counter()
    done = subprocess.run([*command, *arguments, *flags], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - start


def result(artifacts: Path) -> dict[str, bytes]:
    """Everything that the runs predict and know."""
    files = sorted(file for kind in ("npz", "safetensors") for file in artifacts.rglob(f"runs/*/*.{kind}"))
    return {str(file.relative_to(artifacts)): file.read_bytes() for file in files}


@contextmanager
def dask() -> Iterator[str]:
    """The address of a Dask cluster of two processes."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:  # type: ignore[no-untyped-call]
        yield str(cluster.scheduler_address)


@contextmanager
def ray() -> Iterator[str]:
    """The address of a Ray of two CPUs."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        yield str(ray.get_runtime_context().gcs_address)
    finally:
        ray.shutdown()


def main() -> None:
    """Measure and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--folds", default="2")
    parser.add_argument("--epochs", default="1")
    given = parser.parse_args()
    arguments = ["--data", str(given.data), "--folds", given.folds, "--epochs", given.epochs, "--precision", "fp32"]
    arguments += ["--config", str(given.config)] if given.config else []
    with tempfile.TemporaryDirectory() as name, ExitStack() as engines:
        artifacts = Path(name)
        one = ["--threads", "1"]
        train(arguments, artifacts, *one)  # photos are cached, files of the system too
        print(f"{os.cpu_count()} cores, {given.folds} folds x {len(HEADS)} heads")
        print(f"one after another, all threads  {train(arguments, artifacts):7.1f} s")
        print(f"one after another, 1 thread     {train(arguments, artifacts, *one):7.1f} s")
        serial = result(artifacts)
        ways: list[tuple[str, Callable[[], list[str]]]] = [("--jobs 2", list)]
        if importlib.util.find_spec("distributed"):
            ways.append(("Dask, 2 processes", lambda: ["--engine", f"dask={engines.enter_context(dask())}"]))
        if importlib.util.find_spec("ray"):
            ways.append(("Ray, 2 CPUs", lambda: ["--engine", f"ray={engines.enter_context(ray())}"]))
        for label, engine in ways:
            seconds = train(arguments, artifacts, *one, "--jobs", "2", *engine())
            same = "same bytes" if result(artifacts) == serial else "OTHER BYTES"
            print(f"{label:<31} {seconds:7.1f} s  {same}", flush=True)


if __name__ == "__main__":
    main()
