"""`pipe ensemble` at its edges: odd flags, hostile files, lists that changed, disks that fill up, a wide story."""

from __future__ import annotations

import csv
import errno
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli

ODD = [
    ["--strategy", "hard", "--weights", "greedy-f1", "--calibration", "isotonic", "--views", "hflip"],
    ["--weights", "stack", "--calibration", "vector", "--joint", "stacker", "--decoder", "class-bias"],
    ["--strategy", "borda", "--weights", "f1", "--view-weights", "learned", "--joint", "train-joint", "--by-mask"],
    ["--joint", "direct", "--prior", "em", "--prior-over", "joint", "--decoder", "plug-in"],
    ["--eval-prior", "age=0.43,0.30,0.27", "--eval-prior", "mask=0.2,0.3,0.5", "--decoder", "head-bias"],
    ["--group-consistent", "--by-mask", "--decoder", "logit-adjust", "--prior", "bbse-hard"],
    ["--run", "joint", "--run", "age"],
]


@pytest.fixture
def copy(artifacts: Path, tmp_path: Path) -> Path:
    """Artifacts that a test may damage."""
    return Path(shutil.copytree(artifacts, tmp_path / "artifacts", ignore=shutil.ignore_patterns("ensembles", "cache")))


@pytest.fixture
def grouped(data: Path, tmp_path: Path) -> Path:
    """The competition's folder, whose eval list says that three photos each show one person."""
    root = Path(shutil.copytree(data, tmp_path / "grouped"))
    add_persons(root / "eval" / "info.csv", lambda row: f"p{row // 3}")
    return root


def add_persons(file: Path, person: Callable[[int], str]) -> None:
    """Add a column ``person`` to an eval list."""
    with file.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([[*header, "person"], *([*row, person(n)] for n, row in enumerate(rows))])


def contents(folder: Path) -> dict[str, bytes]:
    """File name -> bytes."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())} if folder.is_dir() else {}


def refused(cli: Cli, artifacts: Path, *flags: object) -> str:
    """The one line with which a command is refused; it leaves nothing."""
    code, out, err = cli("ensemble", "--artifacts", artifacts, "--name", "refused", *flags)
    assert (code, out) == (2, ""), err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (artifacts / "ensembles" / "refused").exists()
    return err


@pytest.mark.parametrize("flags", [[], *ODD], ids=lambda flags: " ".join(flags) or "none")
def test_an_ensemble_is_made_again_byte_for_byte(flags: list[str], artifacts: Path, grouped: Path, cli: Cli) -> None:
    where, root = ["--artifacts", artifacts], artifacts / "ensembles"
    assert cli("ensemble", *where, "--name", "first", "--data", grouped, *flags)[::2] == (0, "")
    again = root / "first" / "ensemble.json"
    assert cli("ensemble", *where, "--name", "second", "--data", grouped, "--from", again)[::2] == (0, "")
    assert len(contents(root / "first")) == 4
    assert contents(root / "first") == contents(root / "second")


def test_an_ensembles_folder_stands_for_its_file(artifacts: Path, cli: Cli) -> None:
    where, root = ["--artifacts", artifacts, "--run", "joint"], artifacts / "ensembles"
    assert cli("ensemble", *where, "--name", "folder")[0] == 0
    assert cli("ensemble", "--artifacts", artifacts, "--name", "of-folder", "--from", root / "folder")[0] == 0
    assert contents(root / "folder") == contents(root / "of-folder")


def asked(**changed: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda info: info["asked"].update(changed)


def of_heads(**changed: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda info: info["asked"]["heads"].update(changed)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (of_heads(strategy="sft"), "strategy must be one of soft, hard, borda, got 'sft'"),
        (of_heads(weights="best"), "weights must be one of auto, uniform,"),
        (of_heads(calibration="hot"), "calibration must be one of auto, none,"),
        (of_heads(view_weights="some"), "view weights must be one of auto, equal, learned, got 'some'"),
        (of_heads(weights=3), "damaged: asked.heads.weights: Input should be a valid string"),
        (asked(joint="sum"), "joint must be one of auto, product,"),
        (asked(prior="flat"), "prior must be one of auto, none,"),
        (asked(prior_over="all"), "prior over must be one of heads, joint, got 'all'"),
        (asked(decoder="best"), "decoder must be one of auto, argmax,"),
        (asked(by_state="hat"), "there is no head 'hat'; heads are: mask, gender, age"),
        (asked(views=["identity"] * 100), "views names one twice"),  # of a hundred, subsets would fill the memory
        (asked(views=["vflip"]), "views must be one of identity, hflip, got 'vflip'"),
        (asked(views=["../age"]), "damaged: asked.views.0"),
        (asked(given={"hat": [0.5, 0.5]}), "a class mix is given for 'hat'"),
        (asked(given={"age": [1e300] * 3}), "give 3 positive shares that sum to 1"),
        (asked(given={"age": [-0.5, 0.5, 1]}), "give 3 positive shares that sum to 1"),
        (lambda info: info.update(runs={"../age": ""}), "must be letters, digits"),
        (lambda info: info.update(runs={"nobody": ""}), "run 'nobody' does not exist"),
        (lambda info: info.update(runs={}), "damaged: runs"),
        (lambda info: info["runs"].update(joint="0"), "run 'joint' has changed since"),
        (lambda info: info["asked"].pop("decoder"), "damaged: asked.decoder: Field required"),
        (lambda info: info.pop("asked"), "damaged: asked: Field required"),
    ],
)
def test_a_damaged_ensemble_is_not_made_again(
    damage: Callable[[dict[str, Any]], Any], message: str, artifacts: Path, tmp_path: Path, cli: Cli
) -> None:
    if not (artifacts / "ensembles" / "whole").exists():
        assert cli("ensemble", "--artifacts", artifacts, "--run", "joint", "--name", "whole")[0] == 0
    info = json.loads((artifacts / "ensembles" / "whole" / "ensemble.json").read_text())
    damage(info)
    file = tmp_path / "ensemble.json"
    file.write_text(json.dumps(info))
    assert message in refused(cli, artifacts, "--from", file)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["age=0.43,0.30"], "give 3 positive shares that sum to 1"),
        (["age=1,0.5,0.5"], "give 3 positive shares that sum to 1"),
        (["age=-1,1,1"], "give 3 positive shares that sum to 1"),
        (["age=nan,0.5,0.5"], "give 3 positive shares that sum to 1"),
        (["age=inf,0.5,0.5"], "give 3 positive shares that sum to 1"),
        (["age"], "--eval-prior takes a head and its shares"),
        (["age="], "--eval-prior takes a head and its shares"),
        (["hat=0.5,0.5"], "a class mix is given for 'hat'; heads are: mask, gender, age"),
        (["age=0.4,0.3,0.3", "age=0.2,0.2,0.6"], "--eval-prior gives 'age' twice"),
    ],
)
def test_a_mix_that_is_none_is_refused(flags: list[str], message: str, artifacts: Path, cli: Cli) -> None:
    assert message in refused(
        cli, artifacts, "--run", "joint", *(part for flag in flags for part in ("--eval-prior", flag))
    )


@pytest.mark.parametrize(
    "mix",
    [
        {"photos": [0.5, 0.3, 0.2], "trained": [0, 0, 0]},
        {"photos": [0, 0, 0], "trained": [0.5, 0.3, 0.2]},
        {"photos": [1, 0, 0], "trained": [0, 0.5, 0.5]},
        {"photos": [1, 1, 1], "trained": [0.2, 0.4, 0.4]},
        {"photos": [0.5, 0.5], "trained": [0.5, 0.5]},
    ],
)
def test_a_run_whose_mix_is_none_is_named(mix: dict[str, list[float]], copy: Path, cli: Cli) -> None:
    file = copy / "runs" / "age" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"mix": {"age": mix}}))
    assert "age/run.json is damaged: the mix of 'age' is n" in refused(cli, copy)


def test_whole_numbers_are_a_mix_too(copy: Path, cli: Cli) -> None:
    file = copy / "runs" / "age" / "run.json"
    mix = {"age": {"photos": [1, 0, 0], "trained": [0.5, 0.25, 0.25]}}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"mix": mix}))
    flags = [flag for run in ("mask", "gender", "age") for flag in ("--run", run)]
    assert cli("ensemble", "--artifacts", copy, "--json", *flags, "--prior", "none", "--decoder", "argmax")[::2] == (
        0,
        "",
    )
    with (copy / "ensembles" / "latest" / "submission.csv").open(newline="") as stream:
        assert {int(row[1]) % 3 for row in list(csv.reader(stream))[1:]} == {0}


def test_people_who_are_not_told_are_not_guessed(artifacts: Path, grouped: Path, tmp_path: Path, cli: Cli) -> None:
    assert "nobody is guessed; leave --group-consistent out" in refused(cli, artifacts, "--group-consistent")
    info = grouped / "eval" / "info.csv"
    whole = info.read_text()
    info.write_text(whole.replace(",p1", ",", 1))
    assert "has no person; fill the column" in refused(cli, artifacts, "--group-consistent", "--data", grouped)
    lines = whole.splitlines()
    info.write_text("\n".join(lines[:-1]))  # the list lost a photo that the runs predicted
    message = "who is on 1 of 6 photos to predict is not known"
    assert message in refused(cli, artifacts, "--group-consistent", "--data", grouped)


def test_other_photos_in_one_heads_file_are_refused(copy: Path, artifacts: Path, cli: Cli) -> None:
    import numpy as np

    for view in ("identity", "hflip"):
        file = copy / "runs" / "gender" / f"gender.test.{view}.npz"
        with np.load(file) as kept:
            arrays = dict(kept)
        arrays["ids"] = np.asarray([f"other{number}" for number in range(len(arrays["ids"]))])
        np.savez(file, **arrays)
    flags = [flag for run in ("mask", "gender", "age") for flag in ("--run", run)]
    assert "6 of 6 samples of one head are missing in another" in refused(cli, copy, *flags)


FAULTS: dict[str, BaseException] = {
    "full": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "stopped": KeyboardInterrupt(),
}


@pytest.mark.parametrize("fault", ["full", pytest.param("stopped", marks=pytest.mark.slow)])
def test_a_fault_at_any_write_leaves_the_former_ensemble_or_the_new(
    fault: str, artifacts: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = artifacts / "ensembles"
    command = ["ensemble", "--artifacts", artifacts, "--run", "joint", "--name", fault]
    cli(*command, "--strategy", "hard")
    new = contents(root / fault)
    cli(*command)
    former = contents(root / fault)
    assert former != new
    seen = set()
    for step in random.Random(0).sample(range(1, 30), 5):
        with monkeypatch.context() as patch:
            fail_at(patch, step, FAULTS[fault])
            code, _, err = cli(*command, "--strategy", "hard")
        assert code in (0, 2, 130), err
        assert err.count("\n") == (code != 0)
        found = contents(root / fault)
        assert found in (former, new)
        seen.add(code)
        left = [file.name for file in root.iterdir() if file.name.startswith(f".{fault}.") and file.suffix != ".lock"]
        assert left == []
        if found == new:
            cli(*command)
    assert seen & {2, 130}


def fail_at(patch: pytest.MonkeyPatch, step: int, error: BaseException) -> None:
    """Let the ``step``-th of the steps of writing fail."""
    done = 0

    def failing(honest: Callable[..., object]) -> Callable[..., object]:
        def step_of_writing(*args: object, **kwargs: object) -> object:
            nonlocal done
            done += 1
            if done == step:
                raise error
            return honest(*args, **kwargs)

        return step_of_writing

    for place in ("fsync", "replace", "fdopen"):
        patch.setattr(f"pipeline.files.os.{place}", failing(getattr(os, place)))
    patch.setattr(Path, "rename", failing(Path.rename))
    patch.setattr(Path, "mkdir", failing(Path.mkdir))


def test_what_a_killed_command_moved_away_comes_back(artifacts: Path, cli: Cli) -> None:
    root = artifacts / "ensembles"
    command = ["ensemble", "--artifacts", artifacts, "--run", "joint", "--name", "moved"]
    assert cli(*command)[0] == 0
    former = contents(root / "moved")
    (root / "moved").rename(root / ".moved.old")  # killed between the two renames
    (root / ".moved.new").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, 6, OSError(errno.ENOSPC, "full"))
        assert cli(*command, "--strategy", "hard")[0] == 2
    assert contents(root / "moved") == former


@pytest.mark.slow
def test_the_story_of_many_members_with_long_names_fits_80_columns(copy: Path, cli: Cli) -> None:
    for number in range(14):
        run = copy / "runs" / f"a-very-long-name-of-a-run-of-both-mask-and-age-{number:050}"
        shutil.copytree(copy / "runs" / "mask+age-classes", run)
    for flags in (
        [],
        ["--weights", "stack"],
        ["--calibration", "bias-corrected", "--joint", "train-joint", "--by-mask"],
    ):
        code, out, _ = cli("ensemble", "--artifacts", copy, *flags)
        assert code == 0
        wide = [line for line in out.splitlines() if len(line) > 80 and str(copy) not in line]
        assert wide == []
    assert "with less effect (see ensemble.json)" in out


def test_the_story_of_many_photos_fits_80_columns(artifacts: Path, cli: Cli) -> None:
    from pipeline.report.story import render

    flags = ["--strategy", "hard", "--eval-prior", "age=0.43,0.30,0.27"]
    info = json.loads(cli("ensemble", "--artifacts", artifacts, "--name", "many", "--json", *flags)[1])
    for head in info["heads"].values():
        head["ties"] = {"oof": 12345, "test": 12345}
    far = "the head tells the classes apart too badly: the estimate is off by 100 % of the photos"
    none = [1 / 18] * 18
    info["prior"]["shifts"]["joint"] = {"train": none, "estimate": none, "interval_95": [], "used": none, "reason": far}
    info["submission_rows"] = 123456
    for score in ("cross_fitted", "as_trained", "in_sample"):
        info[score]["photos"] = 123456
    story = render(info, Path("short"))
    assert "ties 12345" in story
    assert [line for line in story.splitlines() if len(line) > 80] == []
