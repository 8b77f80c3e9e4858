"""How many planted label errors an audit finds, and how many of its suspects are such errors.

    python -m benchmarks.audit                    simulated networks on 600 people, ten seeds: seconds
    python -m benchmarks.audit --train FOLDER     drawn people and a tiny network that learns the wrong labels too

Planted are: the other gender on all photos of a person, ``normal`` and ``incorrect_mask`` swapped, and an age two
classes away. *Precision* and *recall* are those of the strongest suspects, as many as there are planted errors of that
kind among the suspects of that head; both are then the same number. *Found* is the share of planted errors among all
suspects.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.people_model import Side, draw, stream
from benchmarks.scenarios import CLASSES, SCENARIOS
from ensemble.combine import average_views
from ensemble.predictions import Predictions
from heads.base import IntArray
from heads.registry import HEADS
from pipeline.audit.suspects import Suspect, ranked, suspects_of
from pipeline.samples import Samples

SHOTS = ("mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal")  # as `benchmarks.scenarios` has them


@dataclass(frozen=True, slots=True)
class Found:
    """What became of the planted errors of one head.

    Attributes:
        planted: How many there are.
        suspects: How many labels were suspected.
        top: Planted errors among the strongest ``planted`` suspects.
        found: Planted errors among all suspects.
    """

    planted: int
    suspects: int
    top: int
    found: int


def judged(suspects: Sequence[Suspect], planted: set[str]) -> Found:
    """What became of the errors of these people, the strongest suspects first."""
    people = [one.person for one in suspects]
    top = len(planted & set(people[: len(planted)]))
    return Found(len(planted), len(people), top, len(planted & set(people)))


def with_errors(side: Side, share: float, seed: int) -> tuple[dict[str, Predictions], dict[str, set[str]], Samples]:
    """Predictions of every head whose labels have planted errors, who has which, and the table of photos.

    Args:
        side: People, and what networks say of them; those do not learn the errors.
        share: Of people with an error, for each kind.
        seed: Of who has one.
    """
    rng = stream(seed, 99)
    who = np.unique(side.persons)
    ids = np.asarray([f"{name}/{SHOTS[number % 7]}.jpg" for number, name in enumerate(side.persons)])
    oofs, planted, columns = {}, {}, {}
    for head, classes in CLASSES.items():
        views = [replace(view, ids=ids) for member in side.members[head] for view in member]
        wrong = side.truth[head].copy()
        may = who
        if head == "age":
            may = np.unique(side.persons[wrong != 1])  # nobody in the middle is two classes away from anything
        chosen = set(rng.choice(may, round(share * len(who)), replace=False).tolist())
        rows = np.isin(side.persons, [*chosen])
        if head == "mask":
            is_1, is_2 = rows & (wrong == 1), rows & (wrong == 2)
            wrong[is_1], wrong[is_2] = 2, 1
        else:
            wrong[rows] = len(classes) - 1 - wrong[rows]
        oofs[head] = replace(average_views(views), targets=wrong)
        planted[head] = chosen
        raw = np.asarray(["20", "45", "70"])[wrong] if head == "age" else np.asarray(classes)[wrong]
        columns[head] = raw
    paths = tuple(Path(name) for name in ids.tolist())
    return oofs, planted, Samples(ids, paths, side.persons, columns)


def simulated(name: str, share: float, seed: int) -> dict[str, Found]:
    """What becomes of errors among 600 people whom three simulated networks of each head see."""
    side = draw(SCENARIOS[name], seed=seed, eval_people=12).oof
    oofs, planted, samples = with_errors(side, share, seed)
    return {
        head: judged(ranked(suspects_of(HEADS[head], oof, samples, samples.persons)), planted[head])
        for head, oof in oofs.items()
    }


def plant(data: Path, file: Path, each: int, seed: int) -> dict[str, set[str]]:
    """Write a table of label fixes that makes labels wrong; head -> people who have an error."""
    from pipeline.files import write_csv
    from pipeline.layouts import survey_of

    samples = survey_of(data, "competition").dataset().samples
    names, first = np.unique(samples.persons, return_index=True)
    order = np.random.default_rng([seed, 99]).permutation(len(names))
    gender, years = samples.columns["gender"][first], samples.columns["age"][first].astype(int)
    far: IntArray = order[(years[order] < 30) | (years[order] >= 60)]
    rows = [(names[n], "gender", "male" if gender[n] == "female" else "female") for n in order[:each]]
    rows += [(names[n], "swap", "normal incorrect_mask") for n in order[each : 2 * each]]
    rows += [(names[n], "age", "72" if years[n] < 30 else "22") for n in far[:each]]
    write_csv(file, ("path", "column", "value"), rows)
    kinds = {"gender": order[:each], "mask": order[each : 2 * each], "age": far[:each]}
    return {head: set(names[people].tolist()) for head, people in kinds.items()}


def trained(folder: Path, each: int, seed: int) -> dict[str, Found]:
    """The same with drawn people and a network of three heads, which learns the errors of the other folds."""
    from pipeline import demo_data
    from pipeline.audit.audit import make_audit
    from pipeline.demo import SETTINGS
    from pipeline.plan import make_plan
    from pipeline.store import Store
    from pipeline.train import train_heads

    data, fixes = folder / f"people-{seed}", folder / f"errors-{seed}.csv"
    if not data.exists():
        with mock.patch.object(demo_data, "_defects", lambda filed, rng: filed):  # no errors but those planted
            demo_data.draw_dataset(data, seed=seed)
    planted = plant(data, fixes, each, seed)
    settings = replace(SETTINGS, fixes=str(fixes), views=("identity",))
    plan = make_plan([HEADS[head] for head in CLASSES], settings, data)
    run = train_heads(plan, Store(folder / "artifacts"), f"errors-{seed}")
    audit = make_audit([run])
    return {head: judged([one for one in audit.suspects if one.head == head], planted[head]) for head in CLASSES}


def table(title: str, rounds: Sequence[dict[str, Found]]) -> str:
    """Means over the rounds, a line a head."""
    lines = [f"{title}, {len(rounds)} rounds", "head     planted  suspects  precision = recall  found"]
    for head in CLASSES:
        own = [each[head] for each in rounds]
        planted, suspects, top, found = (
            np.asarray([getattr(one, name) for one in own]) for name in ("planted", "suspects", "top", "found")
        )
        lines.append(
            f"{head:<8} {planted.mean():7.1f} {suspects.mean():9.1f} {(top / planted).mean():19.3f} "
            f"{(found / planted).mean():6.3f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table of what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.01, help="of people with an error, for each kind")
    parser.add_argument("--train", nargs="?", type=Path, const=Path(tempfile.gettempdir()) / "audit", default=None)
    options = parser.parse_args()
    if options.train:
        rounds = [trained(options.train, 5, seed) for seed in range(options.seeds)]
        print(table("drawn people, trained", rounds))
        return
    for name in ("none", "weak"):
        print(table(name, [simulated(name, options.share, seed) for seed in range(options.seeds)]))


if __name__ == "__main__":
    main()
