"""The command that trains heads: from its options to runs, and what it says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.config import TrainConfig, assigned
from pipeline.errors import ConfigError
from pipeline.options import ARTIFACTS, Artifacts, ConfigFile, Data, show

if TYPE_CHECKING:
    from heads.base import Head
    from pipeline.plan import Plan
    from pipeline.ranks import Ranks
    from pipeline.store import Run, Store

SHARED = ("cache", "cache_gib", "device")  # what a command has one of, whatever its runs are

Heads = Annotated[
    list[str],
    typer.Argument(help="mask, gender, age, joint; several share one network, unless --separate.", metavar="HEAD..."),
]


def train_head(
    heads: Heads,
    data: Data = Path("data"),
    folds: Annotated[int | None, typer.Option(help="Parts the people are divided into [5].")] = None,
    fold: Annotated[int | None, typer.Option(help="Train only this fold, counted from 0.")] = None,
    config: ConfigFile = None,
    backbone: Annotated[str | None, typer.Option(help="Any timm model name [mobilenetv2_100].")] = None,
    weights: Annotated[str | None, typer.Option(help="imagenet, none, or a file with timm's names [imagenet].")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side in pixels [128].")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training folds [5].")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Photos a step [32].")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate [0.001].")] = None,
    objective: Annotated[str | None, typer.Option(help="For age: classes, bins, dldl, coral ... [classes].")] = None,
    seed: Annotated[int | None, typer.Option(help="Seeds layers, order and augmentation [0].")] = None,
    seeds: Annotated[int, typer.Option(help="Runs with this many seeds in a row, each named NAME-seed<k>.")] = 1,
    full: Annotated[bool, typer.Option("--full", help="One more network on everything, for the eval photos.")] = False,
    extra: Annotated[
        list[str] | None,
        typer.Option(help="More photos to train on, never held out: PATH or LAYOUT:PATH; repeatable.", metavar="PATH"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting; repeatable. Options win over it.", metavar="NAME=VALUE"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps [auto].")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16 [auto, timed].")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that prepare batches [chosen].")] = None,
    cache: Annotated[str | None, typer.Option(help="Resized photos: auto, off or a folder [auto].")] = None,
    cache_gib: Annotated[float | None, typer.Option(help="GiB of them that are kept for later [20].")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps between two checkpoints [chosen].")] = None,
    name: Annotated[str | None, typer.Option(help="The run's name [made of the heads].", metavar="RUN")] = None,
    note: Annotated[str | None, typer.Option(help="Free text, shown by `pipe runs`.")] = None,
    fixes: Annotated[str | None, typer.Option(help="A CSV path,column,value of your own label fixes.")] = None,
    no_fixes: Annotated[bool | None, typer.Option("--no-fixes", help="Leave all labels as they are.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove the run of this name and start over.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="One batch through every stage; write nothing.")] = False,
    separate: Annotated[bool, typer.Option("--separate", help="A run of its own for each head.")] = False,
    jobs: Annotated[int, typer.Option(help="Folds trained side by side.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of each fold; 0 = the cores, divided by --jobs.")] = 0,
    engine: Annotated[str, typer.Option(help="Where: loky (here), dask=ADDRESS or ray=ADDRESS.")] = "loky",
    track: Annotated[
        str, typer.Option(help="Tell tensorboard, wandb, mlflow, with commas.", metavar="LIST", show_default=False)
    ] = "",
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the speeds that --precision auto saw.")] = False,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Train heads over K folds.

    Keeps out-of-fold predictions of every photo; a stopped command goes on when it is given again.
    """
    flags = {
        "folds": folds,
        "backbone": backbone,
        "weights": weights,
        "image_size": image_size,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "objective": objective,
        "seed": seed,
        "full": full or None,
        "extra": extra or None,
        "device": device,
        "precision": precision,
        "workers": workers,
        "cache": cache,
        "cache_gib": cache_gib,
        "checkpoint_every": checkpoint_every,
        "note": note,
        "fixes": fixes,
        "no_fixes": no_fixes,
    }
    parts = configured(heads, config, overridden(assigned(settings or ()), flags), separate=separate)
    require_folds(fold, [config for _, config in parts])
    from pipeline.pools import Side
    from pipeline.store import Store, plain_name
    from pipeline.tracking.trackers import chosen

    trackers = chosen(track) if track else ()
    plain_name(name or "default")
    side = Side.of(jobs, threads, engine)
    from pipeline.engine import choose_device  # torch and timm: seconds
    from pipeline.orders import follow
    from pipeline.progress import fall_silent
    from pipeline.ranks import ranks_here
    from pipeline.train import train_runs, try_one_batch

    ranks = ranks_here()
    if ranks.size > 1 and (dry_run or not side.alone):
        raise ConfigError("torchrun trains one network on several processes: without --jobs, --engine and --dry-run")
    if not ranks.first:
        fall_silent()
        follow(ranks, ranks.device(choose_device(parts[0][1].device)))
        return
    wanted = planned(parts, data, ranks, Store(artifacts), name, seeds=seeds, separate=separate)
    if dry_run:
        for plan, _ in wanted:
            try_one_batch(plan)
        return
    train_runs(wanted, Store(artifacts), only=fold, fresh=fresh, side=side, track=trackers, verbose=verbose)
    for plan, run in wanted:
        say_result(plan, run)


def overridden(settings: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """What the command sets: what ``--set`` says, and the options that were given, which win."""
    given = {name: value for name, value in flags.items() if value is not None}
    for name in sorted(settings.keys() & given.keys()):
        show(f"--{name.replace('_', '-')} wins over --set {name}")
    return {**settings, **given}


def configured(
    names: Sequence[str], file: Path | None, overrides: Mapping[str, Any], *, separate: bool
) -> list[tuple[list[Head], TrainConfig]]:
    """The heads of each network and its settings; the file may have other ones for a head with its own network.

    Raises:
        ConfigError: Settings are not as they must be, or networks differ in what a command has one of.
        HeadError: A head does not exist.
    """
    from heads.registry import head_named

    chosen = [head_named(name) for name in names]
    parts = [[head] for head in chosen] if separate else [chosen]
    made = [(part, TrainConfig.load(file, overrides, [head.name for head in part])) for part in parts]
    for name in SHARED:
        if len({getattr(config, name) for _, config in made}) > 1:
            raise ConfigError(f"{name} differs between the heads; one command has one, so set it for all of them")
    return made


def require_folds(fold: int | None, configs: Sequence[TrainConfig]) -> None:
    """Refuse a fold that one of the runs does not have.

    Raises:
        ConfigError: It does not exist.
    """
    fewest = min(config.folds for config in configs)
    if fold is not None and not 0 <= fold < fewest:
        raise ConfigError(f"--fold {fold} does not exist; folds are 0 to {fewest - 1}")


def planned(
    parts: Sequence[tuple[list[Head], TrainConfig]],
    data: Path,
    ranks: Ranks,
    store: Store,
    name: str | None,
    *,
    seeds: int,
    separate: bool,
) -> list[tuple[Plan, Run]]:
    """The runs to train, each with its plan: of every network as many as there are seeds; tells what is planned.

    Raises:
        PipelineError: Data or settings are not as they must be.
        HeadError: The heads are not.
    """
    if not 1 <= seeds <= 1000:
        raise ConfigError(f"--seeds must be from 1 to 1000, got {seeds}")
    from pipeline.plan import describe, make_plan
    from pipeline.progress import say
    from pipeline.train import run_name

    wanted = []
    for heads, config in parts:
        plan = make_plan(heads, config, data, ranks)
        base = run_name(heads, config, name, separate=separate)
        say(describe(plan) + (f", seeds {config.seed} to {config.seed + seeds - 1}" if seeds > 1 else ""))
        for seed in range(config.seed, config.seed + seeds):  # nothing else of a plan depends on it
            own = replace(plan, config=replace(config, seed=seed))
            wanted.append((own, store.run(f"{base}-seed{seed}" if seeds > 1 else base)))
    return wanted


def say_result(plan: Plan, run: Run) -> None:
    """Tell the scores of a finished run, or what is kept of one that is not."""
    from pipeline.progress import say

    if run.whole:
        scores = "  ".join(f"{head} {score['macro_f1']:.4f}" for head, score in run.info()["scores"].items())
        say(f"finished {run.folder}: out-of-fold macro F1 {scores}")
    else:
        say(f"kept in {run.folder}; the run is finished when all {plan.config.folds} folds are trained")
