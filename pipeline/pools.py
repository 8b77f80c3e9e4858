"""Where folds can run side by side: processes of this computer through joblib's loky, or a running Dask or Ray.

Each engine gives the same thing, a function that takes a call and gives a ``concurrent.futures.Future``.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError

ANSWER = 10.0  # seconds that a scheduler gets to answer
IDLE = 60.0  # seconds after which a process without a fold ends; those of a killed command too
Call = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Side:
    """How folds run side by side.

    Attributes:
        jobs: Folds at once.
        threads: Of each fold; 0 = chosen.
        engine: A word of ``ENGINES``.
        address: Of the scheduler that is already running.
    """

    jobs: int = 1
    threads: int = 0
    engine: str = "loky"
    address: str = ""

    @classmethod
    def of(cls, jobs: int, threads: int, engine: str) -> Side:
        """What the options ``--jobs``, ``--threads`` and ``--engine`` say.

        Raises:
            ConfigError: One of them is not possible.
        """
        if not 1 <= jobs <= 1000:
            raise ConfigError(f"--jobs must be from 1 to 1000, got {jobs}")
        if not 0 <= threads <= 1024:
            raise ConfigError(f"--threads must be from 1 to 1024, or 0 to let the program choose, got {threads}")
        name, equals, address = engine.partition("=")
        if name not in ENGINES or bool(address) != bool(equals) or (name == "loky") == bool(address):
            raise ConfigError(f"--engine must be loky, dask=ADDRESS or ray=ADDRESS, got {engine!r}")
        return cls(jobs, threads, name, address)

    @property
    def local(self) -> bool:
        """Whether all folds run on this computer."""
        return self.engine == "loky"

    @property
    def alone(self) -> bool:
        """Whether folds run one after the other, in the command's own process."""
        return self.local and self.jobs == 1

    def divided(self, threads: int) -> Side:
        """The same, with the ``threads`` of this process divided among the folds that run here.

        What was asked for stays, and workers elsewhere keep what they have.
        """
        chosen = self.threads or (max(1, threads // self.jobs) if self.local and self.jobs > 1 else 0)
        return replace(self, threads=chosen)

    def pool(self, jobs: int, device: str) -> AbstractContextManager[Pool]:
        """The engine, ready for ``jobs`` folds at once on this kind of device.

        Raises:
            ConfigError: It is not installed, or does not answer.
        """
        return ENGINES[self.engine](self, jobs, device)


@dataclass(frozen=True, slots=True)
class Pool:
    """An engine that is ready.

    Attributes:
        submit: Takes a function and its arguments.
        died: What a future raises when the process that worked on it is no more.
    """

    submit: Callable[..., Future[Any]]
    died: tuple[type[BaseException], ...]


@contextmanager
def loky_pool(side: Side, jobs: int, device: str) -> Iterator[Pool]:
    """Processes of this computer."""
    from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

    threads = {f"{library}_NUM_THREADS": str(side.threads) for library in ("OMP", "MKL", "OPENBLAS") if side.threads}
    executor = ProcessPoolExecutor(jobs, timeout=IDLE, env=threads, initializer=_leave_signals_to_the_command)

    def submit(function: Call, *arguments: object) -> Future[Any]:
        with _interrupts_held_back():  # a process that has not yet said what to do with Ctrl-C would die of it
            future: Future[Any] = executor.submit(function, *arguments)
        return future

    try:
        yield Pool(submit, (BrokenProcessPool,))
    except BaseException:
        executor.shutdown(kill_workers=True)
        raise
    executor.shutdown()


def _leave_signals_to_the_command() -> None:
    """Ctrl-C reaches every process of a terminal; only the command heeds it, and asks the folds to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let Ctrl-C wait; a process that is started meanwhile begins with it waiting too."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def dask_pool(side: Side, jobs: int, device: str) -> Iterator[Pool]:
    """The workers of a running Dask scheduler."""
    try:
        dask: Any = import_module("distributed")  # only half annotated
    except ImportError:
        raise ConfigError("--engine dask needs the library distributed; pip install distributed") from None
    try:
        client = dask.Client(side.address, timeout=ANSWER, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no Dask scheduler answers at {side.address!r}; start one with `dask scheduler`, and give the address "
            "that it prints, as --engine dask=tcp://HOST:8786"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=ANSWER)
        except TimeoutError as error:
            raise ConfigError(
                f"the Dask scheduler at {side.address} has no workers; start some with `dask worker {side.address}`"
            ) from error
        yield Pool(client.get_executor(pure=False).submit, (dask.KilledWorker,))


def _has_ray_token() -> bool:
    """Whether Ray would find a token where its documentation says."""
    return (Path.home() / ".ray" / "auth_token").is_file() or any(
        name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    )


@contextmanager
def ray_pool(side: Side, jobs: int, device: str) -> Iterator[Pool]:
    """The workers of a running Ray; each fold asks for its threads, and on a GPU for its share of one."""
    if _has_ray_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # `ray start` looks for a token itself, `ray.init` does not
    try:
        ray: Any = import_module("ray")  # its annotations do not know options as a dict
    except ImportError:
        raise ConfigError("--engine ray needs the library ray; pip install ray") from None
    silent = ConfigError(
        f"no Ray answers at {side.address!r}, or it wants a token that is not here (`ray get-auth-token` on its "
        "machine); start one with `ray start --head --port 6379`, and give its address, as --engine ray=HOST:6379"
    )
    host, colon, port = side.address.removeprefix("ray://").rpartition(":")
    try:
        if colon:  # Ray itself would try for a minute
            socket.create_connection((host, int(port)), timeout=ANSWER).close()
        ray.init(side.address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:  # ConnectionError is an OSError
        raise silent from error
    try:
        gpus = ray.cluster_resources().get("GPU", 0) if device == "cuda" else 0
        if device == "cuda" and not gpus:
            raise ConfigError(f"the Ray at {side.address} has no GPU; use --device cpu")
        needs = {"num_cpus": max(1, side.threads), "num_gpus": min(1.0, gpus / jobs), "max_retries": 0}

        def submit(function: Call, *arguments: object) -> Future[Any]:
            future: Future[Any] = ray.remote(**needs)(function).remote(*arguments).future()
            return future

        errors = ray.exceptions
        yield Pool(submit, (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError))
    finally:
        ray.shutdown()


ENGINES: dict[str, Callable[[Side, int, str], AbstractContextManager[Pool]]] = {
    "loky": loky_pool,
    "dask": dask_pool,
    "ray": ray_pool,
}
