"""The processes that tell trackers, as the command sees them: started, and ended a few seconds after the training."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.files import reason
from pipeline.progress import say
from pipeline.store import Run
from pipeline.tracking.events import begin, begun
from pipeline.tracking.gathered import paths_of, tell_fold, tell_rest

if TYPE_CHECKING:
    from pipeline.plan import Plan  # torch: not needed to tell of finished runs

PATIENCE = 5.0  # seconds after the training that trackers get, all together, for what is left
LAST = 1.0  # seconds that a process gets to be no more, once it was killed
ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True)
class Follower:
    """A process that tells one tracker.

    Attributes:
        name: Of the tracker.
        process: It; its standard input lasts as long as this command.
        log: What it printed.
        again: The command that tells all of it again.
    """

    name: str
    process: subprocess.Popen[str]
    log: Path
    again: str

    @classmethod
    def start(cls, name: str, runs: Sequence[Run], how: str) -> Follower:
        """Start it, in a session of its own, which Ctrl-C does not reach.

        Raises:
            OSError: There is no room for a process or its log.
        """
        log = runs[0].tracking / f"{name}.log"
        command = [sys.executable, "-P", "-m", "pipeline.tracking.follow", name, how]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with log.open("w", encoding="utf-8") as stream:
            process = subprocess.Popen(
                [*command, *(str(run.tracking) for run in runs)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": path},
            )
        return cls(name, process, log, f"pipe track {' '.join(run.name for run in runs)} --to {name}")

    def let_go(self) -> None:
        """Tell it that nothing more will come."""
        with contextlib.suppress(OSError):
            if self.process.stdin:
                self.process.stdin.close()

    def kill(self) -> None:
        """End it and what it started."""
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                self.process.kill()
            else:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.let_go()

    def _word(self) -> dict[str, Any]:
        """What it answered; nothing where it did not, or cannot be ended, as on a disk that is away."""
        try:
            self.process.wait(LAST)
            with self.process.stdout or io.StringIO() as answer:
                return dict(json.loads(answer.read()))
        except (subprocess.TimeoutExpired, ValueError):
            return {}

    def outcome(self, patience: float | None) -> tuple[bool, str]:
        """Whether everything was told, and where to look at it, or why not; it is ended then.

        Args:
            patience: Seconds to wait; None = as long as it takes.
        """
        try:
            self.process.wait(patience)
            why = f"ended unexpectedly (code {self.process.returncode})"
        except subprocess.TimeoutExpired:
            why = "did not keep up"
        self.kill()
        word = self._word()
        if "told" in word:
            return True, word["told"]
        return False, f"{word.get('failed', why)}; its log is {self.log}, and `{self.again}` tells it all"


@dataclass(frozen=True, slots=True)
class Beside:
    """All trackers of a command.

    Attributes:
        followers: Their processes; those that ended are taken out.
    """

    followers: list[Follower] = field(default_factory=list)

    def look(self) -> None:
        """Say which of them ended too early."""
        for follower in [each for each in self.followers if each.process.poll() is not None]:
            self.followers.remove(follower)
            say(f"{follower.name}: {follower.outcome(0.0)[1]}")

    def fold_kept(self, plan: Plan, run: Run, fold: int) -> None:
        """Tell what a fold answers, once it is kept."""
        if begun(run):
            _at_most_said(lambda: tell_fold(plan, run, fold, time.time()))
        self.look()

    def run_finished(self, plan: Plan, run: Run) -> None:
        """Tell the scores of a run, and what was not told before."""
        if begun(run):
            _at_most_said(lambda: tell_rest(run, paths_of(plan)))

    def end(self, patience: float | None) -> list[str]:
        """End all; says where to look at what was told, gives a line for each that failed.

        Args:
            patience: Seconds to wait for all together; None = as long as it takes.
        """
        failed = []
        until = None if patience is None else time.monotonic() + patience
        try:
            for follower in self.followers:
                done, words = follower.outcome(None if until is None else max(0.0, until - time.monotonic()))
                if not done:
                    failed.append(f"{follower.name}: {words}")
                elif words:
                    say(f"{follower.name}: {words}")
        finally:
            for follower in self.followers:  # somebody did not wait
                follower.kill()
        return failed


def _at_most_said(tell: Callable[[], None]) -> None:
    """Do what no training may end of."""
    try:
        tell()
    except Exception as error:
        say(f"trackers were not told everything: {type(error).__name__}: {error}")


@contextmanager
def told_beside(trackers: Sequence[str], wanted: Sequence[tuple[Plan, Run]]) -> Iterator[Beside]:
    """Tell these trackers while the block trains; nothing that they do reaches the block.

    Args:
        trackers: Their names; none = nothing is done.
        wanted: The runs, and what they are going to do.
    """
    for plan, run in wanted if trackers else ():
        begin(run, plan.config.as_dict())
        if run.whole:
            _at_most_said(lambda plan=plan, run=run: tell_rest(run, paths_of(plan)))  # type: ignore[misc]
    beside = Beside(list(_started(trackers, [run for _, run in wanted], "on")))
    try:
        yield beside
    finally:
        beside.look()
        for follower in beside.followers:
            follower.let_go()
        for line in beside.end(PATIENCE):
            say(line)


def tell_again(trackers: Sequence[str], runs: Sequence[Run]) -> None:
    """Tell these trackers all that is known of runs, however long it takes.

    Raises:
        PipelineError: One failed.
    """
    if failed := Beside(list(_started(trackers, runs, "once"))).end(None):
        raise PipelineError("; ".join(failed))


def _started(trackers: Sequence[str], runs: Sequence[Run], how: str) -> Iterator[Follower]:
    for name in trackers:
        try:
            yield Follower.start(name, runs, how)
        except OSError as error:
            say(f"{name} is not told: cannot start its process: {reason(error)}")
