"""How a run learnt: the rows of its ``history.csv``, averaged over the folds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import isfinite
from statistics import fmean

from pipeline.errors import LayoutError
from pipeline.store import Run
from pipeline.tables import Table, read_table

Curve = dict[int, float]  # epoch, counted from 1 -> mean over the folds


def read_curves(run: Run, quantities: Sequence[str]) -> dict[str, Curve]:
    """Quantity -> its mean over the folds at each epoch that all folds reached and judged; empty ones are left out.

    Args:
        run: A finished run.
        quantities: Columns of its history, such as ``train_loss`` or ``age_macro_f1``.

    Raises:
        LayoutError: The history is missing or damaged.
    """
    file = run.folder / "history.csv"
    table = read_table(file, ["fold", "epoch"])
    try:
        found = {name: _curve(table, name) for name in quantities if name in table}
    except ValueError as error:
        raise LayoutError(f"{file} is damaged: {error}") from error
    return {name: curve for name, curve in found.items() if curve}


def _curve(table: Table, name: str) -> Curve:
    """The means of one column."""
    cells: dict[int, dict[str, float]] = defaultdict(dict)  # epoch -> fold -> value
    for fold, epoch, cell in zip(table["fold"].tolist(), table["epoch"].tolist(), table[name].tolist(), strict=True):
        if cell:
            value = float(cell)
            if not isfinite(value):
                raise ValueError(f"{name} is {cell} in epoch {epoch}")
            cells[int(epoch)][fold] = value
    n_folds = len(set(table["fold"].tolist()))
    return {epoch: fmean(each.values()) for epoch, each in sorted(cells.items()) if len(each) == n_folds}
