"""The command ``pipe``: parses, calls, prints. Heavy imports wait inside the commands, so that ``--help`` is quick."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from pipeline.cli_audit import audits
from pipeline.cli_augment import augments
from pipeline.cli_cache import caches
from pipeline.cli_checks import checks
from pipeline.cli_eda import looks
from pipeline.cli_ensemble import ensembles
from pipeline.cli_runs import looking_back
from pipeline.cli_search import searches
from pipeline.cli_submission import submissions
from pipeline.cli_track import tracks
from pipeline.cli_train import train_head
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError, PipelineError, Stopped
from pipeline.interrupts import Terminated, terminable
from pipeline.launch import last_words
from pipeline.options import ARTIFACTS, Artifacts, AsJson, ConfigFile, Data, Runs, show
from pipeline.terminal import error_line, harmless, json_text

ORDER = (
    *("demo", "doctor", "data", "eda", "train-head", "oof-report", "ensemble", "submission", "vote"),  # in this order
    *("runs", "compare", "folds", "lr-find", "tune", "show-augment", "label-audit", "review", "track"),
    *("verify", "cache"),
)


class InOrder(typer.core.TyperGroup):
    """Lists the commands in the order in which a user meets them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands, those that stand in no order last."""
        return sorted(super().list_commands(ctx), key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


app = typer.Typer(
    cls=InOrder,
    help="Train attribute heads over K folds, keep honest out-of-fold predictions, vote, and write the submission.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # [in brackets] would be taken for markup
)
app.add_typer(looking_back)
app.add_typer(checks)
app.add_typer(looks)
app.add_typer(ensembles)
app.add_typer(submissions)
app.add_typer(caches)
app.add_typer(augments)
app.add_typer(searches)
app.add_typer(audits)
app.add_typer(tracks)

app.command("train-head")(train_head)


@app.command("oof-report")
def oof_report(
    runs: Runs = None,
    csv: Annotated[Path | None, typer.Option(help="Write the per-class table here.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with charts and the worst mistakes here.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Where the photos of the page are [where the run was trained].")
    ] = None,
    gallery: Annotated[int, typer.Option(help="Mistakes of each head that the page shows.", min=1, max=2000)] = 120,
    cam: Annotated[int, typer.Option(help="Of so many, what in the photo spoke for the answer.", min=0, max=2000)] = 0,
    as_json: AsJson = False,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Score heads out-of-fold, and say what to work on.

    With intervals over people, and what each head costs the 18 classes.
    """
    from pipeline.files import write_csv
    from pipeline.report import oof, text
    from pipeline.report.shown import choose
    from pipeline.store import Store

    if (data or cam) and not html:
        raise ConfigError("--data and --cam are for the page; name its file with --html")
    known = [(run, run.info()) for run in Store(artifacts).finished(runs or ())]
    shown = choose(known)
    report = oof.report_on(known, shown)
    if csv:
        write_csv(csv, text.CSV_HEADER, text.csv_rows(report))
    if as_json or html:
        from pipeline.report.detail import make_detail

        detail = make_detail(shown)
    show(json_text(report.as_dict() | {"detail": detail}) if as_json else text.render(report))
    if html:
        from pipeline.report.html import told, write_html

        written = write_html(html, report, detail, shown, known, data=data, most=gallery, cams=cam)
        typer.echo(harmless(told(written, html)), err=as_json)


@app.command("folds")
def show_folds(
    data: Data = Path("data"),
    folds: Annotated[int | None, typer.Option(help="Parts the people are divided into [5].")] = None,
    config: ConfigFile = None,
    fixes: Annotated[str | None, typer.Option(help="A CSV path,column,value of your own label fixes.")] = None,
    no_fixes: Annotated[bool | None, typer.Option("--no-fixes", help="Leave all labels as they are.")] = None,
) -> None:
    """Show people, photos and shares of labels by fold."""
    from pipeline.folds import make_folds, share_table
    from pipeline.layouts import load_dataset

    settings = TrainConfig.load(config, {"folds": folds, "fixes": fixes, "no_fixes": no_fixes})
    samples = load_dataset(data, fixes=settings.fixes, no_fixes=settings.no_fixes).samples
    show(share_table(samples, make_folds(samples, settings.folds, settings.fold_seed)))


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where drawn people and runs go.")] = Path("demo"),
    data_only: Annotated[
        Path | None, typer.Option(help="Only draw the people, into this new folder.", metavar="DIR")
    ] = None,
    seed: Annotated[int, typer.Option(help="Other seeds draw other people.")] = 0,
) -> None:
    """Run the whole line on drawn people.

    From photos to a submission that is scored with the true answers.
    """
    from pipeline.demo import draw, run_demo

    if data_only:
        draw(data_only, seed)
    else:
        run_demo(folder, seed)


def main() -> None:
    """Run the command; a user's error ends in one line and exit code 2, Ctrl-C in 130, SIGTERM in 143."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        with terminable():
            app()
    except Stopped as stop:
        _fail(str(stop), stop.code)
    except Terminated:
        _fail("stopped; nothing was left half-written", 143)
    except SystemExit as leave:
        if leave.code == 130:  # typer's silent answer to Ctrl-C
            _fail("stopped; nothing was left half-written", 130)
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `pipe runs | head` is no error
    except OSError as error:
        if error.errno not in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EACCES,
            errno.EPERM,
            errno.EROFS,
            errno.ENOTDIR,
            errno.ENAMETOOLONG,
            errno.ELOOP,
            errno.EISDIR,
        ):
            raise
        _fail(f"error: {error.filename or 'a file'}: {error.strerror}", 2)
    except Exception as error:
        from ensemble.predictions import EnsembleError  # NumPy: not needed for --help
        from heads.base import HeadError

        if not isinstance(error, PipelineError | HeadError | EnsembleError):
            raise
        _fail(f"error: {error}", 2)


def _fail(message: str, code: int) -> None:
    """Print one red line and leave."""
    if words := last_words(message, code):
        typer.secho(error_line(words), fg="red", err=True)
    sys.exit(code)
