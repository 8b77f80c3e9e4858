"""From a plan to orders: what each process must know to train a fold."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from pipeline.cache import PhotoCache
from pipeline.findings import many
from pipeline.fold_data import workload
from pipeline.images import one_behind_another
from pipeline.orders import FoldOrder
from pipeline.plan import SHARED_MEMORY, Plan, fitting_workers, fold_data, weights_digest
from pipeline.pools import Side
from pipeline.progress import say
from pipeline.store import Run

READING = {"train": "reading photos", "extra": "reading extra photos", "eval": "reading eval photos"}


def fold_orders(
    plan: Plan, cache: PhotoCache, held: ExitStack, run: Run, folds: list[int], side: Side
) -> tuple[list[FoldOrder], int]:
    """What a process must know to train each of ``folds``, and how many photos they will see in all.

    Args:
        plan: Of the run.
        cache: Gives the photos.
        held: Keeps them there.
        run: Where the folds are kept.
        folds: Their numbers.
        side: How many are trained at once.
    """
    size, known = plan.config.image_size, plan.photo_bytes
    *photos, test = (
        held.enter_context(cache.opened(files, known[part], size, READING[part])) for part, files in plan.files.items()
    )
    opened = one_behind_another(part.open() for part in photos)
    jobs = [fold_data(plan, fold, opened, test.open()) for fold in folds]
    order = FoldOrder(
        run=Run(run.folder.resolve()),
        fold=0,
        heads=tuple(head.name for head in plan.task.heads),
        config=plan.config,
        settings=plan.digest(),
        weights=weights_digest(plan.config.weights),
        photos=tuple(part.file.resolve() for part in photos),
        test=test.file.resolve(),
        values=plan.all_values,
        persons=plan.all_persons,
        train=plan.labelled,
        held_out=plan.labelled,
        inner=plan.labelled[:0],
        alike=plan.alike,
        device=str(plan.device),
        workers=_workers(plan, side),
        threads=side.threads,
    )
    orders = [replace(order, fold=job.fold, train=job.train, held_out=job.held_out, inner=job.inner) for job in jobs]
    return orders, sum(workload(job, plan.config) for job in jobs)


def _workers(plan: Plan, side: Side) -> int:
    """Processes that prepare batches, for each fold; those of one computer share its cores and its shared memory."""
    beside = side.jobs if side.local else 1
    asked = plan.workers if plan.config.workers >= 0 else -(-plan.workers // beside)
    workers = fitting_workers(plan.config, asked * beside) // beside
    if workers < asked:
        say(
            f"shared memory ({SHARED_MEMORY}) has room for {many(workers, 'worker')}, not for {asked}; "
            "`pipe doctor` tells more"
        )
    return workers
