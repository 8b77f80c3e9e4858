"""When estimates of the eval set's class mix hold, and whether their safeguards are right, on people that are made up.

A head sees a number for each photo: the place of its class, plus an error that a person's seven photos mostly share.
Its probabilities are exact but for what is done to them: logits 1.7 times too large, and perhaps biased by 0.7 a class,
then one temperature fitted out-of-fold. What else differs on the photos to predict is the world:

    alone     the same network predicts them
    averaged  five networks, each with errors of its own, are averaged, as the folds' networks are
    blurred   the photos are worse: errors are 1.35 times larger, so that classes do not look as before

    python -m benchmarks.priors --world averaged --people 600 --seeds 20
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import chdtri

from ensemble.bootstrap import Draws
from ensemble.calibration import temperature
from ensemble.logs import softmax
from ensemble.metrics import macro_f1
from ensemble.mixture import mixture_weights
from ensemble.predictions import Array, Indices, Names
from ensemble.priors import ESTIMATORS, corrected, mix_of
from ensemble.shift import FAR, Known, errors, judge, squared_length, total_variation

PHOTOS, SHARED = 7, 0.7  # of a person; share of the error's variance that they have in common
TOO_SURE, BIAS = 1.7, 0.7
ROUNDS = 100
AGE, GENDER = np.array([0.47, 0.45, 0.08]), np.array([0.39, 0.61])
SHIFTS = {
    "none": {"age": AGE, "gender": GENDER},
    "competition": {"age": np.array([0.43, 0.30, 0.27]), "gender": np.array([0.61, 0.39])},
    "extreme": {"age": np.array([0.15, 0.15, 0.70]), "gender": np.array([0.90, 0.10])},
}


def pays(probs: Array, targets: Indices, persons: Names, ratio: Array, *, rounds: int = 200) -> tuple[float, float]:
    """What a correction gains in macro F1 on known rows that are re-weighted to the new mix, and its standard error.

    Args:
        probs: (N, C) cross-fitted out-of-fold probabilities in the mix of training.
        targets: (N,) true classes.
        persons: (N,) who is in the photo; people are drawn, the same before and after.
        ratio: (C,) new over old share of each class.
        rounds: Of the draws.
    """
    n_classes, weights = probs.shape[1], ratio[targets]
    draws = Draws.of(persons, rounds=rounds)
    labels = probs.argmax(axis=1), corrected(probs, ratio).argmax(axis=1)
    before, after = (macro_f1(targets, called, n_classes, weights) for called in labels)
    base, moved = (draws.macro_f1(targets * n_classes + called, n_classes, weights) for called in labels)
    return after - before, float((moved - base).std())


class World(NamedTuple):
    """How the photos to predict differ."""

    networks: int
    own: float  # size of a network's own error
    blur: float


WORLDS = {"alone": World(1, 0.0, 1.0), "averaged": World(5, 0.7, 1.0), "blurred": World(1, 0.0, 1.35)}


class Head(NamedTuple):
    """A head of a given sharpness."""

    name: str  # age or gender
    sharpness: str
    places: Array  # (C,) where its classes lie, in standard deviations of the error
    mix: Array  # (C,) mix of training

    def probs(self, seen: Array, own: float, bias: Array) -> Array:
        """(N, C) probabilities of (N,) numbers."""
        logits = np.log(self.mix) - 0.5 * (seen[:, None] - self.places) ** 2 / (1 + own**2)
        return softmax(TOO_SURE * logits + bias)


STEPS = np.array([0, 1, 1.8])
HEADS = [
    Head("age", "weak", 1.5 * STEPS, AGE),
    Head("age", "sharp", 4.0 * STEPS, AGE),
    Head("gender", "weak", 1.0 * STEPS[:2], GENDER),
    Head("gender", "sharp", 2.9 * STEPS[:2], GENDER),
    Head("gender", "useless", 0.1 * STEPS[:2], GENDER),
]


class People(NamedTuple):
    """Photos of people: (N,) true classes, (N,) errors, (N,) persons."""

    targets: Indices
    error: Array
    persons: Indices


def drawn_people(rng: np.random.Generator, number: int, mix: Array) -> People:
    """So many people, seven photos each."""
    targets = rng.choice(len(mix), size=number, p=mix)
    error = np.sqrt(SHARED) * rng.normal(size=(number, 1)) + np.sqrt(1 - SHARED) * rng.normal(size=(number, PHOTOS))
    return People(np.repeat(targets, PHOTOS), error.ravel(), np.repeat(np.arange(number), PHOTOS))


class Case(NamedTuple):
    """Out-of-fold people, their calibrated and raw probabilities; the same of the photos to predict."""

    known: People
    probs: Array
    raw: Array
    unknown: People
    answers: Array
    raw_answers: Array


def drawn_case(head: Head, world: World, shift: str, bias: float, number: int, seed: int) -> Case:
    """One draw; a third as many people are to be predicted, at least 300."""
    rng = np.random.default_rng([seed, number])
    tilt = bias * np.linspace(-1, 1, len(head.mix))
    known = drawn_people(rng, number, head.mix)
    unknown = drawn_people(rng, max(300, number // 3), SHIFTS[shift][head.name])

    def seen(people: People, blur: float) -> Array:
        noise = world.own * rng.normal(size=len(people.targets))
        return head.probs(head.places[people.targets] + blur * people.error + noise, world.own, tilt)

    raw = seen(known, 1.0)
    raw_answers = np.mean([seen(unknown, world.blur) for _ in range(world.networks)], axis=0)
    calibrated = temperature(raw, known.targets)
    return Case(known, calibrated(raw), raw, unknown, calibrated(raw_answers), raw_answers)


def em_uncalibrated(probs: Array, targets: Indices, unlabelled: Array) -> Array:
    """(C,) EM that takes probabilities as they come."""
    return mixture_weights([np.maximum((unlabelled / mix_of(targets, probs.shape[1])).T, 1e-16)])


def estimates(case: Case) -> dict[str, Array]:
    """Estimator -> (C,) mix."""
    found = {name: f(case.probs, case.known.targets, case.answers) for name, f in ESTIMATORS.items()}
    found["em-uncalibrated"] = em_uncalibrated(case.probs, case.known.targets, case.answers)
    return found | {"soft-raw": ESTIMATORS["bbse-soft"](case.raw, case.known.targets, case.raw_answers)}


def measured(case: Case, seed: int) -> Iterator[tuple[str, float]]:
    """Column -> value: distances and gains in hundredths."""
    known, n_classes = case.known, case.probs.shape[1]
    truth, train = mix_of(case.unknown.targets, n_classes), mix_of(known.targets, n_classes)
    plain = macro_f1(case.unknown.targets, case.answers.argmax(axis=1), n_classes)

    def gain(mix: Array) -> float:
        labels = corrected(case.answers, mix / train).argmax(axis=1)
        return 100 * (macro_f1(case.unknown.targets, labels, n_classes) - plain)

    found = estimates(case)
    for name, mix in found.items():
        yield f"tv {name}", 100 * total_variation(mix, truth)
    for name, mix in found.items():
        yield f"gain {name}", gain(mix)
    soft = found["bbse-soft"]
    persons = known.persons.astype(np.str_)
    verdict = judge(case.probs, known.targets, persons, case.answers, rounds=ROUNDS, seed=seed)
    rows = Known(case.probs, known.targets, known.persons)
    rng = np.random.default_rng(seed)
    wrong = errors(ESTIMATORS["bbse-soft"], rows, soft, n_photos=len(case.answers), rounds=ROUNDS, rng=rng)
    length = squared_length(soft - train, wrong)
    noise = float(chdtri(n_classes - 1, 0.05))
    refused = total_variation(found["em"], soft) > FAR and squared_length(found["em"] - soft, wrong) > noise
    yield "gain truth", gain(truth)
    yield "gain on/off", 0.0 if verdict.reason else gain(soft)
    yield "gain shrunk", gain(train + max(0.0, 1 - (n_classes - 1) / length) * (soft - train))
    yield "gain judge", gain(verdict.used)
    saved, error = pays(case.probs, known.targets, persons, verdict.used / train, rounds=ROUNDS)
    yield "gain judge+pays", gain(verdict.used) if saved > 0 else 0.0
    yield "gain judge+pays 1se", gain(verdict.used) if saved > error else 0.0
    yield "gain em if not refused", 0.0 if refused else gain(found["em"])
    yield "% em refused", 100.0 * refused
    yield "% unsure", 100.0 * ("badly" in verdict.reason)
    yield "% noise", 100.0 * ("within" in verdict.reason)
    yield "% truth in region", 100.0 * (squared_length(soft - truth, wrong) < noise)
    yield "% right", 100.0 * (gain(soft) <= 0.5 if verdict.reason else gain(verdict.used) >= -0.5)


def main() -> None:
    """Print one line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", choices=WORLDS, default="alone")
    parser.add_argument("--people", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=20)
    given = parser.parse_args()
    header = ""
    for head in HEADS:
        for bias in (0.0, BIAS):
            for shift in SHIFTS:
                values = defaultdict(list)
                for seed in range(given.seeds):
                    case = drawn_case(head, WORLDS[given.world], shift, bias, given.people, seed)
                    for name, value in measured(case, seed):
                        values[name].append(value)
                if not header:
                    header = " | ".join(["head", "bias", "shift", *values])
                    print(header)
                means = [f"{np.mean(column):.1f}" for column in values.values()]
                print(" | ".join([f"{head.name} {head.sharpness}", str(bias), shift, *means]), flush=True)


if __name__ == "__main__":
    main()
