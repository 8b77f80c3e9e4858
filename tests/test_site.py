"""The site of the documents is built without a warning, shows on wide and narrow screens, and its pictures are true."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.browser import NARROW, WIDE, needs_browser, opened
from tests.test_docs import ROOT
from tests.test_shown import HOOK, PICTURES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    pytest.importorskip("mkdocs", reason="the site needs pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("docs") / "site"
    found = re.search(r"^site:.*\n\t(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found
    words = found[1].replace("$(BIN)", str(Path(sys.executable).parent)).split()  # what `make site` runs
    done = subprocess.run([*words, "--site-dir", str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_there_and_fetches_nothing(site: Path) -> None:
    outside = runpy.run_path(str(HOOK))["PAGES"]
    pages = [*outside, *(file.name for file in (ROOT / "docs").glob("*.md"))]
    assert {file.stem for file in site.glob("*.html")} == {Path(page).stem for page in pages}
    for file in [*site.rglob("*.html"), *site.rglob("*.css"), *site.rglob("*.svg")]:
        text = file.read_text()
        assert not re.search(r"""src=["']\w+:|<link[^>]+href=["']https?:|<script|@import|url\(["']?http""", text), file


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(WIDE, False), (NARROW, True)])
@pytest.mark.parametrize("page", ["index", "own-data", "out-of-fold", "overview", "settings"])
def test_pages_show(page: str, width: int, dark: bool, site: Path) -> None:
    with opened(site / f"{page}.html", width=width, dark=dark) as shown:
        menu = shown.get_by_role("navigation", name="Pages")
        if width == NARROW:
            shown.get_by_text("Pages", exact=True).click()
        assert menu.get_by_role("link", name="My own data").is_visible()
        assert menu.locator("[aria-current=page]").count() == 1


def test_the_pictures_show_what_the_pages_say() -> None:
    made = runpy.run_path(str(PICTURES))
    by_photo, by_person, new = made["leak_scores"]().mean(axis=0)
    assert by_photo > 0.95
    assert new - 0.1 < by_person <= new + 0.02
    found, true = made["contests"]()
    people, photos = ((found[..., 0] <= true) & (true <= found[..., 1])).mean(axis=0)
    assert 0.8 < people < 0.97
    assert photos < 0.7
    _, perfect = made["costs"]()
    assert max(perfect, key=perfect.__getitem__) == "age"
    errors = {world: np.subtract(*made["mixes"](world))[:, 2] for world in ("competition", "older-old", "broken")}
    assert abs(errors["competition"].mean()) < 0.03
    assert min(errors["older-old"].mean(), errors["broken"].mean()) > 0.15
