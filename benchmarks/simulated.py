"""What ways to answers are worth where the truth is known: plain votes, references told the eval mix, the chain.

For every scenario and seed, people and networks are drawn (see `people_model`), each way answers the eval set, and its
macro F1 over the 18 classes is written to a CSV file; what stands there already is not run again.

    python -m benchmarks.simulated --seeds 20 --csv simulated.csv
    python -m benchmarks.simulated --seeds 20 --scenario competition --people 1800 --csv simulated.csv

The references are out of a user's reach: they are told the eval set's true class mix, head by head.

Legend: N out-of-fold rows, E eval rows, C classes of a head, J joint classes, M members, V views.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.people_model import CLASSES, SCENARIOS, SIZES, Draw, draw
from ensemble.calibration import CALIBRATIONS, Calibration
from ensemble.metrics import macro_f1
from ensemble.plug_in import plug_in
from ensemble.predictions import Array, Indices, Predictions
from ensemble.priors import corrected, mix_of

COLUMNS = ("scenario", "people", "members", "seed", "step", "test", "estimate", "oracle", "moved", "unmoved", "seconds")
KEY = COLUMNS[:5]
PLAIN, CALIBRATED, CORRECTED = "plain", "calibrated", "calibrated + true mix"
EQUAL = 0.002  # of macro F1: less is neither gain nor harm
J = int(np.prod(SIZES))
Row = dict[str, Any]
Heads = dict[str, Array]  # head -> (N, C) or (E, C)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one way to answers came to.

    Attributes:
        test: Macro F1 on the eval set.
        estimate: Macro F1 that it claims, from out-of-fold rows.
        oracle: Macro F1 of its out-of-fold labels, re-weighted to the eval set's true mix.
        moved: Whether it corrected for another mix; None where there was no such decision.
        unmoved: What ``test`` is without the correction; None where there was no such decision.
    """

    test: float
    estimate: float
    oracle: float
    moved: bool | None = None
    unmoved: float | None = None


@dataclass(frozen=True, eq=False)  # no slots: votes are computed when first asked for, and kept
class Case:
    """A draw, with what several ways look at.

    Attributes:
        drawn: The draw.
    """

    drawn: Draw

    @cached_property
    def ratios(self) -> dict[str, Array]:
        """Head -> (C,) true share in the eval set over share in training."""
        mixes = (
            {head: mix_of(side.truth[head], len(CLASSES[head])) for head in CLASSES}
            for side in (self.drawn.eval, self.drawn.oof)
        )
        new, old = mixes
        return {head: new[head] / np.maximum(old[head], 1 / len(self.drawn.oof.persons)) for head in CLASSES}

    @cached_property
    def weights(self) -> Array:
        """(N,) what out-of-fold rows count in the eval set's true mix, heads taken as independent."""
        truth = self.drawn.oof.truth
        made: Array = np.prod([self.ratios[head][truth[head]] for head in CLASSES], axis=0)
        return made

    @cached_property
    def plain(self) -> tuple[Heads, Heads]:
        """Plain averages over members and views: out of fold, and of the eval set."""
        sides = (self.drawn.oof, self.drawn.eval)
        oof, test = ({head: stacked(s.members[head]).mean(axis=(0, 1)) for head in CLASSES} for s in sides)
        return oof, test

    @cached_property
    def calibrated(self) -> tuple[Heads, Heads]:
        """The same with a temperature for each member and for each head's vote, cross-fitted out of fold."""
        both = {
            head: calibrated_vote(*(s.members[head] for s in (self.drawn.oof, self.drawn.eval))) for head in CLASSES
        }
        return {head: oof for head, (oof, _) in both.items()}, {head: test for head, (_, test) in both.items()}

    def in_true_mix(self, heads: Heads) -> Heads:
        """Probabilities moved to the eval set's true mix."""
        return {head: corrected(probs, self.ratios[head]) for head, probs in heads.items()}

    def outcome(self, oof: Indices, test: Indices, *, knows_mix: bool) -> Outcome:
        """The scores of (N,) and (E,) labels."""
        truth = self.drawn.oof.joint
        oracle = macro_f1(truth, oof, J, weights=self.weights)
        estimate = oracle if knows_mix else macro_f1(truth, oof, J)
        return Outcome(macro_f1(self.drawn.eval.joint, test, J), estimate, oracle)


def stacked(members: list[list[Predictions]]) -> Array:
    """(M, V, N, C) probabilities."""
    return np.stack([[view.probs for view in views] for views in members])


def calibrated_vote(oof: list[list[Predictions]], test: list[list[Predictions]]) -> tuple[Array, Array]:
    """(N, C) and (E, C): views averaged, members calibrated and averaged, and the mean calibrated."""
    known, unknown = stacked(oof).mean(axis=1), stacked(test).mean(axis=1)
    targets, folds = oof[0][0].targets, oof[0][0].folds
    made = np.empty_like(known[0])
    for fold in np.unique(folds):
        kept = folds != fold
        made[~kept] = _fitted_vote(known[:, kept], targets[kept])(known[:, ~kept])
    return made, _fitted_vote(known, targets)(unknown)


def _fitted_vote(probs: Array, targets: Indices) -> Callable[[Array], Array]:
    fit = CALIBRATIONS["temperature"]
    members: list[Calibration] = [fit(member, targets) for member in probs]

    def mean(given: Array) -> Array:
        each = [calibrate(member) for calibrate, member in zip(members, given, strict=True)]
        return np.asarray(np.mean(each, axis=0))

    after = fit(mean(probs), targets)
    return lambda given: after(mean(given))


def composed(heads: Heads) -> Array:
    """(N, J) product of heads."""
    mask, gender, age = (heads[head] for head in CLASSES)
    return np.asarray(np.einsum("nm,ng,na->nmga", mask, gender, age).reshape(len(mask), -1))


def called(probs: Array, weights: Array) -> Indices:
    """(N,) most probable classes."""
    labels: Indices = probs.argmax(axis=1)
    return labels


def reference(
    votes: Callable[[Case], tuple[Heads, Heads]], decode: Callable[[Array, Array], Indices], *, knows_mix: bool
) -> Callable[[Case], Outcome]:
    """A way that averages heads in one of two ways, moves them to the true mix or not, and decodes."""

    def run(case: Case) -> Outcome:
        oof, test = votes(case)
        if knows_mix:
            oof, test = case.in_true_mix(oof), case.in_true_mix(test)
        weights = case.weights if knows_mix else np.ones(len(case.weights))
        labels = decode(composed(oof), weights), decode(composed(test), np.ones(len(case.drawn.eval.persons)))
        return case.outcome(*labels, knows_mix=knows_mix)

    return run


def chain_scores(case: Case, steps: Iterable[str]) -> Iterator[tuple[str, Outcome, float]]:
    """Each asked-for way's outcome on one draw, and the seconds it took."""
    for step in steps:
        start = time.perf_counter()
        outcome = WAYS[step](case)
        yield step, outcome, time.perf_counter() - start


def run_draw(scenario: str, people: int, members: int, seed: int, steps: Iterable[str]) -> list[Row]:
    """The rows of one draw; the eval set has half as many people as there are out of fold, as in the competition."""
    case = Case(draw(SCENARIOS[scenario], people=people, eval_people=people // 2, members=members, seed=seed))
    rows = []
    for step, outcome, seconds in chain_scores(case, steps):
        scores = (f"{value:.6f}" for value in (outcome.test, outcome.estimate, outcome.oracle))
        moved = ("", "") if outcome.unmoved is None else (int(bool(outcome.moved)), f"{outcome.unmoved:.6f}")
        values = (scenario, people, members, seed, step, *scores, *moved, f"{seconds:.3f}")
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def read_rows(file: Path) -> list[Row]:
    """What was run before; a line that was cut off is left out."""
    if not file.exists():
        return []
    with file.open(newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["seconds"] not in (None, "")]


def append_rows(file: Path, rows: list[Row]) -> None:
    """Add rows at the end, under a header if the file is new, on a new line if the last one was cut off."""
    cut = file.exists() and file.stat().st_size > 0 and not file.read_bytes().endswith(b"\n")
    with file.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        if cut:
            stream.write("\n")
        if stream.tell() == 0:
            writer.writeheader()
        writer.writerows(rows)


def missing(done: Iterable[Row], scenarios: Iterable[str], given: argparse.Namespace) -> list[tuple[Any, ...]]:
    """Arguments of `run_draw` for what is not done yet."""
    there = {tuple(str(row[name]) for name in KEY) for row in done}
    wanted = ((name, given.people, given.members, seed) for seed in range(given.seeds) for name in scenarios)
    lacking = (
        (*draw_of, [step for step in WAYS if tuple(map(str, (*draw_of, step))) not in there]) for draw_of in wanted
    )
    return [each for each in lacking if each[-1]]


def run_all(jobs: list[tuple[Any, ...]], n_processes: int) -> Iterator[list[Row]]:
    """The rows of each draw as it is done, each process with one thread."""
    from joblib import Parallel, delayed, parallel_config

    from benchmarks.simulated import run_draw  # by name: what belongs to __main__ would be sent along, locks and all

    with parallel_config("loky", inner_max_num_threads=1):
        yield from Parallel(n_jobs=n_processes, return_as="generator_unordered")(
            delayed(run_draw)(*job) for job in jobs
        )


def mean_and_error(values: Array) -> tuple[float, float]:
    """Mean over seeds and its standard error; no error for one seed."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(error)


def table(rows: Iterable[Row], scenarios: Iterable[str]) -> Iterator[str]:
    """Lines to print, for each scenario and step; differences are between scores of one seed."""
    by_scenario: dict[str, dict[str, dict[int, Row]]] = {}
    for row in rows:
        by_scenario.setdefault(row["scenario"], {}).setdefault(row["step"], {})[int(row["seed"])] = row
    heading = ("scenario", "step", "test F1", "gain over plain", "optimism", "in true mix")
    yield "{:<17} {:<32} {:>7}  {:<18} {:<18} {:<18}".format(*heading)
    for scenario in scenarios:
        steps = by_scenario.get(scenario, {})
        for step in (step for step in WAYS if step in steps):
            seeds = sorted(steps[step].keys() & steps[PLAIN].keys())
            test, estimate, oracle = (_column(steps[step], seeds, name) for name in ("test", "estimate", "oracle"))
            gains = test - _column(steps[PLAIN], seeds, "test")
            pairs = (_signed(values) for values in (gains, estimate - test, oracle - test))
            yield "{:<17} {:<32} {:>7.4f}  {:<18} {:<18} {:<18}".format(scenario, step, test.mean(), *pairs).rstrip()
        yield from _safeguards(scenario, steps)


def _safeguards(scenario: str, steps: Mapping[str, Mapping[int, Row]]) -> Iterator[str]:
    """A line for each step that decides whether to correct.

    It is right to correct where that does no harm, and not to where the true mix would gain nothing.
    """
    for step, of_seed in steps.items():
        decided = {seed for seed, row in of_seed.items() if row["moved"]}
        seeds = sorted(decided & steps.get(CORRECTED, {}).keys() & steps.get(CALIBRATED, {}).keys())
        if not seeds:
            continue
        true_gain = _column(steps[CORRECTED], seeds, "test") - _column(steps[CALIBRATED], seeds, "test")
        gain = _column(of_seed, seeds, "test") - _column(of_seed, seeds, "unmoved")
        moved = _column(of_seed, seeds, "moved") == 1
        right = np.where(moved, gain >= -EQUAL, true_gain <= EQUAL)
        yield f"{scenario:<17} {step}: corrected in {moved.sum()} of {len(seeds)} draws, right in {right.sum()}"


def _column(of_seed: Mapping[int, Row], seeds: list[int], name: str) -> Array:
    return np.asarray([float(of_seed[seed][name]) for seed in seeds])


def _signed(values: Array) -> str:
    mean, error = mean_and_error(values)
    return f"{mean:+.4f} +- {error:.4f}"


# the first is what others are compared with
WAYS: dict[str, Callable[[Case], Outcome]] = {
    PLAIN: reference(lambda case: case.plain, called, knows_mix=False),
    CALIBRATED: reference(lambda case: case.calibrated, called, knows_mix=False),
    "calibrated + plug-in": reference(lambda case: case.calibrated, plug_in, knows_mix=False),
    "plain + true mix": reference(lambda case: case.plain, called, knows_mix=True),
    CORRECTED: reference(lambda case: case.calibrated, called, knows_mix=True),
    "calibrated + true mix + plug-in": reference(lambda case: case.calibrated, plug_in, knows_mix=True),
}


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", choices=[*SCENARIOS, "all"], default="all")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--people", type=int, default=600, help="out of fold; the eval set has half as many")
    parser.add_argument("--members", type=int, default=3, help="of each head")
    parser.add_argument("--jobs", type=int, default=1, help="draws at the same time")
    parser.add_argument(
        "--csv", type=Path, required=True, help="where rows are kept; a second run adds what is missing"
    )
    given = parser.parse_args()
    scenarios = list(SCENARIOS) if given.scenario == "all" else [given.scenario]
    for rows in run_all(missing(read_rows(given.csv), scenarios, given), given.jobs):
        append_rows(given.csv, rows)
    size = {"people": str(given.people), "members": str(given.members)}
    rows = [row for row in read_rows(given.csv) if all(row[k] == v for k, v in size.items())]
    print("\n".join(table((row for row in rows if int(row["seed"]) < given.seeds), scenarios)))


if __name__ == "__main__":
    main()
