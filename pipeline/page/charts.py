"""Charts as SVG inside a page: matplotlib draws, the page's colours are taken over, in light and in dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# the page's style puts its own colours in their places
INK, FAINT = "#010203", "#040506"
SERIES = ("#2f6fdb", "#d9822b", "#2a9d6f", "#b8478f", "#7a6ff0", "#8a8f98")  # read on white and on near-black
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and takes the page's font
    "svg.hashsalt": "headfold",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def chart(draw: Callable[[Axes], object], *, alt: str, width: float = 6.4, height: float = 3.2) -> Markup:
    """One chart as an ``<svg>`` element that shrinks with the page; the same bytes for the same drawing.

    Args:
        draw: Draws on the axes.
        alt: What the chart shows, for those who cannot see it.
        width: In inches, of 72 pixels.
        height: In inches.
    """
    from cycler import cycler

    with rc_context(STYLE | {"axes.prop_cycle": cycler(color=SERIES)}):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.subplots())
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg") :].replace(INK, "var(--ink)").replace(FAINT, "var(--line)")
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    label = Markup('role="img" aria-label="{}"').format(alt)
    return Markup(drawn.replace("<svg ", f'<svg class="chart" {label} ', 1))
