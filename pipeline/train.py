"""Training heads over K folds: run the folds that lack, keep each as it ends, then make the run whole."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from heads.base import Head
from pipeline.checkpoints import Checkpoints, machine_of
from pipeline.config import TrainConfig
from pipeline.errors import ArtifactError, ConfigError, LayoutError, Stopped
from pipeline.files import SCHEMA, Arrays, write_arrays, write_bytes, write_json
from pipeline.findings import many
from pipeline.finish import finish
from pipeline.fold import FoldData, FoldJob, FoldResult, workload
from pipeline.images import Pixels, read_all
from pipeline.interrupts import Terminated, noted
from pipeline.plan import SHARED_MEMORY, Plan, fitting_workers, fold_data
from pipeline.progress import counted, minutes, say
from pipeline.recover import run_patiently
from pipeline.state import Row
from pipeline.store import Run, Store

READER = 1  # counts changes of how photos are read and resized, which make older caches useless


def default_name(heads: Iterable[Head], config: TrainConfig) -> str:
    """The run's name when none is given: the heads, and the objective when one was asked for."""
    return "+".join(head.name for head in heads) + (f"-{config.objective}" if config.objective else "")


def train_heads(plan: Plan, store: Store, name: str, *, only: int | None = None, fresh: bool = False) -> Run:
    """Train all folds that are not yet there, or ``only`` one, and make the run whole when none lacks.

    An interrupted fold goes on from its last checkpoint, and the run ends in the same bytes as one that was not
    interrupted (on a CPU, with the same threads and library versions).

    Raises:
        ArtifactError: Another run has the name, another command trains it, or files cannot be written.
        Stopped: Ctrl-C or SIGTERM; finished folds are kept, and a checkpoint of the one in training.
    """
    if fresh and only is not None:
        raise ArtifactError("--fresh removes all folds of the run; use it without --fold")
    run = store.run(name)
    with plan.ranks.together(plan.device):
        if not plan.ranks.first:
            _train_folds(plan, store, run, [])  # those that the first process names
            return run
        with run.locked() as former:
            if former and not fresh:
                say(former)
            _train_run(plan, store, run, only=only, fresh=fresh)
    return run


def _train_run(plan: Plan, store: Store, run: Run, *, only: int | None, fresh: bool) -> None:
    n_folds = plan.config.folds
    if fresh:
        run.clear()
    _claim(run, plan)
    if run.whole:
        if faults := run.faults(run.info()["files"]):
            raise ArtifactError(f"run {run.name!r}: {faults[0]}; restore it, or train the run again with --fresh")
        run.drop_parts(n_folds)
        plan.ranks.same([])
        say(f"run {run.name!r} is already finished with these settings; --fresh trains it again")
        return
    lacking = [fold for fold in range(n_folds) if not _kept(run, fold)]
    wanted = [fold for fold in lacking if only in (None, fold)]
    if len(lacking) < n_folds:
        say(f"{n_folds - len(lacking)} of {n_folds} folds are there already")
    try:
        _train_folds(plan, store, run, wanted)
        if all(run.fold_done(fold) for fold in range(n_folds)):
            finish(plan, run)
    except (KeyboardInterrupt, Terminated) as stop:
        kept = sum(run.fold_done(fold) for fold in range(n_folds))
        begun = " and a checkpoint of the next" if any(run.checkpoints.glob("*.json")) else ""
        how = "the same command without --fresh goes on" if fresh else "the same command goes on"
        raise Stopped(
            f"stopped; {kept} of {n_folds} folds{begun} are kept in {run.folder}, {how}",
            143 if isinstance(stop, Terminated) else 130,
        ) from None


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


def _train_folds(plan: Plan, store: Store, run: Run, folds: list[int]) -> None:
    ranks, data = plan.ranks, plan.data
    folds = ranks.same(folds)
    if not folds:
        return
    if ranks.same(plan.digest()) != plan.digest():
        raise ConfigError("this process sees other data, code or settings than the first; give all the same")
    with ranks.first_alone():
        photos = cached_photos(store, data.samples.paths, plan.config.image_size, "reading photos")
        test = cached_photos(store, data.test_paths, plan.config.image_size, "reading eval photos")
    workers = fitting_workers(plan.config, plan.workers)
    if workers < plan.workers:
        say(
            f"shared memory ({SHARED_MEMORY}) has room for {many(workers, 'worker')}, not for {plan.workers}; "
            "`pipe doctor` tells more"
        )
    jobs = [fold_data(plan, fold, photos, test) for fold in folds]
    label = "+".join(head.name for head in plan.task.heads)
    with counted(label, sum(workload(job, plan.config) for job in jobs)) as display, noted() as stopping:
        for job in jobs:
            where = f"fold {job.fold} of {plan.config.folds}"

            def advance(n: int, text: str, where: str = where) -> None:
                display.advance(n, f"{where} {text}")

            machine = machine_of(plan.device, ranks.size)
            saver = Checkpoints(run.checkpoints, job.fold, plan.digest(), machine, plan.config.checkpoint_every)
            result = run_patiently(
                FoldJob(
                    plan.task,
                    job,
                    plan.config,
                    plan.device,
                    workers,
                    smallest_micro_batch(plan, run) if ranks.size == 1 else plan.config.batch_size,
                    advance,
                    _say_epoch,
                    display.skip,
                    saver if ranks.first else None,
                    stopping,
                    ranks,
                )
            )
            if ranks.first:
                keep(plan, run, job, result)
                saver.clear()
            say(f"{where} done in {minutes(result.progress.seconds)}")


def smallest_micro_batch(plan: Plan, run: Run) -> int:
    """How many photos at once the memory is known to hold: what the folds before came down to, else a whole batch."""
    kept = [run.fold_facts(fold)["micro_batch"] for fold in range(plan.config.folds) if run.fold_done(fold)]
    return min([plan.config.batch_size, *kept])


def cached_photos(store: Store, paths: tuple[Path, ...], size: int, label: str) -> Pixels:
    """The (N, S, S, 3) resized photos, kept on disk between runs; a damaged photo shows here, before any training.

    Raises:
        LayoutError: A photo is no longer there, or cannot be read.
    """
    if not paths:
        return np.empty((0, size, size, 3), dtype=np.uint8)
    try:
        stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    except OSError as error:
        raise LayoutError(f"cannot read the image {error.filename}: {error.strerror}") from error
    key = hashlib.sha256(repr((READER, size, stats)).encode()).hexdigest()[:16]

    def build() -> Iterable[Pixels]:
        with counted(label, len(paths)) as display:
            for photo in read_all(paths, size):
                yield photo
                display.advance(1, "")

    return store.photos(key, (len(paths), size, size, 3), build)


def _say_epoch(row: Row) -> None:
    heads = [key.removesuffix("_macro_f1") for key in row if key.endswith("_macro_f1")]
    scores = "  ".join(f"{head} F1 {row[f'{head}_macro_f1']:.3f}" for head in heads)
    say(
        f"fold {row['fold']:.0f} epoch {row['epoch']:2.0f}  loss {row['train_loss']:.4f}  {scores}  "
        f"{row['images_per_second']:.0f} img/s"
    )


def keep(plan: Plan, run: Run, job: FoldData, result: FoldResult) -> None:
    """Write what a fold gave; its JSON comes last and marks it as kept."""
    from safetensors.torch import save

    arrays: Arrays = {"rows": job.held_out}
    for part, views in (("oof", result.held_out), ("test", result.test)):
        for view, heads in views.items():
            arrays |= {f"{part}/{head.name}/{view}": p for head, p in zip(plan.task.heads, heads, strict=True)}
    write_bytes(run.folder / f"fold{job.fold}.safetensors", save(result.weights))
    write_arrays(run.folder / f"fold{job.fold}.npz", arrays)
    facts = {
        "schema": SCHEMA,
        "fold": job.fold,
        "settings": plan.digest(),
        "files": run.checksums([f"fold{job.fold}.safetensors", f"fold{job.fold}.npz"]),
        "device": plan.device.type,
        "processes": plan.ranks.size,
        "absolute_errors": result.absolute_errors,
        **dataclasses.asdict(result.progress),
    }
    write_json(run.folder / f"fold{job.fold}.json", facts)


def try_one_batch(plan: Plan) -> None:
    """Send one batch through every stage; write nothing.

    Raises:
        PipelineError: Something on the way does not work.
    """
    size = plan.config.batch_size
    rows = plan.labelled
    train, held_out = rows[plan.folds[rows] != 0][:size], rows[plan.folds[rows] == 0][:size]
    chosen = np.concatenate([train, held_out])
    samples = plan.data.samples.take(chosen)
    small = replace(
        plan,
        data=replace(plan.data, samples=samples),
        config=replace(plan.config, epochs=1),
        values=plan.values[chosen],
        folds=plan.folds[chosen],
    )
    photos = np.stack(list(read_all(samples.paths, plan.config.image_size)))
    tests = list(read_all(plan.data.test_paths[:size], plan.config.image_size))
    test = np.stack(tests) if tests else np.empty((0, *photos.shape[1:]), dtype=np.uint8)
    job = fold_data(small, 0, photos, test)
    result = run_patiently(
        FoldJob(plan.task, job, small.config, plan.device, plan.workers, size, lambda n, text: None, _say_epoch)
    )
    for view, parts in result.held_out.items():
        names = ", ".join(f"{h.name} {p.shape[0]} x {p.shape[1]}" for h, p in zip(plan.task.heads, parts, strict=True))
        say(f"view {view}: held-out {names}; eval {len(test)}")
    say(f"dry run passed: {len(job.train)} photos trained, {len(job.held_out)} held out; nothing was written")
