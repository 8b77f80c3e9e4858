"""One experiment, one row of LOG.md: trains the runs of recipes and compares them with those of base.

A finished run is not trained again and a killed one goes on, so the same command can be given again and again; started
twice at the same time, each leaves out what the other trains. Recipes stand in ``recipes.toml``.

    python -m benchmarks.ablate --recipe age-focal --seeds 3 --data masked-faces --weights FILE
    python -m benchmarks.ablate --all --data masked-faces --weights FILE --jobs 2 --threads 1
    python -m benchmarks.ablate --table
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.recipes import FILE, Cookbook, Recipe
from benchmarks.scores import AS_TRAINED, UNDONE, Found, Line, score_runs
from ensemble.predictions import EnsembleError
from heads.base import HeadError
from heads.registry import JOINT, head_named
from pipeline.config import TrainConfig, assigned
from pipeline.errors import ConfigError, PipelineError
from pipeline.files import SCHEMA, read_json, write_json
from pipeline.members import PARTS, predicts
from pipeline.plan import FREE, code_digest, make_plan, weights_digest
from pipeline.pools import Side
from pipeline.progress import say
from pipeline.store import Run, Store
from pipeline.train import train_runs

MOST_SEEDS = 20
BASE = "base"  # what all recipes are compared with
HEADER = (
    "| recipe | other than base | seeds | mask | gender | log-loss saved | age | log-loss saved | 18 classes | 95 % | "
    "gain, 95 % | minutes | verdict |\n" + "|---" * 13 + "|"
)


@dataclass(frozen=True, slots=True)
class Bench:
    """What the command was given.

    Attributes:
        book: The recipes.
        store: Where runs are.
        overrides: Settings of the command.
        extra: Folder of further photos.
    """

    book: Cookbook
    store: Store
    overrides: Mapping[str, Any]
    extra: Path | None

    def run(self, recipe: Recipe, seed: int) -> Run:
        """Where the run of this seed is."""
        return self.store.run(f"{recipe.trained_as}.s{seed}")

    def config(self, recipe: Recipe, seed: int) -> TrainConfig:
        """Its settings."""
        return self.book.config(recipe, self.overrides, self.extra, seed)

    def train(self, recipe: Recipe, seeds: int, data: Path, side: Side, *, fresh: bool) -> None:
        """Train what lacks.

        Raises:
            ConfigError: The folder of further photos is not given.
            PipelineError: Anything that a training may say.
        """
        if recipe.needs_extra and self.extra is None:
            raise ConfigError(f"recipe {recipe.name!r} needs --extra DIR")
        for seed in range(seeds):
            run, config = self.run(recipe, seed), self.config(recipe, seed)
            if not is_finished(run, config, data):
                say(f"\n{run.name}: {recipe.differs}")
                plan = make_plan([head_named(head) for head in recipe.heads], config, data)
                train_runs([(plan, run)], self.store, side=side, fresh=fresh and not is_begun_alike(run, config))

    def finished(self, recipe: Recipe) -> Found:
        """The finished runs of a recipe, by seed."""
        runs = [self.run(recipe, seed) for seed in range(MOST_SEEDS)]
        return [(run, run.info()) for run in runs if run.whole]

    def lines(self, recipe: Recipe, seeds: int = MOST_SEEDS) -> list[Line]:
        """The lines of the table that its finished runs give."""
        found = self.finished(recipe)[:seeds]
        base = self.finished(self.book.recipes[BASE])
        known = {part: base for part in PARTS if base and predicts(base[0][1], part)}
        return score_runs(recipe.name, found, known, bag=recipe.bag) if found else []


def _agree(known: Mapping[str, Any], config: TrainConfig) -> bool:
    wanted = {key: value for key, value in config.as_dict().items() if key not in FREE}
    return all(known.get(key) == value or (key, value) == ("precision", "auto") for key, value in wanted.items())


def is_begun_alike(run: Run, config: TrainConfig) -> bool:
    """Whether the run was begun with these settings and this code, so that it can go on."""
    known = run.settings() if run.started else {}
    return bool(known) and known.get("code") == code_digest() and _agree(known["config"], config)


def is_finished(run: Run, config: TrainConfig, data: Path) -> bool:
    """Whether the run was trained with these settings on this data, by whatever version of the program."""
    if not run.whole:
        return False
    info: Mapping[str, Any] = run.info()
    return (
        _agree(info["config"], config)
        and config.full <= ("full" in info)
        and info["weights"] == weights_digest(config.weights)
        and info["data_root"] == str(data.resolve())
    )


def table(bench: Bench, lines: Sequence[Line]) -> str:
    """The rows as Markdown: one an experiment, and another for its probabilities with the mix undone."""
    rows: dict[tuple[str, str], dict[str, Line]] = {}
    for line in lines:
        rows.setdefault((line.recipe, line.way), {})[line.head] = line
    made = [
        _row(bench.book.recipes[name], way, rows.get((name, AS_TRAINED), {}) | found)
        for (name, way), found in rows.items()
    ]
    return "\n".join([HEADER, *made])


def _row(recipe: Recipe, way: str, found: Mapping[str, Line]) -> str:
    """What is known of an experiment; macro F1 with its spread over the seeds, the gain over base, standard errors."""
    notes = [recipe.differs, way if way == UNDONE else "", recipe.note]
    first = next(iter(found.values()))
    scores = {head: found[head].score for head in PARTS if head in found}
    cells = [recipe.name, "; ".join(filter(None, notes)), str(first.seeds), _f1(scores.get("mask"))]
    for head in ("gender", "age"):
        cells += [_f1(scores.get(head)), _saved(scores.get(head), base=recipe.name == BASE)]
    whole = next(
        (line.score if line.head == JOINT.name else line.joint for line in reversed(list(found.values()))), None
    )
    cells += [_f1(whole), *_intervals(whole, base=recipe.name == BASE), f"{first.minutes:.1f}", recipe.verdict]
    return f"| {' | '.join(cells)} |"


def _f1(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return "-"
    return f"{score['macro_f1']:.4f}" + (f" (spread {score['spread']:.3f})" if score["spread"] else "")


def _saved(score: Mapping[str, Any] | None, *, base: bool) -> str:
    known = score is not None and "saved" in score and not base
    return f"{score['saved']:+.3f} ± {score['saved_error']:.3f}" if score is not None and known else "-"


def _intervals(score: Mapping[str, Any] | None, *, base: bool) -> list[str]:
    """The interval over people, and the gain over base with its own."""
    if score is None:
        return ["-", "-"]
    low, high = score["interval_95"]
    gain = "-"
    if "gain" in score and not base:
        from_, to = score["gain_interval_95"]
        gain = f"{score['gain']:+.4f}, {from_:+.3f} to {to:+.3f}"
    return [f"{low:.3f}-{high:.3f}", gain]


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", action="append", default=[], metavar="NAME", help="may be given several times")
    parser.add_argument("--all", action="store_true", help="every recipe, in the file's order")
    parser.add_argument("--table", action="store_true", help="train nothing; rows of what is finished")
    parser.add_argument("--seeds", type=int, default=1, help="0 to this, less one")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--weights", help="a file with timm's names, imagenet or none")
    parser.add_argument("--extra", type=Path, metavar="DIR", help="further photos of masks")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of all recipes")
    parser.add_argument("--jobs", type=int, default=1, help="folds side by side")
    parser.add_argument("--threads", type=int, default=0, help="of each fold; 0 = the cores, divided by --jobs")
    parser.add_argument("--fresh", action="store_true", help="start over what other settings or code began")
    parser.add_argument("--recipes", type=Path, default=FILE, metavar="FILE")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    given = parser.parse_args(arguments)
    if not (given.recipe or given.all or given.table):
        parser.error("say which: --recipe NAME, --all or --table")
    if not 1 <= given.seeds <= MOST_SEEDS:
        parser.error(f"--seeds must be from 1 to {MOST_SEEDS}, got {given.seeds}")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print the table, keep it as ``ablate.json``; 1 when an experiment failed."""
    given = parsed(arguments)
    overrides = assigned(given.set) | ({"weights": given.weights} if given.weights else {})
    try:
        book = Cookbook.read(given.recipes)
        chosen = book.chosen(given.recipe or list(book.recipes))
        bench = Bench(book, Store(given.artifacts), overrides, given.extra.resolve() if given.extra else None)
        side = Side.of(given.jobs, given.threads, "loky")
    except PipelineError as error:
        sys.exit(f"error: {error}")
    failed, lines = [], []
    for recipe in chosen:
        try:
            if not given.table:
                bench.train(recipe, given.seeds, given.data, side, fresh=given.fresh)
            made = bench.lines(recipe)
        except (PipelineError, HeadError, EnsembleError) as error:
            if hasattr(error, "code"):  # Ctrl-C
                sys.exit(f"{error}")
            failed.append(f"{recipe.name}: {error}")
            say(failed[-1])
            continue
        lines += made
        if not given.table:
            print(table(bench, made), flush=True)
    if given.table or len(chosen) > 1:
        print(table(bench, lines))
    _write(bench, lines)
    if failed:
        print("\nwithout a row:\n" + "\n".join(failed), file=sys.stderr)
    return 1 if failed else 0


def _write(bench: Bench, lines: Sequence[Line]) -> None:
    """Keep the lines, and beside them those of other recipes that were kept before."""
    file, made = bench.store.root / "ablate.json", {line.recipe for line in lines}
    before = read_json(file)["lines"] if file.is_file() else []
    fresh = [_known(bench.book.recipes[line.recipe], line) for line in lines]
    write_json(file, {"schema": SCHEMA, "lines": [line for line in before if line["recipe"] not in made] + fresh})


def _known(recipe: Recipe, line: Line) -> dict[str, Any]:
    return line.as_dict() | {"settings": recipe.settings, "note": recipe.note, "verdict": recipe.verdict}


if __name__ == "__main__":
    sys.exit(main())
