"""What MkDocs does besides: the README and its neighbours become pages of the site, and the pictures are drawn."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
# page of the site -> file of the repository that lies outside docs/; README.md would be the front page
PAGES = {
    "overview.md": "README.md",
    "LOG.md": "LOG.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "benchmarks.md": "benchmarks/README.md",
}
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add pages from outside docs/, and the pictures."""
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    pictures = runpy.run_path(str(ROOT / "docs" / "make_pictures.py"))["PICTURES"]
    for name, make in pictures.items():
        files.append(File.generated(config, f"pictures/{name}", content=make()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with its links as they are in the site."""
    source = PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return LINK.sub(lambda link: _moved(link, (ROOT / source).parent), markdown)


def _moved(link: re.Match[str], folder: Path) -> str:
    """A link between files of the repository, as one between pages; plain text when the site lacks the file."""
    text, target, anchor = link.group(1), link.group(2), link.group(3) or ""
    if "://" in target:
        return link.group()
    found = (folder / target).resolve().relative_to(ROOT).as_posix()
    names = {source: name for name, source in PAGES.items()}
    inside = names.get(found, found.removeprefix("docs/") if found.startswith("docs/") else "")
    return f"[{text}]({inside}{anchor})" if inside else text
