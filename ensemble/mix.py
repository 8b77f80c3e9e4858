"""The class mix of the eval set, and whether moving there pays: found from unlabelled probabilities, head by head.

Legend: N samples, H heads, C classes of a head, J joint classes, E photos to predict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ensemble.chain import HeadVote
from ensemble.final import Scored, outer
from ensemble.predictions import Array, EnsembleError, Names
from ensemble.priors import corrected
from ensemble.shift import Shift, given_mix, judge

JOINT = "joint"
DEFAULT_ESTIMATOR = "bbse-soft"


@dataclass(frozen=True, slots=True, eq=False)
class Mix:
    """What the eval set's class mix is taken to be.

    Attributes:
        shifts: Head (or ``joint``) -> what was found.
        ratio: (J,) new over old share of each joint class, all 1 when nothing is corrected.
        gain: What the correction changes in macro F1 on the out-of-fold rows re-weighted to the new mix, argmax, and
            its standard error; None when nothing was to be corrected.
        reason: Why nothing is corrected although a shift was found; empty otherwise.
    """

    shifts: dict[str, Shift]
    ratio: Array
    gain: tuple[float, float] | None = None
    reason: str = ""

    @property
    def moved(self) -> bool:
        """Whether probabilities are moved to another mix."""
        return bool((self.ratio != 1).any())


def find_mix(
    votes: Sequence[HeadVote],
    fair: Array,
    answers: Array | None,
    trained: Scored,
    persons: Names,
    *,
    prior: str,
    over: str,
    given: Mapping[str, Sequence[float]],
) -> Mix:
    """The mix to decide under.

    Args:
        votes: H heads' votes.
        fair: (N, J) cross-fitted joint probabilities.
        answers: (E, J) joint probabilities of the photos to predict; None when there are none.
        trained: Truth of the N rows.
        persons: (N,) who is in each.
        prior: ``auto``, ``none`` or an estimator's name.
        over: ``heads`` or ``joint``.
        given: Head -> class mix that the user knows.

    Raises:
        EnsembleError: A given mix is of no head or no mix of its classes.
    """
    names = [vote.members.name for vote in votes]
    if unknown := sorted(given.keys() - set(names)):
        raise EnsembleError(f"a class mix is given for {unknown[0]!r}; heads are: {', '.join(names)}")
    unmoved = np.ones(fair.shape[1])
    estimator = DEFAULT_ESTIMATOR if prior == "auto" else prior
    shifts: dict[str, Shift] = {}
    if over == JOINT and not given and prior != "none" and answers is not None:
        shifts[JOINT] = judge(fair, trained.targets, persons, answers, estimator=estimator)
        ratio = shifts[JOINT].ratio
    else:
        for vote in votes:
            shifts |= _of_head(vote, estimator, given)
        sizes = zip(names, trained.sizes, strict=True)
        ratio = outer([shifts[name].ratio if name in shifts else np.ones(size) for name, size in sizes])
    if not (ratio != 1).any():
        return Mix(shifts, unmoved)
    gained = paid(fair, trained, ratio)
    if not given and gained[0] <= 0:
        return Mix(shifts, unmoved, gained, "on out-of-fold rows re-weighted to that mix, correcting would not pay")
    return Mix(shifts, ratio, gained)


def _of_head(vote: HeadVote, estimator: str, given: Mapping[str, Sequence[float]]) -> dict[str, Shift]:
    name, known = vote.members.name, vote.fair.targets >= 0
    targets = vote.fair.targets[known]
    if name in given:
        return {name: given_mix(name, targets, len(vote.fair.classes), given[name])}
    if vote.test is None or estimator == "none":
        return {}
    persons = vote.members.persons[known]
    return {name: judge(vote.fair.probs[known], targets, persons, vote.test.probs, estimator=estimator)}


def under(trained: Scored, ratio: Array) -> Scored:
    """The same rows, re-weighted to another class mix."""
    return replace(trained, weights=trained.weights * ratio[trained.targets])


def paid(fair: Array, trained: Scored, ratio: Array) -> tuple[float, float]:
    """Gain in macro F1 by the correction on rows re-weighted to the new mix, and its standard error over people."""
    there = under(trained, ratio)
    before, after = fair.argmax(axis=1), corrected(fair, ratio).argmax(axis=1)
    error = float((there.drawn(after) - there.drawn(before)).std())
    return there.score(after) - there.score(before), error
