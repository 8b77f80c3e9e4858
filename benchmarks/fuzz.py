"""Damaged files of every format that is read: the outcome is success or an error of our own, anything else a finding.

Every case starts from a valid file, so that the damage is met deep inside. ``--pictures`` reads damaged pictures under
a memory limit instead.

    python -m benchmarks.fuzz --cases 20000 --seed 0
    python -m benchmarks.fuzz --pictures 2000
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save

from benchmarks import mutations
from benchmarks.mutations import Mutation, either
from benchmarks.valid import (
    VIEWS,
    checkpointed_job,
    picture_files,
    small_network,
    write_checkpoint,
    write_data,
    write_run,
)
from ensemble.line import Choices
from ensemble.predictions import EnsembleError
from heads.base import HeadError
from heads.registry import HEADS, LABELS
from pipeline import findings
from pipeline.averages import Kept
from pipeline.config import TrainConfig
from pipeline.engine import Trainer
from pipeline.errors import ArtifactError, PipelineError
from pipeline.files import checksum, write_csv
from pipeline.fixes import apply_fixes, read_fixes
from pipeline.layouts import load_dataset
from pipeline.members import persons_in
from pipeline.network import load_weights
from pipeline.plan import task_of
from pipeline.report import oof, runs, text
from pipeline.report.story import render as told
from pipeline.store import Store
from pipeline.submit import Asked, make_ensemble
from pipeline.verify import verdict, verify_runs

OURS = (PipelineError, HeadError, EnsembleError)
LONGEST = 30_000  # characters of a message, before a terminal gets its part


@dataclass(frozen=True, slots=True)
class Target:
    """One file that gets damaged, how, and what reads it."""

    file: Path
    damage: Mutation
    read: Callable[[], object]


def outcome(target: Target, rng: random.Random) -> str:
    """Damage the file, read it, put it back: ``success`` or ``refused``.

    Raises:
        Exception: A finding; the damaged file stays for a look.
    """
    valid = target.file.read_bytes()
    target.file.write_bytes(target.damage(valid, rng))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            target.read()
        found = "success"
    except OURS as error:
        if len(str(error)) > LONGEST:
            raise AssertionError(f"a message of {len(str(error)):,} characters") from error
        found = "refused"
    target.file.write_bytes(valid)
    return found


def targets(folder: Path) -> dict[str, list[Target]]:
    """Kind -> valid files in ``folder``, each of which its reader accepts as it stands."""
    table, people = write_data(folder)
    samples = load_dataset(table.parent).samples
    fixes, settings = folder / "fixes.csv", folder / "settings.toml"
    write_csv(fixes, ["path", "column", "value"], [("p00", "gender", "male"), ("p01_0.png", "mask", "wear")])
    lines = ("folds = 4", 'backbone = "test_resnet"', "mean = [0.5, 0.5, 0.5]", "lr = 0.01", "views = ['identity']")
    more = ("bins = [15, 30, 45, 60, 75]", "objective = 'bins'", "backbone_args = {drop_rate = 0.1}", "note = 'a note'")
    settings.write_text("\n".join((*lines, *more, "fixes = 'a.csv'", "epochs = 2", "no_fixes = true")))
    store = Store(folder / "artifacts")
    for head in LABELS:
        write_run(store.run(head.name), head)
    mask = store.run("mask")
    load = partial(mask.load_predictions, "mask", "oof", "identity")
    weights, pth, network = folder / "weights.safetensors", folder / "weights.pth", small_network()
    weights.write_bytes(save(network.state_dict()))
    torch.save(network.state_dict(), pth)

    checkpoint = write_checkpoint(folder / "checkpoints")

    def learn() -> object:
        config = TrainConfig.load(settings)
        json.dumps(config.as_dict(), allow_nan=False)
        return task_of([HEADS["age"]], config)

    table_damage, json_damage = either(mutations.damaged_table), either(mutations.damaged_json)
    data = [
        Target(table, table_damage, lambda: load_dataset(table.parent)),
        Target(people, table_damage, lambda: load_dataset(people.parent.parent)),
        Target(people.parent.parent / "eval/info.csv", table_damage, lambda: load_dataset(people.parent.parent)),
    ]
    run_json = [
        Target(mask.folder / "run.json", json_damage, lambda: runs.render(runs.table([mask])) and mask.info()),
        Target(mask.folder / "settings.json", json_damage, mask.settings),
        Target(mask.folder / "fold0.json", json_damage, lambda: (mask.fold_facts(0), mask.fold_arrays(0))),
    ]
    return {
        "label tables": data,
        "fixes": [Target(fixes, table_damage, lambda: apply_fixes(samples, read_fixes(fixes)))],
        "settings": [Target(settings, either(mutations.damaged_settings), learn)],
        "predictions": [Target(mask.folder / "mask.oof.identity.npz", either(mutations.damaged_arrays), load)],
        "run files": run_json,
        "fold tables": [Target(mask.folder / "folds.csv", table_damage, lambda: persons_in(mask, load().ids))],
        "safetensors": [
            Target(weights, either(mutations.damaged_weights), lambda: load_weights(small_network(), weights, "small"))
        ],
        "checkpoints": [
            Target(checkpoint.with_suffix(".json"), json_damage, partial(go_on, checkpoint)),
            Target(checkpoint, either(mutations.damaged_weights), partial(go_on, checkpoint, mend=True)),
        ],
        "pth": [Target(pth, mutations.damaged_bytes, lambda: load_weights(small_network(), pth, "small"))],
        "whole runs": [Target(file, _in_a_run(file), partial(_read_all, store)) for file in _read_files(store)],
    }


def go_on(file: Path, *, mend: bool = False) -> None:
    """Begin a fold where its only checkpoint ends; ``mend`` makes its checksum that of the damaged tensors.

    Raises:
        ArtifactError: The checkpoint is refused, or found damaged and removed.
    """
    facts = file.with_suffix(".json")
    kept = {part: part.read_bytes() for part in (file, facts)}
    if mend:
        facts.write_text(json.dumps(json.loads(kept[facts]) | {"sha256": checksum(kept[file])}))
    network = small_network()
    job = checkpointed_job(file.parent)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            trainer = Trainer.of(network, job.task, job.config, job.device, 8, 32)
            begun = job.begin(trainer, Kept(), job.main_phase())
    finally:
        for part, content in kept.items():
            part.write_bytes(content)
    if not begun.resumed:
        raise ArtifactError("told and removed")


def _read_files(store: Store) -> list[Path]:
    return sorted(f for f in store.root.rglob("*") if f.suffix in (".json", ".npz", ".csv") and "fold0" not in f.name)


def _in_a_run(file: Path) -> Mutation:
    """Damage by the file's format, or another valid file of any run in its place."""
    by_suffix = {".json": mutations.damaged_json, ".npz": mutations.damaged_arrays, ".csv": mutations.damaged_table}
    damage = either(by_suffix[file.suffix])
    others = [other.read_bytes() for other in file.parent.parent.rglob(f"*{file.suffix}") if other != file]
    return lambda content, rng: rng.choice(others) if rng.random() < 0.2 else damage(content, rng)


def _read_all(store: Store) -> None:
    """What `pipe runs`, `pipe oof-report` and `pipe ensemble` do; whatever the ones refuse, the next are tried."""
    refused: list[Exception] = []
    for step in (partial(_report, store), partial(_vote, store), partial(_verify, store)):
        try:
            step()
        except OURS as error:
            refused.append(error)
    runs.render(runs.table(store.runs()))
    if refused:
        raise refused[0]


def _report(store: Store) -> None:
    report = oof.make_report(store.finished())
    text.render(report)
    list(text.csv_rows(report))


def _vote(store: Store) -> None:
    made = make_ensemble(store, Asked((), tuple(VIEWS), Choices()), name="fuzzed")
    told(made.info, made.folder)


def _verify(store: Store) -> None:
    found = verify_runs(store, (), None)
    findings.render(found, verdict(found))


def pictures(cases: int, seed: int, *, folder: Path) -> Counter[str]:
    """Outcomes of reading damaged pictures, by both readers: an image and no fault, or ``LayoutError`` and a fault."""
    from pipeline.images import read_resized
    from pipeline.pictures import look_at_all

    rng = random.Random(seed)
    valid = picture_files()
    found: Counter[str] = Counter()
    for _ in range(cases):
        suffix = rng.choice(["jpeg", "png", "webp"] * 3 + ["tiff", "bmp"])
        file = folder / f"photo.{suffix}"
        file.write_bytes(mutations.damaged_picture(valid[suffix], rng))
        looked = look_at_all([file], lambda done, total: None)[0]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # as in `read_all`
                pixels = read_resized(file, 32)
            assert pixels.shape == (32, 32, 3)
            assert not looked.fault, looked.fault
            found[f"{suffix} success"] += 1
        except PipelineError:
            found[f"{suffix} refused"] += 1
    return found


def limit_memory(more: int) -> int:
    """Let this process take ``more`` bytes of address space beyond what it has; the limit."""
    import resource

    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    return limit


def main() -> None:
    """Try the cases and print outcomes by kind; findings are printed with their traceback."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--pictures", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if given.pictures:
            import pipeline.images  # noqa: F401  # its libraries are not part of what the pictures take

            limit, start = limit_memory(2 * 2**30), time.perf_counter()
            found = pictures(given.pictures, given.seed, folder=Path(name))
            print(f"limit {limit / 2**30:.1f} GiB, {time.perf_counter() - start:.0f} s", dict(sorted(found.items())))
            return
        kinds = targets(Path(name))
        # whole runs take a hundred times as long as a file
        shares = {kind: 0.05 if kind == "whole runs" else 0.95 / (len(kinds) - 1) for kind in kinds}
        for kind, share in shares.items():
            rng, found, start = random.Random(f"{given.seed} {kind}"), Counter(), time.perf_counter()
            for case in range(round(share * given.cases)):
                target = rng.choice(kinds[kind])
                valid = target.file.read_bytes()
                try:
                    found[outcome(target, rng)] += 1
                except Exception:
                    found["FINDING"] += 1
                    print(f"{kind}, case {case}, {target.file.name}: {traceback.format_exc(limit=-4)[-1500:]}")
                    target.file.write_bytes(valid)
            print(f"{kind:<14} {time.perf_counter() - start:5.0f} s  {dict(found)}", flush=True)


if __name__ == "__main__":
    main()
