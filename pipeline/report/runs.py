"""The list of experiments: what was tried and what it gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import ArtifactError
from pipeline.progress import minutes
from pipeline.store import Run
from pipeline.terminal import one_line


def table(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One row a run, the newest last; an unfinished run shows how many folds it has."""
    return [_row(run) for run in runs]


def _row(run: Run) -> dict[str, Any]:
    try:
        return _finished(run) if run.whole else _unfinished(run)
    except ArtifactError:
        nothing = dict.fromkeys(("backbone", "weights", "image_size", "folds", "epochs", "seed"), "?")
        state = "damaged; train it again with --fresh"
        rest: dict[str, Any] = {
            "heads": {},
            "state": state,
            "macro_f1": {},
            "seconds": None,
            "peak_memory": None,
            "note": "",
            "finished": "",
            "config": {},
        }
        return {"name": run.name} | nothing | rest


def _finished(run: Run) -> dict[str, Any]:
    info = run.info()
    config = info["config"]
    return _settings(run, info) | {
        "state": "finished",
        "macro_f1": {head: score["macro_f1"] for head, score in info["scores"].items()},
        "seconds": info["seconds"],
        "peak_memory": info["peak_memory"],
        "note": config.get("note", ""),
        "finished": info["finished"],
    }


def _unfinished(run: Run) -> dict[str, Any]:
    settings = run.settings()
    n_folds = settings["config"]["folds"]
    done = sum(run.fold_done(fold) for fold in range(n_folds))
    state = f"{done} of {n_folds} folds"
    nothing: dict[str, Any] = {"macro_f1": {}, "seconds": None, "peak_memory": None, "note": "", "finished": ""}
    return _settings(run, settings) | {"state": state} | nothing


def _settings(run: Run, info: Mapping[str, Any]) -> dict[str, Any]:
    config = info["config"]
    return {
        "name": run.name,
        "heads": info["heads"],
        "backbone": config["backbone"],
        "weights": config["weights"],
        "image_size": config["image_size"],
        "epochs": config["epochs"],
        "folds": config["folds"],
        "seed": config["seed"],
        "config": dict(config),
    }


def render(rows: Sequence[dict[str, Any]]) -> str:
    """Four lines a run at most, so that 80 columns hold everything; what files say stays in its line."""
    lines = [f"{'run':<24} {'macro F1':<34} {'time':>8} {'memory':>9}"]
    for row in rows:
        scores = " ".join(f"{head} {score:.4f}" for head, score in row["macro_f1"].items()) or row["state"]
        time = minutes(row["seconds"]) if row["seconds"] is not None else "-"
        memory = f"{row['peak_memory'] / 2**30:.1f} GiB" if row["peak_memory"] else "-"
        lines.append(f"{row['name']:<24} {scores:<34} {time:>8} {memory:>9}")
        network = f"{row['backbone']}, {row['weights'].rsplit('/', 1)[-1]}, {row['image_size']} px"
        heads = ", ".join(f"{head} ({objective})" for head, objective in row["heads"].items())
        lines.append(one_line(f"    {heads}, {row['folds']} folds x {row['epochs']} epochs, seed {row['seed']}"))
        lines.append(one_line(f"    {network}"))
        if row["note"]:
            lines.append(one_line(f"    note: {row['note']}"))
    return "\n".join(lines)
