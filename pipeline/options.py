"""What several commands have in common: options, and the door through which they print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.terminal import harmless

ARTIFACTS = Path("artifacts")
Data = Annotated[Path, typer.Option(help="The competition's folder, or a CSV of photos.")]
Artifacts = Annotated[Path, typer.Option(help="Where runs and ensembles are kept.")]
ConfigFile = Annotated[Path | None, typer.Option(help="Settings as TOML; flags win over it.")]
Runs = Annotated[
    list[str] | None, typer.Argument(help="Names of runs; none = all that are finished.", metavar="RUN...")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def show(text: str) -> None:
    """Print lines, with nothing in them that could steer the terminal."""
    typer.echo(harmless(text))
