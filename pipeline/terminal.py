"""Text on its way to a terminal: nothing that came out of a file can steer it, and no error fills the screen."""

from __future__ import annotations

import json
from collections.abc import Sequence

LONGEST = 2_000  # characters of an error
SHOWN = 10  # names of a list


def one_line(text: str) -> str:
    """The text with whatever does not print, line breaks too, as an escape: control characters, ANSI, bidi controls."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def harmless(text: str) -> str:
    """The lines of the text, each made harmless."""
    return "\n".join(map(one_line, text.split("\n")))


def error_line(text: str) -> str:
    """The text as one line of bearable length."""
    line = one_line(" ".join(text.split()))
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}... ({len(line):,} characters)"


def json_text(value: object) -> str:
    """The value as readable JSON, in ASCII that no terminal takes for a command."""
    return json.dumps(value, indent=1).replace("\x7f", "\\u007f")


def listed(names: Sequence[str]) -> str:
    """The names with commas; of many, the first ten and how many there are."""
    more = f", ... ({len(names):,} in all)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
