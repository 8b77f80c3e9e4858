"""Whether another class mix is believed: the estimate, how sure it is, and what speaks against using it.

Legend: N out-of-fold samples, P persons, C classes, E photos to predict, R bootstrap rounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble.predictions import Array, Indices, Names
from ensemble.priors import ESTIMATORS, Estimator, mix_of, require_mix

FEWEST_PHOTOS = 100  # to predict
FEWEST_PEOPLE = 10  # out-of-fold, of each class
MOST_ROWS = 50_000  # of each side that are looked at; whole people
LEVEL = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Shift:
    """What was found of one head's class mix.

    Attributes:
        train: (C,) the mix of training.
        estimate: (C,) the eval set's, as estimated or given.
        interval: (C, 2) 95 % interval of each share; empty when nothing was estimated.
        others: Estimator -> (C,) what the others say.
        used: (C,) the mix that is assumed; ``train`` when nothing is corrected.
        reason: Why nothing is corrected; empty when it is.
    """

    train: Array
    estimate: Array
    interval: Array
    others: dict[str, Array]
    used: Array
    reason: str

    @property
    def ratio(self) -> Array:
        """(C,) by which probabilities are multiplied."""
        if self.reason:
            return np.ones(len(self.train))
        return np.divide(self.used, self.train, out=np.ones(len(self.train)), where=self.train > 0)

    def as_dict(self) -> dict[str, Any]:
        """What was found, for JSON."""
        return {
            "train": self.train.tolist(),
            "estimate": self.estimate.tolist(),
            "interval_95": self.interval.tolist(),
            "others": {name: mix.tolist() for name, mix in self.others.items()},
            "used": self.used.tolist(),
            "reason": self.reason,
        }


def given_mix(name: str, targets: Indices, n_classes: int, given: Sequence[float]) -> Shift:
    """The mix that a user knows, believed as it is.

    Raises:
        EnsembleError: It is no mix of the head's classes.
    """
    mix = np.asarray(given, dtype=np.float64)
    require_mix(name, mix, n_classes)
    mix = mix / mix.sum()
    return Shift(mix_of(targets, n_classes), mix, np.empty((0, 2)), {}, mix, "")


def judge(
    probs: Array,
    targets: Indices,
    persons: Names,
    unlabelled: Array,
    *,
    estimator: str = "bbse-soft",
    rounds: int = 200,
    seed: int = 0,
) -> Shift:
    """The estimated mix, and whether to believe it.

    People are drawn out-of-fold. Who is on the photos to predict is not known, so fewer rows of them are drawn than
    there are, by the factor by which people out-of-fold vary more than rows would (the design effect of Kish 1965).

    Args:
        probs: (N, C) cross-fitted out-of-fold probabilities.
        targets: (N,) true classes.
        persons: (N,) who is in the photo.
        unlabelled: (E, C) probabilities of the photos to predict.
        estimator: Key of ``ESTIMATORS``.
        rounds: R.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    train = mix_of(targets, probs.shape[1])
    nothing = np.empty((0, 2))
    if few := _too_few(targets, persons, unlabelled, probs.shape[1]):
        return Shift(train, train, nothing, {}, train, few)
    people, person = np.unique(persons, return_inverse=True)
    if len(person) > MOST_ROWS:
        kept = rng.permutation(len(people))[: max(1, MOST_ROWS * len(people) // len(person))]
        rows = np.isin(person, kept)
        probs, targets, person = probs[rows], targets[rows], np.unique(person[rows], return_inverse=True)[1]
    shown = unlabelled if len(unlabelled) <= MOST_ROWS else unlabelled[rng.permutation(len(unlabelled))[:MOST_ROWS]]
    found = {name: estimate(probs, targets, shown) for name, estimate in ESTIMATORS.items()}
    drawn = _drawn(ESTIMATORS[estimator], probs, targets, person, shown, rounds, rng)
    interval = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0).T
    estimate = found.pop(estimator)
    reason = _reason(train, estimate, drawn, found["bbse-soft" if estimator == "em" else "em"])
    return Shift(train, estimate, interval, found, train if reason else estimate, reason)


def _too_few(targets: Indices, persons: Names, unlabelled: Array, n_classes: int) -> str:
    if len(unlabelled) < FEWEST_PHOTOS:
        return f"only {len(unlabelled)} photos to predict; an estimate takes {FEWEST_PHOTOS}"
    people = [len(np.unique(persons[targets == c])) for c in range(n_classes)]
    if min(people) < FEWEST_PEOPLE:
        return f"only {min(people)} people of one class are known; an estimate takes {FEWEST_PEOPLE}"
    return ""


def design_effect(probs: Array, person: Indices) -> float:
    """How many times more the mean of (N, C) probabilities varies when people are drawn than when rows are."""
    left = probs - probs.mean(axis=0)
    by_person = np.stack([np.bincount(person, weights=column) for column in left.T], axis=1)
    rows = float((left**2).sum())
    return max(1.0, float((by_person**2).sum()) / rows) if rows > 0 else 1.0


def _drawn(
    estimator: Estimator,
    probs: Array,
    targets: Indices,
    person: Indices,
    unlabelled: Array,
    rounds: int,
    rng: np.random.Generator,
) -> Array:
    """(R, C) estimates on people and photos drawn anew."""
    order = np.argsort(person, kind="stable")
    ends = np.cumsum(np.bincount(person))
    rows_of = np.split(order, ends[:-1])
    n_photos = max(2, round(len(unlabelled) / design_effect(probs, person)))
    found = []
    for _ in range(rounds):
        rows = np.concatenate([rows_of[who] for who in rng.integers(len(rows_of), size=len(rows_of))])
        photos = rng.integers(len(unlabelled), size=n_photos)
        found.append(estimator(probs[rows], targets[rows], unlabelled[photos]))
    return np.stack(found)


def _reason(train: Array, estimate: Array, drawn: Array, other: Array) -> str:
    """Why the estimate is not believed; empty when it is."""
    from scipy.special import chdtri

    spread = np.cov(drawn.T) + 1e-12 * np.eye(len(train))
    moved = estimate - train
    distance = float(moved @ np.linalg.pinv(spread, rcond=1e-6, hermitian=True) @ moved)
    if distance < chdtri(len(train) - 1, 1 - LEVEL):
        return "the shift is within what drawing other people would give"
    if total_variation(other, estimate) > total_variation(train, estimate):
        return "EM and BBSE disagree by more than the shift itself"
    return ""


def total_variation(one: Array, other: Array) -> float:
    """Half the sum of the absolute differences of two mixes."""
    return float(np.abs(one - other).sum() / 2)
