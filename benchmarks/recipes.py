"""The experiments in ``recipes.toml``: what each trains, and in which respect it is other than base."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from heads.registry import JOINT, head_named
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError

FILE = Path(__file__).with_name("recipes.toml")
PLACEHOLDER = "EXTRA"  # of the folder that the command names


@dataclass(frozen=True, slots=True)
class Recipe:
    """One experiment.

    Attributes:
        name: Of its runs too, with the seed.
        heads: What its network learns.
        settings: What is other than in base.
        of: The recipe whose runs are scored; itself, if empty.
        bag: Whether the seeds' probabilities are averaged.
        note: What to know when the row is read.
        verdict: ``kept``, ``dropped``, ``within noise`` or ``-``.
    """

    name: str
    heads: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    of: str = ""
    bag: bool = False
    note: str = ""
    verdict: str = "-"

    @classmethod
    def read(cls, name: str, table: Mapping[str, Any]) -> Recipe:
        """The recipe of a table in the file.

        Raises:
            ConfigError: It has a key that is unknown.
        """
        given = dict(table)
        heads = tuple(
            given.pop("heads", [given.pop("head")] if "head" in given else [part.name for part in JOINT.parts])
        )
        known = {item.name for item in fields(cls)} - {"name", "heads"}
        if unknown := sorted(given.keys() - known):
            raise ConfigError(f"recipe {name!r}: unknown key {unknown[0]!r}; keys are head, heads, {', '.join(known)}")
        for head in heads:
            head_named(head)
        return cls(name, heads, **given)

    @property
    def trained_as(self) -> str:
        """The recipe that its runs are named after."""
        return self.of or self.name

    @property
    def needs_extra(self) -> bool:
        """Whether the command must say where further photos are."""
        return PLACEHOLDER in self.settings.get("extra", ())

    @property
    def differs(self) -> str:
        """What is other than in base, as one writes it in TOML."""
        if self.of:
            return f"seeds of {self.of}, averaged" if self.bag else f"runs of {self.of}"
        return ", ".join(f"{name} = {_toml(value)}" for name, value in self.settings.items()) or "-"


@dataclass(frozen=True, slots=True)
class Cookbook:
    """All recipes, and what they have in common.

    Attributes:
        base: Settings of every recipe.
        recipes: Name -> recipe, in the file's order.
    """

    base: dict[str, Any]
    recipes: dict[str, Recipe]

    @classmethod
    def read(cls, file: Path = FILE) -> Cookbook:
        """What stands in the file.

        Raises:
            ConfigError: It cannot be read, or a recipe is not as it must be.
        """
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read recipes from {file}: {error}") from error
        recipes = {name: Recipe.read(name, table) for name, table in content.get("recipes", {}).items()}
        for recipe in recipes.values():
            if recipe.of and recipe.of not in recipes:
                raise ConfigError(f"recipe {recipe.name!r} is of {recipe.of!r}, which is no recipe")
        return cls(content.get("base", {}), recipes)

    def chosen(self, names: Iterable[str]) -> list[Recipe]:
        """The recipes of these names.

        Raises:
            ConfigError: There is none of a name.
        """
        found = []
        for name in names:
            if name not in self.recipes:
                near = difflib.get_close_matches(name, self.recipes, n=1)
                raise ConfigError(f"unknown recipe {name!r}; " + (f"did you mean {near[0]!r}?" if near else "see FILE"))
            found.append(self.recipes[name])
        return found

    def config(self, recipe: Recipe, overrides: Mapping[str, Any], extra: Path | None, seed: int) -> TrainConfig:
        """The settings of one run.

        Args:
            recipe: What is trained.
            overrides: Settings of the command, which win.
            extra: The folder that the placeholder stands for.
            seed: Of the run.

        Raises:
            ConfigError: A setting is unknown or out of range.
        """
        settings = self.base | self.recipes[recipe.trained_as].settings
        if extra and "extra" in settings:
            settings["extra"] = [str(extra) if place == PLACEHOLDER else place for place in settings["extra"]]
        return TrainConfig.load(None, settings | dict(overrides) | {"seed": seed}, recipe.heads)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(item)}" for name, item in value.items()) + "}"
    return json.dumps(value)
