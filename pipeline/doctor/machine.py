"""Checks of the machine: the device, memory, threads, shared memory."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.doctor.case import Case, refused
from pipeline.errors import ConfigError
from pipeline.findings import Finding, error, many, ok, size, warning

if TYPE_CHECKING:
    import torch

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
LITTLE = 2 * 2**30  # bytes; torch and its libraries alone take half of it


def device(case: Case) -> Iterator[Finding]:
    """Where the training would run."""
    import torch

    try:
        chosen = case.device
    except ConfigError as reason:
        yield refused(reason, fix="use --device auto")
        return
    if chosen.type == "cuda":
        yield from _cuda(chosen)
        return
    yield ok(f"device: {chosen.type}, {many(cores(), 'core')} for this process")
    if case.config.device == "auto" and chosen.type == "cpu" and (PROC / "driver" / "nvidia").exists():
        yield warning(
            f"an NVIDIA driver is here, but torch {torch.__version__} finds no GPU, so training is slow",
            "install a torch build with CUDA, or a newer driver; in a container, start it with its GPUs",
        )


def _cuda(chosen: torch.device) -> Iterator[Finding]:
    import torch

    free, total = torch.cuda.mem_get_info(chosen)
    text = f"device: {torch.cuda.get_device_name(chosen)}, {size(free)} of {size(total)} free"
    major, minor = torch.cuda.get_device_capability(chosen)
    builds = torch.cuda.get_arch_list()
    if not runs_on(builds, major, minor):
        yield error(
            f"{text}; its compute capability {major}.{minor} is not among those of torch {torch.__version__}: "
            f"{', '.join(builds)}",
            "install a torch build made for this GPU, or use --device cpu",
        )
    elif free < LITTLE:
        yield warning(text, "see with nvidia-smi who holds the rest; if training stops, use a smaller --batch-size")
    else:
        yield ok(text)


def runs_on(builds: list[str], major: int, minor: int) -> bool:
    """Whether one of torch's builds runs on a GPU of this compute capability.

    Machine code (``sm_86``) runs on the same major version from its minor version on; ``compute_90`` is compiled
    for any that is newer. Names of another form (ROCm's ``gfx90a``) are not judged.
    """
    known = [match for each in builds if (match := re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", each))]
    if not known:
        return True
    return any(
        (int(of_major), int(of_minor)) <= (major, minor) and (kind == "compute" or int(of_major) == major)
        for kind, of_major, of_minor in (match.groups() for match in known)
    )


def memory(case: Case) -> Iterator[Finding]:
    """Main memory, in a container its limit."""
    total, free, limit = total_memory(), free_memory(), memory_limit()
    parts = {"in all": total, "free": free, "granted to this container": limit}
    known = [f"{size(n_bytes)} {what}" for what, n_bytes in parts.items() if n_bytes is not None]
    text = f"memory: {', '.join(known) or 'unknown on this system'}"
    if (least := usable_memory()) is not None and least < LITTLE:
        yield warning(text, "close other programs or grant more; else use a smaller --batch-size and --workers 0")
    else:
        yield ok(text)


def usable_memory() -> int | None:
    """Bytes that a training can have at most; None = unknown."""
    known = (total_memory(), free_memory(), memory_limit())
    return min((n_bytes for n_bytes in known if n_bytes is not None), default=None)


def total_memory() -> int | None:
    """Bytes of main memory; None = unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # other systems
        return None


def free_memory() -> int | None:
    """Bytes of main memory that programs can still have; None = unknown."""
    line = re.search(r"^MemAvailable:\s+(\d+) kB$", _text(PROC / "meminfo"), re.MULTILINE)
    return int(line[1]) * 1024 if line else None


def memory_limit() -> int | None:
    """Bytes that this process's control groups (version 2) grant it; None = no limit."""
    return min((int(value) for value in _limits("memory.max") if value.isdigit()), default=None)


def cores() -> int:
    """Cores that this process may use: its affinity, and the CPU time of its control groups."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [value.split() for value in _limits("cpu.max")]
    granted = [math.ceil(int(quota) / int(period)) for quota, period in quotas if quota.isdigit()]
    return max(1, min([there, *granted]))


def _limits(name: str) -> Iterator[str]:
    """What the control group of this process and those above it say in the file ``name``."""
    own = re.search(r"^0::/(.*)$", _text(PROC / "self" / "cgroup"), re.MULTILINE)
    folder = CGROUP / own[1] if own else CGROUP
    for place in (folder, *folder.parents):
        if place.is_relative_to(CGROUP) and (value := _text(place / name).strip()):
            yield value


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def threads(case: Case) -> Iterator[Finding]:
    """Threads against the cores that they would share."""
    asked, there = os.environ.get("OMP_NUM_THREADS", ""), cores()
    if asked.isdigit():
        used, source = int(asked), f"OMP_NUM_THREADS={asked}"
    else:
        import torch

        used = torch.get_num_threads()
        source = f"torch takes {many(used, 'thread')}"
    if used > there:
        yield warning(
            f"threads: {source}, but this process has {many(there, 'core')}", f"export OMP_NUM_THREADS={there}"
        )
    else:
        yield ok(f"threads: {source} on {many(there, 'core')}")


def shared_memory(case: Case) -> Iterator[Finding]:
    """Shared memory against the batches that workers hold ready in it."""
    from pipeline.plan import SHARED_MEMORY, shared_memory_need, worker_count

    try:
        workers = worker_count(case.config, case.device)
    except ConfigError:
        return  # no such device: told already
    if not workers:
        yield ok("shared memory: not needed, no worker processes")
        return
    if not SHARED_MEMORY.is_dir():
        yield ok(f"shared memory: no {SHARED_MEMORY} on this system that could be too small")
        return
    need, free = shared_memory_need(case.config, workers), shutil.disk_usage(SHARED_MEMORY).free
    held = f"{many(workers, 'worker')} may hold up to {size(need)}"
    text = f"shared memory: {held}, {size(free)} are free in {SHARED_MEMORY}"
    if need > free:
        text += "; fewer workers will be used"
        yield warning(text, "use fewer --workers (0 needs none), or start the container with a larger --shm-size")
    else:
        yield ok(text)
