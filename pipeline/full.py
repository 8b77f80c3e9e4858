"""The full fit: one more network, trained on everything after the folds, that has a say on the eval photos only.

Nobody is left to judge it, so a run's out-of-fold predictions and scores stay those of its folds. It is kept as if it
were fold number K.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

from pipeline.files import write_json
from pipeline.finish import eval_mean
from pipeline.plan import Plan
from pipeline.store import Run


def full_plan(plan: Plan, run: Run) -> Plan:
    """The plan of the full fit: epochs as many as the folds used, and nobody held back to choose among them."""
    config = plan.config
    used = round(statistics.median(run.info().get("epochs_used") or [config.epochs]))
    needed = config.finish_epochs or config.average == "greedy"
    return replace(
        plan,
        config=replace(config, epochs=used, keep="last", patience=0, inner=config.inner if needed else 0.0),
    )


def lacks_full(plan: Plan, run: Run) -> bool:
    """Whether the run is asked for a full fit that is not yet part of it."""
    return plan.config.full and run.whole and "full" not in run.info()


def finish_full(plan: Plan, run: Run) -> None:
    """Make the full fit that was trained part of its run: its predictions, and a word in ``run.json``."""
    number = plan.config.folds
    facts, arrays = run.fold_facts(number), run.fold_arrays(number)
    for head in plan.task.heads:
        for view in plan.config.views:
            run.save_predictions(head.name, "full", view, eval_mean(plan, head, view, [arrays]))
    names = [f"{head.name}.full.{view}.npz" for head in plan.task.heads for view in plan.config.views]
    info: dict[str, Any] = dict(run.info())
    files = info["files"] | run.checksums([f"fold{number}.safetensors", *names])
    full = {"epochs": len(facts["history"]), "seconds": round(facts["seconds"], 1)}
    write_json(run.folder / "run.json", info | {"full": full, "files": files})
    run.drop_parts([number])
