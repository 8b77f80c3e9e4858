"""An ensemble made again from its ``ensemble.json``: the same runs, the same choices."""

from __future__ import annotations

from pathlib import Path

from ensemble.chain import HeadChoices
from ensemble.line import Choices
from pipeline.errors import ArtifactError
from pipeline.files import file_checksum
from pipeline.schema import EnsembleInfo, read_checked
from pipeline.store import Store
from pipeline.submit import Asked


def asked_again(file: Path, store: Store, data: Path | None) -> Asked:
    """What was asked for when ``file`` was written.

    Args:
        file: An ``ensemble.json``, or the folder that holds one.
        store: Where its runs are.
        data: The folder whose template the submission must match.

    Raises:
        ArtifactError: It is damaged, or one of its runs is missing or has changed since.
    """
    info = read_checked(file / "ensemble.json" if file.is_dir() else file, EnsembleInfo)
    for run in store.finished(info["runs"]):
        if file_checksum(run.folder / "run.json") != info["runs"][run.name]:
            raise ArtifactError(
                f"run {run.name!r} has changed since {file} was written; vote anew without --from, or restore the run"
            )
    asked = info["asked"]
    heads = asked["heads"]
    choices = Choices(
        heads=HeadChoices(heads["strategy"], heads["calibration"], heads["weights"], heads["view_weights"]),
        joint=asked["joint"],
        prior=asked["prior"],
        prior_over=asked["prior_over"],
        given={head: tuple(mix) for head, mix in asked["given"].items()},
        decoder=asked["decoder"],
        by_state=asked["by_state"],
        consistent=tuple(asked["consistent"]),
    )
    return Asked(tuple(info["runs"]), tuple(asked["views"]), choices, data)
