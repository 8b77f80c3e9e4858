"""A comparison of runs as a page: gains with their intervals, learning curves, and the photos whose answer changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.layouts import load_dataset
from pipeline.page.charts import SERIES, chart
from pipeline.page.render import write_page
from pipeline.page.thumbnails import data_uris
from pipeline.progress import minutes
from pipeline.report.compare import BETTER, WORSE, Comparison, HeadComparison, Moved
from pipeline.report.compare_text import conclusions, quantities, said_gain, title_of, told
from pipeline.store import Run
from pipeline.terminal import one_line, shortened

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

MOST_PHOTOS = 12  # of each kind, head and run
NAME = 28  # columns of a run's name in a chart
DASHES = ("-", "--")  # the second half of twelve runs
GOOD, BAD, PLAIN = "#2a9d6f", "#c0392b", "#8a8f98"


@dataclass(frozen=True, slots=True)
class Gallery:
    """Photos that changed alike.

    Attributes:
        what: What they have in common.
        total: How many there are.
        photos: Those that are shown, each with its picture or the empty text.
    """

    what: str
    total: int
    photos: list[tuple[Moved, str]]


def write_html(file: Path, comparison: Comparison, first: Run, data: Path | None) -> None:
    """Write the page.

    Args:
        file: Where to.
        comparison: What it shows.
        first: The run that the others are compared with.
        data: Where the photos are; None = where that run was trained. Without photos their names are shown.

    Raises:
        ArtifactError: It cannot be written.
    """
    remarks = list(comparison.remarks)
    pictures: dict[str, str] = {}
    try:
        pictures = _pictures(comparison, first, data)
    except PipelineError as reason:
        remarks.append(f"photos are not shown: {reason}; say where they are with --data")
    curves = {name: _curve_chart(comparison, name) for name in quantities(comparison) if _epochs(comparison, name) > 1}
    write_page(
        file,
        "compare.html",
        title=f"Runs compared with {comparison.first}",
        command=one_line(" ".join(["pipe compare", *comparison.runs])),
        conclusions=list(conclusions(comparison)),
        remarks=[one_line(remark) for remark in remarks],
        gains=_gains_chart(comparison),
        scores=[row for head in comparison.heads for row in _score_rows(head)],
        setting_columns=_columns("setting", comparison.runs),
        settings=[
            *([name, *map(told, row.values())] for name, row in comparison.settings.items()),
            ["time", *map(minutes, comparison.runs.values())],
        ],
        curves=curves,
        once=[name for name in quantities(comparison) if name not in curves],
        changes=[change for head in comparison.heads for change in _changes(head, pictures)],
        agreements=[_agreement(head) for head in comparison.heads],
    )


def _score_rows(head: HeadComparison) -> Iterator[list[Any]]:
    title, first = title_of(head.head), head.runs[0]
    for run in head.runs:
        low, high = head.interval_95[run]
        row = [title, run, f"{head.macro_f1[run]:.4f}", f"{low:.3f} to {high:.3f}"]
        if run == first:
            yield [*row, ("", ""), "compared with", *[("", "")] * 4]
            continue
        found = head.against[run]
        yield [
            *row,
            (said_gain(found), f"{found.gain:.6f}"),
            found.verdict,
            str(len(found.became_right)),
            str(len(found.became_wrong)),
            (f"{found.people_better} : {found.people_worse}", str(found.people_better - found.people_worse)),
            f"{found.sign_test:.2g}",
        ]


def _gains_chart(comparison: Comparison) -> Markup:
    """The gains, one line a head and run, with their intervals."""
    lines = [(head, run, found) for head in comparison.heads for run, found in head.against.items()]
    colours = {BETTER: GOOD, WORSE: BAD}

    def draw(axes: Axes) -> None:
        for place, (_, _, found) in enumerate(lines):
            colour = colours.get(found.verdict, PLAIN)
            axes.plot(found.gain_interval_95, (place, place), color=colour, linewidth=2.5, solid_capstyle="round")
            axes.plot(found.gain, place, "o", color=colour, markersize=6)
        axes.axvline(0, color=PLAIN, linewidth=1)
        labels = [f"{title_of(head.head)}: {shortened(run, NAME)}" for head, run, _ in lines]
        axes.set_yticks(range(len(lines)), [text.replace("$", r"\$") for text in labels])
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.set_xlabel("macro F1 more than the first run, 95 % over people")

    said = "; ".join(f"{title_of(head.head)}, {run}: {said_gain(found)}" for head, run, found in lines)
    return chart(draw, alt=f"Gains over {comparison.first}: {said}", width=8.0, height=0.9 + 0.3 * len(lines))


def _curve_chart(comparison: Comparison, quantity: str) -> Markup:
    """A line a run, over the epochs."""

    def draw(axes: Axes) -> None:
        for place, run in enumerate(comparison.runs):
            curve = comparison.curves.get(run, {}).get(quantity, {})
            dash = DASHES[place // len(SERIES)]
            axes.plot([*curve], [*curve.values()], dash, label=shortened(run, NAME).replace("$", r"\$"), linewidth=1.6)
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity.replace("_", " "))
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=8)

    return chart(draw, alt=f"{quantity} by epoch, mean over the folds, a line a run")


def _epochs(comparison: Comparison, quantity: str) -> int:
    return max(len(known.get(quantity, {})) for known in comparison.curves.values())


def _changes(head: HeadComparison, pictures: Mapping[str, str]) -> Iterator[tuple[str, list[Gallery]]]:
    """Head and run -> what became right, and what wrong."""
    for run, found in head.against.items():
        kinds = {"became right": found.became_right, "became wrong": found.became_wrong}
        galleries = [
            Gallery(what, len(rows), [(row, pictures.get(row.id, "")) for row in rows[:MOST_PHOTOS]])
            for what, rows in kinds.items()
        ]
        yield f"{title_of(head.head)}: {run}", galleries


def _columns(first: str, runs: Iterable[str]) -> list[tuple[str, str]]:
    return [(name, "text") for name in (first, *runs)]


def _agreement(head: HeadComparison) -> tuple[str, list[tuple[str, str]], list[list[str]]]:
    """Title, columns and rows of a table of runs by runs."""
    pairs = zip(head.runs, head.same_answers, head.error_correlation, strict=True)
    rows = [
        [run, *(f"{a:.3f} / {b:.2f}" for a, b in zip(same, together, strict=True))] for run, same, together in pairs
    ]
    return title_of(head.head), _columns("run", head.runs), rows


def _pictures(comparison: Comparison, first: Run, data: Path | None) -> dict[str, str]:
    """Id -> a small picture of each photo that is shown.

    Raises:
        PipelineError: The data is not there, or is no longer that of the run.
    """
    info = first.info()
    config: dict[str, Any] = {**info["config"]}
    root = data or Path(info["data_root"])
    samples = load_dataset(root, fixes=config.get("fixes", ""), no_fixes=config.get("no_fixes", False)).samples
    paths = dict(zip(samples.ids.tolist(), samples.paths, strict=True))
    shown = [
        row.id
        for head in comparison.heads
        for found in head.against.values()
        for rows in (found.became_right, found.became_wrong)
        for row in rows[:MOST_PHOTOS]
        if row.id in paths
    ]
    wanted = list(dict.fromkeys(shown))
    return dict(zip(wanted, data_uris([paths[name] for name in wanted]), strict=True))
