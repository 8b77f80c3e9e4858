"""Writes docs/cli.md from the ``--help`` of every command; a test fails when the file is stale."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from pipeline.cli import app

FILE = Path(__file__).parent / "cli.md"
WIDTH = 80
HEADER = """# Commands

Made by `make docs` from `pipe --help`; do not edit. Brackets at the end of an option's line hold its default.
"""


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(name, command) of ``command`` and of everything below it, in the order of ``--help``."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{path} {name}")


def help_text(command: Any, path: str) -> str:
    """What ``--help`` says, in plain text of 80 columns, whatever the terminal."""
    command.rich_markup_mode = None  # frames and colours are for terminals
    text: str = command.get_help(command.context_class(command, info_name=path, terminal_width=WIDTH))
    return "\n".join(line.rstrip() for line in text.splitlines())


def reference() -> str:
    """The whole of docs/cli.md."""
    every = commands(get_command(app), "pipe")
    parts = [f"## {path}\n\n```text\n{help_text(command, path)}\n```\n" for path, command in every]
    return "\n".join([HEADER, *parts])


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
