"""How sure a score is, when whole people are drawn: photos of one person err together.

Legend: N samples, P persons, C classes, R rounds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ensemble.metrics import require_pairs, scores_of
from ensemble.predictions import Array, EnsembleError, Indices, Names

CELLS = 2**23  # numbers of a table that are held at once


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """People drawn with replacement, as many as there are, in each of R rounds.

    The cluster bootstrap of Field & Welsh 2007, https://doi.org/10.1111/j.1467-9868.2007.00593.x. What is compared uses
    the same draws, so that differences are paired.

    Attributes:
        person: (N,) number of each sample's person.
        n_persons: P.
        rounds: R.
        seed: Of the draws.
    """

    person: Indices
    n_persons: int
    rounds: int
    seed: int

    @classmethod
    def of(cls, persons: Names, *, rounds: int = 1000, seed: int = 0) -> "Draws":
        """Draws over the people of (N,) samples."""
        people, person = np.unique(persons, return_inverse=True)
        return cls(person, len(people), rounds, seed)

    def times(self) -> Iterator[Array]:
        """How often each person is drawn, (r, P) for a few rounds at a time."""
        if self.rounds * self.n_persons <= CELLS:
            yield _kept(self.n_persons, self.rounds, self.seed)
        else:
            yield from _times(self.n_persons, self.rounds, self.seed)

    def sums(self, cells: Indices, n_cells: int, weights: Array | None = None) -> Array:
        """(R, n_cells) how much of each cell is drawn.

        Args:
            cells: (N,) the cell of each sample, 0 to n_cells - 1.
            n_cells: How many there are.
            weights: (N,) what each sample counts; None = 1.
        """
        return self._drawn(self._by_person(cells, n_cells, weights))

    def macro_f1(self, cells: Indices, n_classes: int, weights: Array | None = None) -> Array:
        """(R,) macro F1, a class that is neither true nor called counting 0.

        Args:
            cells: (N,) ``target * C + label``.
            n_classes: C.
            weights: (N,) what each sample counts; None = 1.
        """
        targets, labels = np.divmod(cells, n_classes)
        right: Array = (targets == labels) * (np.ones(len(cells)) if weights is None else weights)
        hits = self._by_person(targets, n_classes, right)
        total = self._by_person(targets, n_classes, weights) + self._by_person(labels, n_classes, weights)
        # F1 = 2 hits / (true + called): 2 C sums a person, where confusion matrices would be C * C
        right_drawn, all_drawn = np.split(self._drawn(np.concatenate([hits, total], axis=1)), 2, axis=1)
        f1 = np.divide(2 * right_drawn, all_drawn, out=np.zeros_like(all_drawn), where=all_drawn > 0)
        return np.asarray(f1.mean(axis=1))

    def class_scores(self, cells: Indices, n_classes: int) -> Array:
        """(R, C, 3) precision, recall and F1 of each class; 0 where they are undefined.

        Args:
            cells: (N,) ``target * C + label``.
            n_classes: C.
        """
        targets, labels = np.divmod(cells, n_classes)
        hits = self._by_person(targets, n_classes, (targets == labels).astype(np.float64))
        called, true = (self._by_person(classes, n_classes, None) for classes in (labels, targets))
        drawn = self._drawn(np.concatenate([hits, called, true], axis=1))
        return scores_of(*np.split(drawn, 3, axis=1))

    def mean(self, values: Array, weights: Array | None = None) -> Array:
        """(R,) weighted means of (N,) values.

        Args:
            values: (N,) of any kind, such as a row's log-loss.
            weights: (N,) what each sample counts; None = 1.
        """
        each = np.ones(len(values)) if weights is None else weights
        whole = np.zeros_like(self.person)  # all samples in one cell
        sums = [self._by_person(whole, 1, counted) for counted in (values * each, each)]
        drawn = self._drawn(np.concatenate(sums, axis=1))
        means: Array = drawn[:, 0] / drawn[:, 1]
        return means

    def _by_person(self, cells: Indices, n_cells: int, weights: Array | None) -> Array:
        """(P, n_cells) how much of each cell each person has."""
        table = np.bincount(self.person * n_cells + cells, weights, self.n_persons * n_cells)
        return table.reshape(self.n_persons, n_cells).astype(np.float64, copy=False)

    def _drawn(self, by_person: Array) -> Array:
        """(R, ...) sums of (P, ...) over the people drawn."""
        return np.concatenate([times @ by_person for times in self.times()])


def _times(n_persons: int, rounds: int, seed: int) -> Iterator[Array]:
    rng = np.random.default_rng(seed)
    most = max(1, CELLS // max(n_persons, 1))
    for start in range(0, rounds, most):
        times = np.empty((min(most, rounds - start), n_persons))
        for row in times:
            row[:] = np.bincount(rng.integers(n_persons, size=n_persons), minlength=n_persons)
        yield times


@lru_cache(maxsize=4)
def _kept(n_persons: int, rounds: int, seed: int) -> Array:
    """The draws of few people, which many scores are compared on."""
    times = next(_times(n_persons, rounds, seed))
    times.flags.writeable = False
    return times


def person_interval(
    targets: Indices,
    labels: Indices,
    persons: Names,
    n_classes: int,
    *,
    rounds: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Lower and upper end of a percentile bootstrap interval of macro F1, in which whole people are drawn.

    Args:
        targets: (N,) true class indices.
        labels: (N,) predicted class indices.
        persons: (N,) who is in the photo.
        n_classes: C.
        rounds: How often as many people as there are get drawn with replacement.
        seed: Of the draws.
        level: Share of the draws inside the interval, between 0 and 1.

    Raises:
        EnsembleError: If lengths differ, there are no samples, or an index is not in 0 to C-1.
    """
    require_pairs(targets, labels, n_classes)
    if len(persons) != len(targets):
        raise EnsembleError(f"got {len(persons)} persons for {len(targets)} targets; give one person a sample")
    scores = Draws.of(persons, rounds=rounds, seed=seed).macro_f1(targets * n_classes + labels, n_classes)
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def gain(before: Array, after: Array, persons: Names) -> tuple[float, float]:
    """Mean of ``before - after`` over the samples, and its standard error when people are drawn.

    It is that of a ratio of sums over clusters (Cochran 1977, equation 2.45), since people may have more or fewer
    photos.

    Args:
        before: (N,) losses.
        after: (N,) losses of the same samples.
        persons: (N,) who is in the photo.
    """
    saved = before - after
    _, person = np.unique(persons, return_inverse=True)
    mean = float(saved.mean())
    left = np.bincount(person, weights=saved - mean)  # what each person adds to the sum beyond its share
    n = len(left)
    if n < 2:
        return mean, float("inf")  # one person says nothing of others
    return mean, float(np.sqrt(n / (n - 1) * (left**2).sum()) / len(saved))
