"""The command that looks at the data: a page, and the same numbers in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.options import AsJson, ConfigFile, Data, show
from pipeline.terminal import json_text

looks = typer.Typer(rich_markup_mode=None)


@looks.command("eda")
def eda(
    data: Data = Path("data"),
    out: Annotated[Path, typer.Option(help="The page.", metavar="FILE.html")] = Path("eda.html"),
    folds: Annotated[int | None, typer.Option(help="Parts the people are divided into [5].")] = None,
    config: ConfigFile = None,
    fixes: Annotated[str | None, typer.Option(help="A CSV path,column,value of your own label fixes.")] = None,
    no_fixes: Annotated[bool | None, typer.Option("--no-fixes", help="Leave all labels as they are.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look at the data, as a page, before training.

    Classes, ages, folds, light, mean faces, odd photos, near-duplicates.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out must be a .html, got {out}")
    settings = TrainConfig.load(config, {"folds": folds, "fixes": fixes, "no_fixes": no_fixes})
    from pipeline.eda.explore import explore  # torch: seconds
    from pipeline.eda.page import write_report
    from pipeline.eda.story import findings_of, tables, verdict
    from pipeline.findings import render, size
    from pipeline.progress import counted

    with counted("reading photos", None) as display:
        report, seen = explore(data, settings, progress=lambda done, total: display.advance(1, f"{done}/{total}"))
    written = write_report(out, report, seen)
    findings = findings_of(report)
    if as_json:
        show(json_text(report.as_dict() | {"findings": findings.as_dict()["findings"], "page": str(out)}))
    else:
        show(f"{tables(report)}\n\n{render(findings, verdict(report))}\npage: {out} ({size(written)})")
