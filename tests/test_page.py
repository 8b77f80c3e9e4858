"""The frame of every page: escaped, self-contained, sortable, fit for wide and narrow windows, light and dark."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.page.charts import chart
from pipeline.page.render import TEMPLATES, _environment, coded, render
from tests.browser import NARROW, WIDE, needs_browser, opened

PLAIN = """{% extends "base.html" %}{% from "macros.html" import table, bar %}
{% block content %}
<h2 id="one">One</h2>
{{ table([("name", "text"), ("score", "number")], rows, "Scores") }}
{{ bar(0.5, 0.4, 0.6) }}
<figure>{{ drawn }}</figure>
{% endblock %}"""


@cache
def drawn() -> str:
    return chart(lambda axes: axes.plot([0, 1], [0, 1], label="<b>&"), alt='a "line"')


def page(rows: list[list[object]], title: str = "A page") -> str:
    return _environment().from_string(PLAIN).render(rows=rows, drawn=drawn(), title=title, command="pipe test")


@given(st.text())
def test_text_is_escaped(text: str) -> None:
    made = page([[f"<script>{text}</script>", 1.0]], title=f"</title>{text}<img src=x>")
    assert made.count("<script") == 1, "the page's own"
    assert "<img src=x>" not in made


def test_nothing_is_fetched() -> None:
    made = page([["a", 1.0]])
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", made)
    assert "default-src 'none'" in made


def test_a_name_that_a_template_misspells_is_an_error() -> None:
    with pytest.raises(Exception, match="title"):
        render("base.html", command="pipe test")


def test_the_same_drawing_gives_the_same_bytes() -> None:
    first = page([["a", 1.0]])
    drawn.cache_clear()
    assert page([["a", 1.0]]) == first


@pytest.mark.parametrize("file", sorted(TEMPLATES.glob("*.html")), ids=lambda file: file.name)
def test_no_template_switches_escaping_off(file: Path) -> None:
    assert not re.search(r"\|\s*safe|autoescape", file.read_text())


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(WIDE, False), (NARROW, True)])
def test_columns_sort_and_nothing_overflows(width: int, dark: bool, tmp_path: Path) -> None:
    file = tmp_path / "frame.html"
    file.write_text(page([["b" * 300, 2.0], ["c", ("ten", 10.0)], ["a", ("-", "")]]))
    with opened(file, width=width, dark=dark) as shown:
        first = shown.locator("tbody td:first-child")
        shown.get_by_role("button", name="score").click()
        assert [text[0] for text in first.all_inner_texts()] == ["c", "b", "a"]
        shown.get_by_role("button", name="score").press("Enter")
        assert [text[0] for text in first.all_inner_texts()] == ["b", "c", "a"], "no number comes last in both orders"
        shown.get_by_role("button", name="name").click()
        assert [text[0] for text in first.all_inner_texts()] == ["a", "b", "c"]
        assert shown.locator("nav a").all_inner_texts() == ["One"]
        assert shown.evaluate("document.querySelector('svg.chart').getBoundingClientRect().width") > 100


@given(st.lists(st.sampled_from(["`", "<b>", "&", "pipe x", "\n", '"']), max_size=8).map("".join))
def test_commands_become_code_and_nothing_else_becomes_html(text: str) -> None:
    found = str(coded(text))
    assert set(re.findall(r"<[^>]*>", found)) <= {"<code>", "</code>"}
    assert found.count("<code>") == found.count("</code>") == len(re.findall(r"`[^`]+`", text))
