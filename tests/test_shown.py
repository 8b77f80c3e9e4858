"""What the documents show is so: commands parse, code runs, tables load, links and anchors lead somewhere."""

from __future__ import annotations

import re
import runpy
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

from ensemble.shift import FEWEST_PEOPLE, FEWEST_PHOTOS, UNSURE
from pipeline.cli import app
from pipeline.layouts import load_dataset
from tests.builders import write_picture
from tests.test_docs import LINK, PAGES, ROOT, blocks

DOCS = ROOT / "docs"
HOOK, PICTURES = DOCS / "mkdocs_hook.py", DOCS / "make_pictures.py"
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(pipe [^`]+)`")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands() -> Iterator[tuple[str, str, bool]]:
    """(page, command, whether it is whole) of everything that is shown to be typed, or named in a sentence."""
    for page in PAGES:
        if page.name in ("LOG.md", "cli.md"):  # what was typed once; made from the commands themselves
            continue
        text = page.read_text()
        lines = [(line, True) for block in SHELL.findall(text) for line in block.splitlines()]
        lines += [(line, False) for line in INLINE.findall(FENCED.sub("", text))]
        for line, whole in lines:
            yield from (
                (name(page), part, whole) for part in re.split(r" && | \| ", line) if typed(part)[:1] == ["pipe"]
            )


def typed(line: str) -> list[str]:
    """The words of a command line, those of usage lines without their brackets."""
    return shlex.split(line.removeprefix(".venv/bin/").replace("[", "").replace("]", ""), comments=True)


def parse(command: Any, words: list[str]) -> None:
    """Take a command line apart as `pipe` does, and do nothing."""
    while hasattr(command, "commands") and words:
        command = command.commands[words.pop(0)]
    command.make_context("pipe", words)


def test_every_command_that_is_shown_can_be_typed() -> None:
    shown, pipe, wrong = sorted(set(commands())), get_command(app), []
    for page, line, whole in shown:
        words = typed(line)[1:]
        try:
            parse(pipe, words if words != ["--help"] else ["runs"])
        except Exception as error:
            if whole or type(error).__name__ != "MissingParameter":  # a sentence may name a command alone
                wrong.append(f"{page}: {line}: {error!r}")
    assert len(shown) > 100
    assert wrong == []


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)


def slug(heading: str) -> str:
    """The anchor of a heading on GitHub."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_anchors_lead_somewhere_on_github_and_in_the_site(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        target, _, anchor = link.partition("#")
        if anchor and "://" not in link:
            there = Counter(map(slug, headings(page.parent / target if target else page)))
            assert there[anchor] == 1, f"{link}: anchors are {sorted(there)}"
            assert "--" not in anchor, f"{link}: MkDocs joins hyphens; word the heading without signs between spaces"


def test_pictures_that_are_shown_are_drawn_and_those_drawn_are_shown() -> None:
    shown = {link for page in PAGES for link in LINK.findall(page.read_text()) if link.startswith("pictures/")}
    assert shown == {f"pictures/{name}" for name in runpy.run_path(str(PICTURES))["PICTURES"]}


def test_the_site_lists_every_page_of_the_documents_once() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    outside = ["CHANGELOG.md", "CONTRIBUTING.md", "LOG.md", "benchmarks.md", "overview.md"]
    assert sorted(re.findall(r": ([\w-]+\.md)$", nav, re.MULTILINE)) == sorted(
        [*(file.name for file in DOCS.glob("*.md")), *outside]
    )


@pytest.mark.parametrize("page", ["out-of-fold.md", "class-mix.md"])
def test_code_that_is_shown_runs_and_holds_what_it_asserts(page: str) -> None:
    code = blocks(DOCS / page, "python")
    assert "assert" in code
    exec(compile(code, page, "exec"), {})


def test_the_tables_that_are_shown_load(tmp_path: Path) -> None:
    folder_a_person, photos = re.findall(r"^```csv\n(.*?)^```$", (DOCS / "own-data.md").read_text(), re.M | re.S)
    rng = np.random.default_rng(0)
    competition, table = tmp_path / "competition", tmp_path / "table"
    for row in folder_a_person.splitlines()[1:]:
        for shot in ("mask1", "incorrect_mask", "normal"):
            write_picture(competition / "train" / "images" / row.split(",")[3] / f"{shot}.jpg", rng)
    (competition / "train" / "train.csv").write_text(folder_a_person)
    for row in photos.splitlines()[1:]:
        write_picture(table / "images" / row.split(",")[0], rng)
    (table / "labels.csv").write_text(photos)
    for root, layout, people in ((competition, "competition", 3), (table, "table", 3)):
        data = load_dataset(root)
        assert (data.layout, len(set(data.samples.persons))) == (layout, people)
        assert set(data.samples.columns) == {"mask", "gender", "age"}


def test_the_page_of_the_class_mix_tells_the_limits_that_the_code_has() -> None:
    text = (DOCS / "class-mix.md").read_text()
    assert f"fewer than {FEWEST_PHOTOS} photos to predict" in text
    assert f"fewer than {FEWEST_PEOPLE} people of one class" in text
    assert f"off by more than {100 * UNSURE:.0f} % of the photos" in text
