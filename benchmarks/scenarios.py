"""What is known of the people and networks that are drawn: errors of each head, kinds of members, and who is in eval.

Legend: C classes of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from heads.registry import LABELS

SHOTS = np.asarray([0, 0, 0, 0, 0, 1, 2])  # mask states of a person's photos: wear, incorrect, normal
FOLDS = 5
VIEWS = ("identity", "hflip")
CLASSES = {head.name: head.classes for head in LABELS}
SIZES = tuple(map(len, CLASSES.values()))

TRAIN_AGE, TRAIN_MALE = (0.474, 0.454, 0.072), 0.39
COMPETITION_AGE, COMPETITION_MALE = (0.43, 0.30, 0.27), 0.61
YEARS = np.arange(18, 81)
_BAND = np.digitize(YEARS, (30, 60))
# (3, 63) shares of years in each class: the old are nearly all 60, and many of the others are just below
AGE_SHARES = np.stack(
    [
        (_BAND == 0) / 12,
        0.6 * ((_BAND == 1) & (YEARS < 55)) / 25 + 0.4 * ((YEARS >= 55) & (YEARS < 60)) / 5,
        0.9 * (YEARS == 60) + 0.1 * ((YEARS > 60) & (YEARS <= 65)) / 5,
    ]
)


@dataclass(frozen=True, slots=True)
class HeadModel:
    """The errors that networks make on one head, as standard deviations; years for age, else 1 lies between classes.

    Attributes:
        shared: Of the error that all members make.
        own: Of the error that each member adds, the same in all its folds' networks.
        network: Of the error that each fold's network adds.
        view: Of the error that each view adds.
        by_person: Share of the first three errors' variance that is the same in all photos of a person.
        by_mask: What the errors are multiplied with in each mask state.
        spread: How unequal people are: standard deviation of the logarithm of what their errors are multiplied with.
    """

    shared: float
    own: float
    network: float
    view: float
    by_person: float = 0.7
    by_mask: tuple[float, float, float] = (1.0, 1.0, 1.0)
    spread: float = 0.3

    def believed(self, member: MemberModel) -> float:
        """The standard deviation that a network takes its errors to have: their average over photos."""
        variance = self.shared**2 + (member.noise * self.own) ** 2 + self.network**2 + self.view**2
        return float(np.sqrt(variance * np.square(self.by_mask)[SHOTS].mean()))


@dataclass(frozen=True, slots=True)
class MemberModel:
    """What sets one member apart.

    Attributes:
        noise: What its own errors are multiplied with.
        temperature: What its log-probabilities are divided by; below 1 it is over-confident.
    """

    noise: float
    temperature: float


MEMBERS = tuple(
    MemberModel(*each) for each in ((1.0, 0.6), (1.3, 0.45), (0.9, 0.8), (1.6, 0.6), (1.1, 1.0), (2.0, 0.5))
)
STRONG = {
    "mask": HeadModel(0.16, 0.12, 0.08, 0.06, by_person=0.3),
    "gender": HeadModel(0.30, 0.20, 0.12, 0.08),
    "age": HeadModel(1.7, 1.3, 0.7, 0.6, by_mask=(1.1, 1.0, 0.8)),
}
WEAK = {
    "mask": HeadModel(0.18, 0.14, 0.08, 0.06, by_person=0.3),
    "gender": HeadModel(0.48, 0.36, 0.20, 0.12),
    "age": HeadModel(4.0, 3.0, 1.6, 1.0, by_mask=(1.1, 1.0, 0.8)),
}
# every fold's network makes the same errors, so that a mean over them is worth no more than one of them
ALIKE = {
    head: replace(model, network=0.0, own=float(np.hypot(model.own, model.network))) for head, model in STRONG.items()
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who is in the eval set, and how well networks see.

    Attributes:
        age: (3,) shares of young, middle and old in the eval set.
        male: Share of men there.
        heads: Head -> its errors.
        mirror: What the second view's error is multiplied with, without the networks knowing.
        mirror_younger: Years that people look younger in the second view.
        bias: Standard deviation, in nats, of each member's bias on each class.
        fold_bias: The same of what each fold's network adds to it.
        older: Years that people of the eval set look older than they are: this is not label shift.
        oldest: Years up to which the old of the eval set are spread evenly, where they are not as in training: nor is
            this.
    """

    age: tuple[float, float, float] = TRAIN_AGE
    male: float = TRAIN_MALE
    heads: Mapping[str, HeadModel] = field(default_factory=lambda: STRONG)
    mirror: float = 1.0
    mirror_younger: float = 0.0
    bias: float = 0.15
    fold_bias: float = 0.1
    older: float = 0.0
    oldest: int | None = None


SCENARIOS = {
    "none": Scenario(),
    "competition": Scenario(age=COMPETITION_AGE, male=COMPETITION_MALE),
    "extreme": Scenario(age=(0.15, 0.25, 0.60), male=0.85),
    "weak": Scenario(heads=WEAK),
    "weak-competition": Scenario(age=COMPETITION_AGE, male=COMPETITION_MALE, heads=WEAK),
    "harmful-view": Scenario(mirror=5.0, mirror_younger=3.0),
    "biased": Scenario(age=COMPETITION_AGE, male=COMPETITION_MALE, bias=0.8),
    "alike-folds": Scenario(age=COMPETITION_AGE, male=COMPETITION_MALE, heads=ALIKE, fold_bias=0.0),
    "older-old": Scenario(age=COMPETITION_AGE, male=COMPETITION_MALE, oldest=65),
    "broken": Scenario(older=3.0),
}
