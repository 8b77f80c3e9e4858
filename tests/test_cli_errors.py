"""Everything that users get wrong ends in one clear line and exit code 2, with nothing half-written."""

from __future__ import annotations

import csv
import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.builders import write_competition
from tests.conftest import TINY, Cli, press_ctrl_c_in_fold_2


@pytest.fixture
def copy(data: Path, tmp_path: Path) -> Path:
    """A competition folder that a test may damage."""
    return Path(shutil.copytree(data, tmp_path / "data"))


# a claim without folds, and the file that locks a run: neither is in the way of the next try
LEFT = (
    "precision.json",
    "settings.json",
)


def first_person(root: Path) -> Path:
    return sorted((root / "train" / "images").iterdir())[0]


def edit(file: Path, change: Callable[[list[list[str]]], list[list[str]]]) -> None:
    with file.open(newline="") as stream:
        rows = change(list(csv.reader(stream)))
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def no_age(root: Path) -> None:
    edit(root / "train" / "train.csv", lambda rows: [[*row[:3], row[4]] for row in rows])


def thirty(root: Path) -> None:
    edit(root / "train" / "train.csv", lambda rows: [*rows[:5], [*rows[5][:3], "thirty", rows[5][4]], *rows[6:]])


def listed_twice(root: Path) -> None:
    edit(root / "train" / "train.csv", lambda rows: [*rows, rows[1]])


def second_folder(root: Path) -> None:
    folder = first_person(root)
    shutil.copytree(folder, folder.with_name(folder.name.upper()))


def truncated(root: Path) -> None:
    photo = first_person(root) / "normal.jpg"
    photo.write_bytes(photo.read_bytes()[:300])


def one_id_too_many(root: Path) -> None:
    edit(root / "eval" / "info.csv", lambda rows: [*rows, ["0123.jpg", "0"]])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no data folder": (shutil.rmtree, "no data at"),
    "empty folder": (lambda root: shutil.rmtree(root / "train"), "neither a competition folder"),
    "empty csv": (lambda root: (root / "train" / "train.csv").write_text(""), "train.csv: .*empty"),
    "header only": (lambda root: (root / "train" / "train.csv").write_text("id,gender,race,age,path\n"), "no rows"),
    "no age column": (no_age, "no column 'age'; its columns are: id, gender, race, path"),
    "truncated jpeg": (truncated, "(?i)normal.jpg cannot be read: .*truncated"),
    "text as jpeg": (lambda root: (first_person(root) / "mask1.jpg").write_text("hello"), "mask1.jpg is not an image"),
    "age thirty": (thirty, "age 'thirty' is not a number"),
    "path listed twice": (listed_twice, "twice"),
    "two folders for one path": (second_folder, "goes by the same name as 000001_FEMALE_ASIAN_23; keep one"),
    "folder missing": (lambda root: shutil.rmtree(first_person(root)), "no folder|lists"),
    "one eval id too many": (one_id_too_many, "0123.jpg"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_wrong_data_is_one_line(
    damage: Callable[[Path], object],
    message: str,
    copy: Path,
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.contents.SETTLED", float("inf"))  # on a slow machine, photos would be remembered
    damage(copy)
    code, _, err = cli("train-head", "age", "--data", copy, *TINY, "--artifacts", tmp_path / "a")
    expect_one_line(code, err, message)
    assert not [
        file
        for file in (tmp_path / "a").rglob("*")
        if file.is_file() and file.name not in LEFT and file.suffix != ".lock"
    ]


def expect_one_line(code: int, err: str, message: str) -> None:
    assert code == 2, err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert re.search(message, err), err


MISTAKES: dict[str, tuple[list[str], str]] = {
    "unknown head": (["gendr"], "unknown head 'gendr'; did you mean 'gender'"),
    "heads with commas": (["mask,gender, age"], "separate heads by spaces: mask gender age"),
    "unknown backbone": (["age", "--backbone", "resnet5o"], "unknown backbone 'resnet5o'; did you mean 'resnet50'"),
    "unknown objective": (["age", "--objective", "bin"], "unknown objective 'bin'; age has classes, bins, regression"),
    "objective of another head": (["mask", "--objective", "regression"], "mask has classes"),
    "too many folds": (["age", "--folds", "30"], "18 people cannot fill 30 folds"),
    "class missing from a fold": (["joint", "--folds", "4"], "holds no '.*' of joint .*use --folds 3"),
    "zero epochs": (["age", "--epochs", "0"], "epochs must be from 1 to 100000, got 0"),
    "no such fold": (["age", "--fold", "3"], "--fold 3 does not exist; folds are 0 to 2"),
    "no such device": (["age", "--device", "tpu"], "device must be one of auto, cpu, cuda, mps, got 'tpu'"),
    "no weights file": (["age", "--weights", "none.safetensors"], "no weights file none.safetensors"),
    "name with a slash": (["age", "--name", "../x"], "must be letters, digits"),
    "no settings file": (["age", "--config", "none.toml"], "no settings file none.toml"),
    "no fixes file": (["age", "--fixes", "none.csv"], "none.csv"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_wrong_arguments_are_one_line(arguments: list[str], message: str, data: Path, tmp_path: Path, cli: Cli) -> None:
    head, *flags = arguments
    code, _, err = cli("train-head", head, "--data", data, *TINY, "--artifacts", tmp_path / "a", *flags)
    expect_one_line(code, err, message)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bacth_size = 32", "unknown setting 'bacth_size' in .*; did you mean 'batch_size'"),
        ("epochs = 'three'", "epochs must be a whole number, got 'three'"),
        ("epochs = true", "epochs must be a whole number, got True"),
        ("lr = [", "cannot read settings from"),
        ("objective = 'bins'\nbins = [15, 35, 60, 65]", "lack 30"),
        ("bins = [15, 30, 60, 65]", "bins are set, but no head learns them"),
        ("backbone_args = { colour = 1 }", "cannot be built with"),
    ],
)
def test_wrong_settings_files_are_one_line(text: str, message: str, data: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "settings.toml").write_text(text)
    flags = [flag for flag in TINY if not text.startswith("epochs")] or [*TINY[:6], "--folds", "3"]
    flags += ["--config", str(tmp_path / "settings.toml"), "--artifacts", str(tmp_path / "a")]
    code, _, err = cli("train-head", "age", "--data", data, *flags)
    expect_one_line(code, err, message)
    assert not (tmp_path / "a").exists()


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    from pipeline.config import TrainConfig

    (tmp_path / "settings.toml").write_text("epochs = 7\nlr = 1\n")
    config = TrainConfig.load(tmp_path / "settings.toml", {"epochs": 9, "folds": None})
    assert (config.epochs, config.lr, config.folds) == (9, 1.0, 5)


def test_weights_of_another_network_are_refused(data: Path, tmp_path: Path, cli: Cli) -> None:
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "other.safetensors")
    flags = [*TINY, "--weights", tmp_path / "other.safetensors"]
    code, _, err = cli("train-head", "age", "--data", data, *flags, "--artifacts", tmp_path / "a")
    expect_one_line(code, err, "other.safetensors is not of test_resnet: 0 of .* tensors fit")


def test_weights_that_fit_are_loaded(data: Path, tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    from pipeline.config import TrainConfig
    from pipeline.network import build_network

    state = timm.create_model("test_resnet", num_classes=1000).state_dict()
    save_file(state, tmp_path / "same.safetensors")
    network = build_network(TrainConfig(backbone="test_resnet", weights=str(tmp_path / "same.safetensors")), 3)
    for name, tensor in network.backbone.state_dict().items():
        torch.testing.assert_close(tensor, state[name])


class _Malice:
    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, ("malice", 0o700)


def test_a_pickle_with_code_is_not_opened(
    data: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": _Malice()}, "evil.pth")
    code, _, err = cli("train-head", "age", "--data", data, *TINY, "--weights", "evil.pth", "--artifacts", "a")
    expect_one_line(code, err, "evil.pth holds more than weights")
    assert not Path("malice").exists()


def test_a_full_disk_is_one_line_and_the_finished_fold_is_kept(
    data: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 17:  # in the second fold: its weights
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(handle)

    monkeypatch.setattr("pipeline.contents.SETTLED", float("inf"))  # whether photos are remembered depends on the time
    monkeypatch.setattr("pipeline.files.os.fsync", full)
    code, _, err = cli("train-head", "mask", "--data", data, *TINY, "--precision", "fp32", "--artifacts", tmp_path)
    expect_one_line(code, err, "cannot write .*: the disk is full; free some space and run the same command again")
    assert {file.suffix for file in tmp_path.rglob(".*")} == {".lock"}
    monkeypatch.undo()
    code, out, _ = cli("train-head", "mask", "--data", data, *TINY, "--precision", "fp32", "--artifacts", tmp_path)
    assert code == 0
    assert "folds are there already" in out


@pytest.mark.parametrize("place", ["file", "read-only"])
def test_an_artifacts_folder_that_cannot_be_written_is_one_line(
    place: str, data: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a"
    if place == "file":
        target.write_text("in the way")
    else:  # root writes everywhere, so permission is refused by hand

        def refuse(**_: object) -> tuple[int, str]:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr("pipeline.files.tempfile.mkstemp", refuse)
    code, _, err = cli("train-head", "mask", "--data", data, *TINY, "--artifacts", target)
    expect_one_line(code, err, "choose another folder with --artifacts")


def test_ctrl_c_ends_with_130_and_says_what_is_kept(
    data: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    press_ctrl_c_in_fold_2(monkeypatch)
    code, _, err = cli("train-head", "mask", "--data", data, *TINY, "--artifacts", tmp_path)
    assert code == 130
    assert "stopped; 2 of 3 folds are kept" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs" / "mask" / "run.json").exists()


def test_ctrl_c_before_the_first_epoch_says_that_nothing_is_kept(
    data: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.fold.FoldJob.run", pressed)
    code, _, err = cli("train-head", "mask", "--data", data, *TINY, "--artifacts", tmp_path)
    assert (code, err) == (130, "stopped; nothing was trained yet; the same command begins anew\n")


@pytest.mark.parametrize("part", ["train", "eval"])
def test_one_half_of_the_competition_is_refused_with_the_folder_to_give(part: str, data: Path, cli: Cli) -> None:
    code, _, err = cli("data", "check", data / part)
    expect_one_line(code, err, f"give the folder that holds it: {re.escape(str(data))}")


def test_no_runs_and_unknown_runs_are_one_line(tmp_path: Path, artifacts: Path, cli: Cli) -> None:
    for command in ("ensemble", "oof-report"):
        code, _, err = cli(command, "--artifacts", tmp_path)
        expect_one_line(code, err, "no finished run in .*--artifacts")
    code, _, err = cli("oof-report", "--artifacts", tmp_path / "none")
    expect_one_line(code, err, "there is no folder .*none; .*--artifacts")
    code, _, err = cli("oof-report", "ages", "--artifacts", artifacts)
    expect_one_line(code, err, "run 'ages' does not exist in .*; did you mean 'age'")
    assert cli("runs", "--artifacts", tmp_path)[0] == 0


def test_builders_make_what_check_finds_faultless(tmp_path: Path, cli: Cli) -> None:
    write_competition(tmp_path / "d", people=6)
    assert cli("data", "check", tmp_path / "d")[0] == 0
    (first_person(tmp_path / "d") / "mask1.jpg").write_text("hello")
    assert cli("data", "check", tmp_path / "d")[0] == 1
