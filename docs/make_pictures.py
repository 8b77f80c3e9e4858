"""Draws the pictures of the documents, from drawn people or from simulation; `make site` puts them into the site.

    python docs/make_pictures.py FOLDER

The same code draws the same pictures, and what a page says that a picture shows is held by a test.

Legend: N photos, P people, C classes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.predictions import Array, Indices

STYLE = """<style>
  svg { --ink: #1b1f24; --line: #d0d7de; font-family: system-ui, sans-serif }
  @media (prefers-color-scheme: dark) { svg { --ink: #e8eaed; --line: #3a414a } }
</style>"""
CONTESTS = 60  # of which intervals are drawn
AGE = "age"


def _svg(draw: Callable[[Any], object], alt: str, height: float = 3.2) -> bytes:
    """A chart as a file of its own, with the colours of light and dark pages."""
    from pipeline.page.charts import chart

    drawn = str(chart(draw, alt=alt, width=5.4, height=height))
    end = drawn.index(">") + 1
    return (drawn[:end] + STYLE + drawn[end:]).encode()


def people() -> bytes:
    """A young, a middle and an old drawn person, a row each, in all seven shots."""
    import cv2

    from pipeline.competition import SHOTS
    from pipeline.demo_data import draw_dataset
    from pipeline.tables import read_table

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data" / "train"
        draw_dataset(root.parent, people=12, eval_people=12, seed=0)
        table = read_table(root / "train.csv")
        bands = np.digitize(table["age"].astype(float), (30, 60)).tolist()
        chosen = [root / "images" / str(table["path"][bands.index(band)]) for band in range(3)]
        rows = [np.hstack([cv2.imread(str(next(one.glob(f"{shot}.*")))) for shot in SHOTS]) for one in chosen]
    return cv2.imencode(".jpg", np.vstack(rows))[1].tobytes()


def leak_scores(rounds: int = 20, n_people: int = 60, shots: int = 7) -> Array:
    """(rounds, 3) share of right photos: folds over photos, folds over people, and photos of new people.

    The nearest known photo decides. A photo is its person's look, a little of the class, and a little noise.
    """
    rng = np.random.default_rng(0)
    size = 12

    def photos() -> tuple[Array, Indices]:
        of_person = rng.integers(2, size=n_people)
        look = rng.normal(0, 1, (n_people, size))
        look[:, 0] += 1.5 * of_person
        return look.repeat(shots, axis=0) + rng.normal(0, 0.3, (n_people * shots, size)), of_person.repeat(shots)

    def right(known: Array, labels: Indices, asked: Array, truth: Indices) -> float:
        nearest = ((asked[:, None] - known[None]) ** 2).sum(axis=2).argmin(axis=1)
        return float((labels[nearest] == truth).mean())

    scores = []
    for _ in range(rounds):
        (known, labels), (fresh, truth) = photos(), photos()
        by_photo = rng.permutation(len(labels)) % 5
        by_person = (rng.permutation(n_people) % 5).repeat(shots)
        held = [
            np.mean([right(known[f != k], labels[f != k], known[f == k], labels[f == k]) for k in range(5)])
            for f in (by_photo, by_person)
        ]
        scores.append([*held, right(known, labels, fresh, truth)])
    return np.asarray(scores)


def leak() -> bytes:
    """What folds over photos claim, what folds over people claim, and what new people give."""
    claims = leak_scores().mean(axis=0)

    def draw(axes: Any) -> None:
        names = ["claimed, folds over photos", "claimed, folds over people", "what new people give"]
        bars = axes.barh(names, claims, color=["C1", "C0", "C2"])
        axes.bar_label(bars, [f"{value:.2f}" for value in claims], padding=4)
        axes.set(xlim=(0, 1.15), xlabel="share of right photos, simulated")
        axes.invert_yaxis()

    return _svg(draw, "claims of folds over photos and over people, beside the score on new people", height=2.2)


def contests() -> tuple[Array, float]:
    """(CONTESTS, 2, 2) intervals of age's macro F1, by people and by photos, low and high; and the true score."""
    from benchmarks.people_model import draw
    from benchmarks.scenarios import SCENARIOS
    from ensemble.bootstrap import person_interval
    from ensemble.metrics import macro_f1

    scenario = SCENARIOS["none"]
    found, pooled = [], []
    for seed in range(CONTESTS):
        side = draw(scenario, people=150, eval_people=1, members=1, seed=seed).oof
        oof, n = side.members[AGE][0][0], 3
        photos = np.arange(len(oof.ids)).astype(str)
        found.append([person_interval(oof.targets, oof.labels, who, n, rounds=300) for who in (side.persons, photos)])
        pooled.append((oof.targets, oof.labels))
    targets, labels = (np.concatenate(each) for each in zip(*pooled, strict=True))
    return np.asarray(found), macro_f1(targets, labels, 3)


def intervals() -> bytes:
    """Intervals of many contests with 150 people each, by people and by photos, beside the score of all of them."""
    found, true = contests()

    def draw(axes: Any) -> None:
        for which, (name, colour) in enumerate((("people", "C0"), ("photos", "C1"))):
            low, high = found[:, which].T
            place = np.arange(CONTESTS) + which * (CONTESTS + 6)
            held = int(((low <= true) & (true <= high)).sum())
            axes.vlines(place, low, high, color=colour, linewidth=2)
            axes.text(place.mean(), 1.02, f"{name} drawn: {held} of {CONTESTS}", ha="center")
        axes.axhline(true, color="C2", linewidth=1.5)
        axes.text(CONTESTS + 2.5, 0.57, "green: the true score", ha="center")
        axes.set(xticks=[], ylabel="macro F1 of age", ylim=(0.55, 1.06))

    return _svg(draw, "intervals of macro F1 by people and by photos, and the true score", height=3.4)


def costs() -> tuple[float, dict[str, float]]:
    """Macro F1 of the 18 classes in a simulated contest, and what it would be with one head always right."""
    from benchmarks.people_model import draw
    from benchmarks.scenarios import SCENARIOS
    from ensemble.combine import compose
    from ensemble.metrics import macro_f1
    from ensemble.predictions import Predictions
    from heads.registry import JOINT

    side = draw(SCENARIOS["weak"], members=1, seed=0).oof
    heads = {name: views[0][0] for name, views in side.members.items()}
    truth = {
        name: Predictions(one.ids, one.classes, np.eye(len(one.classes))[one.targets], one.folds, one.targets)
        for name, one in heads.items()
    }

    def score(used: dict[str, Predictions]) -> float:
        whole = compose([used[part.name] for part in JOINT.parts], classes=JOINT.classes)
        return macro_f1(whole.targets, whole.labels, len(JOINT.classes))

    return score(heads), {name: score({**heads, name: truth[name]}) for name in heads}


def which_head() -> bytes:
    """What each head costs: the score as it is, and with one head always right."""
    now, perfect = costs()
    names = sorted(perfect, key=lambda name: -perfect[name])

    def draw(axes: Any) -> None:
        gains = [perfect[name] - now for name in names]
        axes.barh(names, [now] * len(names), color="C5", label="as it is")
        bars = axes.barh(names, gains, left=now, color="C1", label="if this head were always right")
        axes.bar_label(bars, [f"{gain:+.2f}" for gain in gains], padding=4)
        axes.set(xlim=(0, 1), xlabel="macro F1 of the 18 classes, simulated")
        axes.invert_yaxis()
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)

    return _svg(draw, "macro F1 as it is, and what each head would add if it were always right", height=2.4)


def mixes(scenario: str, seeds: int = 20) -> tuple[Array, Array]:
    """(seeds, 3) estimated and true class mix of age in simulated eval sets."""
    from benchmarks.people_model import draw
    from benchmarks.scenarios import SCENARIOS
    from ensemble.priors import bbse_soft, mix_of

    estimates, truths = [], []
    for seed in range(seeds):
        drawn = draw(SCENARIOS[scenario], members=1, seed=seed)
        oof, asked = drawn.oof.members[AGE][0][0], drawn.eval.members[AGE][0][0]
        estimates.append(bbse_soft(oof.probs, oof.targets, asked.probs))
        truths.append(mix_of(drawn.eval.truth[AGE], 3))
    return np.asarray(estimates), np.asarray(truths)


def class_mix() -> bytes:
    """How far the estimated share of old people is from the true one: with label shift, and where people look older."""
    worlds = {
        "only shares differ": "competition",
        "the old are older\nthan in training": "older-old",
        "everybody looks\nthree years older": "broken",
    }

    def draw(axes: Any) -> None:
        for row, scenario in enumerate(worlds.values()):
            estimate, truth = mixes(scenario)
            rng = np.random.default_rng(row)
            axes.scatter(100 * (estimate - truth)[:, 2], row + rng.uniform(-0.2, 0.2, len(truth)), s=18)
        axes.axvline(0, color="C2")
        axes.set(yticks=range(len(worlds)), yticklabels=[*worlds], ylim=(len(worlds) - 0.5, -0.5))
        axes.set(xlabel="share of old people, estimated minus true, in points")

    return _svg(draw, "errors of the estimated share of old people in three kinds of simulated eval sets", height=2.8)


PICTURES: dict[str, Callable[[], bytes]] = {
    "people.jpg": people,
    "leak.svg": leak,
    "intervals.svg": intervals,
    "which-head.svg": which_head,
    "class-mix.svg": class_mix,
}

if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for file_name, make in PICTURES.items():
        (target / file_name).write_bytes(make())
