"""Damaged files end in success or in an error of our own; `benchmarks/fuzz.py` tries the same at length."""

from __future__ import annotations

import contextlib
import random
import resource
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.fuzz import OURS, Target, limit_memory, outcome, pictures, targets

KINDS = (
    "label tables",
    "fixes",
    "settings",
    "predictions",
    "run files",
    "fold tables",
    "safetensors",
    "checkpoints",
    "pth",
    "whole runs",
)


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Target]]:
    """Valid files of every format."""
    return targets(tmp_path_factory.mktemp("formats"))


@pytest.mark.slow
def test_undamaged_files_are_read(formats: dict[str, list[Target]]) -> None:
    assert tuple(formats) == KINDS
    for of_kind in formats.values():
        for target in of_kind:
            target.read()


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(kind: str, formats: dict[str, list[Target]]) -> None:
    rng = random.Random(kind)
    found = Counter(outcome(rng.choice(formats[kind]), rng) for _ in range(12 if kind == "whole runs" else 60))
    assert found["refused"]
    assert found["success"], "nothing but refusals: the damage never reaches what lies deep"


@pytest.mark.slow
def test_a_run_with_a_folder_or_nothing_in_the_place_of_a_file_is_read_or_refused(
    formats: dict[str, list[Target]],
) -> None:
    for target in formats["whole runs"]:
        kept = target.file.rename(target.file.with_suffix(".kept"))
        with contextlib.suppress(*OURS):
            target.read()
        target.file.mkdir()
        with contextlib.suppress(*OURS):
            target.read()
        target.file.rmdir()
        kept.rename(target.file)


def test_damaged_pictures_are_read_or_refused_within_bounded_memory(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        limit_memory(2 * 2**30)
        found = pictures(60, 0, folder=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert found.total() == 60
    assert {name.split()[1] for name in found} == {"success", "refused"}
