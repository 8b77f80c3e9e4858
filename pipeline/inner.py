"""The inner people: part of a fold's training people, held back to judge epochs by. N photos.

What is chosen while a fold trains (an epoch, a soup) is chosen on them, never on the people that the fold holds out.
"""

from __future__ import annotations

import numpy as np

from heads.base import IntArray, StrArray
from pipeline.folds import grouped_part


def inner_people(rows: IntArray, persons: StrArray, strata: IntArray, *, share: float, seed: int) -> IntArray:
    """Which of the training rows are held back: about ``share`` of the people, with all their photos, classes balanced.

    Args:
        rows: Row numbers that the fold may train on.
        persons: (N,) who is on each photo.
        strata: (N,) joint class of each photo.
        share: Above 0, at most 0.5.
        seed: Other seeds take other people.
    """
    if not share or len(np.unique(persons[rows])) < 2:
        return rows[:0]
    return rows[grouped_part(strata[rows], persons[rows], round(1 / share), seed)]
