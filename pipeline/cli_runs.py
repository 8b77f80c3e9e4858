"""Commands that look back at runs: their list, and some of them beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.options import ARTIFACTS, Artifacts, AsJson, show
from pipeline.terminal import json_text

looking_back = typer.Typer(rich_markup_mode=None)


@looking_back.command("runs")
def list_runs(
    html: Annotated[Path | None, typer.Option(help="Write a page here: a table to sort and filter.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table here, for a spreadsheet.")] = None,
    as_json: AsJson = False,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """List runs: what was tried, gave and took."""
    from pipeline.report import runs_table
    from pipeline.report.runs import render, table
    from pipeline.store import Store

    rows = table(Store(artifacts).runs())
    if html:
        runs_table.write_html(html, rows)
    if csv:
        runs_table.write_table(csv, rows)
    if as_json:
        show(json_text(rows))
    else:
        show(render(rows) if rows else f"no runs in {artifacts}; train one with `pipe train-head mask`")


@looking_back.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help="Names of runs; the others are compared with the first.")],
    html: Annotated[Path | None, typer.Option(help="Write a page here, with the photos whose answer changed.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Where the photos are, for the page [where the first run was trained].")
    ] = None,
    as_json: AsJson = False,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Compare runs: is the gain real?

    Settings, scores, and the photos that changed, each against the first run.
    """
    from pipeline.report.compare import compare_runs
    from pipeline.report.compare_text import render
    from pipeline.store import Store

    found = Store(artifacts).finished(runs)
    comparison = compare_runs(found)
    if html:
        from pipeline.report.compare_page import write_html

        write_html(html, comparison, found[0], data)
    show(json_text(comparison.as_dict()) if as_json else render(comparison))
