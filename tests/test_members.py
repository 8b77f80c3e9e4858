"""Blocks of rows change nothing: votes and weights are those of whole arrays, and files are as strict as in memory.

Legend: N samples, C classes, M members.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ensemble.members
from ensemble.combine import row_by_row
from ensemble.members import Members
from ensemble.mixture import GAP, mixture_weights
from ensemble.predictions import Predictions, are_distributions
from ensemble.voting import VOTERS
from heads.registry import HEADS
from pipeline.errors import ArtifactError
from pipeline.files import read_arrays, write_arrays
from pipeline.members import head_members
from pipeline.store import Run
from pipeline.stored import open_arrays
from tests.test_artifact_files import HOSTILE
from tests.test_combine import NAMES, align, members

seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("voter", VOTERS)
def test_small_blocks_give_what_one_block_gives(voter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = members()
    weights = np.array([1.0, 2.0, 3.0])
    whole = VOTERS[voter](align(run, NAMES)[1], weights)
    monkeypatch.setattr(ensemble.members, "BLOCK", 3 * 3 * 8 * 7)  # seven rows
    aligned = Members.of(run, NAMES)
    assert len(list(aligned.blocks())) == 5
    found = row_by_row(aligned, lambda rows, probs: VOTERS[voter](probs, weights))[0]
    np.testing.assert_allclose(found, whole, atol=1e-15)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, n_members=st.integers(1, 12), n=st.integers(1, 60), sharp=st.floats(0.01, 8))
def test_mixture_weights_are_optimal_and_beat_expectation_maximisation(
    seed: int, n_members: int, n: int, sharp: float
) -> None:
    rng = np.random.default_rng(seed)
    given_to_truth = np.maximum(rng.beta(sharp, 1, size=(n_members, n)), 1e-15)
    weights = mixture_weights([given_to_truth[:, : n // 2], given_to_truth[:, n // 2 :]])
    assert weights.sum() == pytest.approx(1)
    mix = weights @ given_to_truth
    assert (given_to_truth / mix).mean(axis=1).max() - 1 < max(GAP, 1e-6)  # a certificate: never less than the distance
    other = np.full(n_members, 1 / n_members)
    for _ in range(300):
        other = other * (given_to_truth / (other @ given_to_truth)).mean(axis=1)
    assert -np.log(mix).mean() <= -np.log(other @ given_to_truth).mean() + 1e-8


def kept(run: Run, predictions: Predictions) -> Run:
    run.save_predictions("mask", "oof", "identity", predictions)
    return run


def three_runs(folder: Path) -> tuple[list[Run], list[Predictions]]:
    """Members on disk, the second and third in another order of rows."""
    made = [dataclasses.replace(member, classes=HEADS["mask"].classes) for member in members()]
    return [kept(Run(folder / name), member) for name, member in zip(NAMES, made, strict=True)], made


def test_members_on_disk_are_those_in_memory(tmp_path: Path) -> None:
    runs, made = three_runs(tmp_path)
    infos = {run.name: {"classes": {"mask": ["wear"]}} for run in runs}
    aligned = Members.align(head_members(runs, infos, HEADS["mask"], "oof", ["identity"]), NAMES)  # type: ignore[arg-type]
    rows = np.array([5, 2, 2, 29])
    for read, probs in zip(aligned.readers, align(made, NAMES)[1], strict=True):
        assert np.array_equal(read(slice(3, 11)), probs[3:11])
        assert np.array_equal(read(rows), probs[rows])


def test_the_mix_that_a_run_was_trained_under_is_undone(tmp_path: Path) -> None:
    true = dataclasses.replace(members()[0], classes=HEADS["mask"].classes)
    photos, trained = np.array([0.7, 0.2, 0.1]), np.array([0.2, 0.3, 0.5])
    told = true.probs * trained / photos  # what a network says that saw classes in these shares
    run = kept(Run(tmp_path / "run"), dataclasses.replace(true, probs=told / told.sum(axis=1, keepdims=True)))
    mix = {"mask": {"photos": photos.tolist(), "trained": trained.tolist()}}
    for info, undone in (({"classes": {"mask": ["wear"]}, "mix": mix}, True), ({"classes": {"mask": ["wear"]}}, False)):
        [found] = head_members([run], {"run": info}, HEADS["mask"], "oof", ["identity"])  # type: ignore[dict-item]
        assert np.allclose(found.read(slice(0, 30)), true.probs) == undone


def test_members_of_the_same_samples_share_one_table_of_ids(tmp_path: Path) -> None:
    runs, made = three_runs(tmp_path)
    runs = [kept(run, made[1]) for run in runs]
    infos = {run.name: {"classes": {"mask": ["wear"]}} for run in runs}
    found = list(head_members(runs, infos, HEADS["mask"], "oof", ["identity"]))  # type: ignore[arg-type]
    assert found[2].ids is found[1].ids or found[2].ids is found[0].ids


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_refused_in_blocks_too(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    for large in ("a", "b"):
        with pytest.raises(ArtifactError, match=f"a.npz is damaged: .*({message})"):
            open_or_read(tmp_path / "a.npz", large)


def open_or_read(file: Path, large: str) -> None:
    """As predictions are opened: what is no table of numbers is read whole, which says why."""
    if open_arrays(file, large, lambda rows: True)[1] is None and large == "a":
        read_arrays(file)


def test_a_flipped_bit_in_what_stays_on_disk_is_found(tmp_path: Path) -> None:
    probs = np.full((5000, 4), 0.25)
    write_arrays(tmp_path / "a.npz", {"probs": probs, "ids": np.arange(3)})
    small, stored = open_arrays(tmp_path / "a.npz", "probs", are_distributions)
    assert stored is not None
    assert list(small) == ["ids"]
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[stored.offset + 8 * 10_000] ^= 1  # too little for a sum to show
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"a\.npz is damaged: .*CRC"):
        open_arrays(tmp_path / "a.npz", "probs", are_distributions)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    write_arrays(file, {"probs": np.eye(4)})
    _, stored = open_arrays(file, "probs", are_distributions)
    assert stored is not None
    assert np.array_equal(stored[1:3], np.eye(4)[1:3])
    os.utime(file, ns=(1, 1))
    for rows in (slice(0, 2), np.array([1])):
        with pytest.raises(ArtifactError, match="changed while it was read; run the same command again"):
            stored[rows]
