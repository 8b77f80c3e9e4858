"""How two sets of answers to the same samples differ: which became right, which wrong, and for how many people.

Legend: N samples, P persons.
"""

from dataclasses import dataclass

import numpy as np

from ensemble.predictions import Indices, Names


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What other answers change.

    Attributes:
        gained: Row numbers that were wrong and become right.
        lost: Row numbers that were right and become wrong.
        better: People of whom more photos are right than before.
        worse: People of whom fewer are.
    """

    gained: Indices
    lost: Indices
    better: int
    worse: int

    @classmethod
    def between(cls, before: Indices, after: Indices, targets: Indices, persons: Names) -> "Change":
        """The change from ``before`` to ``after``.

        Args:
            before: (N,) class indices.
            after: (N,) class indices.
            targets: (N,) true class indices.
            persons: (N,) who is in the photo.
        """
        was, becomes = before == targets, after == targets
        _, person = np.unique(persons, return_inverse=True)
        balance = np.bincount(person, weights=becomes.astype(np.float64) - was)  # (P,)
        gained, lost = np.flatnonzero(becomes & ~was), np.flatnonzero(was & ~becomes)
        return cls(gained, lost, int((balance > 0).sum()), int((balance < 0).sum()))

    @property
    def p_value(self) -> float:
        """How often so uneven a change comes about when each person is as likely to gain as to lose."""
        return sign_test(self.better, self.worse)


def sign_test(better: int, worse: int) -> float:
    """The exact two-sided p-value of so many pluses and minuses, each as likely as the other; ties are left out.

    McNemar's test (1947, https://doi.org/10.1007/BF02295996) in its exact form, of people instead of photos.
    """
    from scipy.stats import binomtest  # half a second that other commands need not wait

    return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0
