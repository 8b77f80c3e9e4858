"""The charts of the report's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pipeline.errors import LayoutError
from pipeline.page.charts import INK, SERIES, chart
from pipeline.store import Run
from pipeline.tables import read_table

FEWEST = 10  # photos of a bin that are a share
MOST_LINES = len(SERIES)  # folds with a colour of their own
History = dict[str, list[float]]  # column -> a number an epoch, NaN = not judged


def reliability_chart(head: str, curves: Mapping[str, Sequence[Mapping[str, float]]]) -> Markup:
    """Share of each class against its mean probability, a point a bin, larger where there are more photos.

    Bins of fewer than ten photos are left out: their shares jump about.
    """

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        most = max(point["photos"] for points in curves.values() for point in points)
        for name, all_points in curves.items():
            points = [point for point in all_points if point["photos"] >= FEWEST]
            x, y = [p["probability"] for p in points], [p["share"] for p in points]
            (line,) = axes.plot(x, y, linewidth=1.2, label=plain(name))
            sizes = [4 + 60 * p["photos"] / most for p in points]
            axes.scatter(x, y, s=sizes, color=line.get_color(), alpha=0.8, linewidths=0)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="mean probability given", ylabel="share that is so")
        axes.legend(loc="upper left")

    return chart(draw, alt=f"{head}: reliability of the probabilities of each class", width=5.2, height=3.6)


def age_chart(head: str, points: Sequence[Mapping[str, Any]], edges: Sequence[float]) -> Markup:
    """What photos are taken for at each true quantity, as stacked shares; lines where the true class changes."""

    def draw(axes: Axes) -> None:
        left = np.asarray([point["from"] for point in points])
        width = np.asarray([point["to"] - point["from"] for point in points])
        photos = np.asarray([point["photos"] for point in points])
        bottom = np.zeros(len(points))
        for number, name in enumerate(points[0]["taken_for"]):
            share = np.asarray([point["taken_for"][name] for point in points]) / photos
            colour = SERIES[number % len(SERIES)]
            axes.bar(
                left, share, width, bottom, align="edge", label=f"taken for {plain(name)}", color=colour, alpha=0.85
            )
            bottom += share
        for edge in edges:
            axes.axvline(edge, color=INK, linewidth=1.2)
        axes.set(
            ylim=(0, 1), xlim=(left[0], left[-1] + width[-1]), xlabel=f"true {plain(head)} in years", ylabel="share"
        )
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)

    alt = f"{head}: what photos are taken for, by the true quantity; lines stand where the true class changes"
    return chart(draw, alt=alt, width=6.4, height=3.4)


def learning_charts(run: Run, head: str, n_heads: int) -> list[Markup]:
    """Macro F1 and loss of the held-out photos by epoch, a line a fold; beside it the training loss of a single head.

    Raises:
        LayoutError: ``history.csv`` is missing or damaged, or knows too little of the head.
    """
    rows = history(run)
    name = next((head for head in (head, "joint") if f"{head}_macro_f1" in rows), None)
    if name is None or not {"fold", "epoch"} <= rows.keys():
        raise LayoutError(f"history.csv of {run.name!r} has no epochs of {head!r}")
    judged = np.asarray(rows["epoch"])[np.isfinite(rows[f"{name}_macro_f1"])]
    if len(np.unique(judged)) < 2:
        raise LayoutError("the run judged one epoch only; validate_every = 1 judges each")
    charts = [_lines(rows, {"held-out": f"{name}_macro_f1"}, "macro F1, held-out", f"{head}: macro F1 by epoch")]
    losses = {"held-out": f"{name}_val_loss"} | ({"training": "train_loss"} if n_heads == 1 else {})
    if all(column in rows for column in losses.values()):
        label = "loss, training dashed" if n_heads == 1 else "loss, held-out"
        charts.append(_lines(rows, losses, label, f"{head}: loss by epoch"))
    return charts


def _lines(rows: History, columns: Mapping[str, str], label: str, alt: str) -> Markup:
    fold, epoch = np.asarray(rows["fold"]), np.asarray(rows["epoch"])

    def draw(axes: Axes) -> None:
        folds = np.unique(fold)
        for number, which in enumerate(folds):
            for kind, column in columns.items():
                values = np.asarray(rows[column])
                there = (fold == which) & np.isfinite(values)
                order = np.argsort(epoch[there], kind="stable")
                axes.plot(
                    epoch[there][order],
                    values[there][order],
                    color=SERIES[number % MOST_LINES],
                    linestyle="-" if kind == "held-out" else (0, (3, 2)),
                    linewidth=1.3,
                    marker="." if there.sum() < 30 else None,
                    label=f"fold {which:g}" if kind == "held-out" and len(folds) <= MOST_LINES else None,
                )
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(folds) <= MOST_LINES:
            axes.legend(loc="best")

    return chart(draw, alt=alt, width=5.2, height=3.2)


def history(run: Run) -> History:
    """``history.csv`` as numbers.

    Raises:
        LayoutError: It is missing or damaged.
    """
    table = read_table(run.folder / "history.csv")
    try:
        return {name: [float(cell) if cell else np.nan for cell in cells.tolist()] for name, cells in table.items()}
    except ValueError as error:
        raise LayoutError(f"{run.folder / 'history.csv'} is damaged: {error}") from error


def plain(text: str) -> str:
    """Text that matplotlib takes for itself: no mathematics, no hidden label."""
    return text.replace("$", r"\$").removeprefix("_") or "?"
