"""What is predicted: a head is a label column, its classes, and how a raw label becomes one of them.

N samples, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
StrArray = npt.NDArray[np.str_]


class HeadError(ValueError):
    """A head, objective or label that does not exist or does not fit."""


@dataclass(frozen=True, slots=True)
class Head:
    """One attribute to predict.

    A raw label is text as it stands in the data; the empty text means *not labelled*. Its *value* is a number: the
    class index of a named class, or the quantity itself (years) when ``edges`` cut a quantity into classes.

    Attributes:
        name: What users type.
        column: The label column it reads; empty when it is made of ``parts``.
        classes: Class names in the order of the class index.
        edges: Increasing values that cut a quantity into ``len(edges) + 1`` classes; a value on an edge is above it.
        limits: Smallest and largest sensible quantity.
        bins: Default edges of the finer bins that ``objective = "bins"`` learns.
        objectives: Names of the ways to train it; the first is the default.
        parts: Heads whose joint class this head predicts; the first varies slowest.
    """

    name: str
    classes: tuple[str, ...]
    column: str = ""
    edges: tuple[float, ...] = ()
    limits: tuple[float, float] = (-np.inf, np.inf)
    bins: tuple[float, ...] = ()
    objectives: tuple[str, ...] = ("classes",)
    parts: tuple[Head, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The label columns that it needs."""
        return tuple(part.column for part in self.parts) or (self.column,)

    def problem(self, raw: str) -> str:
        """Why ``raw`` is no label of this head, in words; empty when it is one or is empty."""
        text = raw.strip()
        if not text:
            return ""
        if not self.edges:
            known = text.lower() in self.classes
            return "" if known else f"{self.column} {raw!r} is not a class; classes are: {', '.join(self.classes)}"
        try:
            number = float(text)
        except ValueError:
            return f"{self.column} {raw!r} is not a number"
        low, high = self.limits
        return "" if low <= number <= high else f"{self.column} {raw!r} is outside {low:g}-{high:g}"

    def values(self, columns: Mapping[str, StrArray]) -> FloatArray:
        """The (N,) values of the raw labels; NaN = not labelled.

        Raises:
            HeadError: A column is missing, or a label is none.
        """
        if self.parts:
            labels = [part.labels(part.values(columns)) for part in self.parts]
            sizes = tuple(len(part.classes) for part in self.parts)
            complete = np.all([label >= 0 for label in labels], axis=0)
            joint = np.ravel_multi_index(tuple(np.maximum(label, 0) for label in labels), sizes)
            return np.where(complete, joint, np.nan)
        if self.column not in columns:
            raise HeadError(f"the data has no label column {self.column!r}; it has: {', '.join(columns) or 'none'}")
        raws, where = np.unique(columns[self.column], return_inverse=True)
        for raw in raws:
            if problem := self.problem(str(raw)):
                raise HeadError(problem)
        return np.asarray([self._value(str(raw).strip()) for raw in raws], dtype=np.float64)[where]

    def labels(self, values: FloatArray) -> IntArray:
        """The (N,) class indices of (N,) values; -1 = not labelled."""
        index = np.digitize(values, self.edges) if self.edges else np.nan_to_num(values, nan=-1)
        return np.where(np.isnan(values), -1, index).astype(np.int64)

    def _value(self, text: str) -> float:
        if not text:
            return np.nan
        return float(text) if self.edges else float(self.classes.index(text.lower()))
