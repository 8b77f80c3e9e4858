"""Whether another class mix is believed: the estimate, how sure it is, and what speaks against using it.

Legend: N out-of-fold samples, P persons, C classes, E photos to predict, R bootstrap rounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ensemble.calibration import bias_corrected
from ensemble.predictions import Array, EnsembleError, Indices, Mask, Names
from ensemble.priors import ESTIMATORS, Estimator, mix_of, most_likely, require_mix

FEWEST_PHOTOS = 100  # to predict
FEWEST_PEOPLE = 10  # out-of-fold, of each class
MOST_ROWS = 50_000  # of each side that are looked at; whole people
LEVEL, TWO_SIDED = 0.95, 1.96
SOFT = "bbse-soft"
FAR = 0.05  # total variation between two estimates that is worth a word
UNSURE = 0.2  # mean total variation between estimate and truth above which nothing is believed
LEAST_VARIANCE = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Shift:
    """What was found of one head's class mix.

    Attributes:
        train: (C,) the mix of training.
        estimate: (C,) the eval set's, as estimated or given.
        interval: (C, 2) 95 % interval of each share; empty when nothing was estimated.
        others: Estimator -> (C,) what the others say.
        used: (C,) the mix that is assumed: between ``train`` and the estimate; ``train`` when that is not believed.
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


class Known(NamedTuple):
    """Out-of-fold rows: (N, C) probabilities, (N,) true classes, (N,) numbers of persons."""

    probs: Array
    targets: Indices
    person: Indices


def judge(
    probs: Array,
    targets: Indices,
    persons: Names,
    unlabelled: Array,
    *,
    estimator: str = SOFT,
    rounds: int = 200,
    seed: int = 0,
) -> Shift:
    """The estimated mix, and how much of the shift to believe.

    The error of the estimate has a covariance, found by `errors`, in which the shift has a squared length D. It is of
    the order of C - 1 when nothing shifted. Below the 95 % point of chi-square nothing is corrected. Above it the part
    ``(C - 1) / D`` of the shift is taken back: noise made it that much too long (James & Stein 1961).

    Args:
        probs: (N, C) cross-fitted out-of-fold probabilities.
        targets: (N,) true classes.
        persons: (N,) who is in the photo.
        unlabelled: (E, C) probabilities of the photos to predict.
        estimator: Key of ``ESTIMATORS``.
        rounds: R.
        seed: Of the draws.

    Raises:
        EnsembleError: There is no such estimator.
    """
    if estimator not in ESTIMATORS:
        raise EnsembleError(f"there is no estimator {estimator!r}; estimators are: {', '.join(ESTIMATORS)}")
    n_classes, rng = probs.shape[1], np.random.default_rng(seed)
    train = mix_of(targets, n_classes)
    if few := _too_few(targets, persons, unlabelled, n_classes):
        return Shift(train, train, np.empty((0, 2)), {}, train, few)
    known = _some_people(Known(probs, targets, np.unique(persons, return_inverse=True)[1]), rng)
    shown = unlabelled[rng.permutation(len(unlabelled))[:MOST_ROWS]]
    found = {name: estimate(known.probs, known.targets, shown) for name, estimate in ESTIMATORS.items()}
    wrong = partial(errors, n_photos=len(shown), rounds=rounds, rng=rng)
    estimate = found.pop(estimator)
    draws = wrong(*_repeated(estimator, known), estimate)
    interval = np.clip(estimate[:, None] + draws.std(axis=0)[:, None] * [-TWO_SIDED, TWO_SIDED], 0, 1)
    length = squared_length(estimate - train, draws)
    reason = _doubt(draws, length)
    if not reason and estimator != SOFT:
        reason = _against_soft(estimate, found[SOFT], wrong(ESTIMATORS[SOFT], known, found[SOFT]))
    used = train if reason else train + (1 - (n_classes - 1) / length) * (estimate - train)
    return Shift(train, estimate, interval, found, used, reason)


def _too_few(targets: Indices, persons: Names, unlabelled: Array, n_classes: int) -> str:
    if len(unlabelled) < FEWEST_PHOTOS:
        return f"only {len(unlabelled)} photos to predict; an estimate takes {FEWEST_PHOTOS}"
    people = [len(np.unique(persons[targets == c])) for c in range(n_classes)]
    if min(people) < FEWEST_PEOPLE:
        return f"only {min(people)} people of one class are known; an estimate takes {FEWEST_PEOPLE}"
    return ""


def errors(
    estimator: Estimator, known: Known, mix: Array, *, n_photos: int, rounds: int, rng: np.random.Generator
) -> Array:
    """(R, C) errors of an estimator in a world in which the truth is known.

    In each round the people out-of-fold are drawn anew, and as many photos as there are to predict are made of other
    draws of the same people, in the given mix; the error is what the estimate differs from the mix of these photos.
    Who is on the photos to predict is not known: they are taken to come in groups as large as those out-of-fold.

    Args:
        estimator: Of the class mix.
        known: Out-of-fold rows.
        mix: (C,) class mix of the photos to predict.
        n_photos: E.
        rounds: R.
        rng: Of the draws.
    """
    n_classes = known.probs.shape[1]
    people = _groups(known.person)
    of_class = [_groups(known.person, known.targets == c) for c in range(n_classes)]  # a person's photos of a class
    size = np.asarray([np.mean([len(group) for group in groups]) for groups in of_class])
    times = np.rint(n_photos * mix / size).astype(np.int64)
    found = []
    for _ in range(rounds):
        seen = _drawn(people, len(people), rng)
        made = np.concatenate([_drawn(groups, n, rng) for groups, n in zip(of_class, times, strict=True)])
        estimate = estimator(known.probs[seen], known.targets[seen], known.probs[made])
        found.append(estimate - mix_of(known.targets[made], n_classes))
    return np.stack(found)


def squared_length(moved: Array, draws: Array) -> float:
    """The squared Mahalanobis length of (C,) ``moved`` in the covariance of (R, C) draws, both of which sum to 0."""
    spread = np.cov(draws[:, 1:].T).reshape(len(moved) - 1, len(moved) - 1)  # the first class follows from the others
    spread = spread + LEAST_VARIANCE * np.eye(len(spread))
    return float(moved[1:] @ np.linalg.solve(spread, moved[1:]))


def _repeated(estimator: str, known: Known) -> tuple[Estimator, Known]:
    """What is done in every draw, and on which rows: EM's calibration, which takes most of its time, is done once."""
    if estimator != "em":
        return ESTIMATORS[estimator], known
    return most_likely, known._replace(probs=bias_corrected(known.probs, known.targets)(known.probs))


def _doubt(draws: Array, length: float) -> str:
    """Why a shift of this squared length is not believed; empty when it is."""
    unsure = float(np.abs(draws).sum(axis=1).mean() / 2)
    if unsure > UNSURE:
        return f"the head tells the classes apart too badly: the estimate is off by {100 * unsure:.0f} % of the photos"
    if length < _noise(draws.shape[1]):
        return "the shift is within what drawing other people would give"
    return ""


def _against_soft(estimate: Array, soft: Array, draws: Array) -> str:
    """Why soft BBSE, which errs as in the draws, speaks against another estimate; empty when it does not.

    Not the other way round: soft BBSE alone stays right when networks are averaged for the photos to predict, as those
    of all folds are, and not out-of-fold.
    """
    apart = total_variation(estimate, soft)
    if apart > FAR and squared_length(estimate - soft, draws) > _noise(len(soft)):
        return f"soft BBSE disagrees about {100 * apart:.0f} % of the photos, more than noise"
    return ""


def _noise(n_classes: int) -> float:
    """The squared length that noise alone exceeds once in twenty times: chi-square with C - 1 degrees of freedom."""
    from scipy.special import chdtri  # a tenth of a second that other votes need not wait

    return float(chdtri(n_classes - 1, 1 - LEVEL))


def _some_people(known: Known, rng: np.random.Generator) -> Known:
    """All rows, or those of so many people drawn at random that some ``MOST_ROWS`` are left."""
    if len(known.person) <= MOST_ROWS:
        return known
    n_people = int(known.person.max()) + 1
    kept = rng.permutation(n_people)[: max(1, MOST_ROWS * n_people // len(known.person))]
    rows = np.isin(known.person, kept)
    return Known(known.probs[rows], known.targets[rows], np.unique(known.person[rows], return_inverse=True)[1])


def _groups(person: Indices, chosen: Mask | None = None) -> list[Indices]:
    """The rows of each person, of the chosen rows."""
    rows = np.arange(len(person)) if chosen is None else np.flatnonzero(chosen)
    order = rows[np.argsort(person[rows], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(person[order])) + 1)


def _drawn(groups: Sequence[Indices], times: int, rng: np.random.Generator) -> Indices:
    """The rows of so many groups, drawn with replacement."""
    none = np.empty(0, dtype=np.int64)
    return np.concatenate([none, *(groups[i] for i in rng.integers(len(groups), size=times))])


def total_variation(one: Array, other: Array) -> float:
    """Half the sum of the absolute differences of two mixes."""
    return float(np.abs(one - other).sum() / 2)
