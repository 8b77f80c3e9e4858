"""The search: trials until there are enough, then the best settings, judged on folds that it did not use."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heads.base import HeadError
from heads.registry import head_named
from pipeline.config import TrainConfig
from pipeline.errors import ArtifactError, ConfigError, FoldError, NetworkError, PipelineError, Stopped
from pipeline.files import write_bytes
from pipeline.interrupts import Terminated, terminable
from pipeline.locks import locked
from pipeline.progress import minutes, say
from pipeline.tune.plots import draw
from pipeline.tune.space import Dimension, applied, toml_of
from pipeline.tune.study import Study, library, opened
from pipeline.tune.trials import Scored, Trainer

if TYPE_CHECKING:
    from optuna.trial import Trial

Scores = Callable[[TrainConfig, Sequence[int], str], Iterator[Scored]]
IMPOSSIBLE = (ConfigError, NetworkError, HeadError)  # settings that do not go together: no reason to end the search


@dataclass(frozen=True, slots=True)
class Asked:
    """What ``pipe tune`` was asked for.

    Attributes:
        head: Name of the head.
        base: Settings that are not varied.
        space: What is varied.
        data: Where photos and labels are.
        artifacts: Where studies are kept.
        study: The study's name.
        trials: How many in all.
        search_folds: S; trials train the folds 0 to S - 1.
        seed: Of the suggestions.
        threads: Of each process; 0 = as many as there are.
    """

    head: str
    base: TrainConfig
    space: tuple[Dimension, ...]
    data: Path
    artifacts: Path
    study: str
    trials: int
    search_folds: int
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        """Check what goes together.

        Raises:
            ConfigError: No fold is left to judge the best settings on, or there is no trial.
        """
        if not 1 <= self.search_folds < self.base.folds:
            raise ConfigError(
                f"--search-folds must be from 1 to {self.base.folds - 1}, so that one of {self.base.folds} folds is "
                f"left to judge the best settings on, got {self.search_folds}"
            )
        if not 1 <= self.trials <= 10**6:
            raise ConfigError(f"--trials must be from 1 to 1000000, got {self.trials}")

    @property
    def folder(self) -> Path:
        """Where studies are."""
        return self.artifacts / "studies"

    def same(self) -> dict[str, Any]:
        """What must be the same for trials to be compared."""
        settings = {name: value for name, value in self.base.as_dict().items() if name not in ("note", "device")}
        space = {dimension.name: list(map(str, dimension.ends)) for dimension in self.space}
        known = {"head": self.head, "search_folds": self.search_folds, "data": str(self.data.resolve()), "space": space}
        return known | {"seed": self.seed, "settings": settings}

    def trainer(self) -> Trainer:
        """Trains the folds of a trial."""
        return Trainer(head_named(self.head), self.data, self.artifacts, self.folder / self.study)


def tune(asked: Asked, *, jobs: int = 1, report_only: bool = False) -> str:
    """Search, by ``jobs`` processes at once, and report; the report's text.

    Raises:
        PipelineError: The study was begun otherwise, no trial is complete, or it was stopped.
    """
    library()
    if not report_only:
        if jobs > 1:
            _together(asked, jobs)
        else:
            search(asked, asked.trainer().scores)
    return report(asked, asked.trainer().scores)


def search(asked: Asked, scores: Scores) -> None:
    """Do trials until ``asked.trials`` are finished or in the hands of other processes.

    Args:
        asked: What for.
        scores: Settings, folds and a name -> the score after each fold.

    Raises:
        ArtifactError: The study was begun otherwise.
        Stopped: Ctrl-C or SIGTERM; finished trials are kept.
    """
    with opened(asked.folder, asked.study, asked.space, asked.same(), asked.seed) as study:
        while True:
            with study.claimed(asked.trials) as claimed:
                if claimed is None:
                    return
                trial, values = claimed
                try:
                    _try(asked, study, scores, trial, values)
                except BaseException as error:
                    study.again(trial.number)
                    if not isinstance(error, Stopped | KeyboardInterrupt | Terminated):
                        raise
                    code = error.code if isinstance(error, Stopped) else 143 if isinstance(error, Terminated) else 130
                    kept = f"{len(study.finished())} trials are kept in {asked.folder / asked.study}.db"
                    raise Stopped(
                        f"stopped; {kept}, the same command goes on and tries trial {trial.number} again", code
                    ) from None


def _try(asked: Asked, study: Study, scores: Scores, trial: Trial, values: dict[str, Any]) -> None:
    """One trial to its end, or until the folds so far are worse than those of most."""
    begin, known = time.perf_counter(), ", ".join(f"{name} {_short(value)}" for name, value in values.items())
    state, last = library().trial.TrialState, None
    try:
        config = applied(asked.base, values)
        steps = scores(config, range(asked.search_folds), f"trial-{trial.number}")
        for step, last in enumerate(steps):
            trial.report(last.macro_f1, step)
            if step + 1 < asked.search_folds and trial.should_prune():
                steps.close()  # type: ignore[attr-defined]  # it is a generator: what it holds goes now
                say(f"trial {trial.number}: {known}: pruned after {step + 1} folds at {last.macro_f1:.4f}")
                study.study.tell(trial, state=state.PRUNED)
                return
    except IMPOSSIBLE as error:
        say(f"trial {trial.number}: {known}: not possible, {error}")
        study.study.tell(trial, state=state.PRUNED)
        return
    assert last is not None
    trial.set_user_attr("interval_95", list(last.interval))
    trial.set_user_attr("seconds", round(time.perf_counter() - begin, 1))
    study.study.tell(trial, last.macro_f1)
    say(f"trial {trial.number}: {known}: macro F1 {last.macro_f1:.4f} in {minutes(time.perf_counter() - begin)}")


def report(asked: Asked, scores: Scores) -> str:
    """Train the best settings on the folds that the search did not use, write them, and say what they reach.

    Raises:
        ArtifactError: No trial is complete.
        Stopped: Ctrl-C or SIGTERM.
    """
    with opened(asked.folder, asked.study, asked.space, asked.same(), asked.seed) as study:
        done = len(study.finished())
        others = f"{done} trials are finished; another process is at work on the last and will report"
        if study.in_training():
            return others
        with ExitStack() as held:
            try:
                held.enter_context(locked(asked.folder / f".{asked.study}.report.lock", "the report"))
            except ArtifactError:
                return others
            return _judged(asked, study, scores)


def _judged(asked: Asked, study: Study, scores: Scores) -> str:
    """The report, by the one process that makes it."""
    best = study.best()
    config, file = applied(asked.base, study.values(best)), asked.folder / f"{asked.study}.toml"
    left = range(asked.search_folds, asked.base.folds)
    held = study.study.user_attrs.get("held_out", {})
    if held.get("trial") != best.number:
        say(f"training the best settings on folds {left[0]} to {left[-1]}, which the search did not use")
        *_, last = scores(config, left, f"best-{best.number}")
        held = {"trial": best.number, "macro_f1": last.macro_f1, "interval_95": list(last.interval)}
        study.study.set_user_attr("held_out", held)
    write_bytes(file, toml_of(config).encode())
    shutil.rmtree(study.work, ignore_errors=True)
    lines = [
        f"{len(study.finished())} trials; the best is trial {best.number}:",
        *(f"  {name} = {_short(value)}" for name, value in study.values(best).items()),
        f"macro F1 of {asked.head} on",
        _score_line("the search's folds, which chose it", best.values[0], best.user_attrs["interval_95"]),
        _score_line("folds that it did not use", held["macro_f1"], held["interval_95"]),
        f"settings: {file} (--config takes it)",
        draw(study.study, asked.folder / f"{asked.study}.png"),
    ]
    return "\n".join(lines)


def _score_line(what: str, score: float, interval: Sequence[float]) -> str:
    return f"  {what:<36} {score:.4f} (95 % {interval[0]:.3f}-{interval[1]:.3f})"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _together(asked: Asked, jobs: int) -> None:
    """Search by several processes of this computer.

    Raises:
        FoldError: One failed, as it has said itself.
        Stopped: Ctrl-C or SIGTERM; the processes put their trials back first.
    """
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_work, args=(asked,)) for _ in range(jobs)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    except (KeyboardInterrupt, Terminated) as stop:
        for worker in workers:
            if worker.pid:
                worker.terminate()
                worker.join()
        raise Stopped(
            "stopped; finished trials are kept, the same command goes on", 143 if isinstance(stop, Terminated) else 130
        ) from None
    if failed := [worker for worker in workers if worker.exitcode]:
        raise FoldError(f"{len(failed)} of {jobs} processes failed; finished trials are kept, the same command goes on")


def _work(asked: Asked) -> None:
    """A process of its own, out of reach of the terminal's Ctrl-C: the command passes it on."""
    import torch

    if hasattr(os, "setsid"):
        os.setsid()
    torch.set_num_threads(asked.threads or torch.get_num_threads())
    try:
        with terminable():
            search(asked, asked.trainer().scores)
    except Stopped as stop:
        sys.exit(stop.code)
    except (PipelineError, HeadError) as error:
        say(f"error: {error}")
        sys.exit(2)
