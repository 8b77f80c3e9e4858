"""Many settings on few folds: a first look, which says what is worth a whole row of `benchmarks.ablate`.

One network of age and gender a recipe, trained on some of the five folds only. What is compared is the held-out
log-loss of each head, person by person with the same recipe's folds of base: it tells settings apart with far fewer
people than macro F1 does. A fold that is there is not trained again.

    python -m benchmarks.screen --recipe age-ema age-mixup --data masked-faces --weights FILE --folds 0 1

Two commands, each with one fold, share the work; a third with both folds prints the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.recipes import FILE, Cookbook, Recipe
from ensemble.bootstrap import gain
from ensemble.logs import log
from ensemble.metrics import macro_f1
from heads.base import FloatArray, IntArray, StrArray
from heads.registry import head_named
from pipeline.errors import PipelineError
from pipeline.plan import Plan, make_plan
from pipeline.pools import Side
from pipeline.progress import say
from pipeline.store import Store
from pipeline.train import train_runs

HEADS = ("age", "gender")
BASE = "base-age"


@dataclass(frozen=True, slots=True)
class Seen:
    """What some folds of a recipe say of a head: targets, probabilities and people of the held-out photos."""

    targets: IntArray
    probs: FloatArray
    persons: StrArray

    @property
    def losses(self) -> FloatArray:
        """(N,) log-loss of each photo."""
        return -log(self.probs[np.arange(len(self.targets)), self.targets])


def look(plan: Plan, store: Store, name: str, folds: Sequence[int]) -> tuple[dict[str, Seen], float]:
    """Train the folds that lack; what they say of each head, in the mix of the photos, and the minutes they took."""
    runs = {fold: store.run(f"{name}.fold{fold}") for fold in folds}  # so that folds can be trained by two commands
    for fold, run in runs.items():
        if not run.fold_done(fold):
            train_runs([(plan, run)], store, only=fold, side=Side(threads=1))
    parts = [run.fold_arrays(fold) for fold, run in runs.items()]
    minutes = sum(run.fold_facts(fold)["seconds"] for fold, run in runs.items()) / 60
    rows = np.concatenate([part["rows"] for part in parts])
    found = {}
    for index, head in enumerate(plan.task.heads):
        views = [np.concatenate([part[f"oof/{head.name}/{view}"] for part in parts]) for view in plan.config.views]
        targets = head.labels(plan.values[rows, index])
        found[head.name] = Seen(targets, np.mean(views, axis=0), plan.data.samples.persons[rows])
    return found, minutes


def row(recipe: Recipe, seen: dict[str, Seen], base: dict[str, Seen], minutes: float) -> str:
    """One line of the table."""
    cells = []
    for name in HEADS:
        one, other = seen[name], base[name]
        better, error = gain(other.losses, one.losses, one.persons)
        score = macro_f1(one.targets, one.probs.argmax(axis=1), one.probs.shape[1])
        cells += [f"{score:.4f}", f"{one.losses.mean():.4f}", f"{better:+.4f} +- {error:.4f}"]
    return f"| {recipe.name} | {recipe.differs} | {' | '.join(cells)} | {minutes:.1f} |"


def main() -> None:
    """Train and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", nargs="*", default=[])
    parser.add_argument("--recipes", type=Path, default=FILE)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts/screen"))
    given = parser.parse_args()
    book, store = Cookbook.read(given.recipes), Store(given.artifacts)
    lines, base = [], None
    for name in [BASE, *given.recipe]:
        recipe = book.recipes[name]
        try:
            config = book.config(recipe, {"weights": given.weights}, None, 0)
            plan = make_plan([head_named(head) for head in HEADS], config, given.data)
            seen, minutes = look(plan, store, name, given.folds)
        except PipelineError as error:
            say(f"{name}: {error}")
            continue
        base = base or seen
        lines.append(row(recipe, seen, base, minutes))
        say(lines[-1])
    print("| recipe | other than base | age F1 | age log-loss | gain | gender F1 | gender log-loss | gain | minutes |")
    print("|---|---|---|---|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
