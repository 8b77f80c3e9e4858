"""Commands that look for good settings before a training."""

from __future__ import annotations

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
    """Train some steps on fold 0 at a rising learning rate, and suggest one; no run is touched."""
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
