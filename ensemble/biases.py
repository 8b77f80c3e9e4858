"""Biases on log-probabilities that give the highest macro F1 on labelled rows, found one bias after the other.

Each search along one bias is exact. A bias lifts a group of classes together; as it grows, every row changes its label
once, from its best class outside the group to its best class inside. In the order of these changes the counts of all
classes are running sums, and so are their F1.

Legend: N samples, J classes, G groups of classes, B rows that a search can move.
"""

from typing import NamedTuple

import numpy as np

from ensemble.metrics import macro_f1
from ensemble.predictions import Array, Indices, Mask

SWEEPS = 10  # two to four are used
LIMIT = 4.0  # nats, either way: no class is favoured more than 55-fold over another of its head
TIE = 1e-12  # macro F1 that differs by less is the same but for rounding
GAP = 1e-9  # nats between two changes, below which rounding could mix them up


class Labelled(NamedTuple):
    """Labelled rows: (N, J) log-probabilities, (N,) true class indices, (N,) weights that sum to 1."""

    scores: Array
    targets: Indices
    weights: Array

    def lifted(self, biases: Array, groups: Mask) -> "Labelled":
        """The rows with each group of classes lifted by its bias; (G,), (G, J)."""
        return self._replace(scores=self.scores + biases @ groups)

    def macro_f1(self) -> float:
        """The score of the classes with the highest log-probability; a tie goes to the lower index."""
        return macro_f1(self.targets, self.scores.argmax(axis=1), self.scores.shape[1], self.weights)


def tuned(rows: Labelled, groups: Mask) -> Array:
    """(G,) biases, from a coordinate ascent that starts at 0 and takes only steps that gain.

    It ends where no bias alone gains: a local optimum, which depends a little on the order of the groups.

    Args:
        rows: The labelled rows.
        groups: (G, J) which classes each bias lifts.
    """
    biases, best = np.zeros(len(groups)), rows.macro_f1()
    for _ in range(SWEEPS):
        before = best
        for g, group in enumerate(groups):
            tried = biases.copy()
            tried[g] += best_shift(rows.lifted(biases, groups), group, -LIMIT - biases[g], LIMIT - biases[g])
            if (score := rows.lifted(tried, groups).macro_f1()) > best + TIE:
                biases, best = tried, score
        if best <= before:
            break
    return biases


def best_shift(rows: Labelled, group: Mask, low: float, high: float) -> float:
    """The shift of a group of classes, between ``low`` and ``high``, that gives the highest macro F1.

    Of equals the one nearest to 0; each lies midway between two changes of labels.

    Args:
        rows: The labelled rows.
        group: (J,) which classes are shifted; neither none nor all.
        low: In nats.
        high: In nats, above ``low``.
    """
    outside, inside = (_best_of(rows.scores, np.flatnonzero(side)) for side in (~group, group))
    n = np.arange(len(rows.targets))
    changes = rows.scores[n, outside] - rows.scores[n, inside]  # (N,) the shift at which each row changes
    order = np.argsort(changes, kind="stable")
    order = order[(changes[order] > low) & (changes[order] < high)]  # (B,): the others are out of reach
    scores = _scores_after(rows, np.where(changes <= low, inside, outside), order, inside[order])  # (B + 1,)
    edges = np.clip(np.concatenate([[low], changes[order], [high]]), low, high)
    wide = np.diff(edges) > GAP
    middles, scores = ((edges[1:] + edges[:-1]) / 2)[wide], scores[wide]
    best = middles[scores >= scores.max() - TIE]
    return float(best[np.abs(best).argmin()])


def _scores_after(rows: Labelled, labels: Indices, order: Indices, after: Indices) -> Array:
    """(B + 1,) macro F1 when the first 0, 1, ... B rows of ``order`` went from their ``labels`` to ``after``."""
    n_classes = rows.scores.shape[1]
    before, weights, targets = labels[order], rows.weights[order], rows.targets[order]
    called = _running(_by_class(labels, rows.weights, n_classes), before, weights, after, weights)
    hits = _by_class(labels, rows.weights * (labels == rows.targets), n_classes)
    hits = _running(hits, before, weights * (before == targets), after, weights * (after == targets))
    total = called + _by_class(rows.targets, rows.weights, n_classes)
    f1 = np.divide(2 * hits, total, out=np.zeros_like(total), where=total > TIE)
    return np.asarray(f1.mean(axis=1))


def _running(start: Array, before: Indices, lost: Array, after: Indices, won: Array) -> Array:
    """(B + 1, J) sums by class, of which each row takes ``lost`` from one class and gives ``won`` to another."""
    n = np.arange(len(before))
    sums = np.zeros((len(before) + 1, len(start)))
    sums[0] = start
    sums[n + 1, before] = -lost
    sums[n + 1, after] = won
    return np.cumsum(sums, axis=0, out=sums)


def _by_class(labels: Indices, values: Array, n_classes: int) -> Array:
    """(J,) sums of values by class."""
    return np.bincount(labels, values, minlength=n_classes).astype(np.float64)


def _best_of(scores: Array, columns: Indices) -> Indices:
    """(N,) the column, of some, with the highest score."""
    found: Indices = columns[scores[:, columns].argmax(axis=1)]
    return found
