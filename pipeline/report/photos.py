"""The photos that a page shows: where the run was trained, or where the user says, and only if they are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from heads.base import FloatArray
from heads.registry import HEADS
from pipeline.config import TrainConfig
from pipeline.errors import LayoutError, PipelineError
from pipeline.report.shown import Shown
from pipeline.samples import Samples
from pipeline.schema import RunInfo
from pipeline.store import Run


@dataclass(frozen=True, slots=True)
class Photos:
    """What could be found of the photos.

    Attributes:
        samples: The table of all photos of the run; None when they are not there.
        values: Head of a quantity -> sample id -> quantity (years), NaN = not labelled.
        note: Why there are none; empty when there are.
        thumbs: Sample id -> a small picture as a ``data:`` address.
        cams: (head, sample id) -> the same under a map of what spoke for the answer.
    """

    samples: Samples | None = None
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    note: str = ""
    thumbs: Mapping[str, str] = field(default_factory=dict)
    cams: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def paths(self) -> dict[str, Path]:
        """Sample id -> file; empty when they are not there."""
        return dict(zip(self.samples.ids.tolist(), self.samples.paths, strict=True)) if self.samples else {}

    def of(self, head: str, ids: Sequence[str]) -> FloatArray:
        """(M,) quantities of photos; NaN where unknown."""
        known = self.values.get(head, {})
        return np.asarray([known.get(name, np.nan) for name in ids], dtype=np.float64)


def find_photos(shown: Shown, data: Path | None) -> Photos:
    """The files of the photos, when labels and sizes are still those of the run.

    Args:
        shown: The runs.
        data: Where to look; None = where the newest run was trained, and then nothing that is wrong is an error.

    Raises:
        PipelineError: ``data`` is given, and holds other photos or labels, or none.
    """
    return photos_of(*next(iter(shown.runs.values())), data)


def photos_of(run: Run, info: RunInfo, data: Path | None) -> Photos:
    """The files of a run's photos; see `find_photos`.

    Raises:
        PipelineError: ``data`` is given, and holds other photos or labels, or none.
    """
    root = data or Path(info["data_root"])
    try:
        return _found(root, info["config"], info["data"], run.name)
    except PipelineError as error:
        if data:
            raise
        advice = "" if "--data" in str(error) else "; say where the photos are with --data"
        return Photos(note=f"{error}{advice}")


def _found(root: Path, config: Mapping[str, object], digest: str, run: str) -> Photos:
    from pipeline.layouts import load_dataset

    settings = TrainConfig.load(None, dict(config))
    samples = load_dataset(root, fixes=settings.fixes, no_fixes=settings.no_fixes).samples
    if samples.digest() != digest:
        raise LayoutError(f"the photos or labels at {root} are not those of the run {run!r}")
    ids = samples.ids.tolist()
    values = {
        head.name: dict(zip(ids, head.values(samples.columns).tolist(), strict=True))
        for head in HEADS.values()
        if head.edges and head.column in samples.columns
    }
    return Photos(samples, values)


def with_thumbs(photos: Photos, ids: Sequence[str]) -> Photos:
    """The photos with small pictures of these; without any when one cannot be read."""
    from pipeline.page.thumbnails import data_uris

    paths = photos.paths
    there = [name for name in ids if name in paths]
    try:
        pictures = data_uris([paths[name] for name in there])
    except PipelineError as error:
        return replace(photos, note=f"{error}; without it no photo is shown")
    return replace(photos, thumbs=dict(zip(there, pictures, strict=True)))
