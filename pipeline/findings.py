"""What checks find, each with its fix, and how that is told; `pipe doctor` and `pipe verify` end in it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.terminal import one_line

WORDS = {"ok": "ok", "warning": "warn", "error": "FAIL"}
WIDTH = 80  # columns of text


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination.

    Attributes:
        status: ``ok``, ``warning`` (look at it once) or ``error`` (would stop or spoil a training).
        text: What was found.
        fix: What to do or run; empty when all is well.
    """

    status: str
    text: str
    fix: str = ""


def ok(text: str) -> Finding:
    """Nothing to mend."""
    return Finding("ok", text)


def warning(text: str, fix: str) -> Finding:
    """To be looked at; training can go on."""
    return Finding("warning", text, fix)


def error(text: str, fix: str) -> Finding:
    """What would stop or spoil a training."""
    return Finding("error", text, fix)


def said(reason: Exception) -> str:
    """An exception's message in one line of at most 300 letters; its type when it has none."""
    line = " ".join(str(reason).split()) or type(reason).__name__
    return line if len(line) <= 300 else line[:297] + "..."


def size(n_bytes: int) -> str:
    """A number of bytes as people say it."""
    return f"{n_bytes / 2**30:,.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:,.1f} MiB"


def many(number: int, what: str) -> str:
    """A number of things: 1 core, 2 cores."""
    return f"{number} {what}{'s' * (number != 1)}"


@dataclass(frozen=True, slots=True)
class Findings:
    """What checks found, in groups.

    Attributes:
        groups: Name of a group -> its findings, in order.
    """

    groups: dict[str, list[Finding]]

    def count(self, status: str) -> int:
        """How many findings have this status."""
        return sum(finding.status == status for findings in self.groups.values() for finding in findings)

    @property
    def ok(self) -> bool:
        """Whether there are no errors, warnings at most."""
        return not self.count("error")

    def as_dict(self) -> dict[str, Any]:
        """The findings in plain values for JSON."""
        rows = [asdict(finding) | {"group": name} for name, findings in self.groups.items() for finding in findings]
        return {"ok": self.ok, "errors": self.count("error"), "warnings": self.count("warning"), "findings": rows}


def render(findings: Findings, verdict: str) -> str:
    """The findings as text for people, at most 80 columns wide, the verdict last."""
    lines = []
    for name, group in findings.groups.items():
        lines += [name, *(line for finding in group for line in _lines(finding)), ""]
    return "\n".join([*lines, verdict])


def _lines(finding: Finding) -> Iterator[str]:
    yield from _wrapped(f"  {WORDS[finding.status]:<4}  ", finding.text)
    if finding.fix:
        yield from _wrapped(" " * 8 + "fix: ", finding.fix)


def _wrapped(start: str, text: str) -> list[str]:
    """The text in lines, with nothing in it that could steer a terminal."""
    return textwrap.wrap(
        one_line(text), WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False
    )
