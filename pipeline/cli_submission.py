"""Commands over submissions of any origin: a vote, a check against the template, what two answer differently."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.options import ARTIFACTS, Artifacts, AsJson, show
from pipeline.terminal import json_text

submissions = typer.Typer(rich_markup_mode=None)
submission_app = typer.Typer(
    help="Look at a submission before handing it in.", no_args_is_help=True, rich_markup_mode=None
)
submissions.add_typer(submission_app, name="submission")

FILE = "A CSV, or the name of an ensemble."


@submissions.command()
def vote(
    files: Annotated[
        list[str], typer.Argument(help="Submissions: CSVs ImageID,ans, or names of ensembles.", metavar="FILE...")
    ],
    strategy: Annotated[str, typer.Option(help="hard (a ballot a file) or weighted.")] = "hard",
    per_head: Annotated[bool, typer.Option("--per-head", help="Vote on mask, gender and age one by one.")] = False,
    weights: Annotated[
        str | None, typer.Option(help="For weighted: a number for each file, with commas, such as 0.5,0.3,0.2.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the vote goes.")] = Path("voted.csv"),
    as_json: AsJson = False,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Let submissions of any origin vote.

    Also tells how much they differ.
    """
    from pipeline.ballots import STRATEGIES, parse_weights, render, vote_over
    from pipeline.rules import chosen_word
    from pipeline.submissions import located

    shares = parse_weights(chosen_word("strategy", strategy, STRATEGIES), weights, len(files))
    found = [located(file, artifacts) for file in files]
    voted = vote_over(found, shares, ballots="head" if per_head else "class", out=out)
    show(json_text(voted.info) if as_json else render(voted))


@submission_app.command("check")
def submission_check(
    file: Annotated[str, typer.Argument(help=FILE, metavar="FILE")],
    template: Annotated[Path, typer.Option(help="The list of ids: info.csv, or the competition's folder.")],
    as_json: AsJson = False,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Check that a submission can be handed in.

    Compares it with the template; exit code 1 when it must not be handed in.
    """
    from pipeline.submission_check import check_submission, render
    from pipeline.submissions import located

    check = check_submission(located(file, artifacts), template)
    show(json_text(check.as_dict()) if as_json else render(check))
    raise typer.Exit(0 if check.findings.ok else 1)


@submission_app.command("diff")
def submission_diff(
    a: Annotated[str, typer.Argument(help=FILE, metavar="A")],
    b: Annotated[str, typer.Argument(help=FILE, metavar="B")],
    probs: Annotated[
        str | None, typer.Option(help="An ensemble that tells how sure rows were [beside A or B].", metavar="ENSEMBLE")
    ] = None,
    as_json: AsJson = False,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Show what two submissions answer differently.

    By class, by head, by confidence.
    """
    from pipeline.submission_diff import compare, render
    from pipeline.submissions import located

    difference = compare(located(a, artifacts), located(b, artifacts), probs=probs, artifacts=artifacts)
    show(json_text(difference.info) if as_json else render(difference))
