"""A contact sheet: one person's photos as they are, and as the epochs of a training see them.

N photos, H heads, R photos shown, E epochs shown, S side of the network's input in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from heads.base import FloatArray, Head, IntArray
from heads.registry import LABELS, head_named
from pipeline.augment import Pixels
from pipeline.augmentation import Augmentation
from pipeline.canvas import squared, write
from pipeline.config import TrainConfig
from pipeline.drawing import encode_photo
from pipeline.errors import ConfigError, hint
from pipeline.files import write_bytes
from pipeline.images import PhotoSet, stable_number, stacked
from pipeline.layouts import load_dataset
from pipeline.plan import Plan, fold_data, plan_without_network

MOST_EPOCHS = 10
SIDE, GAP, LINE = 192, 6, 18  # pixels of a picture, between two, and of a line of text


@dataclass(frozen=True, slots=True)
class Unread:
    """Photos that are read when they are asked for; an array of N x S x S x 3 to whoever picks rows of it.

    Attributes:
        paths: N files.
        size: S.
    """

    paths: tuple[Path, ...]
    size: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: IntArray) -> Pixels:
        """The photos of these row numbers."""
        return stacked([self.paths[row] for row in rows], self.size)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a sheet shows.

    Attributes:
        person: Who.
        fold: The first fold that trains on them.
        photos: (R, S, S, 3) as they are.
        labels: R lines, their classes.
        seen: For each epoch, (R, S, S, 3) as training sees them.
        mixed: For each epoch R lines: what they are mixed with; empty = with nothing.
    """

    person: str
    fold: int
    photos: Pixels
    labels: list[str]
    seen: list[Pixels]
    mixed: list[list[str]]


def write_sheet(file: Path, heads: Sequence[str], config: TrainConfig, root: Path, *, person: str, rows: int) -> Shown:
    """Write a contact sheet as PNG; what is on it.

    Args:
        file: Where to.
        heads: Names of the heads that share a network; none = all that the data has labels of.
        config: The settings.
        root: The data.
        person: Who is shown; empty = the first whom fold 0 trains on.
        rows: Most photos that are shown.

    Raises:
        PipelineError: Data or settings are not as they must be, nobody is called so, or the file cannot be written.
    """
    if file.suffix.lower() != ".png":
        raise ConfigError(f"--out must be a .png, got {file}")
    config = replace(config, device="cpu")
    chosen = [head_named(name) for name in heads] or _labelled_heads(config, root)
    shown = show_person(plan_without_network(chosen, config, root), person, rows)
    write_bytes(file, encode_photo(drawn(shown), ".png"))
    return shown


def _labelled_heads(config: TrainConfig, root: Path) -> list[Head]:
    columns = load_dataset(root, fixes=config.fixes, no_fixes=config.no_fixes).samples.columns
    return [head for head in LABELS if head.column in columns and (columns[head.column] != "").any()]


def show_person(plan: Plan, person: str, most: int) -> Shown:
    """Up to ``most`` photos of a person through the epochs of the first fold that trains on them.

    Raises:
        ConfigError: Nobody with a label is called so.
    """
    samples, size = plan.data.samples, plan.config.image_size
    labelled = plan.labelled
    who = person or str(samples.persons[labelled[plan.folds[labelled] != 0]][0])
    rows = labelled[samples.persons[labelled] == who][:most]
    if not len(rows):
        known = np.unique(samples.persons[labelled]).tolist()
        nearest = hint(who, known, f"a person is, for example, {known[0]!r}")
        raise ConfigError(f"no labelled photo of {who!r}; {nearest}")
    fold = int(plan.folds[rows[0]] == 0)
    unread = cast(Pixels, Unread(samples.paths + plan.extra.samples.paths, size))
    data = fold_data(plan, fold, unread, cast(Pixels, Unread((), size)))
    heads = plan.task.heads
    key = (plan.config.seed, stable_number("+".join(head.name for head in heads)), fold)
    augmentation = Augmentation.of(plan.config, key, heads, data.values, train=data.train, alike=data.alike)
    photos = PhotoSet(unread, data.values, augmentation)
    seen, mixed = [], []
    for epoch in range(min(plan.config.epochs, MOST_EPOCHS)):
        images, values, shares = photos[epoch, rows]
        seen.append(np.asarray(images.permute(0, 2, 3, 1)))
        mixed.append([_mixed_with(heads, v, s) for v, s in zip(values.double().numpy(), shares.numpy(), strict=True)])
    return Shown(who, fold, unread[rows], [class_names(heads, plan.values[row]) for row in rows], seen, mixed)


def class_names(heads: Sequence[Head], values: FloatArray) -> str:
    """The classes of (H,) values; ``?`` where one is not labelled."""
    labels = [int(head.labels(values[number : number + 1])[0]) for number, head in enumerate(heads)]
    return " ".join(head.classes[label] if label >= 0 else "?" for head, label in zip(heads, labels, strict=True))


def _mixed_with(heads: Sequence[Head], values: FloatArray, shares: FloatArray) -> str:
    """The line under a photo that is made of (M, H) values with (M, H) shares."""
    if len(values) == 1 or not shares[1].max() > 0:
        return ""
    return f"+ {shares[1].max():.0%} {class_names(heads, values[1])}"


def drawn(shown: Shown) -> Pixels:
    """The sheet as one (height, width, 3) picture: a row a photo, first as it is, then a column an epoch."""
    columns = [shown.photos, *shown.seen]
    lines = [shown.labels, *shown.mixed]
    titles = ["as it is", *(f"epoch {number + 1}" for number in range(len(shown.seen)))]
    across, down = SIDE + GAP, SIDE + LINE + GAP
    sheet = np.full((LINE + GAP + down * len(shown.photos), GAP + across * len(columns), 3), 255, dtype=np.uint8)
    for column, (photos, texts, title) in enumerate(zip(columns, lines, titles, strict=True)):
        left = GAP + column * across
        write(sheet, title, left, LINE - GAP // 2, SIDE)
        for row, (photo, text) in enumerate(zip(photos, texts, strict=True)):
            top = LINE + GAP + row * down
            sheet[top : top + SIDE, left : left + SIDE] = squared(photo, SIDE)
            write(sheet, text, left, top + SIDE + LINE - GAP, SIDE)
    return sheet
