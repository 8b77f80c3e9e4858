"""The command that shows what the cache of resized photos holds, and makes it smaller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import ConfigError
from pipeline.options import ARTIFACTS, Artifacts, AsJson, show
from pipeline.terminal import json_text

caches = typer.Typer(rich_markup_mode=None)


@caches.command("cache")
def show_cache(
    limit: Annotated[float | None, typer.Option(help="Remove the least recently used beyond so many GiB.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove all that no training uses.")] = False,
    cache: Annotated[Path | None, typer.Option(help="The cache's folder [cache in the artifacts].")] = None,
    as_json: AsJson = False,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """List and remove resized photos that are kept.

    What is in use stays.
    """
    if limit is not None and (clear or not 0 <= limit < 1e9):
        raise ConfigError("--limit takes a number of GiB from 0 on, and no --clear beside it")
    from pipeline.cache_list import cleared, listing, render, shrunk

    folder = cache or artifacts / "cache"
    removed = cleared(folder) if clear else shrunk(folder, limit) if limit is not None else []
    found = listing(folder) | {"removed": removed}
    show(json_text(found) if as_json else render(found))
