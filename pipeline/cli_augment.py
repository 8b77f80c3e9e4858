"""The command that shows what a training sees of one person's photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.config import TrainConfig, assigned
from pipeline.errors import ConfigError
from pipeline.options import ConfigFile, Data, show

augments = typer.Typer(rich_markup_mode=None)


@augments.command("show-augment")
def show_augment(
    heads: Annotated[
        list[str] | None,
        typer.Argument(help="Heads that share the network; none = all that have labels.", metavar="HEAD..."),
    ] = None,
    data: Data = Path("data"),
    config: ConfigFile = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, e.g. augment=heavy.", metavar="NAME=VALUE")
    ] = None,
    out: Annotated[Path, typer.Option(help="The picture.", metavar="FILE.png")] = Path("augment.png"),
    person: Annotated[str, typer.Option(help="Who [the first whom fold 0 trains on].")] = "",
    rows: Annotated[int, typer.Option(help="Most of their photos, 1 to 20.")] = 4,
) -> None:
    """Show what the augmentation makes of one person.

    Writes a contact sheet: photos as they are, and as each epoch of the settings sees them.
    """
    if not 1 <= rows <= 20:
        raise ConfigError(f"--rows must be from 1 to 20, got {rows}")
    chosen = TrainConfig.load(config, assigned(settings or ()), heads or ())
    from pipeline.contact_sheet import write_sheet  # torch: seconds

    shown = write_sheet(out, heads or (), chosen, data, person=person, rows=rows)
    show(
        f"wrote {out}: {len(shown.labels)} photos of {shown.person} in {len(shown.seen)} epochs, as fold {shown.fold} "
        "sees them"
    )
