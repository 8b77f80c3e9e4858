"""Tables, settings, links and pictures of strangers: nothing outside the folder is read, nothing fills the memory."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.valid import write_data
from heads.base import HeadError
from heads.cuts import increasing
from pipeline.check import check_data
from pipeline.competition import template
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError, LayoutError, NetworkError
from pipeline.fixes import read_fixes
from pipeline.images import read_photo
from pipeline.inside import kept_inside
from pipeline.layouts import LAYOUTS, load_dataset
from pipeline.network import load_weights
from pipeline.opening import MOST_PIXELS
from pipeline.tables import read_table
from tests.builders import claiming, write_competition, write_picture, write_table
from tests.conftest import Cli

FIRST = "train/images/000001_female_Asian_23"
RNG = np.random.default_rng(0)

STRANGE_TABLES: dict[str, tuple[bytes, str]] = {
    "NUL": (b"a,b\n1,x\0y\n", "line 2 holds a NUL byte"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), "cannot be read as a CSV in UTF-8"),
    "quote not closed": (b'a,b\n1,"2\n3,4\n', "cannot be read as a CSV .*unexpected end of data"),
    "quote not closed, long": (b'a,b\n1,"' + b"2,3\n" * 500 + b'",1\n', "cell of 2,000 characters; .*is a quote not"),
    "giant cell": (b"a,b\n1," + b"x" * 1_001 + b"\n", "line 2 has a cell of 1,001 characters"),
    "cell beyond the csv module": (b"a,b\n1," + b"x" * 200_000 + b"\n", "field larger than field limit"),
    "a million columns": (b"a," * 10**6 + b"\n1\n", "has 1,000,001 columns; a table of photos has at most 1,000"),
    "a million rows": (b"1\n" * 1_000_002, "line 1,000,002 is beyond 1,000,000 rows"),
    "long header": (",".join(f"c{k}" for k in range(900)).encode(), r"columns are: c0, .*, c9, \.\.\. \(900 in all\)$"),
    "memory": (b"wanted\n" + b"x" * 1_000 + b"\n" + b"1\n" * 400_000, "takes 1 GiB in memory; shorten its longest"),
    "ragged": (b"wanted,b\n1,2\n1,2,3\n", "line 3 has 3 cells, the header has 2"),
}


LARGE = ("a million rows", "memory")  # take seconds each


@pytest.mark.parametrize(
    ("content", "message"),
    [pytest.param(*case, marks=pytest.mark.slow if name in LARGE else ()) for name, case in STRANGE_TABLES.items()],
    ids=STRANGE_TABLES,
)
def test_a_strange_table_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(LayoutError, match=f"t.csv: .*{message}") as caught:
        read_table(tmp_path / "t.csv", ["wanted"])
    assert len(str(caught.value)) < 500


def test_a_table_that_excel_saved_is_read(tmp_path: Path) -> None:
    content = '\ufeffpath,column,value\r\n"a, b",note,"two\r\nlines ""quoted"""\r\n é ,x,\r\n'
    (tmp_path / "t.csv").write_bytes(content.encode())
    found = [(fix.path, fix.value) for fix in read_fixes(tmp_path / "t.csv")]
    assert found == [("a, b", 'two\r\nlines "quoted"'), ("é", "")]


def test_a_table_without_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(LayoutError, match="not an ordinary file"):
        read_table(tmp_path / "t.csv")
    with pytest.raises(LayoutError, match="File name too long"):
        read_table(tmp_path / ("x" * 300))


def test_a_photo_whose_name_no_disk_can_hold_is_not_there(tmp_path: Path) -> None:
    write_table(tmp_path, people=1)
    (tmp_path / "labels.csv").write_text(f"path,person,mask\n{'x' * 900}.png,p,wear\n")
    with pytest.raises(LayoutError, match=r"listed in labels\.csv, but neither here nor in images"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("option", ["--data", "--config", "--fixes", "--weights"])
def test_a_name_that_is_too_long_is_one_line(option: str, data: Path, tmp_path: Path, cli: Cli) -> None:
    rest = [] if option == "--data" else ["--data", data]
    code, _, err = cli("train-head", "mask", *rest, option, "x" * 5_000, "--artifacts", tmp_path / "a")
    assert (code, err.count("\n")) == (2, 1)
    assert len(err) < 2_100


STRANGE_SETTINGS = {
    "nan in mean": ("mean = [nan, 0.5, 0.5]", "mean must be three numbers"),
    "inf in std": ("std = [0.5, inf, 0.5]", "std must be three numbers above 0"),
    "nan in bins": ("bins = [1, nan, 60]", "bins must be a list of up to 1000 finite numbers"),
    "infinite lr": ("lr = inf", "lr must be above 0"),
    "integer beyond floats": ("lr = 1" + "0" * 400, "lr must be above 0"),
    "integer beyond messages": ("epochs = 0x" + "f" * 6_000, "cannot read settings"),
    "integer beyond Python": ("epochs = " + "9" * 5_000, "cannot read settings"),
    "deep": ("bins = " + "[" * 100_000, "cannot read settings"),
    "NUL in a path": ('fixes = "a\\u0000b"', "fixes must be the path of a file"),
    "epochs without end": ("epochs = 1000000000000", "epochs must be from 1 to 100000"),
    "date": ("backbone_args = {a = 2020-01-01}", "backbone_args must be text, finite numbers"),
    "nan in arguments": ("backbone_args = {a = nan}", "backbone_args must be text, finite numbers"),
    "weights by another door": ('backbone_args = {checkpoint_path = "evil.pth"}', "no source of weights"),
}


@pytest.mark.parametrize(("text", "message"), STRANGE_SETTINGS.values(), ids=STRANGE_SETTINGS)
def test_strange_settings_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        TrainConfig.load(tmp_path / "s.toml")


@pytest.mark.parametrize("content", [b"note = '\xff'", b"folds = 5\0", "folds = 5".encode("utf-16")])
def test_settings_that_are_no_text_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_bytes(content)
    with pytest.raises(ConfigError, match="cannot read settings"):
        TrainConfig.load(tmp_path / "s.toml")


@pytest.mark.parametrize("edges", [(1, float("nan"), 60), (float("-inf"), 30, 60), (30, float("inf"))])
def test_bins_are_finite(edges: tuple[float, ...]) -> None:
    with pytest.raises(HeadError, match="increase, all finite"):
        increasing(edges)


def elsewhere(root: Path, name: str) -> None:
    """Move something out of the data folder and leave a link to it."""
    target = root.with_name("outside") / name
    target.parent.mkdir(parents=True, exist_ok=True)
    (root / name).rename(target)
    (root / name).symlink_to(target)


LINKS = [
    ("competition", f"{FIRST}/mask1.jpg"),
    ("competition", FIRST),
    ("competition", "train/images"),
    ("competition", "train"),
    ("competition", "eval/images"),
    ("competition", "eval/images/eval.jpg"),
    ("competition", "train/train.csv"),
    ("competition", "eval/info.csv"),
    ("table", "images"),
    ("table", "images/p00_wear.png"),
    ("table", "labels.csv"),
]
BUILDERS: dict[str, Callable[[Path], None]] = {
    "competition": lambda root: write_competition(root, people=2, eval_photos=2),
    "table": lambda root: write_table(root, people=2),
}


@pytest.mark.parametrize(("layout", "name"), LINKS)
def test_a_link_out_of_the_folder_is_refused_and_reported_once(layout: str, name: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    BUILDERS[layout](root)
    if name.endswith("eval.jpg"):
        write_picture(root / name, RNG)
        (root / "eval" / "info.csv").write_text("ImageID,ans\neval.jpg,0\n")
    elsewhere(root, name)
    with pytest.raises(LayoutError, match=rf"{name}: is a link to .*/outside/{name}, outside .*/data; move the files"):
        load_dataset(root)
    problems = [problem for problem in check_data(root).problems if "is a link to" in problem.message]
    assert [problem.file for problem in problems if problem.kind == "outside"] in ([], [name])
    assert {problem.file for problem in problems} in ({name}, {f"{name}/train.csv", name})


def test_a_template_behind_a_link_is_refused(tmp_path: Path) -> None:
    write_competition(tmp_path / "data", people=1)
    elsewhere(tmp_path / "data", "eval/info.csv")
    with pytest.raises(LayoutError, match=r"info\.csv: is a link to"):
        template(tmp_path / "data")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_folder_may_be_a_link_and_links_inside_it_are_fine(layout: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    BUILDERS[layout](root)
    before = load_dataset(root)
    (root / "real").mkdir()
    for number, photo in enumerate(before.samples.paths[:3]):
        photo.rename(root / "real" / f"{number}.img")
        photo.symlink_to(root / "real" / f"{number}.img")
    (tmp_path / "link").symlink_to(root)
    assert load_dataset(tmp_path / "link").samples.digest() == before.samples.digest()
    if layout == "table":  # a CSV that the user names is the user's own
        (root / "labels.csv").rename(tmp_path / "elsewhere.csv")
        (root / "named.csv").symlink_to(tmp_path / "elsewhere.csv")
        assert load_dataset(root / "named.csv").samples.digest() == before.samples.digest()


def test_a_folder_is_resolved_once_for_all_its_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = write_data(tmp_path)
    found = LAYOUTS["table"].survey(table.parent)
    many = type(found)(found.root, found.layout, found.table, found.photos * 100)
    resolved: list[object] = []
    realpath = os.path.realpath

    def counted(path: str) -> str:
        resolved.append(path)
        return realpath(path)

    monkeypatch.setattr(os.path, "realpath", counted)
    kept_inside(many)
    assert len(resolved) <= 1 + len({photo.file.parent for photo in found.photos})


def test_weights_under_a_name_without_end_are_not_there() -> None:
    import torch

    with pytest.raises(NetworkError, match="no weights file"):
        load_weights(torch.nn.Identity(), Path("x" * 5_000), "none")


def encoded(kind: str, **options: object) -> bytes:
    """A picture of two frames where the format has several: red, then blue."""
    red, blue = (Image.new("RGB", (40, 30), colour) for colour in ("red", "blue"))
    several = {"save_all": True, "append_images": [blue]} if kind in ("TIFF", "WEBP", "MPO", "PNG", "GIF") else {}
    red.save(buffer := io.BytesIO(), kind, **several, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "BMP", "WEBP", "TIFF"])
def test_the_first_frame_of_a_known_format_is_read_whatever_the_name(kind: str, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(kind))
    pixels = read_photo(tmp_path / "photo.jpg")
    assert pixels.shape == (30, 40, 3)
    assert pixels[..., 0].min() > 240
    assert pixels[..., 1:].max() < 15


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\n(malice) (w) file\n%%EOF\n"


@pytest.mark.parametrize("content", [EPS, encoded("GIF"), encoded("PPM"), encoded("PDF"), encoded("ICO")])
def test_other_formats_are_not_opened(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(LayoutError, match=r"photo\.jpg is not an image \(JPEG, PNG, BMP, WEBP or TIFF\)"):
        read_photo(tmp_path / "photo.jpg")


@pytest.mark.parametrize(
    ("side", "size"), [(9_460, "9460 x 9460 pixels|89491600 pixels"), (60_000, "3600000000 pixels")]
)
def test_a_picture_too_large_is_refused_by_its_header(side: int, size: str, tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(claiming(side, side))
    assert (tmp_path / "bomb.png").stat().st_size < 5_000
    with pytest.raises(
        LayoutError, match=f"too large to be decoded safely: .*({size}).*at most {MOST_PIXELS:,} pixels"
    ):
        read_photo(tmp_path / "bomb.png")


def test_a_picture_that_is_no_ordinary_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(LayoutError, match="not an ordinary file"):
        read_photo(tmp_path / "pipe.jpg")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(LayoutError, match="is empty"):
        read_photo(tmp_path / "empty.jpg")
