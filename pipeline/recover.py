"""What a fold does when memory or a worker process fails: it goes on from its last checkpoint with less of either."""

from __future__ import annotations

import gc
import shutil
from dataclasses import dataclass, replace

import torch

from pipeline.engine import OutOfMemory
from pipeline.errors import ConfigError
from pipeline.findings import many
from pipeline.fold import FoldJob
from pipeline.fold_data import FoldResult
from pipeline.plan import SHARED_MEMORY
from pipeline.progress import say

LEAST = 2  # photos at once; batch normalisation cannot do with one


@dataclass(slots=True)
class _Counted:
    """A job's display, and how far it has come, so that it can be taken back."""

    job: FoldJob
    seen: int = 0

    def report(self, n: int, text: str) -> None:
        """Show ``n`` photos more."""
        self.seen += n
        self.job.report(n, text)

    def skip(self, n: int) -> None:
        """Show that ``n`` photos need not be seen."""
        self.seen += n
        self.job.skip(n)


def run_patiently(job: FoldJob) -> FoldResult:
    """Run a fold to its end, with smaller micro-batches or fewer workers when there is no other way.

    Neither changes what is learnt: a step keeps its batch, and workers only prepare it.

    Raises:
        ConfigError: Not even two photos fit into memory, or other processes train with this one.
    """
    while True:
        counted = _Counted(job)
        try:
            return replace(job, report=counted.report, skip=counted.skip).run()
        except OutOfMemory as error:
            _require_alone(
                job, f"out of memory on {job.device}", f"a smaller --batch-size than {job.config.batch_size}, or more"
            )
            lesser, why = _smaller(job, error)
        except (RuntimeError, OSError, MemoryError) as error:
            if not job.workers or not (cause := worker_fault(str(error))):
                raise
            _require_alone(job, cause, f"fewer --workers than {job.workers}, or other")
            lesser = replace(job, workers=job.workers // 2)
            why = f"{cause}; going on with {many(lesser.workers, 'worker')} instead of {job.workers}"
        say(why)  # only here are the frames gone that held the network's memory
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        job.skip(-counted.seen)
        job = lesser


def _require_alone(job: FoldJob, what: str, remedy: str) -> None:
    """Refuse to go on with less where other processes wait for this one's part of the step."""
    if job.ranks.size > 1:
        raise ConfigError(
            f"{what}, and {job.ranks.size} processes cannot go on with less; use {remedy} processes; "
            "the last checkpoint is kept"
        ) from None


def _smaller(job: FoldJob, error: OutOfMemory) -> tuple[FoldJob, str]:
    half = error.micro_batch // 2
    if half < LEAST:
        raise ConfigError(
            f"{job.config.backbone} at {job.config.image_size} px does not fit into the memory of {job.device} even "
            f"with {error.micro_batch} photos at once; use a smaller --image-size or --backbone"
        )
    why = f"out of memory on {job.device} with {error.micro_batch} photos at once; going on with {half}, batches of"
    return replace(job, micro_batch=half), f"{why} {job.config.batch_size} in parts"


def worker_fault(message: str) -> str:
    """Why a worker process failed, in words; empty when the message is not about one."""
    if "Too many open files" in message or "ancdata" in message:
        return "too many files are open (see `ulimit -n`)"
    if "Bus error" in message or "shared memory" in message or "/torch_" in message:
        size = f", {shutil.disk_usage(SHARED_MEMORY).total / 2**20:.0f} MiB" if SHARED_MEMORY.is_dir() else ""
        return f"the shared memory ({SHARED_MEMORY}{size}) is too small for these workers (docker: --shm-size)"
    if "timed out" in message:
        return "the worker processes gave no batch for a long time"
    if message.startswith(("Caught MemoryError in DataLoader worker", "Caught OSError in DataLoader worker")):
        return "a worker process had too little memory or files"
    if message.startswith("DataLoader worker"):
        return "a worker process ended unexpectedly (memory is what lacks most often)"
    return ""
