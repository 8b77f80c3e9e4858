"""Commands that look for good settings before a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pipeline.config import TrainConfig, assigned
from pipeline.errors import ConfigError
from pipeline.options import ARTIFACTS, Artifacts, ConfigFile, Data, show

searches = typer.Typer(rich_markup_mode=None)
PICTURES = (".png", ".svg", ".pdf")


@searches.command("lr-find")
def lr_find(
    heads: Annotated[list[str], typer.Argument(help="mask, gender, age, joint.", metavar="HEAD...")],
    data: Data = Path("data"),
    config: ConfigFile = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting, as in a settings file.", metavar="NAME=VALUE")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Draw it here (.png, .svg, .pdf), a CSV beside it.")] = None,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Suggest a learning rate.

    Trains some steps on fold 0 at a rising rate; no run is touched.
    """
    from heads.registry import head_named

    if out and out.suffix not in PICTURES:
        raise ConfigError(f"--out must end in {', '.join(PICTURES)}, got {out}")
    settings = TrainConfig.load(config, assigned(changes or []), heads)
    chosen = [head_named(head) for head in heads]
    from pipeline.lr_find import find_rates, write_plot  # torch and timm: seconds
    from pipeline.plan import describe, make_plan

    plan = make_plan(chosen, settings, data)
    show(describe(plan))
    found = find_rates(plan, artifacts)
    show(found.table())
    if out:
        write_plot(found, out)


@searches.command("tune")
def tune_settings(
    head: Annotated[str, typer.Argument(help="mask, gender, age or joint.", metavar="HEAD")],
    space: Annotated[Path, typer.Option(help="What is varied, as TOML: [space.lr] low = 1e-4 high = 1e-2 log = true.")],
    data: Data = Path("data"),
    config: ConfigFile = None,
    trials: Annotated[int, typer.Option(help="How many in all; the same command goes on up to this.")] = 50,
    study: Annotated[str | None, typer.Option(help="The study's name [the head].", metavar="NAME")] = None,
    search_folds: Annotated[int, typer.Option(help="Folds that trials train; the others judge the best.")] = 3,
    seed: Annotated[int, typer.Option(help="Other seeds try other settings.")] = 0,
    jobs: Annotated[int, typer.Option(help="Trials at once.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of each trial; 0 = the cores, divided by --jobs.")] = 0,
    report: Annotated[bool, typer.Option("--report", help="No further trials; judge the best so far.")] = False,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Search for settings, judged on other folds.

    Trials train some of the folds; the best is scored on those that the search did not use.
    """
    from heads.registry import head_named
    from pipeline.pools import Side
    from pipeline.store import plain_name
    from pipeline.tune.space import read_space

    name = plain_name(study or head_named(head).name)
    base = TrainConfig.load(config, heads=[head])
    side = Side.of(jobs, threads, "loky")
    varied = read_space(space, base)
    import torch  # seconds

    from pipeline.tune.search import Asked, tune

    asked = Asked(head, base, varied, data, artifacts, name, trials, search_folds, seed)
    threads = side.divided(torch.get_num_threads()).threads
    torch.set_num_threads(threads or torch.get_num_threads())
    show(tune(replace(asked, threads=threads), jobs=jobs, report_only=report))
