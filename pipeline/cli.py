"""The command ``pipe``: parses, calls, prints. Heavy imports wait inside the commands, so that ``--help`` is quick."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli_cache import caches
from pipeline.cli_checks import checks
from pipeline.cli_ensemble import ensembles
from pipeline.cli_search import searches
from pipeline.cli_submission import submissions
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError, PipelineError, Stopped
from pipeline.interrupts import Terminated, terminable
from pipeline.launch import last_words
from pipeline.options import ARTIFACTS, Artifacts, AsJson, ConfigFile, Data, Runs, show
from pipeline.terminal import error_line, json_text

app = typer.Typer(
    help="Train attribute heads over K folds, keep honest out-of-fold predictions, vote, and write the submission.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # [in brackets] would be taken for markup
)
app.add_typer(checks)
app.add_typer(ensembles)
app.add_typer(submissions)
app.add_typer(caches)
app.add_typer(searches)

Heads = Annotated[
    list[str],
    typer.Argument(help="mask, gender, age, joint; several share one network, unless --separate.", metavar="HEAD..."),
]


@app.command("train-head")
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
    objective: Annotated[str | None, typer.Option(help="For age: classes, bins or regression [classes].")] = None,
    seed: Annotated[int | None, typer.Option(help="Seeds layers, order and augmentation [0].")] = None,
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
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the speeds that --precision auto saw.")] = False,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Train heads over K folds and keep their out-of-fold predictions."""
    from heads.registry import head_named

    chosen = [head_named(head) for head in heads]
    settings = TrainConfig.load(
        config,
        {
            "folds": folds,
            "backbone": backbone,
            "weights": weights,
            "image_size": image_size,
            "epochs": epochs,
            "batch_size": batch_size,
            "lr": lr,
            "objective": objective,
            "seed": seed,
            "device": device,
            "precision": precision,
            "workers": workers,
            "cache": cache,
            "cache_gib": cache_gib,
            "checkpoint_every": checkpoint_every,
            "note": note,
            "fixes": fixes,
            "no_fixes": no_fixes,
        },
    )
    if fold is not None and not 0 <= fold < settings.folds:
        raise ConfigError(f"--fold {fold} does not exist; folds are 0 to {settings.folds - 1}")
    from pipeline.pools import Side
    from pipeline.store import Store, plain_name

    plain_name(name or "default")
    side = Side.of(jobs, threads, engine)
    from pipeline.engine import choose_device  # torch and timm: seconds
    from pipeline.orders import follow
    from pipeline.plan import describe, make_plan
    from pipeline.progress import fall_silent, say
    from pipeline.ranks import ranks_here
    from pipeline.train import run_name, train_runs, try_one_batch

    ranks = ranks_here()
    if ranks.size > 1 and (dry_run or not side.alone):
        raise ConfigError("torchrun trains one network on several processes: without --jobs, --engine and --dry-run")
    if not ranks.first:
        fall_silent()
        follow(ranks, ranks.device(choose_device(settings.device)))
        return
    store = Store(artifacts)
    wanted = []
    for part in [[head] for head in chosen] if separate else [chosen]:
        plan = make_plan(part, settings, data, ranks)
        say(describe(plan))
        wanted.append((plan, store.run(run_name(part, settings, name, separate=separate))))
    if dry_run:
        for plan, _ in wanted:
            try_one_batch(plan)
        return
    train_runs(wanted, store, only=fold, fresh=fresh, side=side, verbose=verbose)
    for _, run in wanted:
        if run.whole:
            scores = "  ".join(f"{head} {score['macro_f1']:.4f}" for head, score in run.info()["scores"].items())
            say(f"finished {run.folder}: out-of-fold macro F1 {scores}")
        else:
            say(f"kept in {run.folder}; the run is finished when all {settings.folds} folds are trained")


@app.command("oof-report")
def oof_report(
    runs: Runs = None,
    csv: Annotated[Path | None, typer.Option(help="Write the per-class table here.")] = None,
    as_json: AsJson = False,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Score every head out-of-fold, with intervals, and say what each head costs the 18 classes."""
    from pipeline.files import write_csv
    from pipeline.report import oof, text
    from pipeline.store import Store

    report = oof.make_report(Store(artifacts).finished(runs or ()))
    if csv:
        write_csv(csv, text.CSV_HEADER, text.csv_rows(report))
    show(json_text(report.as_dict()) if as_json else text.render(report))


@app.command("runs")
def list_runs(as_json: AsJson = False, artifacts: Artifacts = ARTIFACTS) -> None:
    """List the experiments: what was tried, what it gave, what it took."""
    from pipeline.report.runs import render, table
    from pipeline.store import Store

    rows = table(Store(artifacts).runs())
    if as_json:
        show(json_text(rows))
    else:
        show(render(rows) if rows else f"no runs in {artifacts}; train one with `pipe train-head mask`")


@app.command("folds")
def show_folds(
    data: Data = Path("data"),
    folds: Annotated[int | None, typer.Option(help="Parts the people are divided into [5].")] = None,
    config: ConfigFile = None,
    fixes: Annotated[str | None, typer.Option(help="A CSV path,column,value of your own label fixes.")] = None,
    no_fixes: Annotated[bool | None, typer.Option("--no-fixes", help="Leave all labels as they are.")] = None,
) -> None:
    """Show people, photos and the shares of labelled photos in every fold."""
    from pipeline.folds import make_folds, share_table
    from pipeline.layouts import load_dataset

    settings = TrainConfig.load(config, {"folds": folds, "fixes": fixes, "no_fixes": no_fixes})
    samples = load_dataset(data, fixes=settings.fixes, no_fixes=settings.no_fixes).samples
    show(share_table(samples, make_folds(samples, settings.folds, settings.fold_seed)))


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where drawn people and runs go.")] = Path("demo"),
    data_only: Annotated[
        Path | None, typer.Option(help="Only draw the people, into this new folder.", metavar="DIR")
    ] = None,
    seed: Annotated[int, typer.Option(help="Other seeds draw other people.")] = 0,
) -> None:
    """Draw people and run the whole line on them, from photos to a scored submission."""
    from pipeline.demo import draw, run_demo

    if data_only:
        draw(data_only, seed)
    else:
        run_demo(folder, seed)


def main() -> None:
    """Run the command; a user's error ends in one line and exit code 2, Ctrl-C in 130, SIGTERM in 143."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        with terminable():
            app()
    except Stopped as stop:
        _fail(str(stop), stop.code)
    except Terminated:
        _fail("stopped; nothing was left half-written", 143)
    except SystemExit as leave:
        if leave.code == 130:  # typer's silent answer to Ctrl-C
            _fail("stopped; nothing was left half-written", 130)
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `pipe runs | head` is no error
    except OSError as error:
        if error.errno not in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EACCES,
            errno.EPERM,
            errno.EROFS,
            errno.ENOTDIR,
            errno.ENAMETOOLONG,
            errno.ELOOP,
            errno.EISDIR,
        ):
            raise
        _fail(f"error: {error.filename or 'a file'}: {error.strerror}", 2)
    except Exception as error:
        from ensemble.predictions import EnsembleError  # NumPy: not needed for --help
        from heads.base import HeadError

        if not isinstance(error, PipelineError | HeadError | EnsembleError):
            raise
        _fail(f"error: {error}", 2)


def _fail(message: str, code: int) -> None:
    """Print one red line and leave."""
    if words := last_words(message, code):
        typer.secho(error_line(words), fg="red", err=True)
    sys.exit(code)
