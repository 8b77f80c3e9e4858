"""Training heads over K folds: run the folds that lack, keep each as it ends, then make the run whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from heads.base import Head
from pipeline.cache import PhotoCache, cache_of
from pipeline.config import TrainConfig
from pipeline.errors import ArtifactError, FoldError, Stopped
from pipeline.files import write_json
from pipeline.findings import many
from pipeline.finish import finish
from pipeline.fold import FoldJob
from pipeline.full import finish_full, full_plan, lacks_full
from pipeline.heap import keep_freed_memory
from pipeline.images import stacked
from pipeline.interrupts import Terminated
from pipeline.ordering import fold_orders
from pipeline.orders import FoldOrder, say_epoch, train_fold
from pipeline.plan import Plan, fold_data
from pipeline.pools import Side
from pipeline.precision import choose_precision
from pipeline.progress import say
from pipeline.recover import run_patiently
from pipeline.rules import PRECISIONS
from pipeline.side_by_side import one_after_another, side_by_side
from pipeline.store import Run, Store
from pipeline.tracking.beside import Beside, told_beside
from pipeline.tracking.events import forget

Wanted = tuple[Plan, Run]
ALONE = Side()


def default_name(heads: Iterable[Head], config: TrainConfig) -> str:
    """The run's name when none is given: the heads, and the objective when one was asked for."""
    return "+".join(head.name for head in heads) + (f"-{config.objective}" if config.objective else "")


def run_name(heads: Sequence[Head], config: TrainConfig, given: str | None, *, separate: bool) -> str:
    """The run's name; the runs of separate heads add the head to the one that was given."""
    if given and separate:
        return f"{given}-{heads[0].name}"
    return given or default_name(heads, config)


def train_heads(plan: Plan, store: Store, name: str, *, only: int | None = None, fresh: bool = False) -> Run:
    """Train the run called ``name``, one fold after the other; see `train_runs`."""
    run = store.run(name)
    train_runs([(plan, run)], store, only=only, fresh=fresh)
    return run


def train_runs(
    wanted: Sequence[Wanted],
    store: Store,
    *,
    only: int | None = None,
    fresh: bool = False,
    side: Side = ALONE,
    track: Sequence[str] = (),
    verbose: bool = False,
) -> None:
    """Train all folds of these runs that are not yet there, or ``only`` one of each, and make those whole that can be.

    An interrupted fold goes on from its last checkpoint, and a run ends in the same bytes as one that was not
    interrupted, however many folds run side by side (on a CPU, with the same threads and library versions).

    Raises:
        ArtifactError: Other settings have the name, another command trains a run, or files cannot be written.
        FoldError: Folds failed that ran side by side; the others are kept.
        Stopped: Ctrl-C or SIGTERM; finished folds are kept, and checkpoints of those in training.
    """
    if fresh and only is not None:
        raise ArtifactError("--fresh removes all folds of the run; use it without --fold")
    side = side.divided(torch.get_num_threads())
    with ExitStack() as held:
        for _, run in wanted:
            former = held.enter_context(run.locked())
            if former and not fresh:
                say(former)
        cache = held.enter_context(cache_of(wanted[0][0].config, store.root))
        try:
            lacking = []
            for plan, run in wanted:
                plan = _decided(plan, None if fresh else run, cache, store, side, verbose=verbose)
                if fresh:
                    run.clear()
                lacking.append((plan, run, _lacking(plan, run, only=only)))
            ranks = wanted[0][0].ranks
            beside = held.enter_context(told_beside(track, [(plan, run) for plan, run, _ in lacking]))
            with ranks.together(wanted[0][0].device):
                _train_lacking(lacking, cache, side, beside)
                _fit_fully([(plan, run) for plan, run, _ in lacking], cache, side, only=only)
                ranks.same(None)  # nothing more for the others
        except (KeyboardInterrupt, Terminated) as stop:
            again = "the same command without --fresh" if fresh else "the same command"
            raise Stopped(
                f"stopped; {_what_is_kept(wanted, again)}",
                143 if isinstance(stop, Terminated) else 130,
            ) from None


def _decided(plan: Plan, run: Run | None, cache: PhotoCache, store: Store, side: Side, *, verbose: bool) -> Plan:
    """The plan with what its photos contain, and with the precision that its run began in, or else the fastest."""
    plan = replace(plan, photo_bytes={part: cache.content(files) for part, files in plan.files.items()})
    if plan.config.precision != "auto":
        return plan
    begun = run.settings()["config"].get("precision") if run and (run.whole or run.has_work) else None
    if begun in PRECISIONS:
        return replace(plan, config=replace(plan.config, precision=begun))
    keep_freed_memory()  # as the training does
    threads = torch.get_num_threads()
    torch.set_num_threads(side.threads or threads)
    try:
        timing = choose_precision(plan.task, plan.config, plan.device, store.root / "precision.json")
    finally:
        torch.set_num_threads(threads)
    how = "as timed before" if timing.remembered else "the fastest that was timed"
    say(f"precision {timing.chosen}, {how}" + (f"\n{timing.table()}" if verbose else ""))
    return replace(plan, config=replace(plan.config, precision=timing.chosen))


def _lacking(plan: Plan, run: Run, *, only: int | None) -> list[int]:
    """Claim the run; the folds to train."""
    n_folds = plan.config.folds
    _claim(run, plan)
    if run.whole:
        if faults := run.faults(run.info()["files"]):
            raise ArtifactError(f"run {run.name!r}: {faults[0]}; restore it, or train the run again with --fresh")
        run.drop_parts(range(n_folds + ("full" in run.info())))
        say(f"run {run.name!r} is already finished with these settings; --fresh trains it again")
        return []
    lacking = [fold for fold in range(n_folds) if not _kept(run, fold)]
    if len(lacking) < n_folds:
        say(f"{n_folds - len(lacking)} of {n_folds} folds are there already")
    if not lacking:
        finish(plan, run)
    return [fold for fold in lacking if only in (None, fold)]


def _what_is_kept(wanted: Sequence[Wanted], again: str) -> str:
    kept = sum(plan.config.folds if run.whole else run.folds_done(plan.config.folds) for plan, run in wanted)
    n_folds = sum(plan.config.folds for plan, _ in wanted)
    begun = " and a checkpoint of the next" if any(any(run.checkpoints.glob("*.json")) for _, run in wanted) else ""
    folder = wanted[0][1].folder if len(wanted) == 1 else wanted[0][1].folder.parent
    if not kept and not begun:
        return "nothing was trained yet; the same command begins anew"
    return f"{kept} of {n_folds} folds{begun} are kept in {folder}, {again} goes on"


def _kept(run: Run, fold: int) -> bool:
    """Whether a fold is trained and its files are as they were written; a damaged one is told and dropped."""
    if not run.fold_done(fold):
        return False
    try:
        faults = run.faults(run.fold_facts(fold)["files"])
    except ArtifactError as error:
        faults = [str(error)]
    if faults:
        say(f"fold {fold} of run {run.name!r}: {faults[0]}; it is trained again")
        run.drop_fold(fold)
    return not faults


def _claim(run: Run, plan: Plan) -> None:
    """Note the settings in the run's folder, or check that they are those noted there."""
    settings = plan.settings()
    if not run.whole and not run.has_work:
        forget(run)
        write_json(run.folder / "settings.json", settings)
        return
    changed = list(_differences(run.settings(), settings))
    if changed:
        raise ArtifactError(
            f"run {run.name!r} was trained differently: {'; '.join(changed)}. "
            "Give another --name, or --fresh to replace it"
        )


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterable[str]:
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, "" if key == "config" else f"{key}.")
        elif before != after:
            yield f"{prefix}{key} was {before}, is {after}"


def _fit_fully(wanted: Sequence[Wanted], cache: PhotoCache, side: Side, *, only: int | None) -> None:
    """Train one more network on everything for each run that asks for it and whose folds are all there."""
    lacking = [(full_plan(plan, run), run) for plan, run in wanted if only is None and lacks_full(plan, run)]
    if not lacking:
        return
    say("full fit: one more network, trained on everything, for the eval photos; the scores stay those of the folds")
    plans = {run.name: plan for plan, run in lacking}
    work = [(plan, run, [plan.config.folds] if not _kept(run, plan.config.folds) else []) for plan, run in lacking]
    _train_orders(work, cache, side, lambda order: None)
    for name, run in {run.name: run for _, run in lacking}.items():
        finish_full(plans[name], run)


def _train_lacking(
    wanted: Sequence[tuple[Plan, Run, list[int]]], cache: PhotoCache, side: Side, beside: Beside
) -> None:
    """Train these folds; a run whose last fold is kept is made whole at once.

    Raises:
        FoldError: Some failed while others went on.
    """
    plans = {run.name: plan for plan, run, _ in wanted}

    def kept(order: FoldOrder) -> None:
        n_folds, plan = order.config.folds, plans[order.run.name]
        beside.fold_kept(plan, order.run, order.fold)
        if order.run.folds_done(n_folds) == n_folds:
            finish(plan, order.run)
            beside.run_finished(plan, order.run)

    _train_orders(wanted, cache, side, kept)


def _train_orders(
    wanted: Sequence[tuple[Plan, Run, list[int]]], cache: PhotoCache, side: Side, kept: Callable[[FoldOrder], None]
) -> None:
    """Train these folds, and call ``kept`` after each.

    Raises:
        FoldError: Some failed while others went on.
    """
    failures: list[tuple[FoldOrder, str]] = []
    with ExitStack() as held:
        made = [fold_orders(plan, cache, held, run, folds, side) for plan, run, folds in wanted if folds]
        orders, total = [order for part, _ in made for order in part], sum(photos for _, photos in made)
        if side.alone:
            one_after_another(orders, total, train_fold, kept, wanted[0][0].ranks)
        elif orders:
            failures = side_by_side(orders, total, side, kept)
    if failures:
        named = "; ".join(f"{order.name}: {why}" for order, why in failures)
        raise FoldError(
            f"{len(failures)} of {many(len(orders), 'fold')} failed: {named}. The others are kept, the same command "
            "goes on"
        )


def try_one_batch(plan: Plan) -> None:
    """Send one batch through every stage; write nothing.

    Raises:
        PipelineError: Something on the way does not work.
    """
    size = plan.config.batch_size
    rows = plan.labelled
    train, held_out = rows[plan.folds[rows] != 0][:size], rows[plan.folds[rows] == 0][:size]
    chosen = np.concatenate([train, held_out])
    samples, extra = plan.data.samples.take(chosen), plan.extra.take(np.arange(len(plan.extra))[:size])
    small = replace(
        plan,
        data=replace(plan.data, samples=samples),
        config=replace(plan.config, epochs=1),
        values=plan.values[chosen],
        extra=extra,
        folds=plan.folds[chosen],
        alike=plan.alike[chosen],
    )
    photos = stacked(samples.paths + extra.samples.paths, plan.config.image_size)
    test = stacked(plan.data.test_paths[:size], plan.config.image_size)
    job = fold_data(small, 0, photos, test)
    result = run_patiently(
        FoldJob(plan.task, job, small.config, plan.device, plan.workers, size, lambda n, text: None, say_epoch)
    )
    for view, parts in result.held_out.items():
        names = ", ".join(f"{h.name} {p.shape[0]} x {p.shape[1]}" for h, p in zip(plan.task.heads, parts, strict=True))
        say(f"view {view}: held-out {names}; eval {len(test)}")
    say(f"dry run passed: {len(job.train)} photos trained, {len(job.held_out)} held out; nothing was written")
