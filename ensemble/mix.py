"""The class mix of the eval set, found from unlabelled probabilities, head by head.

It is estimated from the plain vote: photos to predict are means over the networks of all folds, out-of-fold ones are of
one network, and only what is linear in the probabilities is alike on both sides. A calibration is not.

Legend: N samples, H heads, C classes of a head, J joint classes, E photos to predict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ensemble.chain import STEPS, HeadVote
from ensemble.final import Scored, outer
from ensemble.predictions import Array, EnsembleError, Names
from ensemble.shift import Shift, given_mix, judge

JOINT = "joint"
DEFAULT_ESTIMATOR = "bbse-soft"
STRENGTHS = (1.0, 0.5, 0.0)  # a believed shift is corrected in full, unless rows say that less is better


@dataclass(frozen=True, slots=True, eq=False)
class Mix:
    """What the eval set's class mix is taken to be.

    Attributes:
        shifts: Head (or ``joint``) -> what was found.
        ratio: (J,) new over old share of each joint class; all 1 when no other mix is believed.
        strengths: Powers of the ratio that may be applied to probabilities: which one pays is decided out-of-fold.
    """

    shifts: dict[str, Shift]
    ratio: Array
    strengths: tuple[float, ...]

    @property
    def moved(self) -> bool:
        """Whether another mix than that of training is believed."""
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
    estimator = DEFAULT_ESTIMATOR if prior == "auto" else prior
    shifts: dict[str, Shift] = {}
    if over == JOINT and given:
        raise EnsembleError("a mix is given for a head, so there is none to find over the joint classes; leave one out")
    if over == JOINT and prior != "none" and answers is not None:
        shifts[JOINT] = judge(fair, trained.targets, persons, answers, estimator=estimator)
        ratio = shifts[JOINT].ratio
    else:
        for vote in votes:
            shifts |= _of_head(vote, estimator, given)
        sizes = zip(names, trained.sizes, strict=True)
        ratio = outer([shifts[name].ratio if name in shifts else np.ones(size) for name, size in sizes])
    return Mix(shifts, ratio, STRENGTHS if prior == "auto" and not given else (1.0,))


def _of_head(vote: HeadVote, estimator: str, given: Mapping[str, Sequence[float]]) -> dict[str, Shift]:
    name, known = vote.members.name, vote.fair.targets >= 0
    targets = vote.fair.targets[known]
    if name in given:
        return {name: given_mix(name, targets, len(vote.fair.classes), given[name])}
    if vote.plain_test is None or estimator == "none":
        return {}
    persons, plain = vote.members.persons[known], vote.steps[STEPS[0]].probs[known]
    return {name: judge(plain, targets, persons, vote.plain_test.probs, estimator=estimator)}


def under(trained: Scored, ratio: Array) -> Scored:
    """The same rows, re-weighted to another class mix."""
    return replace(trained, weights=trained.weights * ratio[trained.targets])
