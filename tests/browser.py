"""Pages in a real headless Chromium: what its console said, what overflows, what it looks like."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDE, NARROW = 1400, 400
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)"
)


@contextmanager
def opened(file: Path, *, width: int = WIDE, dark: bool = False) -> Iterator[Any]:
    """A Playwright page of the file, opened from disk with the network cut off.

    At its end it must have raised nothing, logged no error, asked for nothing beyond itself, and not be wider than the
    window. With ``HEADFOLD_SHOTS`` set to a folder, a screenshot is left there.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
        )
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
        page.on("requestfailed", lambda request: complaints.append(f"could not load {request.url}"))
        page.context.set_offline(True)
        try:
            page.goto(file.resolve().as_uri())
            yield page
            overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, f"{overflow} px wider than a window of {width} px"
            broken = page.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.alt)")
            assert not broken, f"photos that do not show: {broken}"
            assert not complaints, complaints
            if folder := os.environ.get("HEADFOLD_SHOTS"):
                name = f"{file.stem}-{width}{'-dark' if dark else ''}.png"
                page.screenshot(path=Path(folder) / name, full_page=True)
        finally:
            browser.close()
