"""The whole line on drawn people: nothing is downloaded, and the answers are known, so the true score can be told."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from ensemble.line import Choices
from ensemble.metrics import macro_f1
from heads.base import IntArray
from heads.registry import JOINT, head_named
from pipeline.config import TrainConfig
from pipeline.demo_data import draw_dataset
from pipeline.errors import LayoutError
from pipeline.progress import minutes, say
from pipeline.store import Store
from pipeline.tables import read_table

SETTINGS = TrainConfig(
    precision="fp32",
    folds=3,
    backbone="test_resnet",
    weights="none",
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    image_size=48,
    epochs=8,
    batch_size=32,
    lr=5e-3,
    warmup=0.15,
    device="cpu",
)


def draw(folder: Path, seed: int) -> None:
    """Draw the demo's people into a new folder.

    Raises:
        LayoutError: The folder is not empty or cannot be written.
    """
    try:
        draw_dataset(folder, seed=seed)
    except OSError as error:
        raise LayoutError(f"cannot draw people into {folder}: {error.strerror or error}") from error
    say(f"drew people into {folder} (answers of the eval set: {folder / 'answers.csv'})")


def run_demo(folder: Path, seed: int) -> None:
    """Draw people, train three heads, report, vote, and score the submission by the true answers.

    What is there already is kept: a second call, or one after an interrupt, goes on where the first ended.

    Raises:
        PipelineError: The folder cannot be written.
    """
    import torch

    from pipeline.plan import describe, make_plan  # torch and timm: seconds
    from pipeline.report import oof, text
    from pipeline.report.story import render
    from pipeline.submit import Asked, make_ensemble
    from pipeline.train import train_heads

    torch.set_num_threads(1)  # small networks gain nothing from more, and lose much on a busy machine
    start = time.perf_counter()
    data, store = folder / f"data-seed{seed}", Store(folder / f"artifacts-seed{seed}")
    if not (data / "answers.csv").is_file():
        draw(data, seed)
    for part in JOINT.parts:
        # bins also tell years, which the report then shows
        settings = replace(SETTINGS, objective="bins" if "bins" in part.objectives else "")
        plan = make_plan([head_named(part.name)], settings, data)
        say(f"\n{describe(plan)}")
        train_heads(plan, store, part.name)
    say("\n" + text.render(oof.make_report(store.finished())))
    vote = make_ensemble(store, Asked((), SETTINGS.views, Choices()), name="latest")
    say("\n" + render(vote.info, vote.folder))
    say(
        "\n"
        + scored(vote.folder / "submission.csv", data / "answers.csv", vote.info["heads"], vote.info["cross_fitted"])
    )
    say(f"\ndone in {minutes(time.perf_counter() - start)}. Look into {data}, {store.root / 'runs'} and {vote.folder}")
    say(f"or at a page: {shlex.join(['pipe', 'oof-report', '--html', 'report.html', '--artifacts', str(store.root)])}")


def scored(submission: Path, answers: Path, heads: dict[str, dict[str, float]], fair: dict[str, float]) -> str:
    """Out-of-fold macro F1 beside the true one on the eval set, per head and for all 18 classes, as text."""
    given, true = read_table(submission, ["ImageID", "ans"]), read_table(answers, ["ImageID", "ans"])
    truth = dict(zip(true["ImageID"].tolist(), true["ans"].tolist(), strict=True))
    labels = given["ans"].astype(np.int64)
    targets = np.asarray([int(truth[name]) for name in given["ImageID"].tolist()])
    lines = ["macro F1     out-of-fold   eval (true answers)"]
    sizes = tuple(len(part.classes) for part in JOINT.parts)
    parts = zip(JOINT.parts, np.unravel_index(targets, sizes), np.unravel_index(labels, sizes), strict=True)
    for head, head_targets, head_labels in parts:
        lines.append(
            _line(head.name, heads[head.name]["macro_f1_cross_fitted"], head_targets, head_labels, len(head.classes))
        )
    lines.append(_line("18 classes", fair["macro_f1"], targets, labels, len(JOINT.classes)))
    return "\n".join(lines)


def _line(name: str, oof: float, targets: IntArray, labels: IntArray, n_classes: int) -> str:
    return f"{name:<12} {oof:11.4f} {macro_f1(targets, labels, n_classes):13.4f}"
