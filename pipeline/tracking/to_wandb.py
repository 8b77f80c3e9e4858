"""A run told to Weights & Biases: a run for each series, in one group; offline where nobody has logged in."""

from __future__ import annotations

import netrc
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pipeline.tracking.events import WHOLE
from pipeline.tracking.trackers import Picture

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else errors of the library go to its makers
wandb: Any = import_module("wandb")
PROJECT = "headfold"
LOGIN = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")


@dataclass(slots=True)
class Wandb:
    """The runs of one group.

    Attributes:
        name: Of the run here, and of the group there.
        key: What ids begin with.
        root: Where the library keeps its files.
        mode: ``online``, ``offline``, or another word of ``WANDB_MODE``.
        kept: The settings.
        runs: Series -> its run there.
        files: Pictures on their way.
    """

    name: str
    key: str
    root: Path
    mode: str
    kept: Mapping[str, Any] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    files: ExitStack = field(default_factory=ExitStack)

    def settings(self, series: str, settings: Mapping[str, Any]) -> None:
        """Keep the settings with every run of the group."""
        self.kept = settings

    def numbers(self, series: str, step: int, values: Mapping[str, float], at: float) -> None:
        """Log them at this step."""
        self._run(series).log(dict(values), step=step)

    def pictures(self, series: str, step: int, name: str, pictures: Sequence[Picture], at: float) -> None:
        """Log them as one panel with captions."""
        folder = Path(self.files.enter_context(tempfile.TemporaryDirectory()))
        shown = []
        for number, picture in enumerate(pictures):
            file = folder / f"{number}{picture.suffix}"
            file.write_bytes(picture.content)
            shown.append(wandb.Image(str(file), caption=picture.caption or None))
        self._run(series).log({name: shown}, step=step)

    def close(self) -> None:
        """Send everything, or have it on disk."""
        for run in self.runs.values():
            run.finish()
        self.files.close()

    def told(self) -> str:
        """Where it is, or how it gets there."""
        if self.mode == "offline":
            return f"kept offline; after `wandb login`: wandb sync {self.root / 'wandb'}/offline-run-*-{self.key}-*"
        urls = [run.url for series, run in self.runs.items() if series == WHOLE and run.url]
        return urls[0] if urls else f"group {self.name}"

    def _run(self, series: str) -> Any:
        if series not in self.runs:
            mine = f"{self.key}-{series}"
            for former in self.root.glob(f"wandb/offline-run-*-{mine}"):
                shutil.rmtree(former, ignore_errors=True)  # all of it is told again
            settings = wandb.Settings(
                mode=self.mode,
                root_dir=str(self.root),
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                run_group=self.name,
                run_job_type="run" if series == WHOLE else "fold",
                run_name=f"{self.name} {series}",
                run_id=mine,
                resume="allow" if self.mode == "online" else None,
                console="off",
                disable_git=True,
                save_code=False,
                x_disable_stats=True,
            )
            self.runs[series] = wandb.init(settings=settings, config=dict(self.kept), reinit="create_new")
        return self.runs[series]


def _logged_in() -> bool:
    """Whether the environment or ``.netrc`` has a key; looked up here, since the library would ask for one."""
    if any(os.environ.get(name) for name in LOGIN):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def tracker(name: str, key: str, root: Path) -> Wandb:
    """The group of the run called ``name``."""
    mode = os.environ.get("WANDB_MODE") or ("online" if _logged_in() else "offline")
    folder = root / "wandb"
    folder.mkdir(parents=True, exist_ok=True)  # the library would take the folder for temporary files instead
    return Wandb(name, key, folder, mode)
