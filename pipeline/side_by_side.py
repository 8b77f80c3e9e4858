"""Folds side by side: each is ordered from some process, watched, and taken back when its process dies."""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from pipeline.findings import many
from pipeline.interrupts import Stopping, noted
from pipeline.link import Command, Listener
from pipeline.orders import DONE, STOPPED, FoldOrder, train_elsewhere
from pipeline.plan import code_digest
from pipeline.pools import Pool, Side
from pipeline.progress import Display, counted, heard_by, say
from pipeline.ranks import ALONE, Ranks

GLANCE = 0.2  # seconds between two looks at what the folds tell
LONG = 60.0  # seconds without any fold at work after which something is said
UNASKED = "its process was asked to stop (SIGTERM), or its progress folder was removed"


@dataclass(frozen=True, slots=True)
class Place:
    """A fold at work.

    Attributes:
        order: The fold.
        slot: Which of the folds at once it is, from 0.
        listener: What it tells.
    """

    order: FoldOrder
    slot: int
    listener: Listener


@dataclass(slots=True)
class Work:
    """Folds that are being trained side by side.

    Attributes:
        side: How.
        commands: The link to the folds of each run, by its folder.
        display: The one progress display of all.
        stopping: Tells what to raise when somebody asks to stop.
        kept: Called with each fold that is trained and kept.
        prefixed: Whether lines name their run, since there are several.
        total: Folds in all.
        waiting: Those that nobody works on.
        at_work: Those that somebody does.
        failures: Folds that failed, and why.
        ended: Folds that are kept.
        stopped: Whether the folds were asked to stop.
    """

    side: Side
    commands: dict[str, Command]
    display: Display
    stopping: Stopping
    kept: Callable[[FoldOrder], None]
    prefixed: bool
    total: int
    waiting: deque[FoldOrder]
    at_work: dict[Future[Any], Place] = field(default_factory=dict)
    failures: list[tuple[FoldOrder, str]] = field(default_factory=list)
    ended: int = 0
    stopped: bool = False

    def run(self) -> None:
        """Train all folds that wait, with fewer at once each time that a process dies.

        Raises:
            BaseException: What ``stopping`` gave, once every fold at work has written a checkpoint.
        """
        jobs = min(self.side.jobs, len(self.waiting))
        while self.waiting and not self.stopped:
            with self.side.pool(jobs, torch.device(self.waiting[0].device).type) as pool:
                died = self._round(pool, jobs)
            if stop := self.stopping():
                raise stop
            for order in died if jobs == 1 else ():
                self._failed(order, "its process ended unexpectedly (memory is what lacks most often)")
            if died and jobs > 1:
                self.waiting.extendleft(reversed(died))
                say(
                    "a process that trains folds ended unexpectedly (memory is what lacks most often); going on with "
                    f"{many(jobs // 2, 'fold')} at once instead of {jobs}"
                )
                jobs //= 2

    def _round(self, pool: Pool, jobs: int) -> list[FoldOrder]:
        """Train until no fold waits or a process dies; the folds whose process died."""
        died: list[FoldOrder] = []
        begun = time.monotonic()
        while self.at_work or (self.waiting and not died and not self.stopped):
            while self.waiting and len(self.at_work) < jobs and not died and not self.stopped:
                self._submit(pool)
            done, _ = wait(self.at_work, timeout=GLANCE, return_when=FIRST_COMPLETED)
            self._look()
            if begun and any(place.listener.begun for place in self.at_work.values()):
                begun = 0.0
            elif begun and time.monotonic() - begun > LONG:
                say("no fold has begun for a minute: are the workers busy, or too small for it?")
                begun = 0.0
            for future in done:
                if future in self.at_work and self._died(future, pool):
                    died.append(self.at_work[future].order)
                self.at_work.pop(future, None)
        return died

    def _submit(self, pool: Pool) -> None:
        order = self.waiting.popleft()
        slot = min(set(range(len(self.at_work) + 1)) - {place.slot for place in self.at_work.values()})
        order = replace(order, token=self.commands[order.run.name].token)
        if self.side.local and order.device == "cuda":
            order = replace(order, device=f"cuda:{slot % torch.cuda.device_count()}")
        file = order.run.progress / f"fold{order.fold}.jsonl"
        file.unlink(missing_ok=True)  # of a process that died
        future = pool.submit(train_elsewhere, code_digest(), pickle.dumps(order))
        self.at_work[future] = Place(order, slot, Listener(file))

    def _look(self) -> None:
        """Give signs of life, hear what the folds tell, and ask them to stop when somebody wants that."""
        for command in self.commands.values():
            command.renew()
        for place in self.at_work.values():
            self._hear(place)
        if not self.stopped and self.stopping():
            self.stopped = True
            for command in self.commands.values():
                command.stop()
            for future in [future for future, place in self.at_work.items() if not place.listener.begun]:
                future.cancel()
                del self.at_work[future]

    def _hear(self, place: Place) -> None:
        place.listener.hear(lambda n: self.display.advance(n, self._text()), self.display.skip, self._teller(place))

    def _text(self) -> str:
        return f"{self.ended} of {self.total} done, {len(self.at_work)} at work"

    def _teller(self, place: Place) -> Callable[[str], None]:
        prefix = f"{place.order.run.name}: " if self.prefixed else ""
        return lambda line: say(prefix + line)

    def _died(self, future: Future[Any], pool: Pool) -> bool:
        """Take the outcome of a fold; whether there is none, since its process died."""
        place = self.at_work[future]
        self._hear(place)
        try:
            outcome, why = future.result()
        except pool.died:
            self.display.skip(-place.listener.seen)
            return True
        except CancelledError:
            outcome, why = STOPPED, ""
        except Exception as error:  # it could not even begin: another version, another Python
            outcome, why = "refused", f"the worker could not take it: {type(error).__name__}: {error}"
        if outcome == DONE:
            self.ended += 1
            self.display.advance(0, self._text())
            self.kept(place.order)
        elif outcome != STOPPED or not self.stopped:
            self._failed(place.order, why or UNASKED)
        return False

    def _failed(self, order: FoldOrder, why: str) -> None:
        self.failures.append((order, why))
        say(f"{order.name} failed: {why}")


def one_after_another(
    orders: Sequence[FoldOrder],
    total: int,
    train: Callable[..., None],
    kept: Callable[[FoldOrder], None],
    ranks: Ranks = ALONE,
) -> None:
    """Train folds in this process, and in those that take part in each.

    Args:
        orders: The folds.
        total: Photos that they will see.
        train: ``pipeline.orders.train_fold``.
        kept: Called with each fold that is trained and kept.
        ranks: The processes that train each network together; the others do what this one, the first, names.

    Raises:
        PipelineError: A fold failed; those after it are not begun.
    """
    several = len({order.run.name for order in orders}) > 1
    with counted("+".join(dict.fromkeys(head for order in orders for head in order.heads)), total) as display:
        for order in orders:
            prefix = f"{order.run.name}: " if several else ""
            with noted() as stopping, heard_by(lambda line, prefix=prefix: say(prefix + line)):  # type: ignore[misc]
                ranks.same((code_digest(), order))
                train(order, display.advance, display.skip, stopping, ranks)
            kept(order)


def side_by_side(
    orders: Sequence[FoldOrder], total: int, side: Side, kept: Callable[[FoldOrder], None]
) -> list[tuple[FoldOrder, str]]:
    """Train folds in other processes; those that failed, and why.

    Args:
        orders: The folds; ``orders`` of a run that another command was killed in are taken over from its processes.
        total: Photos that they will see.
        side: How many at once, and where.
        kept: Called with each fold that is trained and kept.

    Raises:
        ConfigError: The engine is not installed or does not answer.
        BaseException: What somebody asked to stop with, once every fold at work has written a checkpoint.
    """
    commands = {order.run.name: Command(order.run.progress) for order in orders}
    try:
        for command in commands.values():
            command.begin()
        with counted("folds", total) as display, noted() as stopping:
            work = Work(side, commands, display, stopping, kept, len(commands) > 1, len(orders), deque(orders))
            work.run()
    finally:
        for command in commands.values():
            command.end()
    return work.failures
