"""Trains tiny networks under random settings: each ends in a run that reads back, or is refused before it begins.

A setting is drawn out of `VALUES`, in every case some of them. What is wrong besides is a finding: any other exception,
a refusal once photos pass through the network, a run in which `pipe verify` finds a fault or which no ensemble takes.

    python -m benchmarks.soak --cases 100 --seed 0
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.line import Choices
from heads.base import HeadError
from heads.objectives import OBJECTIVES
from heads.registry import HEADS
from pipeline.config import TrainConfig
from pipeline.errors import PipelineError
from pipeline.mixing import MIXINGS
from pipeline.necks import INITS, NECKS
from pipeline.plan import make_plan, values_of
from pipeline.report import oof
from pipeline.rules import LOSS_NAMES, RECIPES
from pipeline.sampling import SAMPLERS
from pipeline.schedules import SCHEDULES
from pipeline.store import Run, Store
from pipeline.submit import Asked, make_ensemble
from pipeline.train import train_runs
from pipeline.verify import verify_runs
from tests.builders import write_competition, write_table

TINY = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "folds": 2, "device": "cpu"} | {
    "precision": "fp32",
    "epochs": 1,
    "batch_size": 32,
}
WITH_AGE = (("age",), ("age", "mask"), ("mask", "gender", "age"))
HEAD_SETS = (*WITH_AGE, ("mask",), ("gender",), ("joint",), ("joint", "age"))
CROP = {"name": "RandomCrop", "share": [0.7, 0.8]}
VALUES: dict[str, tuple[Any, ...]] = {
    "backbone": ("test_efficientnet", "test_vit", "test_convnext"),
    "epochs": (2, 3),
    "batch_size": (2, 7, 33, 500),
    "accumulate": (2, 100),
    "objective": tuple(OBJECTIVES),
    "bin_rule": ("width", "frequency"),
    "bin_count": (3, 6, 40),
    "bins": ((15.0, 30.0, 60.0, 75.0),),
    "loss": LOSS_NAMES,
    "label_smoothing": (0.1,),
    "auxiliary": (0.5,),
    "train_edges": ((30.0, 58.0), (41.0,)),
    "border": ((20.0, 25.0), (57.0, 59.0), (60.0, 60.0)),
    "border_weight": (0.3,),
    "sampler": tuple(SAMPLERS),
    "drop_last": (True,),
    "extra": ("table",),
    "augment": RECIPES,
    "transforms": ((CROP,), ({"name": "OneOf", "transforms": [CROP, {"name": "RandAugment"}]},)),
    "per_class": ({"old": "heavy"}, {"incorrect": "medium", "old": "light"}, {"female": "none"}),
    "mixing": tuple(MIXINGS),
    "mixing_args": ({"prob": 1.0}, {"within": "mask"}, {"partner": "old"}, {"within": "gender", "partner": "wear"}),
    "neck": tuple(NECKS),
    "init": tuple(INITS),
    "freeze": (-1, 1),
    "unfreeze_epoch": (1, 9),
    "grad_checkpointing": (True,),
    "optimizer": ("sgd", "adam", "nadamw", "radam", "adamp", "lion", "muon", "adafactor", "adabelief"),
    "schedule": tuple(SCHEDULES),
    "warmup": (0.0, 0.9),
    "layer_decay": (0.7,),
    "clip": (1.0,),
    "ema": (0.9,),
    "average": ("swa", "greedy"),
    "average_epochs": (1, 9),
    "sam": (0.05,),
    "inner": (0.1, 0.5),
    "keep": ("best",),
    "metric": ("loss",),
    "patience": (1,),
    "validate_every": (2, 9),
    "validate_when": ("improved",),
    "finish_epochs": (1,),
    "pseudo": ({"old": 0.1, "female": 0.4, "normal": 0.2}, {"wear": 1.0}),
    "pseudo_epochs": (1,),
    "full": (True,),
    "views": (("identity",),),
    "precision": ("bf16", "fp32-contiguous"),
    "workers": (1,),
    "checkpoint_every": (1,),
}
# settings that are refused alone or do nothing, and what is then drawn too
WITH = {
    "pseudo": "pseudo_epochs",
    "pseudo_epochs": "pseudo",
    "border_weight": "border",
    "mixing_args": "mixing",
    "unfreeze_epoch": "freeze",
    "average_epochs": "average",
    "metric": "keep",
} | dict.fromkeys(("keep", "patience", "finish_epochs", "average"), "inner")
OF_AGE = ("objective", "bins", "bin_rule", "auxiliary", "train_edges", "border", "border_weight")
SELDOM = ("workers",)  # they take seconds


def drawn(rng: random.Random, extra: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Heads and settings."""
    chosen = rng.sample(sorted(VALUES), rng.randint(2, 12))
    chosen = [name for name in chosen if name not in SELDOM or rng.random() < 0.1]
    for name in chosen:
        chosen += [WITH[name]] if name in WITH and WITH[name] not in chosen else []
    settings = TINY | {name: rng.choice(VALUES[name]) for name in chosen}
    if "extra" in settings:
        settings["extra"] = (str(extra),)
    if {"bins", "bin_rule"} & settings.keys() and rng.random() < 0.8:
        settings["objective"] = "bins"
    heads = rng.choice(WITH_AGE if settings.keys() & set(OF_AGE) else HEAD_SETS)
    return heads, settings | {"seed": rng.randrange(2**31)}


def tried(heads: tuple[str, ...], settings: dict[str, Any], data: Path, store: Store) -> str:
    """``refused: why`` or ``trained``.

    Raises:
        Exception: A finding.
    """
    try:
        plan = make_plan([HEADS[name] for name in heads], TrainConfig.load(None, settings), data)
    except (PipelineError, HeadError) as error:
        why = str(error)
        return f"refused: {why[:50]}" if why.isprintable() else f"FINDING: {why!r}"
    run = store.run("soaked")
    train_runs([(plan, run)], store, fresh=True)
    check(run, store, values_of(plan.task.heads, plan.data.samples))
    return "trained"


def check(run: Run, store: Store, values: np.ndarray[Any, Any]) -> None:
    """Read a run back in every way.

    Raises:
        AssertionError: It is not as it must be.
        PipelineError: It cannot be read.
        EnsembleError: It cannot vote.
    """
    found = [finding for findings in verify_runs(store, (run.name,), None).groups.values() for finding in findings]
    assert all(finding.status == "ok" for finding in found), found
    info = run.info()
    for index, head in enumerate(info["classes"]):
        for view in info["config"]["views"]:
            kept = run.load_predictions(head, "oof", view)
            assert len(set(kept.ids.tolist())) == len(kept.ids) == np.isfinite(values[:, index]).sum()
            assert np.isfinite(kept.probs).all()
            assert np.allclose(kept.probs.sum(axis=1), 1)
        mixes = info["mix"][head]
        for mix in (mixes["photos"], mixes["trained"]):
            assert np.isclose(np.sum(mix), 1)
            assert np.min(mix) > 0, info["mix"]
    oof.make_report([run])
    make_ensemble(store, Asked(("plain", run.name), ("identity",), Choices()), name="soaked")


def soak(cases: int, seed: int, folder: Path) -> Counter[str]:
    """Outcome -> how often; findings are printed with their settings."""
    write_competition(folder / "data", people=12, eval_photos=6)
    write_table(folder / "table", people=6, seed=1)
    store, outcomes = Store(folder / "artifacts"), Counter[str]()
    plain = make_plan(
        [HEADS[name] for name in ("mask", "gender", "age")], TrainConfig.load(None, TINY), folder / "data"
    )
    with contextlib.redirect_stdout(io.StringIO()):
        train_runs([(plain, store.run("plain"))], store)
    for case in range(cases):
        names, settings = drawn(random.Random(f"{seed} {case}"), folder / "table")
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), warnings.catch_warnings():
                warnings.simplefilter("error")
                outcomes[tried(names, settings, folder / "data", store)] += 1
        except Exception:
            outcomes["FINDING"] += 1
            own = {name: value for name, value in settings.items() if TINY.get(name) != value}
            print(f"case {case}: {' '.join(names)} {own}\n{traceback.format_exc(limit=-3)[-1200:]}", flush=True)
    return outcomes


def main() -> None:
    """Try the cases and print how they ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given, start = parser.parse_args(), time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        outcomes = soak(given.cases, given.seed, Path(name))
    for outcome, count in outcomes.most_common():
        print(f"{count:5d} {outcome}")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
