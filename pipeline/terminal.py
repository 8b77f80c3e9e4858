"""Text on its way to a terminal: nothing that came out of a file can steer it, and no error fills the screen."""

from __future__ import annotations

import json
import unicodedata
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


def columns_of(text: str) -> int:
    """How many columns of a terminal the text takes: East Asian characters take two, combining marks none."""
    return sum((not unicodedata.combining(c)) + (unicodedata.east_asian_width(c) in "WF") for c in text)


def shortened(text: str, width: int) -> str:
    """The text made harmless and at most ``width`` columns wide; of a longer one the end, which tells paths apart."""
    return fitted(text, width).rstrip()


def fitted(text: str, width: int) -> str:
    """The text made harmless and exactly ``width`` columns wide; of a longer one the end, which tells paths apart."""
    line, cut = one_line(text), ""
    while columns_of(cut + line) > width:
        cut, line = "...", line[1:]
    return cut + line + " " * (width - columns_of(cut + line))
