"""Commands that look for wrong labels: a report on suspects, and a review that keeps what is decided on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import ConfigError
from pipeline.options import ARTIFACTS, Artifacts, AsJson, Runs, show
from pipeline.terminal import json_text

audits = typer.Typer(rich_markup_mode=None)
Photos = Annotated[Path | None, typer.Option(help="Where the photos are [where the newest run was trained].")]
Limit = Annotated[int, typer.Option(help="Most suspects, the strongest first.")]


@audits.command("label-audit")
def label_audit(
    runs: Runs = None,
    data: Photos = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with their photos and a decision each here.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write them as a table of label fixes to fill in here.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """List labels that are likely wrong.

    Out-of-fold predictions contradict them.
    """
    from pipeline.audit import text
    from pipeline.audit.audit import make_audit
    from pipeline.files import write_csv
    from pipeline.store import Store

    require_limit(limit)
    audit = make_audit(Store(artifacts).finished(runs or ()), data)
    if csv:
        write_csv(csv, text.CSV_HEADER, text.csv_rows(audit, limit))
    if html:
        from pipeline.audit.page import write_audit  # torch: seconds

        again = text.training_again(audit, "fixes.csv", artifacts)
        write_audit(html, audit, limit, again, command=f"pipe label-audit --html {html}")
    show(
        json_text(audit.as_dict(limit)) if as_json else text.render(audit, limit) + text.advice(audit, html, artifacts)
    )


@audits.command()
def review(
    runs: Runs = None,
    data: Photos = None,
    out: Annotated[Path, typer.Option(help="The table of label fixes that decisions go to.")] = Path("fixes.csv"),
    limit: Limit = 100,
    port: Annotated[int, typer.Option(help="Of this computer; 0 = any that is free.")] = 0,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Decide on likely wrong labels in the browser.

    Each decision is saved at once as a label fix.
    """
    from pipeline.audit.audit import make_audit
    from pipeline.audit.overlay import read_overlay
    from pipeline.audit.text import training_again
    from pipeline.locks import locked
    from pipeline.store import Store

    require_limit(limit)
    rows = read_overlay(out)
    audit = make_audit(Store(artifacts).finished(runs or ()), data)
    if not audit.suspects:
        show("no label is contradicted by its out-of-fold predictions; there is nothing to review")
        return
    from pipeline.audit.page import pictures, review_page  # torch: seconds
    from pipeline.audit.serve import Review, serving

    drawn, again = pictures(audit, limit), training_again(audit, str(out), artifacts)
    earlier = tuple(read_overlay(audit.fixes)) if audit.fixes else ()
    wanted = Review(tuple(audit.suspects[:limit]), out, earlier)
    with (
        locked(out.with_name(f".{out.name}.lock"), str(out), doing="reviewed", other="--out"),
        serving(wanted, lambda now: review_page(audit, limit, drawn, now, again, str(out)), port) as served,
    ):
        server, address = served
        show(f"{len(wanted.suspects)} suspects; decisions go to {out}, which has {len(rows)} rows")
        show(f"open {address}\nCtrl-C ends the review; nothing is lost")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            show(f"\n{wanted.summary()}")


def require_limit(limit: int) -> None:
    """Refuse a limit that is none.

    Raises:
        ConfigError: It is below 1 or absurd.
    """
    if not 1 <= limit <= 10_000:
        raise ConfigError(f"--limit must be from 1 to 10000, got {limit}")
