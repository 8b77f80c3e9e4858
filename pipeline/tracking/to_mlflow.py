"""A run told to MLflow: a run with settings and out-of-fold scores, and one below it for each fold."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.locks import turn
from pipeline.tracking.events import WHOLE
from pipeline.tracking.trackers import Picture

tracking: Any = import_module("mlflow.tracking")
entities: Any = import_module("mlflow.entities")
EXPERIMENT = "headfold"
TAG = "headfold.series"
LONGEST = 500  # letters of a setting that every version of the server takes
AT_ONCE = 100  # settings in one request


@dataclass(slots=True)
class MLflow:
    """The runs there that belong to one run here.

    Attributes:
        name: Of the run.
        key: What tells it from earlier ones of this name.
        uri: Of the server, or of the file in which everything is kept.
        client: The connection.
        experiment: Id of the experiment.
        runs: Series -> id of its run there.
        complete: Series that were told to their end.
    """

    name: str
    key: str
    uri: str
    client: Any
    experiment: str
    runs: dict[str, str] = field(default_factory=dict)
    complete: set[str] = field(default_factory=set)

    def settings(self, series: str, settings: Mapping[str, Any]) -> None:
        """Keep the settings as parameters, tables and lists as JSON."""
        texts = {name: v if isinstance(v, str) else json.dumps(v) for name, v in settings.items()}
        params = [entities.Param(name, text[:LONGEST]) for name, text in texts.items()]
        for start in range(0, len(params), AT_ONCE):
            self.client.log_batch(self._run(series), params=params[start : start + AT_ONCE])

    def numbers(self, series: str, step: int, values: Mapping[str, float], at: float) -> None:
        """Log them; told again, with the same time, they count once."""
        when = round(at * 1000)
        metrics = [entities.Metric(name, value, when, step) for name, value in values.items()]
        self.client.log_batch(self._run(series), metrics=metrics)

    def pictures(self, series: str, step: int, name: str, pictures: Sequence[Picture], at: float) -> None:
        """Keep them as files that are called as their captions say."""
        self.complete.add(series)  # they come last
        with tempfile.TemporaryDirectory() as folder:
            for number, picture in enumerate(pictures):
                words = re.sub(r"[^\w.,-]+", " ", f"{number + 1:02} {picture.caption}").strip()
                called = words if picture.caption else name.rpartition("/")[2]
                file = Path(folder) / f"{called[:150].removesuffix(picture.suffix)}{picture.suffix}"
                file.write_bytes(picture.content)
            place = name if len(pictures) > 1 or pictures[0].caption else name.rpartition("/")[0]
            self.client.log_artifacts(self._run(series), folder, place)

    def close(self) -> None:
        """Mark as finished what is."""
        for series, run in self.runs.items():
            self.client.set_terminated(run, "FINISHED" if series in self.complete else "KILLED")

    def told(self) -> str:
        """The command that shows it, or where it is."""
        return f"mlflow ui --backend-store-uri {self.uri}" if self.uri.startswith("sqlite:") else self.uri

    def _run(self, series: str) -> str:
        if series not in self.runs:
            mine = f"{self.key}-{series}"
            found = self.client.search_runs([self.experiment], f"tags.`{TAG}` = '{mine}'", max_results=1)
            self.runs[series] = found[0].info.run_id if found else self._new(series, mine)
        return self.runs[series]

    def _new(self, series: str, mine: str) -> str:
        tags = {TAG: mine}
        if series != WHOLE:
            tags |= {"mlflow.parentRunId": self._run(WHOLE)}
        name = self.name if series == WHOLE else f"{self.name} {series}"
        return str(self.client.create_run(self.experiment, tags=tags, run_name=name).info.run_id)


def _file_in(folder: Path) -> str:
    """The address of the file in which everything is kept, made whole or not at all: a half-made one stays broken."""
    file = folder / "mlflow.db"
    with turn(folder / ".mlflow.lock", "makes the file of MLflow"):
        if not file.exists():
            with tempfile.TemporaryDirectory(dir=folder) as name:
                made, whole = Path(name) / "made.db", Path(name) / "whole.db"
                tracking.MlflowClient(tracking_uri=f"sqlite:///{made}")
                with closing(sqlite3.connect(made)) as source, closing(sqlite3.connect(whole)) as copy:
                    source.backup(copy)
                whole.replace(file)
    return f"sqlite:///{file}"


def tracker(name: str, key: str, root: Path) -> MLflow:
    """The runs of the run called ``name``, on the server that the environment names, or else in a file."""
    folder = (root / "mlflow").resolve()
    given = os.environ.get("MLFLOW_TRACKING_URI")
    uri = given or _file_in(folder)
    client = tracking.MlflowClient(tracking_uri=uri)
    called = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    found = client.get_experiment_by_name(called)
    place = None if given else (folder / "files").as_uri()
    experiment = found.experiment_id if found else client.create_experiment(called, artifact_location=place)
    return MLflow(name, key, uri, client, experiment)
