"""Artifacts that come from strangers: read as they are, or refused in words, whatever they claim to hold."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.valid import small_network, write_run
from heads.registry import HEADS
from pipeline.errors import ArtifactError, NetworkError
from pipeline.files import read_arrays, read_json, write_arrays
from pipeline.network import load_weights
from pipeline.report.runs import render, table
from pipeline.store import Run, Store
from tests.conftest import Cli

ARRAYS = {"ids": np.asarray(["a", "b"]), "probs": np.eye(2), "rows": np.arange(2), "scalar": np.asarray(1.5)}


class Malice:
    """An object whose unpickling makes a folder called ``malice``."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("malice",)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A finished run of the mask head."""
    made = Store(tmp_path / "artifacts").run("mask")
    write_run(made, HEADS["mask"])
    return made


def npy(descr: object, shape: object, data: bytes = b"") -> bytes:
    """One array of an npz, with any header before any bytes."""
    header = str({"descr": descr, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + data


def archive(*members: tuple[str, bytes], packed: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packed) as made:
        for name, content in members:
            made.writestr(name, content)
    return out.getvalue()


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def overlapping() -> bytes:
    """Two members of a directory that are the same bytes of the file."""
    whole = archive(("a.npy", npy("<f8", (1000,), bytes(8000))), ("b.npy", npy("<f8", (0,))))
    first, second = (m.start() for m in re.finditer(b"PK\x01\x02", whole))
    entry = whole[first:second]
    return whole[:second] + entry.replace(b"a.npy", b"b.npy") + whole[second + len(entry) :]


WHOLE = archive(("a.npy", npy("<f8", (2,), np.ones(2).tobytes())))
HOSTILE: dict[str, tuple[bytes, str]] = {
    "no zip": (b"hello", "not a zip"),
    "empty": (b"", "not a zip"),
    "cut": (WHOLE[:-30], "not a zip"),
    "flipped bit": (flipped(WHOLE, WHOLE.index(np.ones(1).tobytes()) + 3), "CRC"),
    "a terabyte claimed": (archive(("a.npy", npy("<f8", (10**12,), bytes(16)))), "claims shape .* but has 16 bytes"),
    "a product beyond 64 bits": (archive(("a.npy", npy("<f8", (2**40, 2**40), bytes(16)))), "but has 16 bytes"),
    "text without letters": (archive(("a.npy", npy("<U0", (10**12,)))), "claims to hold"),
    "negative": (archive(("a.npy", npy("<f8", (-2,), bytes(16)))), "a header that NumPy does not write"),
    "negative twice": (archive(("a.npy", npy("<f8", (-1, -2), bytes(16)))), "a header that NumPy does not write"),
    "objects": (archive(("a.npy", npy("|O", (1,), pickle.dumps(Malice())))), "a header that NumPy does not write"),
    "records": (archive(("a.npy", npy([("x", "|O")], (1,), bytes(8)))), "a header that NumPy does not write"),
    "dates": (archive(("a.npy", npy("<M8[s]", (1,), bytes(8)))), "a header that NumPy does not write"),
    "no header": (archive(("a.npy", pickle.dumps(Malice()))), "magic"),
    "deep header": (archive(("a.npy", b"\x93NUMPY\x01\0\x50\0" + b"(" * 80)), "a header that NumPy does not write"),
    "no text": (archive(("a.npy", npy("<U1", (1,), struct.pack("<I", 0xD800)))), "what is no text"),
    "compressed": (archive(("a.npy", npy("<f8", (9,), bytes(72))), packed=zipfile.ZIP_DEFLATED), "compressed"),
    "members twice": (overlapping(), "claim more bytes|Overlapped"),
    "pickle": (pickle.dumps(Malice()), "not a zip"),
}  # fmt: skip


def test_arrays_come_back_as_they_were_written(tmp_path: Path) -> None:
    arrays = ARRAYS | {"fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "none": np.empty((0, 3))}
    write_arrays(tmp_path / "a.npz", arrays)
    read = read_arrays(tmp_path / "a.npz")
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype


def test_arrays_are_read_without_the_parser_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Python 3.11, `ast` fails now and then in threads that use it side by side, and whole files looked damaged."""

    def fail(*_: object) -> None:
        raise SystemError("AST constructor recursion depth mismatch (before=51, after=47)")

    arrays = ARRAYS | {
        "long": np.zeros((7, 2, 3), np.float32, order="F"),
        "none": np.zeros((0, 4)),
        "big": np.ones(3, ">f8"),
    }
    write_arrays(tmp_path / "a.npz", arrays)
    monkeypatch.setattr("ast.literal_eval", fail)
    monkeypatch.setattr("ast.parse", fail)
    found = read_arrays(tmp_path / "a.npz")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_refused_and_runs_nothing(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.npz").write_bytes(content)
    with pytest.raises(ArtifactError, match=f"a.npz is damaged: .*({message})"):
        read_arrays(Path("a.npz"))
    assert not Path("malice").exists()


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = archive(("a.npy", npy("<f8", (0,))), ("a.npy", npy("<f8", (0,))))
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ArtifactError, match="stands there twice"):
        read_arrays(tmp_path / "a.npz")


def test_what_is_no_ordinary_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ArtifactError, match="not an ordinary file"):  # reading it would never end
        read_json(tmp_path / "pipe.json")
    with (tmp_path / "large.json").open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(ArtifactError, match="1,099,511,627,776 bytes; at most"):
        read_json(tmp_path / "large.json")


Change = Callable[[dict[str, Any]], object]
WRONG_FIELDS: dict[str, tuple[Change, str]] = {
    "no classes": (lambda info: info.pop("classes"), "classes: Field required"),
    "classes a list": (lambda info: info.update(classes=["wear"]), "classes: Input should be"),
    "other heads": (lambda info: info.update(heads={"age": "bins"}), "name different heads"),
    "head with a path": (lambda info: info.update(heads={"../mask": "x"}), "heads.../mask"),
    "no config": (lambda info: info.pop("config"), "config: Field required"),
    "no views": (lambda info: info["config"].pop("views"), "config.views: Field required"),
    "view with a path": (lambda info: info["config"].update(views=["../../x"]), "config.views.0: String should match"),
    "folds without end": (lambda info: info["config"].update(folds=10**12), "config.folds: .* less than or equal to"),
    "score no number": (lambda info: info["scores"]["mask"].update(macro_f1="good"), "scores.mask.macro_f1: "),
    "memory beyond any": (lambda info: info.update(peak_memory=10**400), "peak_memory: "),
    "seconds beyond any": (lambda info: info.update(seconds=10**400), "seconds: "),
    "data_root null": (lambda info: info.update(data_root=None), "data_root: "),
}
WRONG_TEXTS = {
    "nan": (b'{"schema": 1, "seconds": NaN}', "NaN is no number"),
    "nested": (b'{"schema": ' + b"[" * 100_000, "recursion|nested|depth"),
    "number of many digits": (b'{"schema": ' + b"9" * 5_000 + b"}", "digits"),
    "not UTF-8": (b'{"schema": "\xff"}', "utf-8"),
    "no object": (b"[1]", "schema 'list'"),
    "empty": (b"", "cannot read"),
}


@pytest.mark.parametrize(("change", "message"), WRONG_FIELDS.values(), ids=WRONG_FIELDS)
def test_a_wrong_field_of_run_json_is_named(change: Change, message: str, run: Run) -> None:
    info = json.loads((run.folder / "run.json").read_text())
    change(info)
    (run.folder / "run.json").write_text(json.dumps(info))
    with pytest.raises(ArtifactError, match=f"run.json is damaged: .*({message})"):
        run.info()
    assert "damaged; train it again" in render(table([run]))


@pytest.mark.parametrize(("content", "message"), WRONG_TEXTS.values(), ids=WRONG_TEXTS)
@pytest.mark.parametrize(
    "read", [Run.info, Run.settings, lambda run: run.fold_facts(0)], ids=["run", "settings", "fold"]
)
def test_what_is_no_json_of_ours_is_refused(
    read: Callable[[Run], object], content: bytes, message: str, run: Run
) -> None:
    for name in ("run", "settings", "fold0"):
        (run.folder / f"{name}.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=f"(?i){message}"):
        read(run)


def test_keys_that_this_version_does_not_know_are_kept(run: Run) -> None:
    for name in ("run", "settings", "fold0"):
        file = run.folder / f"{name}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"files": {"a": "0" * 64}, "micro_batch": 8}))
    assert run.info().get("files") == run.settings()["files"] == run.fold_facts(0).get("files") == {"a": "0" * 64}


def test_paths_that_are_not_utf_8_are_read_back(run: Run) -> None:
    file = run.folder / "run.json"
    info = json.loads(file.read_text()) | {"data_root": os.fsdecode(b"/data/\xff")}
    file.write_text(json.dumps(info))
    assert os.fsencode(run.info()["data_root"]) == b"/data/\xff"


def test_a_head_that_this_version_does_not_know_is_named(run: Run, cli: Cli) -> None:
    file = run.folder / "run.json"
    file.write_text(file.read_text().replace('"mask": ', '"hat": '))
    code, _, err = cli("oof-report", "--artifacts", run.folder.parent.parent)
    assert code == 2
    assert "unknown head 'hat'" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probs": np.eye(2).astype("U8")}, "no predictions, but .*probs U2"),
        ({"folds": np.asarray([np.nan, 1.0])}, "folds f1"),
        ({"ids": np.asarray("a")}, "ids U0"),
        ({"ids": np.empty(0, "U1")}, "no predictions"),
        ({"ids": np.asarray(["a", "a"])}, "1 ids repeat"),
        ({"probs": np.full((2, 2), np.nan)}, "not finite"),
        ({"targets": np.asarray([0, 7])}, "targets out of range"),
    ],
)
def test_arrays_that_are_no_predictions_are_refused(change: dict[str, Any], message: str, run: Run) -> None:
    zeros = np.zeros(2, np.int64)
    good = {"ids": np.asarray(["a", "b"]), "classes": np.asarray(["x", "y"]), "probs": np.eye(2)}
    write_arrays(run.folder / "mask.oof.identity.npz", good | {"folds": zeros, "targets": zeros} | change)
    with pytest.raises(ArtifactError, match=f"run 'mask': mask.oof.identity.npz is damaged: .*{message}"):
        run.load_predictions("mask", "oof", "identity")


def test_a_fold_table_that_lists_a_photo_twice_or_lacks_a_column_is_refused(run: Run, cli: Cli) -> None:
    file = run.folder / "folds.csv"
    lines = file.read_text().splitlines()
    for content, message in (([*lines, lines[1]], "lists a photo twice"), (["a,b", "1,2"], "no column 'sample_id'")):
        file.write_text("\n".join(content))
        code, _, err = cli("oof-report", "--artifacts", run.folder.parent.parent)
        assert code == 2
        assert message in err


def test_folders_that_no_run_can_be_called_are_no_runs(run: Run) -> None:
    run.folder.rename(run.folder.with_name("red\x1b[31m"))
    assert Store(run.folder.parent.parent).runs() == []


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
def test_a_pickle_with_code_is_not_opened_under_any_name(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path(f"evil{suffix}")
    for content in (pickle.dumps(Malice()), pickle.dumps({"weight": Malice()}, protocol=0)):
        file.write_bytes(content)
        with pytest.raises(NetworkError, match=r"holds more than weights|cannot read weights"):
            load_weights(small_network(), file, "small")
    torch.save({"state_dict": Malice()}, file)
    with pytest.raises(NetworkError, match=r"holds more than weights|cannot read weights"):
        load_weights(small_network(), file, "small")
    assert not Path("malice").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(value: float, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = small_network().state_dict()
    state["0.bias"][1] = value
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(NetworkError, match=r"1 of 7 tensors are not finite numbers, e\.g\. '0\.bias'; the training"):
        load_weights(small_network(), tmp_path / "w.safetensors", "small")


def test_weights_of_another_kind_or_a_header_without_end_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save

    state, file = small_network().state_dict(), tmp_path / "w.safetensors"
    whole = save(state)
    for content in (whole[:50], struct.pack("<Q", 2**63) + whole[8:], struct.pack("<Q", 2**20) + whole[8:], b""):
        file.write_bytes(content)
        with pytest.raises(NetworkError, match="cannot read weights from"):
            load_weights(small_network(), file, "small")
    file.write_bytes(save(state | {"0.weight": state["0.weight"].to(torch.int32)}))
    with pytest.raises(NetworkError, match=r"'0\.weight'"):
        load_weights(small_network(), file, "small")


def test_packed_weights_that_grow_are_refused(tmp_path: Path) -> None:
    torch.save(small_network().state_dict(), tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for name in plain.namelist():
            made.writestr(name, plain.read(name) if "data/0" not in name else bytes(10**7))
    with pytest.raises(NetworkError, match="bytes of weights, more than it has"):
        load_weights(small_network(), tmp_path / "w.pth", "small")
