"""The command that tells trackers of runs that were trained before."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.errors import ArtifactError
from pipeline.options import ARTIFACTS, Artifacts

tracks = typer.Typer(rich_markup_mode=None)


@tracks.command("track")
def track(
    runs: Annotated[
        list[str], typer.Argument(help="Names of runs, finished or trained with --track.", metavar="RUN...")
    ],
    to: Annotated[str, typer.Option(help="Any of tensorboard, wandb, mlflow, with commas.", metavar="LIST")],
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Tell trackers of runs trained before.

    What is told twice counts once.
    """
    from pipeline.report.photos import photos_of
    from pipeline.store import Store
    from pipeline.tracking.beside import tell_again
    from pipeline.tracking.events import begun
    from pipeline.tracking.gathered import tell_rest
    from pipeline.tracking.trackers import chosen

    trackers = chosen(to, "--to")
    found = [Store(artifacts).run(name) for name in dict.fromkeys(runs)]
    for run in found:
        if run.whole:
            tell_rest(run, photos_of(run, run.info(), None).paths)
        elif not begun(run):
            state = "is not finished and was trained without --track" if run.started else "does not exist"
            raise ArtifactError(f"run {run.name!r} {state} in {artifacts}; `pipe runs` lists them")
    tell_again(trackers, found)
