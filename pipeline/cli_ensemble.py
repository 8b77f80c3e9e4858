"""The command that lets runs vote: one flag for each step of the chain, or all of them from an earlier ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import ConfigError
from pipeline.options import ARTIFACTS, Artifacts, AsJson, show
from pipeline.rules import VIEW_NAMES, chosen_words
from pipeline.terminal import json_text

ensembles = typer.Typer(rich_markup_mode=None)
HEADS_BESIDE_MASK = ("gender", "age")  # a person's, not a photo's


@ensembles.command()
def ensemble(
    strategy: Annotated[
        str, typer.Option(help="soft (mean of probabilities), hard (a ballot a member) or borda (ranks).")
    ] = "soft",
    weights: Annotated[
        str,
        typer.Option(
            help="uniform, f1, accuracy, logloss, greedy, greedy-f1, simplex, stack; auto: greedy where it pays."
        ),
    ] = "auto",
    calibration: Annotated[
        str,
        typer.Option(
            help="none, temperature, bias-corrected, vector, isotonic; auto: temperature where it pays.",
        ),
    ] = "auto",
    views: Annotated[str, typer.Option(help="Test-time views to look at, with commas.")] = "identity,hflip",
    view_weights: Annotated[
        str, typer.Option(help="equal or learned; auto: equal, without views that do not pay.")
    ] = "auto",
    joint: Annotated[
        str,
        typer.Option(
            help="How 18 classes are made of heads: product, train-joint, stacker, direct; auto: stacker where it pays."
        ),
    ] = "auto",
    by_mask: Annotated[bool, typer.Option("--by-mask", help="Temperatures of gender and age by mask state.")] = False,
    group_consistent: Annotated[
        bool, typer.Option("--group-consistent", help="Average gender and age over the photos of one person.")
    ] = False,
    prior: Annotated[
        str,
        typer.Option(help="Eval set's class mix: none, bbse-soft, bbse-hard or em; auto: bbse-soft, unless it harms."),
    ] = "auto",
    prior_over: Annotated[str, typer.Option(help="heads (a mix for each) or joint (one of 18 classes).")] = "heads",
    eval_prior: Annotated[
        list[str] | None,
        typer.Option(help="A head's mix as you know it, such as age=0.43,0.30,0.27; repeatable.", metavar="HEAD=MIX"),
    ] = None,
    decoder: Annotated[
        str,
        typer.Option(
            help="plug-in, argmax, logit-adjust, head-bias or class-bias; auto: plug-in, unless one is clearly better."
        ),
    ] = "auto",
    run: Annotated[list[str] | None, typer.Option(help="A run that votes, repeatable; none = all finished.")] = None,
    again: Annotated[
        Path | None, typer.Option("--from", help="Do what this ensemble.json says; other flags do not count.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the ensemble.")] = "latest",
    data: Annotated[
        Path | None, typer.Option(help="Folder whose eval list must match [where runs were trained].")
    ] = None,
    as_json: AsJson = False,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Let runs vote, and write submission.csv.

    Keeps of each step what pays, and scores it cross-fitted.
    """
    from ensemble.chain import HeadChoices
    from ensemble.line import Choices
    from pipeline.again import asked_again
    from pipeline.report.story import render
    from pipeline.store import Store
    from pipeline.submit import Asked, make_ensemble

    choices = Choices(
        heads=HeadChoices(strategy, calibration, weights, view_weights),
        joint=joint,
        prior=prior,
        prior_over=prior_over,
        given=given_mixes(eval_prior or []),
        decoder=decoder,
        by_state="mask" if by_mask else "",
        consistent=HEADS_BESIDE_MASK if group_consistent else (),
    )
    store = Store(artifacts)
    asked = Asked(tuple(run or ()), chosen_words("views", views, VIEW_NAMES), choices, data)
    result = make_ensemble(store, asked_again(again, store, data) if again else asked, name=name)
    show(json_text(result.info) if as_json else render(result.info, result.folder))


def given_mixes(texts: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Head -> the shares of its classes.

    Raises:
        ConfigError: One is not written as it should be, or a head is given twice.
    """
    found = list(map(given_mix, texts))
    heads = [head for head, _ in found]
    if twice := [head for head in heads if heads.count(head) > 1]:
        raise ConfigError(f"--eval-prior gives {twice[0]!r} twice; give one mix for each head")
    return dict(found)


def given_mix(text: str) -> tuple[str, tuple[float, ...]]:
    """A head and the shares of its classes, out of ``age=0.43,0.30,0.27``.

    Raises:
        ConfigError: It is not written like this.
    """
    head, _, shares = text.partition("=")
    try:
        return head.strip(), tuple(float(share) for share in shares.split(","))
    except ValueError:
        usage = "--eval-prior takes a head and its shares, such as age=0.43,0.30,0.27"
        raise ConfigError(f"{usage}; got {text!r}") from None
