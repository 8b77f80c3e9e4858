"""The look at the data as a page: charts, mean faces and small pictures of the photos that are told of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes as Panel

from heads.base import FloatArray, Head, IntArray
from pipeline.canvas import squared
from pipeline.check import Count
from pipeline.eda.counts import Quantity
from pipeline.eda.explore import Report, Seen
from pipeline.eda.looking import SIDE, lights, mean_faces
from pipeline.eda.odd import Twins
from pipeline.eda.story import REASONS, REMEDIES, findings_of, hindered, verdict
from pipeline.page.charts import INK, SERIES, chart
from pipeline.page.render import write_page
from pipeline.page.thumbnails import data_uri, data_uris

POINTS = 5000  # that a chart shows
PAIRS = 24  # of near-duplicates
PROBLEMS = 200  # rows
SECTIONS = {"data": "faults", "classes": "classes", "folds": "folds", "photos": "odd", "near-duplicates": "twins"}


def write_report(file: Path, report: Report, seen: Seen) -> int:
    """Write the page; its size in bytes.

    Raises:
        ArtifactError: It cannot be written.
    """
    twins = [shown for to_predict in (False, True) for shown in _first(report.twins, to_predict=to_predict)]
    rows = {photo.row for odd in report.odd for photo in odd.photos} | {row for pair in twins for row in pair.rows}
    ordered = sorted(rows)
    pictures = dict(zip(ordered, data_uris([seen.files[row] for row in ordered]), strict=True))
    groups = findings_of(report).groups
    return write_page(
        file,
        "eda.html",
        title="A look at the data",
        command=f"pipe eda --data {report.check.root} --out {file}",
        report=report,
        good=not hindered(report),
        verdict=verdict(report),
        todo=[(f, SECTIONS[group]) for group, found in groups.items() for f in found if f.status != "ok"],
        fine=[finding for found in groups.values() for finding in found if finding.status == "ok"],
        total=max(sum(count.photos for count in report.classes.values()), 1),
        most=max((count.photos for count in report.classes.values()), default=0),
        problems=report.check.problems[:PROBLEMS],
        ages={head: _ages(head, quantity, seen.labels.heads) for head, quantity in report.quantities.items()},
        fold_rows=list(_fold_rows(report)),
        brightness=_brightness(seen),
        faces=list(_faces(report.classes, seen)),
        face_columns=_columns(seen.labels.heads),
        maps=list(_maps(report, seen)),
        pictures=pictures,
        reasons=REASONS,
        remedies=REMEDIES,
        twins=twins,
        hidden=len(report.twins) - len(twins),
    )


def _first(twins: Sequence[Twins], *, to_predict: bool) -> list[Twins]:
    return [pair for pair in twins if pair.to_predict == to_predict][:PAIRS]


def _ages(name: str, quantity: Quantity, heads: Sequence[Head]) -> Markup:
    """People by a head's quantity, coloured by class, with the cuts between classes."""
    head = next(head for head in heads if head.name == name)
    values, people = np.asarray(list(quantity.people)), np.asarray(list(quantity.people.values()))
    index = head.labels(values)

    def draw(panel: Panel) -> None:
        for k, label in enumerate(head.classes):
            chosen = index == k
            panel.bar(values[chosen], people[chosen], width=0.9, color=SERIES[k % len(SERIES)], label=label)
        for edge in quantity.edges:
            panel.axvline(edge - 0.5, color=INK, linestyle="--", linewidth=1)
        panel.set(xlabel=name, ylabel="people")
        panel.legend()

    cuts = " and ".join(f"{edge:g}" for edge in quantity.edges)
    return chart(draw, alt=f"Histogram of people by {name}, cut at {cuts}", width=9.0, height=3.0)


def _fold_rows(report: Report) -> Iterator[tuple[str, list[tuple[int, float, bool]]]]:
    """(class, one (photos, how far from an even share in -1 to 1, whether that is too few) a fold)."""
    if report.folds is None:
        return
    whole = np.asarray(report.folds.photos) / sum(report.folds.photos)
    for name, counts in report.folds.classes.items():
        even = np.maximum(whole * sum(counts), 1e-9)
        apart = ((np.asarray(counts) - even) / even).clip(-1, 1).tolist()
        yield name, [(count, abs(far), far < 0) for count, far in zip(counts, apart, strict=True)]


def _brightness(seen: Seen) -> Markup:
    """Histograms of brightness of the photos to learn from and to predict."""
    n, brightness = len(seen.labels.persons), lights(seen.looked.small)[0]
    rows, readable = np.arange(len(seen.ids)), seen.looked.readable
    sets = {"to learn from": brightness[readable & (rows < n)], "to predict": brightness[readable & (rows >= n)]}

    def draw(panel: Panel) -> None:
        for name, values in sets.items():
            if len(values):
                weights = np.full(len(values), 100 / len(values))
                panel.hist(
                    values,
                    bins=np.linspace(0, 1, 41).tolist(),
                    weights=weights,
                    histtype="step",
                    linewidth=1.6,
                    label=name,
                )
        panel.set(xlabel="mean brightness, 0 black to 1 white", ylabel="% of photos", xlim=(0, 1))
        panel.legend()

    return chart(draw, alt="Histograms of mean brightness of the photos to learn from and to predict")


def _faces(classes: dict[str, Count], seen: Seen) -> Iterator[tuple[str, Count, str]]:
    """(class, its photos and people, its mean photo) of every class that has a photo that can be read."""
    n = len(seen.labels.persons)
    index = np.where(seen.looked.readable[:n], seen.labels.joint, -1)
    means = mean_faces(seen.looked.small[:n], index, len(seen.labels.names))
    for name, mean in zip(seen.labels.names, means, strict=True):
        if not np.isnan(mean).any():
            yield name, classes[name], data_uri(squared(mean.round().astype(np.uint8), 2 * SIDE))


def _columns(heads: Sequence[Head]) -> tuple[int, int]:
    """How many mean faces stand side by side in a wide and in a narrow window, so that columns are classes."""
    sizes = [len(head.classes) for head in heads] or [1]
    return math.prod(sizes[1:]) if len(sizes) > 1 else sizes[0], sizes[-1]


def _maps(report: Report, seen: Seen) -> Iterator[Markup]:
    """The photos on the first two components: a chart for each head, and one for the two sets."""
    if len(report.variance) < 2:
        return
    n, total = len(seen.labels.persons), len(seen.ids)
    readable = np.flatnonzero(seen.looked.readable)
    shown = np.random.default_rng(0).permutation(readable)[:POINTS]  # no class always lies on top
    for head in seen.labels.heads:
        index = np.concatenate([seen.labels.index[head.name], np.full(total - n, -1)])[shown]
        yield _map(report, head.name, head.classes, seen.coordinates[shown, :2], index)
    if total > n:
        index = (shown >= n).astype(np.int64)
        yield _map(report, "set", ("to learn from", "to predict"), seen.coordinates[shown, :2], index)


def _map(report: Report, title: str, names: Sequence[str], points: FloatArray, index: IntArray) -> Markup:
    """One map: a dot a photo, and the middle of each class."""
    colours = np.asarray(SERIES)[np.arange(len(names)) % len(SERIES)]

    def draw(panel: Panel) -> None:
        known = index >= 0
        x, y = points[known].T
        panel.scatter(x, y, s=5, c=colours[index[known]], alpha=0.55, linewidths=0, rasterized=True)
        for k, name in enumerate(names):
            if (index == k).any():
                x, y = points[index == k].mean(axis=0, keepdims=True).T
                panel.scatter(x, y, s=80, color=colours[k], edgecolors=INK, linewidths=1.2, label=name)
        for axis, share, label in zip((panel.xaxis, panel.yaxis), report.variance, ("first", "second"), strict=False):
            axis.set_label_text(f"{label} component, {share:.0%} of the variance")
        panel.set_title(title, loc="left")
        panel.legend(loc="best")

    return chart(draw, alt=f"Photos on the first two principal components, coloured by {title}", height=4.4)
