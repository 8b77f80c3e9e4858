"""One fold in whichever process trains it: an order that can be sent there, and what is done with it.

N photos, H heads.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import pickle
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from ensemble.predictions import EnsembleError
from heads.base import FloatArray, HeadError, IntArray
from heads.registry import head_named
from heads.task import Task
from pipeline.checkpoints import Checkpoints, machine_of
from pipeline.config import TrainConfig
from pipeline.entries import open_array
from pipeline.errors import ArtifactError, ConfigError, PipelineError
from pipeline.files import SCHEMA, Arrays, write_arrays, write_bytes, write_json
from pipeline.fold import FoldJob
from pipeline.fold_data import FoldData, FoldResult
from pipeline.heap import keep_freed_memory
from pipeline.images import one_behind_another
from pipeline.interrupts import Stopping, Terminated, noted
from pipeline.link import Teller, Watch
from pipeline.locks import locked
from pipeline.plan import code_digest, task_of, weights_digest
from pipeline.progress import heard_by, minutes, say
from pipeline.ranks import ALONE, Ranks
from pipeline.recover import run_patiently
from pipeline.state import Row
from pipeline.store import Run
from pipeline.tracking.events import row_teller, series_of

DONE, STOPPED, FAILED = "done", "stopped", "failed"
PATIENCE = 30.0  # seconds that the fold of a killed command gets to see that it must stop
ONE_AT_A_TIME = threading.Lock()  # random numbers and threads belong to the process, and a worker may have several


@dataclass(frozen=True, slots=True)
class FoldOrder:
    """All that a process must know to train one fold; photos and results go through files that it sees.

    Attributes:
        run: Where the fold is kept.
        fold: Its number.
        heads: Names of the heads to learn.
        config: The settings.
        settings: Fingerprint of all that must be equal for folds of one run.
        weights: Fingerprint of the weights to begin with.
        photos: The files of the (N, S, S, 3) resized photos, and of the extra ones behind them.
        test: That of the eval photos.
        values: (N, H) values of the heads, NaN = not labelled.
        persons: (N,) number of the person on each photo.
        train: Row numbers to learn from.
        held_out: Row numbers to predict.
        inner: Row numbers by which epochs are judged.
        alike: What mixed photos must share, as a class index.
        device: Where to run.
        workers: Processes that prepare batches.
        threads: Of this fold; 0 = as many as the process has.
        token: Of the command that asks, when it is another process.
    """

    run: Run
    fold: int
    heads: tuple[str, ...]
    config: TrainConfig
    settings: str
    weights: str
    photos: tuple[Path, ...]
    test: Path
    values: FloatArray
    persons: IntArray
    train: IntArray
    held_out: IntArray
    inner: IntArray
    alike: IntArray
    device: str
    workers: int
    threads: int
    token: str = ""

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"fold {self.fold} of run {self.run.name!r}"

    @property
    def place(self) -> str:
        """What the lines of its own run call it."""
        whole = self.fold == self.config.folds
        return "the full fit" if whole else f"fold {self.fold} of {self.config.folds}"


def train_elsewhere(code: str, packed: bytes) -> tuple[str, str]:
    """Train a fold that another process asks for, and keep it.

    Args:
        code: Fingerprint of the code that asks.
        packed: The pickled order; unpacked by equal code only.

    Returns:
        ``DONE``, ``STOPPED`` or ``FAILED``, and why it failed.
    """
    if code != code_digest():
        why = f"the worker on {socket.gethostname()} has other code ({code_digest()}, not {code})"
        return FAILED, f"{why}; install the same version there and start it again"
    with ONE_AT_A_TIME:
        return _watched(pickle.loads(packed))


def _watched(order: FoldOrder) -> tuple[str, str]:
    watch = Watch(order.run.progress / "command", order.token)
    teller = Teller(order.run.progress / f"fold{order.fold}.jsonl")
    try:
        watch.require()
        teller.begin()
        with noted() as asked, heard_by(teller.say):
            train_fold(order, teller.advance, teller.skip, lambda: asked() or watch.stopping())
    except (KeyboardInterrupt, Terminated):
        return STOPPED, ""
    except (PipelineError, HeadError, EnsembleError) as error:
        return FAILED, str(error)
    except Exception as error:  # a bug: its traceback is shown, and the other folds go on
        teller.say(traceback.format_exc())
        return FAILED, f"{type(error).__name__}: {error}"
    finally:
        teller.flush()
    return DONE, ""


def train_fold(
    order: FoldOrder,
    advance: Callable[[int, str], None],
    skip: Callable[[int], None],
    stopping: Stopping,
    ranks: Ranks = ALONE,
) -> None:
    """Train one fold in this process, from its newest checkpoint on, and keep it; or take part, as one of ``ranks``.

    Raises:
        PipelineError: Another process trains it, a file cannot be seen or written, or settings do not fit.
        BaseException: What ``stopping`` gave; a checkpoint is kept.
    """
    keep_freed_memory()
    run, config = order.run, order.config
    lock = locked(run.fold_lock(order.fold), order.name, patience=PATIENCE) if ranks.first else nullcontext()
    with lock, _threads(order.threads):
        if stop := ranks.agreed(stopping()):
            raise stop
        if ranks.same(run.fold_done(order.fold)):
            return  # by a process that outlived its command
        if order.weights != weights_digest(config.weights):
            raise ArtifactError(f"{config.weights} on {socket.gethostname()} is another file than where this began")
        own, *extra = map(open_array, order.photos)
        photos, test = one_behind_another([own, *extra]), open_array(order.test)
        task = task_of(map(head_named, order.heads), config, order.values[: len(own)])
        device = ranks.device(_device(order.device))
        machine = machine_of(device, ranks.size)
        saver = Checkpoints(run.checkpoints, order.fold, order.settings, machine, config.checkpoint_every)
        job = FoldJob(
            task,
            FoldData(
                order.fold,
                photos,
                order.values,
                order.train,
                order.held_out,
                test,
                order.persons,
                order.alike,
                order.inner,
            ),
            config,
            device,
            0 if multiprocessing.current_process().daemon else order.workers,  # daemons may have no children
            smallest_micro_batch(order) if ranks.size == 1 else config.batch_size,
            lambda n, text: advance(n, f"{order.place} {text}"),
            _teller(order) if ranks.first else say_epoch,
            skip,
            saver if ranks.first else None,
            stopping,
            ranks,
        )
        result = run_patiently(job)
        if ranks.first:
            keep(order, task, result, ranks.size)
            saver.clear()
        say(f"{order.place} done in {minutes(result.progress.seconds)}")


def follow(ranks: Ranks, device: torch.device) -> None:
    """Take part in all folds that the first process names, as one of the others.

    Raises:
        ConfigError: The code here is not that of the first process.
        RankError: Another process has gone.
    """
    with ranks.together(device):
        while (named := ranks.same(None)) is not None:
            code, order = named
            if code != code_digest():
                raise ConfigError(
                    f"process {ranks.rank} has other code ({code_digest()}, not {code}); install the same"
                )
            with noted() as stopping:
                train_fold(order, lambda n, text: None, lambda n: None, stopping, ranks)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Compute with so many threads; a worker that goes on with something else gets its own back."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device(name: str) -> torch.device:
    """The device called ``name``; of several GPUs it becomes the one that torch takes when none is named."""
    device = torch.device(name)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


def smallest_micro_batch(order: FoldOrder) -> int:
    """How many photos at once the memory is known to hold: what the folds before came down to, else a whole batch."""
    run, config = order.run, order.config
    kept = [run.fold_facts(fold)["micro_batch"] for fold in range(config.folds) if run.fold_done(fold)]
    return min([config.batch_size, *kept])


def _teller(order: FoldOrder) -> Callable[[Row], None]:
    """A function that says how an epoch went, and tells trackers."""
    tell = row_teller(order.run, order.heads, series_of(order.fold, order.config.folds))

    def both(row: Row) -> None:
        say_epoch(row)
        tell(row)

    return both


def say_epoch(row: Row) -> None:
    """Say how an epoch went, in one line."""
    heads = [key.removesuffix("_macro_f1") for key in row if key.endswith("_macro_f1")]
    scores = [f"{head.replace('_', ' ')} F1 {row[f'{head}_macro_f1']:.3f}" for head in heads]
    place, loss = f"fold {row['fold']:.0f} epoch {row['epoch']:2.0f}", f"loss {row['train_loss']:.4f}"
    say("  ".join([place, loss, *scores, f"{row['images_per_second']:.0f} img/s"]))


def keep(order: FoldOrder, task: Task, result: FoldResult, processes: int) -> None:
    """Write what a fold gave; its JSON comes last and marks it as kept."""
    from safetensors.torch import save

    run, fold = order.run, order.fold
    arrays: Arrays = {"rows": order.held_out}
    for part, views in (("oof", result.held_out), ("test", result.test)):
        for view, heads in views.items():
            arrays |= {f"{part}/{head.name}/{view}": p for head, p in zip(task.heads, heads, strict=True)}
    write_bytes(run.folder / f"fold{fold}.safetensors", save(result.weights))
    write_arrays(run.folder / f"fold{fold}.npz", arrays)
    facts = {
        "schema": SCHEMA,
        "fold": fold,
        "settings": order.settings,
        "files": run.checksums([f"fold{fold}.safetensors", f"fold{fold}.npz"]),
        "device": torch.device(order.device).type,
        "threads": torch.get_num_threads(),
        "processes": processes,
        "absolute_errors": result.absolute_errors,
        **dataclasses.asdict(result.progress),
    }
    write_json(run.folder / f"fold{fold}.json", facts)
