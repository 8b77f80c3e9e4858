"""Commands that examine and end in exit code 0 or 1: the data, the machine, finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.config import TrainConfig
from pipeline.options import ARTIFACTS, Artifacts, AsJson, ConfigFile, Runs, show
from pipeline.terminal import json_text

checks = typer.Typer(rich_markup_mode=None)
data_app = typer.Typer(help="Look at the data before training on it.", no_args_is_help=True, rich_markup_mode=None)
checks.add_typer(data_app, name="data")


@data_app.command("check")
def data_check(
    data: Annotated[Path, typer.Argument(help="The competition's folder, or a CSV of photos.", metavar="DIR")],
    as_json: AsJson = False,
) -> None:
    """Look at every photo and label.

    Exit code 1 when training would be wrong.
    """
    from pipeline.check import check_data, render
    from pipeline.progress import counted

    with counted("reading photos", None) as display:
        report = check_data(data, progress=lambda done, total: display.advance(1, f"{done}/{total}"))
    show(json_text(report.as_dict()) if as_json else render(report))
    raise typer.Exit(0 if report.ok else 1)


@checks.command()
def doctor(
    data: Annotated[Path | None, typer.Option(help="The competition's folder, or a CSV of photos [data].")] = None,
    folds: Annotated[int | None, typer.Option(help="Parts the people are divided into [5].")] = None,
    config: ConfigFile = None,
    backbone: Annotated[str | None, typer.Option(help="Any timm model name [mobilenetv2_100].")] = None,
    weights: Annotated[str | None, typer.Option(help="imagenet, none, or a file with timm's names [imagenet].")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side in pixels [128].")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps [auto].")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that prepare batches [chosen].")] = None,
    as_json: AsJson = False,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Tell whether a training can begin here.

    Examines machine, environment and folders; exit code 1 when they are not fit.
    """
    from pipeline.doctor.case import Case
    from pipeline.doctor.examination import examine, verdict
    from pipeline.findings import render

    flags = {
        "folds": folds,
        "backbone": backbone,
        "weights": weights,
        "image_size": image_size,
        "device": device,
        "workers": workers,
    }
    usual = Path("data") if Path("data").exists() else None  # not there and not asked for: not checked
    found = examine(Case(TrainConfig.load(config, flags), data or usual, artifacts))
    show(json_text(found.as_dict()) if as_json else render(found, verdict(found)))
    raise typer.Exit(0 if found.ok else 1)


@checks.command()
def verify(
    runs: Runs = None,
    data: Annotated[Path | None, typer.Option(help="Where the photos are [where the run was trained].")] = None,
    as_json: AsJson = False,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Read runs back and check that all agrees.

    Files, people, scores and networks; exit code 1 when they do not.
    """
    from pipeline.findings import render
    from pipeline.store import Store
    from pipeline.verify import verdict, verify_runs

    found = verify_runs(Store(artifacts), runs or (), data)
    show(json_text(found.as_dict()) if as_json else render(found, verdict(found)))
    raise typer.Exit(0 if found.ok else 1)
