"""What ways to answers are worth where the truth is known: plain votes, references told the eval mix, the chain.

For every scenario and seed, people and networks are drawn (see `people_model`), each way answers the eval set, and its
macro F1 over the 18 classes is written to a CSV file; what stands there already is not run again.
"optimism" is what a way claims minus what it gets; "in true mix" the same of its out-of-fold labels re-weighted to the
eval set's true mix.

    python -m benchmarks.simulated --seeds 20 --csv simulated.csv
    python -m benchmarks.simulated --seeds 20 --scenario competition --people 1800 --csv simulated.csv
    python -m benchmarks.simulated --seeds 5 --steps plain chain --csv simulated.csv

The references are out of a user's reach: they are told the eval set's true class mix, head by head.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.people_model import draw
from benchmarks.scenarios import SCENARIOS
from benchmarks.ways import CALIBRATED, CORRECTED, PLAIN, WAYS, Case, Outcome
from ensemble.predictions import Array

COLUMNS = ("scenario", "people", "members", "seed", "step", "test", "estimate", "oracle", "moved", "unmoved", "seconds")
KEY = COLUMNS[:5]
EQUAL = 0.002  # of macro F1: less is neither gain nor harm
Row = dict[str, Any]


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

    def lacking(*drawn: Any) -> list[str]:
        return [step for step in given.steps if tuple(map(str, (*drawn, step))) not in there]

    wanted = [(name, given.people, given.members, seed) for seed in range(given.seeds) for name in scenarios]
    return [(*drawn, steps) for drawn in wanted if (steps := lacking(*drawn))]


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


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", choices=[*SCENARIOS, "all"], default="all")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--people", type=int, default=600, help="out of fold; the eval set has half as many")
    parser.add_argument("--members", type=int, default=3, help="of each head")
    parser.add_argument("--jobs", type=int, default=1, help="draws at the same time")
    parser.add_argument("--steps", nargs="+", choices=WAYS, default=list(WAYS), metavar="STEP", help="; ".join(WAYS))
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
