"""Pictures for trackers: the confusion of a head, and photos as they were told. C classes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.tracking.trackers import Picture

DOTS = 100  # an inch
SIDE = 128  # pixels of photos


def pictures_of(head: str, found: Mapping[str, Any]) -> dict[str, list[Picture]]:
    """Name -> pictures of a head's answers: its confusion, and its mistakes where photos of them were told.

    Args:
        head: Its name.
        found: ``classes``, ``confusion`` and ``mistakes``, as `pipeline.tracking.gathered` tells them.
    """
    mistakes = [
        Picture(one["caption"], base64.b64decode(one["photo"].partition(",")[2]), ".jpg", SIDE, SIDE)
        for one in found["mistakes"]
    ]
    drawn = {f"{head}/confusion": [confusion_picture(found["confusion"], found["classes"], head)]}
    return drawn | ({f"{head}/mistakes": mistakes} if mistakes else {})


def confusion_picture(counts: Sequence[Sequence[int]], classes: Sequence[str], head: str) -> Picture:
    """The (C, C) counts, a row a true class, coloured by the share of the row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = np.asarray(counts)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    size = 2.2 + 0.55 * len(classes)
    figure = Figure(figsize=(size, size), dpi=DOTS, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes, rotation=90 if len(classes) > 6 else 0)
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="taken for", ylabel="true", title=head)
    for (row, column), count in np.ndenumerate(table):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    FigureCanvasAgg(figure)
    figure.savefig(stream := io.BytesIO(), format="png")
    width, height = (round(side * DOTS) for side in figure.get_size_inches())
    return Picture("", stream.getvalue(), ".png", width, height)
