"""People whose photos networks see with known errors: out-of-fold and eval predictions whose truth is at hand.

Every person has a gender, an age in years and seven photos. Of each head a network sees *evidence*: the truth plus
errors, most of which are the same in all photos of a person and in all members. A network takes the evidence at its
word: it states the posterior under the mix of training, were the errors as large as they are on average. That is
calibrated until a temperature, a bias, or people and masks that are harder than others make it wrong.

Eval people are others, in another mix; what photos of a class look like is the same (label shift), except where
people of the eval set look older. As in a run, a row out of fold is predicted by one network, a row of the eval set by
the mean of all folds' networks.

Legend: P persons, N = 7 P photos, C classes of a head, D numbers of evidence, M members, V views, K folds, J joint
classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.scenarios import (
    AGE_SHARES,
    CLASSES,
    FOLDS,
    MEMBERS,
    SHOTS,
    SIZES,
    TRAIN_AGE,
    TRAIN_MALE,
    YEARS,
    HeadModel,
    Scenario,
)
from ensemble.predictions import Array, Indices, Names, Predictions


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """P persons.

    Attributes:
        names: (P,) names.
        gender: (P,) class indices.
        age: (P,) class indices.
        years: (P,) ages.
    """

    names: Names
    gender: Indices
    age: Indices
    years: Indices

    def truth(self, head: str) -> Indices:
        """(N,) class indices of a head in all photos, a person's side by side."""
        if head == "mask":
            return np.tile(SHOTS, len(self.names))
        of_person: Indices = getattr(self, head)
        return of_person.repeat(len(SHOTS))

    def evidence(self, head: str) -> Array:
        """(P, 7, D) what networks without error would see: the years, or 1 for the true class and 0 for others."""
        if head == "age":
            return np.broadcast_to(self.years[:, None, None].astype(np.float64), (len(self.years), len(SHOTS), 1))
        return np.eye(len(CLASSES[head]))[self.truth(head)].reshape(len(self.names), len(SHOTS), -1)


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The predictions of one set of people: out of fold, or of the eval set.

    Attributes:
        persons: (N,) who is in each photo.
        truth: Head -> (N,) true classes; the predictions of the eval set do not carry them.
        members: Head -> M times V predictions.
    """

    persons: Names
    truth: dict[str, Indices]
    members: dict[str, list[list[Predictions]]]

    @property
    def joint(self) -> Indices:
        """(N,) true joint classes."""
        made: Indices = np.ravel_multi_index(tuple(self.truth[head] for head in CLASSES), SIZES)
        return made


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """One draw of people, photos and networks."""

    oof: Side
    eval: Side


def draw(scenario: Scenario, *, people: int = 600, eval_people: int = 300, members: int = 3, seed: int = 0) -> Draw:
    """Predictions of networks on people drawn at random; the same seed gives the same ones.

    More members leave the first ones as they are.

    Args:
        scenario: Who is in the eval set, and how well networks see.
        people: P of the out-of-fold rows.
        eval_people: P of the eval set.
        members: M of each head; beyond six, kinds of members repeat.
        seed: Of everything that is drawn.
    """
    trained, asked = stream(seed, 0), stream(seed, 1)
    known = draw_people(trained, people, TRAIN_AGE, TRAIN_MALE, "p")
    unknown = draw_people(asked, eval_people, scenario.age, scenario.male, "e", oldest=scenario.oldest)
    folds = deal(trained, known).repeat(len(SHOTS))
    none = np.full(eval_people * len(SHOTS), -1)
    sides = []
    for which, who, fold_of in ((0, known, folds), (1, unknown, none)):
        truth = {head: who.truth(head) for head in CLASSES}
        made = {head: _predicted(scenario, head, who, fold_of, members, seed, which) for head in CLASSES}
        sides.append(Side(who.names.repeat(len(SHOTS)), truth, made))
    return Draw(*sides)


def stream(seed: int, *what: int) -> np.random.Generator:
    """Random numbers for one purpose, independent of those for any other."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=what))


def draw_people(
    rng: np.random.Generator,
    n: int,
    age: tuple[float, float, float],
    male: float,
    letter: str,
    *,
    oldest: int | None = None,
) -> People:
    """P people, independent of each other, of a mix of ages and genders; ``oldest`` as in `Scenario`."""
    names = np.asarray([f"{letter}{number:05}" for number in range(n)])
    bands = rng.choice(3, size=n, p=np.asarray(age) / sum(age))
    by_band = AGE_SHARES.copy()
    if oldest is not None:
        by_band[2] = ((YEARS >= 60) & (oldest >= YEARS)) / (oldest - 59)
    shares = np.cumsum(by_band, axis=1)[bands]  # (P, 63)
    years = YEARS[(rng.random(n)[:, None] > shares).sum(axis=1).clip(max=len(YEARS) - 1)]
    return People(names, (rng.random(n) >= male).astype(np.int64), bands, years)


def deal(rng: np.random.Generator, people: People) -> Indices:
    """(P,) folds; people of one gender and age class are dealt out evenly."""
    order = np.lexsort((rng.random(len(people.names)), people.gender, people.age))
    folds = np.empty(len(order), dtype=np.int64)
    folds[order] = np.arange(len(order)) % FOLDS
    return folds


def errors(rng: np.random.Generator, people: int, size: int, by_person: float) -> Array:
    """(P, 7, D) errors of variance 1, of which a share is the same in all photos of a person."""
    common, single = rng.standard_normal((people, 1, size)), rng.standard_normal((people, len(SHOTS), size))
    made: Array = np.sqrt(by_person) * common + np.sqrt(1 - by_person) * single
    return made


def posterior(head: str, evidence: Array, deviation: float, temperature: float, bias: Array) -> Array:
    """(N, C) what a network states of (P, 7, D) evidence.

    Args:
        head: Its name.
        evidence: (P, 7, D) what it sees.
        deviation: The standard deviation that it takes errors to have.
        temperature: What log-probabilities are divided by.
        bias: (C,) nats that are added.
    """
    if head == "age":
        given = _age_likelihood(evidence.ravel(), deviation)
    else:
        given = evidence.reshape(-1, evidence.shape[2]) / deviation**2  # equal variances: squares cancel
    scores = (given + np.log(_trained_mix(head))) / temperature + bias
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    made: Array = odds / odds.sum(axis=1, keepdims=True)
    return made


def _age_likelihood(years: Array, deviation: float) -> Array:
    """(N, 3) log-likelihoods of the years that people look, looked up in a fine table."""
    table = np.linspace(-60, 140, 1601)
    close = np.exp(-0.5 * ((table[:, None] - YEARS) / deviation) ** 2)
    logs = np.log(np.maximum(close @ AGE_SHARES.T, 1e-300))
    return np.stack([np.interp(years, table, column) for column in logs.T], axis=1)


def _trained_mix(head: str) -> Array:
    mixes = {"mask": np.bincount(SHOTS) / len(SHOTS), "gender": np.asarray([TRAIN_MALE, 1 - TRAIN_MALE])}
    return mixes.get(head, np.asarray(TRAIN_AGE))


def _predicted(
    scenario: Scenario, head: str, who: People, folds: Indices, members: int, seed: int, side: int
) -> list[list[Predictions]]:
    """M times V predictions of a head."""
    model, which = scenario.heads[head], [*CLASSES].index(head)
    rng = stream(seed, side, which)
    seen = who.evidence(head)
    scale = _hardness(rng, model, who)
    seen = seen + model.shared * scale * errors(rng, len(seen), seen.shape[2], model.by_person)
    if head == "age" and folds[0] < 0:
        seen = seen + scenario.older
    ids = np.asarray([f"{name}_{shot}" for name in who.names for shot in range(len(SHOTS))])
    truth = who.truth(head) if folds[0] >= 0 else folds
    found = []
    for number in range(members):
        # the same for both sides: a member leans the same way out of fold and in the eval set
        lean = stream(seed, 2, which, number).standard_normal((1 + FOLDS, len(CLASSES[head])))
        views = _member(scenario, head, seen, scale, folds, number, lean, stream(seed, side, which, number))
        found.append([Predictions(ids, CLASSES[head], probs, folds, truth) for probs in views])
    return found


def _hardness(rng: np.random.Generator, model: HeadModel, who: People) -> Array:
    """(P, 7, 1) what errors are multiplied with; its square is the square of ``by_mask`` on average."""
    of_person = np.exp(model.spread * rng.standard_normal(len(who.names)) - model.spread**2)
    made: Array = of_person[:, None, None] * np.asarray(model.by_mask)[SHOTS][None, :, None]
    return made


def _member(
    scenario: Scenario,
    head: str,
    seen: Array,
    scale: Array,
    folds: Indices,
    number: int,
    lean: Array,
    rng: np.random.Generator,
) -> list[Array]:
    """V times (N, C) probabilities of one member: out of fold by each row's network, else by the mean of all."""
    model, member = scenario.heads[head], MEMBERS[number % len(MEMBERS)]
    bias, of_fold = scenario.bias * lean[0], scenario.fold_bias * lean[1:]

    def drawn() -> Array:
        return errors(rng, len(seen), seen.shape[2], model.by_person)

    evidence = seen + member.noise * model.own * scale * drawn()
    deviation = model.believed(member)
    total: list[Array] = [np.zeros(1), np.zeros(1)]
    rounds = [of_fold[folds]] if folds[0] >= 0 else list(of_fold)  # (N, C), or K times (C,)
    views = ((1.0, 0.0), (scenario.mirror, scenario.mirror_younger if head == "age" else 0.0))
    for leaning in rounds:
        by_network = evidence + model.network * scale * drawn()
        for view, (factor, younger) in enumerate(views):
            single = errors(rng, len(seen), seen.shape[2], 0.0)
            at = by_network + factor * model.view * scale * single - younger
            total[view] = total[view] + posterior(head, at, deviation, member.temperature, bias + leaning) / len(rounds)
    return total
