"""`pipe verify` finds nothing in honest runs, and every kind of damage in others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.files import file_checksum
from pipeline.store import Run
from tests.conftest import Cli


def swap_folds(folder: Path) -> None:
    first, second = folder / "fold0.safetensors", folder / "fold1.safetensors"
    first.rename(folder / "kept")
    second.rename(first)
    (folder / "kept").rename(second)


def person_in_two_folds(folder: Path) -> None:
    lines = (folder / "folds.csv").read_text().splitlines()
    cells = lines[1].split(",")
    lines[1] = ",".join([*cells[:2], str((int(cells[2]) + 1) % 3)])
    (folder / "folds.csv").write_text("\n".join(lines) + "\n")


def sharper_oof(folder: Path) -> None:
    for view in ("identity", "hflip"):
        oof = Run(folder).load_predictions("mask", "oof", view)
        fields = {name: getattr(oof, name) for name in ("ids", "classes", "folds", "targets")}
        np.savez(
            folder / f"mask.oof.{view}.npz", probs=oof.probs**2 / (oof.probs**2).sum(axis=1, keepdims=True), **fields
        )


def better_score(folder: Path) -> None:
    info = json.loads((folder / "run.json").read_text())
    info["scores"]["mask"]["macro_f1"] = 0.9
    (folder / "run.json").write_text(json.dumps(info))


def lost_file(folder: Path) -> None:
    (folder / "mask.test.hflip.npz").unlink()


def flipped_bit(folder: Path) -> None:
    content = bytearray((folder / "fold2.safetensors").read_bytes())
    content[-5] ^= 1
    (folder / "fold2.safetensors").write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "swapped folds": (swap_folds, "fold0.safetensors is damaged", "probabilities at most"),
    "person in two folds": (person_in_two_folds, "folds.csv is damaged", "1 people in two folds"),
    "other predictions": (sharper_oof, "mask.oof.hflip.npz is damaged", "probabilities at most"),
    "better score": (better_score, "run.json says 0.9000", "run.json says 0.9000"),
    "lost file": (lost_file, "mask.test.hflip.npz", "run.json lists no mask.test.hflip.npz"),
    "flipped bit": (flipped_bit, "fold2.safetensors is damaged", ""),
}


@pytest.fixture
def copy(artifacts: Path, tmp_path: Path) -> Path:
    """The folder of a finished run that a test may damage."""
    return Path(shutil.copytree(artifacts / "runs" / "mask", tmp_path / "runs" / "mask"))


def test_honest_runs_are_as_written(artifacts: Path, cli: Cli) -> None:
    code, out, err = cli("verify", "--artifacts", artifacts)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "6 runs as written"
    assert out.count("predicted again by the stored networks") == 6
    assert all(len(line) <= 80 for line in out.splitlines())
    assert json.loads(cli("verify", "--json", "--artifacts", artifacts)[1])["ok"]


@pytest.mark.parametrize("mend", [False, True], ids=["accident", "forgery"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_even_where_checksums_are_mended(damage: str, mend: bool, copy: Path, cli: Cli) -> None:
    harm, accident, forgery = DAMAGES[damage]
    harm(copy)
    if mend:
        info = json.loads((copy / "run.json").read_text())
        info["files"] = {name: file_checksum(copy / name) for name in info["files"] if (copy / name).exists()}
        (copy / "run.json").write_text(json.dumps(info))
    code, out, _ = cli("verify", "--artifacts", copy.parent.parent)
    if mend and not forgery:
        assert code == 0  # the limit: one bit of a weight is below what predictions show
        return
    assert code == 1
    assert (forgery if mend else accident) in " ".join(out.split())
    assert "1 run of 1 not as written: mask" in out


def test_photos_that_are_gone_leave_the_rest_checked(copy: Path, tmp_path: Path, cli: Cli) -> None:
    code, out, _ = cli("verify", "mask", "--data", tmp_path / "nowhere", "--artifacts", copy.parent.parent)
    assert code == 0
    assert "networks not checked: no data at" in out
    assert "macro F1" in out


def test_unknown_runs_and_empty_folders_are_one_line(tmp_path: Path, copy: Path, cli: Cli) -> None:
    code, _, err = cli("verify", "age", "--artifacts", copy.parent.parent)
    assert (code, "run 'age' does not exist in" in err) == (2, True)
    code, _, err = cli("verify", "--artifacts", tmp_path / "empty")
    assert (code, "no run in" in err) == (2, True)
