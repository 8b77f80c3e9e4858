"""The documents keep up with the code: trees, settings, commands, links and recipes are compared with what is there."""

from __future__ import annotations

import inspect
import re
import runpy
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import fields
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from heads.age import HEAD as AGE
from heads.base import HeadError
from heads.losses import LOSSES, UNSMOOTHED, loss_of
from heads.objectives import OBJECTIVES
from heads.recipe import UNKNOWN, Recipe
from pipeline.augment import AUGMENTATIONS
from pipeline.cli_train import train_head
from pipeline.config import TrainConfig
from pipeline.mixing import MIXINGS
from pipeline.necks import ACTIVATIONS, INITS, NECK_ARGS, NECKS
from pipeline.sampling import SAMPLERS
from pipeline.schedules import SCHEDULE_ARGS, SCHEDULES
from pipeline.tune.space import read_space
from tests.conftest import train

ROOT = Path(__file__).parent.parent
SETTINGS = ROOT / "docs" / "settings.md"
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
    links = [link for link in links if not link.startswith("pictures/")]  # drawn with the site: see test_shown.py
    assert [link for link in links if link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("file", sorted(ROOT.glob("configs/*.toml")), ids=lambda file: file.name)
def test_settings_files_load(file: Path) -> None:
    TrainConfig.load(file)


def table_rows(page: Path, n: int) -> list[list[str]]:
    """The cells of all rows of ``n`` cells that begin with code."""
    rows = [line.split("|")[1:-1] for line in page.read_text().splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows if len(row) == n]


def name_in(cell: str) -> str:
    """The setting in a first cell, where its flag may stand beside it."""
    return cell.split("`")[1]


def test_the_page_of_settings_names_every_one_with_its_default() -> None:
    defaults = {name_in(row[0]): row[1] for row in table_rows(SETTINGS, 5)}
    assert defaults == {item.name: f"`{toml(getattr(TrainConfig(), item.name))}`" for item in fields(TrainConfig)}


def test_the_readmes_short_table_tells_the_defaults() -> None:
    rows = table_rows(ROOT / "README.md", 4)
    defaults = {name_in(row[0]): row[2] for row in rows if name_in(row[0]) in TrainConfig().as_dict()}
    assert len(defaults) == 10
    assert defaults == {name: f"`{toml(getattr(TrainConfig(), name))}`" for name in defaults}


@pytest.mark.parametrize("row", table_rows(SETTINGS, 5), ids=lambda row: name_in(row[0]))
def test_each_setting_has_an_example_that_loads_and_the_flag_that_there_is(row: list[str]) -> None:
    example = tomllib.loads("\n".join(row[4].split("`")[1::2]))
    assert name_in(row[0]) in example
    assert TrainConfig.load(None, example) != TrainConfig()
    flag = f"`--{name_in(row[0]).replace('_', '-')}`"
    assert (flag in row[0]) == (name_in(row[0]) in inspect.signature(train_head).parameters)


@pytest.mark.parametrize("page", ["README.md", "docs/settings.md", "docs/walkthrough.md"])
def test_the_settings_files_that_are_shown_load(page: str, tmp_path: Path) -> None:
    shown = re.findall(r"^```toml\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    assert shown
    for text in shown:
        file = tmp_path / "shown.toml"
        file.write_text(text)
        if "[space." in text:
            assert read_space(file, TrainConfig(mixing="cutmix"))
        else:
            assert TrainConfig.load(file, heads=["age"]) != TrainConfig()


def takes(refuse: Callable[[], object]) -> list[str]:
    """The arguments that the refusal of an unknown one names."""
    with pytest.raises(HeadError) as refused:
        refuse()
    known = str(refused.value).split("it takes: ")[1]
    return [] if known == "none" else known.split(", ")


def test_the_page_of_settings_knows_all_names_and_their_arguments() -> None:
    wrong = Recipe(objective_args={"?": 1})
    known: dict[str, dict[str, list[str]]] = {
        "loss": {name: takes(partial(LOSSES[name], {"?": 1}, torch.ones(3), 0.0)) for name in LOSSES},
        "objective": {name: takes(partial(OBJECTIVES[name], AGE, wrong, UNKNOWN)) for name in OBJECTIVES},
        "sampler": {name: [] for name in SAMPLERS},
        "recipe": {name: [] for name in AUGMENTATIONS},
        "mixing": {name: [] for name in MIXINGS},
        "neck": {name: [*NECK_ARGS[name]] for name in NECKS},
        "schedule": {name: [*SCHEDULE_ARGS.get(name, ())] for name in SCHEDULES},
    }
    lines = SETTINGS.read_text().splitlines()
    assert set(INITS) <= set(re.findall(r"`([\w-]+)`", next(line for line in lines if line.startswith("| `init`"))))
    for kind, names in known.items():
        start = next(i for i, line in enumerate(lines) if line.startswith(f"| {kind} |")) + 2
        rows = [line.split("|") for line in takewhile(lambda line: line.startswith("|"), lines[start:])]
        told = {name_in(row[1]): re.findall(r"`(\w+)`", row[2]) for row in rows}
        assert {name: [arg for arg in args if arg not in ACTIVATIONS] for name, args in told.items()} == names


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
    from heads.registry import HEADS
    from pipeline.images import VIEWS
    from pipeline.layouts import LAYOUTS
    from pipeline.report.oof import make_report
    from pipeline.store import Run

    tables: list[dict[str, Any]] = [HEADS, OBJECTIVES, LOSSES, UNSMOOTHED, SAMPLERS, AUGMENTATIONS, MIXINGS]
    tables += [SCHEDULES, SCHEDULE_ARGS, NECKS, NECK_ARGS, VOTERS, WEIGHT_RULES]
    tables += [CALIBRATIONS, ESTIMATORS, JOINT_RULES, DECODERS, LAYOUTS, VIEWS]
    before = [dict(table) for table in tables]
    monkeypatch.setattr(pipeline.rules, "VIEW_NAMES", pipeline.rules.VIEW_NAMES)
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        for table in (*tables, pipeline.rules.RULES):
            stack.enter_context(patch.dict(table))  # puts the old entries back
        exec(compile(blocks(ROOT / "docs" / "extending.md", "python"), "docs/extending.md", "exec"), {})
        added = [sorted(table.keys() - old.keys()) for table, old in zip(tables, before, strict=True)]
        names = "senior focal generalised generalised people erase lower inverse inverse layernorm layernorm"
        names += " geometric best shrunk bbse-both tempered balanced names brighter"
        assert added == [[name] for name in names.split()]
        views = ["identity", "hflip", "brighter"]
        craft = {"augment": "erase", "sampler": "people", "mixing": "lower", "schedule": "inverse", "neck": "layernorm"}
        folder = train(data, tmp_path, "senior", objective="focal", views=views, **craft)
        (report,) = make_report([Run(folder)]).heads
        assert (report.head, report.objective, list(report.classes)) == ("senior", "focal", ["below", "senior"])
        logits, targets = torch.eye(3), torch.tensor([0, 1, 0])
        loss = loss_of(Recipe(loss="generalised", loss_args={"q": 1}), torch.ones(3)).loss(logits, targets, 0.0)
        torch.testing.assert_close(loss, 1 - logits.softmax(dim=1)[range(3), targets])
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
