"""Small valid files of every format that is read, made up in a moment: nothing is trained."""

from __future__ import annotations

import io
import random
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ensemble.predictions import Predictions
from heads.base import Head
from heads.registry import HEADS
from heads.task import Task
from pipeline.checkpoints import Checkpoints
from pipeline.config import TrainConfig
from pipeline.engine import make_scaler
from pipeline.files import SCHEMA, write_arrays, write_csv, write_json
from pipeline.fold import FoldJob
from pipeline.fold_data import FoldData
from pipeline.optimizers import make_optimizer
from pipeline.samples import list_digest
from pipeline.state import Progress, tensors_of
from pipeline.store import Run

PEOPLE, FOLDS = 18, 3
VIEWS = ("identity", "hflip")


def picture_files() -> dict[str, bytes]:
    """One picture as each format: suffix -> bytes."""
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 32, 3), dtype=np.uint8).repeat(3, axis=0))
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {}
    for suffix in ("jpeg", "png", "webp", "tiff", "bmp"):
        photo.save(buffer := io.BytesIO(), suffix, **({"exif": exif} if suffix in ("jpeg", "png") else {}))
        files[suffix] = buffer.getvalue()
    return files


def small_network() -> torch.nn.Module:
    """A network with a timm model's ways, small enough for thousands of loads."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    network.pretrained_cfg = {"classifier": "fc"}  # type: ignore[assignment]
    return network


def write_data(folder: Path) -> tuple[Path, Path]:
    """A CSV of photos and a competition folder: the table of each. Photos are not opened here, so they hold a byte."""
    rng = random.Random(0)
    kinds = list(product(("female", "male"), (23, 41, 60)))
    people = [(f"p{n:02}", *kinds[n % len(kinds)]) for n in range(PEOPLE)]
    table, root = folder / "table" / "labels.csv", folder / "competition"
    rows = [(f"{p}_{n}.png", p, mask, *which) for p, *which in people for n, mask in enumerate(("wear", "normal"))]
    write_csv(table, ["path", "person", "mask", "gender", "age"], rows)
    write_csv(
        root / "train" / "train.csv", ["id", "gender", "age", "path"], [(p, g, a, f"{p}_x") for p, g, a in people]
    )
    names = [f"{rng.randbytes(4).hex()}.jpg" for _ in range(6)]
    write_csv(root / "eval" / "info.csv", ["ImageID", "ans"], [(name, 0) for name in names])
    shots = ("mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal")
    files = [table.parent / str(row[0]) for row in rows] + [root / "eval" / "images" / name for name in names]
    files += [root / "train" / "images" / f"{p}_x" / f"{shot}.jpg" for (p, *_), shot in product(people, shots)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    return table, root / "train" / "train.csv"


def checkpointed_job(folder: Path) -> FoldJob:
    """A fold of eight steps in two epochs whose checkpoints lie in ``folder``."""
    none, rows = np.empty((0, 8, 8, 3), np.uint8), np.arange(4 * 32)
    data = FoldData(0, none, np.zeros((len(rows), 1)), rows, rows[:0], none, rows, np.zeros_like(rows))
    saver = Checkpoints(folder, 0, "settings", {"device": "cpu", "threads": 2, "torch": "2"})
    config = TrainConfig(epochs=2, weights="none")
    task = Task.of(HEADS["mask"])
    report = epoch_done = lambda *what: None
    return FoldJob(task, data, config, torch.device("cpu"), 0, 32, report, epoch_done, saver=saver)


def write_checkpoint(folder: Path) -> Path:
    """A checkpoint of `checkpointed_job` after its sixth step; the file of its tensors."""
    job, network = checkpointed_job(folder), small_network()
    optimizer = make_optimizer(network, job.config)
    network(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    assert job.saver is not None
    job.saver.save(
        Progress(32, step=6, loss=3.5, photos=64, history=[{"fold": 0.0}], epoch=1),
        tensors_of(network, optimizer, make_scaler("fp32", job.device)),
    )
    return next(folder.glob("*.safetensors"))


def write_run(run: Run, head: Head, *, people: int = PEOPLE, n_folds: int = FOLDS, n_eval: int = 6) -> None:
    """A finished run of made-up predictions, with all that is kept of a fold beside it."""
    rng = np.random.default_rng(len(head.name))
    ids = np.asarray([f"p{n:02}_x/{shot}.jpg" for n, shot in product(range(people), ("mask1", "normal"))])
    folds, targets = np.arange(len(ids)) // 2 % n_folds, np.arange(len(ids)) % len(head.classes)
    eval_ids = np.asarray([f"{n}.jpg" for n in range(n_eval)])
    none = np.full(len(eval_ids), -1)
    for view in VIEWS:
        for part, known in (("oof", (ids, folds, targets)), ("test", (eval_ids, none, none))):
            probs = rng.dirichlet(np.ones(len(head.classes)), len(known[0]))
            run.save_predictions(head.name, part, view, Predictions(known[0], head.classes, probs, *known[1:]))
    write_csv(
        run.folder / "folds.csv",
        ["sample_id", "person_id", "fold"],
        zip(ids, (name.split("/")[0] for name in ids.tolist()), folds, strict=True),
    )
    config = TrainConfig(folds=n_folds, weights="none", views=VIEWS).as_dict()
    settings = {"schema": SCHEMA, "heads": {head.name: "classes"}, "order": [head.name], "config": config}
    settings |= {"data": "d", "folds": "f", "eval": list_digest(eval_ids.tolist()), "weights": "none", "version": "0"}
    facts = {
        "device": "cpu",
        "seconds": 1.5,
        "peak_memory": 2**20,
        "files": {"age.npz": "0"},
        "resumed": 1,
        "micro_batch": 32,
    }
    scores = {"macro_f1": 0.5, "accuracy": 0.5, "mean_absolute_error": 7.5}
    info: dict[str, Any] = {"classes": {head.name: head.classes}, "scores": {head.name: scores}, "data_root": "nowhere"}
    write_json(run.folder / "settings.json", settings)
    write_json(run.folder / "run.json", settings | info | facts | {"device": ["cpu"], "finished": "2026-01-01"})
    fold = {"schema": SCHEMA, "fold": 0, "settings": "s", "absolute_errors": {"age": [12.5, 3]}}
    fold |= {"step": 9, "checkpoint_seconds": 0.1}
    write_json(run.folder / "fold0.json", fold | facts | {"history": [{"fold": 0, "train_loss": 0.5}]})
    write_arrays(run.folder / "fold0.npz", {"rows": np.arange(3)})
