"""From values to one HTML file that needs nothing else: no network, no folder beside it."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline.files import write_bytes

TEMPLATES = Path(__file__).parent / "templates"


@cache
def _environment() -> Environment:
    """Every value is escaped; a name that a template misspells is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["inline"] = lambda name: Markup((TEMPLATES / name).read_text(encoding="utf-8"))
    made.filters["coded"] = coded
    made.policies["json.dumps_kwargs"] = {"allow_nan": False}  # unsorted: the order of classes says something
    made.globals["version"] = version("headfold")
    return made


def coded(text: str) -> Markup:
    """A text for the terminal as HTML, escaped; what stands between backticks is a command."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def render(template: str, **values: Any) -> str:
    """The page of a template, which extends ``base.html``.

    Args:
        template: Its file in ``templates/``.
        values: ``title``, ``command`` (what made the page) and whatever else it shows; all text is escaped.
    """
    return _environment().get_template(template).render(**values)


def write_page(file: Path, template: str, **values: Any) -> int:
    """Write the page; its size in bytes.

    Raises:
        ArtifactError: It cannot be written.
    """
    content = render(template, **values).encode()
    write_bytes(file, content)
    return len(content)
