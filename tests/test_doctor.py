"""The doctor: laws over all its checks, and what it says of settings, data, weights and earlier runs."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import TrainConfig
from pipeline.doctor import examination, folders, training
from pipeline.doctor.case import Case, Check
from pipeline.doctor.examination import CHECKS, examine, verdict
from pipeline.errors import NetworkError
from pipeline.findings import WIDTH, Finding, render
from pipeline.hub import cached_weights
from pipeline.network import build_network
from pipeline.plan import SHARED_MEMORY
from tests.builders import write_csv
from tests.conftest import TINY, Cli, train

SMALL = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "folds": 3, "device": "cpu"}
FLAGS = [*TINY[:6], "--folds", "3", "--device", "cpu"]
EVERY = [check for checks in CHECKS.values() for check in checks]


def case(data: Path | None, artifacts: Path, **settings: object) -> Case:
    return Case(TrainConfig.load(None, SMALL | settings), data, artifacts)


def found(check: Check, of: Case) -> tuple[str, str, str]:
    """Status, text and fix of the only finding."""
    (finding,) = check(of)
    return finding.status, finding.text, finding.fix


def everything(root: Path) -> set[Path]:
    return set(root.rglob("*"))


# situations -> arguments, and what is told of each; DATA is a faultless folder, HERE an empty one
SITUATIONS: dict[str, tuple[list[str], int, str]] = {
    "all well": (["--data", "DATA"], 0, "ready to train"),
    "no data, none asked for": ([], 0, "data: not checked"),
    "no data there": (["--data", "HERE/none"], 1, "no data at"),
    "not data": (["--data", "HERE"], 1, "neither a competition folder"),
    "unknown backbone": (["--backbone", "test_resnt"], 1, "unknown backbone 'test_resnt'"),
    "no weights in timm": (["--backbone", "botnet50ts_256", "--weights", "imagenet"], 1, "has no imagenet weights"),
    "unknown tag": (["--backbone", "test_resnet.x", "--weights", "imagenet"], 1, "Invalid pretrained tag"),
    "no weights file": (["--weights", "HERE/none.safetensors"], 1, "no weights file"),
    "photos too small": (["--backbone", "vit_tiny_patch16_224"], 1, "does not take photos of 32 px"),
    "too many workers": (["--workers", "256", "--image-size", "64"], 0, "shared memory: 256 workers"),
    "a file in the way": (["--artifacts", "DATA/train/train.csv"], 1, "is no folder"),
    "a file on the way": (["--artifacts", "DATA/train/train.csv/a"], 1, "is no folder"),
    "more folds than people": (["--data", "DATA", "--folds", "30"], 1, "18 people cannot fill 30 folds"),
}


@pytest.fixture(params=[*SITUATIONS.values()], ids=[*SITUATIONS])
def situation(
    request: pytest.FixtureRequest, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], int, str]:
    """One situation, its places filled in, on a machine whose shared memory is small."""
    arguments, code, message = request.param
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    usage = shutil.disk_usage(here)
    free = {SHARED_MEMORY: 64 * 2**20}
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage._replace(free=free.get(place, 2**40)))
    filled = [each.replace("HERE", str(here)).replace("DATA", str(data)) for each in arguments]
    return [*FLAGS, *filled], code, message


def test_every_situation_is_told_in_80_columns_with_its_fix_and_leaves_nothing(
    situation: tuple[list[str], int, str], data: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, expected, message = situation
    before = everything(tmp_path) | everything(data)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the doctor goes to the network"))
    code, out, err = cli("doctor", *arguments)
    assert (code, err) == (expected, "")
    assert message in " ".join(out.split())
    assert all(len(line) <= WIDTH for line in out.splitlines())
    last = out.splitlines()[-1]
    assert last.startswith("ready to train" if code == 0 else f"{out.count('  FAIL  ')} thing")
    assert everything(tmp_path) | everything(data) == before

    code, out, err = cli("doctor", "--json", *arguments)
    told = json.loads(out)
    assert code == expected == (1 if told["errors"] else 0)
    assert told["ok"] is (code == 0)
    assert told["errors"] == sum(each["status"] == "error" for each in told["findings"])
    for each in told["findings"]:
        assert each["status"] in ("ok", "warning", "error")
        assert bool(each["fix"]) is (each["status"] != "ok"), each


@pytest.mark.parametrize("reason", [RuntimeError("a\n\x1b[31m" + "b" * 500), ImportError(), OSError(5, "I/O error")])
@pytest.mark.parametrize("check", EVERY, ids=lambda check: check.__name__)
def test_a_check_that_raises_is_a_finding(
    check: Check, reason: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Case) -> Iterator[Finding]:
        raise reason
        yield

    broken.__name__ = check.__name__
    monkeypatch.setattr(examination, "CHECKS", {"environment": (), "machine": (broken,)})
    told = examine(case(None, tmp_path))
    (finding,) = told.groups["machine"]
    assert finding.status == "error"
    assert finding.fix.startswith("install this program" if isinstance(reason, ImportError) else "try `pipe train-head")
    assert check.__name__.replace("_", " ") in finding.text
    assert not told.ok
    text = render(told, verdict(told))
    assert "\x1b" not in text
    assert all(len(line) <= WIDTH for line in text.splitlines())


def test_what_fails_because_of_a_broken_environment_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Case) -> Iterator[Finding]:
        yield Finding("error", "torch is broken", "mend it")

    def victim(_: Case) -> Iterator[Finding]:
        raise ImportError("torch")
        yield

    monkeypatch.setattr(examination, "CHECKS", {"environment": (broken, victim), "machine": (victim, victim)})
    told = examine(case(None, tmp_path))
    assert [finding.status for finding in told.groups["environment"]] == ["error", "warning"]
    assert told.groups["environment"][1].text.endswith("victim, victim, victim")
    assert "machine" not in told.groups


def test_wrong_settings_are_one_line_as_in_a_training(cli: Cli) -> None:
    code, _, err = cli("doctor", "--device", "tpu")
    assert (code, err.count("\n")) == (2, 1)
    assert "device must be one of auto, cpu, cuda, mps, got 'tpu'" in err


# the training


def test_a_class_that_a_fold_lacks_is_told_of_its_head_alone(tmp_path: Path) -> None:
    rows = [(f"{n}.png", f"p{n}", "wear" if n % 2 else "normal", "male" if n % 4 < 2 else "female") for n in range(12)]
    write_csv(tmp_path / "photos.csv", ("path", "person", "mask", "gender"), rows)
    for name, *_ in rows:
        (tmp_path / name).write_bytes(b"x")
    of = case(tmp_path, tmp_path / "a")
    assert [finding.status for finding in training.data(of)] == ["ok"]
    wrong, right = training.folds(of)
    assert (wrong.status, right.status) == ("error", "ok")
    assert wrong.text == "no photo has class 'incorrect' of mask"
    assert right.text == "folds: 3, each with all classes of gender; no labels for age"


def test_a_photo_that_cannot_be_opened_is_told(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "x.jpg")

    of = case(data, tmp_path)
    assert of.dataset
    monkeypatch.setattr(Path, "open", refuse)
    status, text, _ = found(training.data, of)
    assert (status, text) == ("error", "data: cannot read x.jpg: Permission denied")


def test_weights_of_a_file_are_fitted_to_the_backbone(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    file = tmp_path / "w.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), file)
    assert found(training.network, case(None, tmp_path, weights=str(file)))[0] == "ok"
    status, text, fix = found(training.network, case(None, tmp_path, weights=str(file), backbone="test_efficientnet"))
    assert status == "error"
    assert "is not of test_efficientnet" in text
    assert fix == "give the --backbone that the file was made for"


def test_a_network_larger_than_memory_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "usable_memory", lambda: 2**20)
    monkeypatch.setattr("pipeline.network.try_network", lambda *_: pytest.fail("was built"))
    assert found(training.network, case(None, tmp_path))[0] == "error"


def test_a_network_that_takes_minutes_to_build_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "LARGE", 1000)
    monkeypatch.setattr("pipeline.network.try_network", lambda *_: pytest.fail("was built"))
    status, text, fix = found(training.network, case(None, tmp_path))
    assert (status, "takes minutes" in text, "--dry-run" in fix) == ("warning", True, True)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return tmp_path / "hub"


def test_imagenet_weights_are_looked_for_where_timm_keeps_them(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = case(None, tmp_path, weights="imagenet")
    status, text, fix = found(training.weights, of)
    assert (status, "will be downloaded" in text, "--weights FILE" in fix) == ("warning", True, True)
    assert f"({of.parameters:,} parameters)" in text

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    status, text, _ = found(training.weights, of)
    assert (status, "HF_HUB_OFFLINE" in text) == ("error", True)

    repository = hub / "models--timm--test_resnet.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "snapshots" / "abc" / "model.safetensors").write_bytes(b"x")
    assert found(training.weights, of)[0] == "ok"


def test_without_a_connection_imagenet_weights_are_refused_at_once(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def nowhere(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(NetworkError, match=r"not on this machine, and .* cannot be found from here; .*--weights FILE"):
        build_network(TrainConfig.load(None, SMALL | {"weights": "imagenet"}), 3)
    assert len(asked) == 1  # no retries


def test_a_cache_that_cannot_be_written_is_told(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.doctor.training.os.access", lambda *_: False)
    status, text, fix = found(training.weights, case(None, tmp_path, weights="imagenet"))
    assert (status, fix) == ("error", "set HF_HOME to a folder that can be written")
    assert "cannot be kept in" in text


def test_weights_from_an_address_are_looked_for_in_torchs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    source: Any = timm.get_pretrained_cfg("gcvit_base")
    assert not source.hf_hub_id
    at_hand, folder = cached_weights(source)
    assert (at_hand, folder) == (False, tmp_path / "checkpoints")
    folder.mkdir()
    (folder / source.url.rsplit("/", 1)[1]).write_bytes(b"x")
    assert cached_weights(source) == (True, folder)


# the folder of artifacts


@pytest.mark.parametrize(
    ("call", "expected", "message"),
    [
        ("os.fsync", "error", "files cannot be written in"),
        ("os.replace", "error", "files cannot be written in"),
        ("tempfile.mkstemp", "error", "files cannot be written in"),
        ("fcntl.lockf", "warning", "files cannot be locked in"),
    ],
)
def test_a_disk_that_refuses_is_told_and_nothing_stays(
    call: str, expected: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(call, refuse)
    status, text, fix = found(folders.writable, case(None, tmp_path / "new" / "a"))
    assert (status, text.startswith(message), "--artifacts" in fix) == (expected, True, True)
    assert f"{tmp_path}, where" in text
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_writes_is_foreseen(data: Path, tmp_path: Path) -> None:
    of = case(data, tmp_path / "artifacts")
    foreseen = folders.to_write(of)
    run = train(data, tmp_path / "artifacts", "mask")
    photos = sum(file.stat().st_size for file in (tmp_path / "artifacts" / "cache").iterdir())
    assert foreseen["resized photos"] == pytest.approx(photos, rel=0.01)
    weights = sum(file.stat().st_size for file in run.glob("*.safetensors"))
    assert foreseen["weights"] == pytest.approx(weights, rel=0.1)
    assert folders.to_write(of)["resized photos"] == 0


def test_a_disk_that_is_too_small_is_told_with_both_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=3 * 2**20))
    status, text, _ = found(folders.disk, case(None, tmp_path))
    assert (status, text.endswith("3.0 MiB are free")) == ("error", True)
    assert text.startswith("disk: a run writes about 17.")  # (3 folds + 3 checkpoints of 3) x 4 bytes a parameter


def test_earlier_runs_are_told_damaged_ones_too(artifacts: Path, tmp_path: Path) -> None:
    assert found(folders.runs, case(None, tmp_path))[1] == "runs: none yet"
    root = Path(shutil.copytree(artifacts, tmp_path / "artifacts"))
    (root / "runs" / "mask" / "run.json").unlink()
    (root / "runs" / "age" / "run.json").unlink()
    (root / "runs" / "age" / "settings.json").write_text("{")
    told = list(folders.runs(case(None, root)))
    assert [finding.status for finding in told] == ["ok", "warning", "ok"]
    assert told[0].text == "runs: 4 finished, 2 begun"
    assert told[1].text.startswith("run 'age' is damaged")
    assert told[2].text == "run 'mask': 0 of 3 folds are there; the same command goes on"
