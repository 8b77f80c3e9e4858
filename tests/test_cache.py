"""The cache of resized photos: found by content alone, checked, bounded, and never taken from under a training."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.cache import PhotoCache, cache_of
from pipeline.cache_list import listing, shrunk
from pipeline.config import TrainConfig
from pipeline.contents import content_digest
from pipeline.entries import Pixels, entries
from pipeline.errors import ArtifactError, LayoutError
from pipeline.images import read_resized
from tests.builders import write_competition, write_picture
from tests.conftest import Cli, train

SIZE = 16
ENTRY = 6 * SIZE * SIZE * 3 + 128 + 400  # bytes, at most: six photos, a header, facts


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / "photos" / f"{number}.png" for number in range(6)]
    for path in paths:
        write_picture(path, rng)
    return paths


def cached(folder: Path, paths: list[Path], *, size: int = SIZE, limit: int = 2**30) -> Pixels:
    cache = PhotoCache(folder, limit)
    with cache.opened(paths, cache.content(paths), size, "reading") as kept:
        return np.array(kept.open())


def flip(file: Path, place: int) -> None:
    """Change one bit of a file and keep its size and the times that can be set."""
    about, content = file.stat(), bytearray(file.read_bytes())
    content[place % len(content)] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(photo=st.integers(0, 5), place=st.integers(0, 10**6))
def test_any_changed_byte_is_seen_though_size_and_time_are_kept(
    photos: list[Path], tmp_path: Path, photo: int, place: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.contents.SETTLED", -60.0)  # remember at once
        before = content_digest(photos, tmp_path / "memory")
        assert content_digest(photos, tmp_path / "memory") == before == content_digest(photos, None)
        flip(photos[photo], place)
        assert content_digest(photos, tmp_path / "memory") != before
        flip(photos[photo], place)
        assert content_digest(photos, tmp_path / "memory") == before


def test_unchanged_photos_are_not_read_a_second_time(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.contents.SETTLED", -60.0)
    before = content_digest(photos, tmp_path / "memory")
    monkeypatch.setattr("pipeline.contents._digests", lambda paths: pytest.fail("they were read"))
    assert content_digest(photos, tmp_path / "memory") == before


def test_what_changed_a_moment_ago_is_not_remembered(photos: list[Path], tmp_path: Path) -> None:
    content_digest(photos, tmp_path / "memory")
    assert not (tmp_path / "memory").exists()


def test_the_cache_holds_what_reading_gives_and_other_paths_share_it(photos: list[Path], tmp_path: Path) -> None:
    expected = np.stack([read_resized(path, SIZE) for path in photos])
    np.testing.assert_array_equal(cached(tmp_path / "cache", photos), expected)
    copies = [Path(shutil.copy(path, tmp_path / f"copy{path.name}")) for path in photos]
    np.testing.assert_array_equal(cached(tmp_path / "cache", copies), expected)
    assert len(entries(tmp_path / "cache")) == 1
    np.testing.assert_array_equal(cached(tmp_path / "cache", photos[::-1]), expected[::-1])
    cached(tmp_path / "cache", photos, size=SIZE + 1)
    assert cached(tmp_path / "cache", []).shape == (0, SIZE, SIZE, 3)
    assert len(entries(tmp_path / "cache")) == 4


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "flipped pixel": lambda array, facts: flip(array, -1),
    "cut": lambda array, facts: array.write_bytes(array.read_bytes()[:-1]),
    "no facts": lambda array, facts: facts.unlink(),
    "damaged facts": lambda array, facts: facts.write_text("{"),
    "facts of another": lambda array, facts: facts.write_text(facts.read_text().replace('"sha256": "', '"sha256": "0')),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_told_and_built_anew(
    damage: str, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = cached(tmp_path / "cache", photos)
    assert capsys.readouterr().out == ""
    (entry,) = entries(tmp_path / "cache")
    DAMAGES[damage](entry.array, entry.facts_file)
    np.testing.assert_array_equal(cached(tmp_path / "cache", photos), expected)
    told = capsys.readouterr().out
    assert told.endswith("; the photos are read again\n")
    assert told.count("\n") == 1
    assert entry.fault(expected.shape) == ""


def test_a_photo_that_changes_while_it_is_read_leaves_nothing(photos: list[Path], tmp_path: Path) -> None:
    cache = PhotoCache(tmp_path / "cache", 2**30)
    content = cache.content(photos)
    write_picture(photos[3], np.random.default_rng(1))
    with pytest.raises(LayoutError, match="a photo was changed"), cache.opened(photos, content, SIZE, "reading"):
        pytest.fail("it was opened")
    assert [file.name for file in cache.folder.iterdir() if file.suffix != ".lock"] == []


@pytest.mark.parametrize(
    "harm", [lambda file: file.unlink(), lambda file: file.write_bytes(b"")], ids=["gone", "empty"]
)
def test_a_photo_that_cannot_be_read_is_named(harm: object, photos: list[Path], tmp_path: Path) -> None:
    harm(photos[2])  # type: ignore[operator]
    with pytest.raises(LayoutError, match=r"photos/2\.png"):
        cached(tmp_path / "cache", photos)


@pytest.mark.slow
def test_two_that_build_at_once_give_one_entry(photos: list[Path], tmp_path: Path) -> None:
    code = f"""
import pathlib
from tests.test_cache import cached
print(int(cached(pathlib.Path({str(tmp_path / "cache")!r}),
    [pathlib.Path({str(photos[0].parent)!r}) / f"{{n}}.png" for n in range(6)]).sum()))
"""
    with ThreadPoolExecutor(2) as pool:
        run = lambda _: subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: E731
        sums = {done.stdout.split()[-1] for done in pool.map(run, range(2))}
    assert sums == {str(int(np.stack([read_resized(path, SIZE) for path in photos]).sum()))}
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


@contextmanager
def held_elsewhere(entry_lock: Path) -> Iterator[None]:
    """Let another process use an entry."""
    code = f"""
import pathlib, sys
from pipeline.locks import in_use
with in_use(pathlib.Path({str(entry_lock)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "held\n"
        yield
        process.stdin.close()


def test_the_least_recently_used_goes_and_never_one_in_use(
    photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], cli: Cli
) -> None:
    folder = tmp_path / "cache"
    lists = [photos, photos[::-1], photos[1:] + photos[:1], photos[2:] + photos[:2]]
    for age, paths in enumerate(lists[:3]):
        cached(folder, paths)
        (newest,) = (entry for entry in entries(folder) if entry.last_used > 10**6)
        for file in (newest.lock, newest.facts_file):
            os.utime(file, (age, age))
    first, second, third = entries(folder)
    with held_elsewhere(first.lock):
        os.utime(first.lock, (0, 0))  # in use, though long ago
        cached(folder, lists[3], limit=3 * ENTRY)
        assert [entry.array.exists() for entry in (first, second, third)] == [True, False, True]
        assert "6 photos of 16 px" in capsys.readouterr().out
        rows = {row["file"]: row["in_use"] for row in listing(folder)["entries"]}
        assert [rows[str(first.array)], rows[str(third.array)]] == [True, False]
        shrunk(folder, 0)
        assert [entry.key for entry in entries(folder)] == [first.key]
    (folder / f".{'0' * 32}.npy.killed").write_bytes(b"x")
    code, out, _ = cli("cache", "--clear", "--cache", folder)
    assert (code, "no resized photos are kept" in out) == (0, True)
    assert [file.name for file in folder.iterdir() if file.name != ".reading.lock"] == []


def test_more_than_the_limit_is_built_and_said(
    photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(cached(tmp_path / "cache", photos, limit=0)) == 6
    assert "beyond its limit of 0.0 MiB (--cache-gib)" in capsys.readouterr().out


def test_off_leaves_nothing_behind(photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with cache_of(TrainConfig(cache="off"), tmp_path / "a") as cache:
        with cache.opened(photos, cache.content(photos), SIZE, "reading") as kept:
            assert kept.open().shape == (6, SIZE, SIZE, 3)
        assert list((tmp_path / "tmp").iterdir()) == [cache.folder]
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "a").exists()


def test_no_room_and_no_folder_are_one_line(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot write"):
        cached(tmp_path / "file" / "cache", photos)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(ArtifactError, match=r"the resized photos need .* --cache DIR"):
        cached(tmp_path / "cache", photos)


def test_a_run_is_bound_to_its_photos_and_verify_tells(tmp_path: Path, cli: Cli) -> None:
    data, artifacts = tmp_path / "data", tmp_path / "a"
    write_competition(data, people=12, eval_photos=2)
    run = train(data, artifacts, "mask", folds=2)
    told = json.loads((run / "run.json").read_text())["photo_bytes"]
    assert told.keys() == {"train", "eval"}
    (photo, _) = sorted((data / "eval" / "images").iterdir())
    flip(photo, -3)
    with pytest.raises(ArtifactError, match=r"photo_bytes\.eval was .*, is .*--fresh"):
        train(data, artifacts, "mask", folds=2)
    assert len(list((artifacts / "cache").glob("*.npy"))) == 2, "refused before it is built"
    code, out, _ = cli("verify", "--artifacts", artifacts)
    assert (code, "eval photos at" in out, "networks not checked" in out) == (0, True, True)
    flip(photo, -3)
    info = json.loads((run / "run.json").read_text())
    del info["photo_bytes"]  # as earlier versions wrote it
    (run / "run.json").write_text(json.dumps(info))
    assert "predicted again" in cli("verify", "--artifacts", artifacts)[1]
    listed = json.loads(cli("cache", "--json", "--artifacts", artifacts)[1])
    assert sorted(row["photos"] for row in listed["entries"]) == [2, 84]
