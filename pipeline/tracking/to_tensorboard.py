"""A run told to TensorBoard: a folder of event files for each series, for ``tensorboard --logdir``."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.tracking.trackers import Picture

proto: Any = import_module("tensorboard.compat.proto.summary_pb2")  # half of it is annotated
events: Any = import_module("tensorboard.compat.proto.event_pb2")
writing: Any = import_module("tensorboard.summary.writer.event_file_writer")
images: Any = import_module("tensorboard.plugins.image.metadata")
hparams: Any = import_module("tensorboard.plugins.hparams.summary_v2")
FLUSH = 10  # seconds until what was told is in the file


@dataclass(slots=True)
class TensorBoard:
    """The event files of one run.

    Attributes:
        folder: ``tracking/tensorboard/<run>``.
        writers: Series -> its file.
    """

    folder: Path
    writers: dict[str, Any] = field(default_factory=dict)

    def settings(self, series: str, settings: Mapping[str, Any]) -> None:
        """Keep the settings for the page HPARAMS, tables and lists as JSON."""
        plain = {name: v if isinstance(v, int | float | str) else json.dumps(v) for name, v in settings.items()}
        trial = f"{self.folder.name}/{series}"
        self._add(series, 0, time.time(), hparams.hparams_pb(plain, trial_id=trial).value)

    def numbers(self, series: str, step: int, values: Mapping[str, float], at: float) -> None:
        """Keep each as a scalar."""
        self._add(series, step, at, [proto.Summary.Value(tag=name, simple_value=v) for name, v in values.items()])

    def pictures(self, series: str, step: int, name: str, pictures: Sequence[Picture], at: float) -> None:
        """Keep each as an image with a tag of its own, since only a tag has a caption."""
        values = []
        for number, picture in enumerate(pictures):
            image = proto.Summary.Image(
                height=picture.height, width=picture.width, colorspace=3, encoded_image_string=picture.content
            )
            title = picture.caption or name
            about = images.create_summary_metadata(title, title, converted_to_tensor=False)
            tag = f"{name}/{number + 1:02}" if len(pictures) > 1 else name
            values.append(proto.Summary.Value(tag=tag, image=image, metadata=about))
        self._add(series, step, at, values)

    def close(self) -> None:
        """Write everything to disk."""
        for writer in self.writers.values():
            writer.close()

    def told(self) -> str:
        """The command that shows it."""
        return f"tensorboard --logdir {self.folder.parent}"

    def _add(self, series: str, step: int, at: float, values: Any) -> None:
        if series not in self.writers:
            folder = self.folder / series
            shutil.rmtree(folder, ignore_errors=True)  # all of it is told again
            self.writers[series] = writing.EventFileWriter(str(folder), flush_secs=FLUSH)
        self.writers[series].add_event(events.Event(wall_time=at, step=step, summary=proto.Summary(value=values)))


def tracker(name: str, key: str, root: Path) -> TensorBoard:
    """The event files of the run called ``name``."""
    return TensorBoard(root / "tensorboard" / name)
