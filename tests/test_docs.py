"""The documents keep up with the code: trees, settings, commands, links and recipes are compared with what is there."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from pipeline.config import TrainConfig
from tests.conftest import train

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("artifacts/*.md")])
PACKAGES = ("heads", "ensemble", "pipeline")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page: Path, language: str) -> str:
    """All code blocks of one language, one after the other."""
    return "\n\n".join(re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))


def tree(text: str) -> Iterator[str]:
    """The paths in an annotated tree: two spaces a level, folders end in a slash."""
    folders: list[str] = []
    for line in text.splitlines():
        level, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders[level:] = [name]
        yield "".join(folders)


def readme_tree() -> set[str]:
    section = (ROOT / "README.md").read_text().split("## The repository")[1]
    return set(tree(re.findall(r"^```text\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)[0]))


def test_the_readmes_tree_names_every_file_of_the_packages() -> None:
    found = {
        file.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {path for path in readme_tree() if path.startswith(PACKAGES) and not path.endswith("/")} == found


def test_the_readmes_tree_names_nothing_that_is_not_there() -> None:
    assert [path for path in sorted(readme_tree()) if not (ROOT / path).exists()] == []


def test_the_reference_of_commands_is_what_help_says() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_cli.py"))["reference"]()
    assert (ROOT / "docs" / "cli.md").read_text() == made, "docs/cli.md is stale; run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = [link.split("#")[0] for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("file", sorted(ROOT.glob("configs/*.toml")), ids=lambda file: file.name)
def test_settings_files_load(file: Path) -> None:
    TrainConfig.load(file)


def test_the_readmes_table_names_every_setting_with_its_default() -> None:
    cells = [line.split("|") for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `")]
    defaults = {name: row[3].strip() for row in cells if len(row) == 6 for name in re.findall(r"`(\w+)`", row[1])}
    assert defaults == {item.name: f"`{toml(getattr(TrainConfig(), item.name))}`" for item in fields(TrainConfig)}


def toml(value: object) -> str:
    """A default as it would stand in a settings file."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str):
        return f'"{value}"'
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_the_recipes_run_and_what_they_add_is_used(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pipeline.rules
    from ensemble.calibration import CALIBRATIONS
    from ensemble.decoding import DECODERS
    from ensemble.joint import JOINT_RULES
    from ensemble.priors import ESTIMATORS
    from ensemble.voting import VOTERS
    from ensemble.weights import WEIGHT_RULES
    from heads.objectives import OBJECTIVES
    from heads.registry import HEADS
    from pipeline.augment import AUGMENTATIONS
    from pipeline.images import VIEWS
    from pipeline.layouts import LAYOUTS
    from pipeline.report.oof import make_report
    from pipeline.store import Run

    tables: list[dict[str, Any]] = [HEADS, OBJECTIVES, VOTERS, WEIGHT_RULES]
    tables += [CALIBRATIONS, ESTIMATORS, JOINT_RULES, DECODERS, LAYOUTS, AUGMENTATIONS, VIEWS]
    before = [dict(table) for table in tables]
    monkeypatch.setattr(pipeline.rules, "VIEW_NAMES", pipeline.rules.VIEW_NAMES)
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        for table in (*tables, pipeline.rules.RULES):
            stack.enter_context(patch.dict(table))  # puts the old entries back
        exec(compile(blocks(ROOT / "docs" / "extending.md", "python"), "docs/extending.md", "exec"), {})
        added = [sorted(table.keys() - old.keys()) for table, old in zip(tables, before, strict=True)]
        names = "senior focal geometric best shrunk bbse-both tempered balanced names erase brighter"
        assert added == [[name] for name in names.split()]
        views = ["identity", "hflip", "brighter"]
        folder = train(data, tmp_path, "senior", objective="focal", augment="erase", views=views)
        (report,) = make_report([Run(folder)]).heads
        assert (report.head, report.objective, list(report.classes)) == ("senior", "focal", ["below", "senior"])
        members = np.random.default_rng(0).dirichlet(np.ones(3), size=(4, 50))
        weights = WEIGHT_RULES["best"](members, members[2].argmax(axis=1))
        np.testing.assert_allclose(VOTERS["geometric"](members, weights), members[2])
        truth = members[2].argmax(axis=1)
        calibrated = CALIBRATIONS["shrunk"](members[0], truth)(members)
        joint = JOINT_RULES["tempered"]([calibrated[0], members[2]], truth * 3 + truth)
        both = joint([calibrated[0], members[2]])
        labels = DECODERS["balanced"](both, truth * 4, np.ones(50), (3, 3))(both, np.ones(50))
        mix = ESTIMATORS["bbse-both"](calibrated[0], truth, members[1])
        np.testing.assert_allclose([calibrated.sum(axis=2).max(), both.sum(axis=1).min(), mix.sum()], 1)
        assert labels.shape == (50,)
    assert [dict(table) for table in tables] == before


def test_the_ways_to_load_artifacts_run(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(artifacts.parent)
    exec(compile(blocks(ROOT / "docs" / "artifacts.md", "python"), "docs/artifacts.md", "exec"), {})
