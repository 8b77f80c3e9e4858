"""The doctor's checks in their order, what they find together, and how that is told."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.doctor import folders, libraries, machine, training
from pipeline.doctor.finding import Case, Check, Finding, error, many, said, warning

# a check is a function that yields findings; a new one is a line here
CHECKS: dict[str, tuple[Check, ...]] = {
    "environment": (libraries.python, libraries.versions, libraries.torch_pair, libraries.loading),
    "machine": (machine.device, machine.memory, machine.threads, machine.shared_memory),
    "training": (training.data, training.folds, training.network, training.weights),
    "artifacts": (folders.writable, folders.disk, folders.runs),
}
WORDS = {"ok": "ok", "warning": "warn", "error": "FAIL"}
WIDTH = 80  # columns of text


@dataclass(frozen=True, slots=True)
class Examination:
    """What all checks found.

    Attributes:
        groups: Group of checks -> its findings, in order.
    """

    groups: dict[str, list[Finding]]

    def count(self, status: str) -> int:
        """How many findings have this status."""
        return sum(finding.status == status for findings in self.groups.values() for finding in findings)

    @property
    def ok(self) -> bool:
        """Whether a training can begin: there are no errors, warnings at most."""
        return not self.count("error")

    def as_dict(self) -> dict[str, Any]:
        """The findings in plain values for JSON."""
        rows = [asdict(finding) | {"group": name} for name, findings in self.groups.items() for finding in findings]
        return {"ok": self.ok, "errors": self.count("error"), "warnings": self.count("warning"), "findings": rows}


def examine(case: Case) -> Examination:
    """Run every check; whatever one of them raises becomes a finding.

    A broken environment fails many checks for one reason, which is told already: those are named in one warning.
    """
    groups: dict[str, list[Finding]] = {}
    skipped: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries while they load; what matters is what the checks find
        for name, checks in CHECKS.items():
            groups[name] = []
            for check in checks:
                try:
                    groups[name] += list(check(case))
                except Exception as reason:
                    title = check.__name__.replace("_", " ")
                    if any(finding.status == "error" for finding in groups["environment"]):
                        skipped.append(title)
                    else:
                        groups[name].append(unforeseen(title, reason))
    if skipped:
        text = f"not checked, because the environment is broken: {', '.join(skipped)}"
        groups["environment"].append(warning(text, "mend the environment first, then ask again"))
    return Examination({name: findings for name, findings in groups.items() if findings})


def unforeseen(title: str, reason: Exception) -> Finding:
    """A check that failed itself: what it met, a training would meet as well."""
    fix = "try `pipe train-head mask --dry-run`; if that works, this is a bug of `pipe doctor`"
    if isinstance(reason, ImportError):
        fix = "install this program and what it needs again: `pip install .` in its folder"
    return error(f"{title}: not checked, {type(reason).__name__}: {said(reason)}", fix)


def render(examination: Examination) -> str:
    """The findings as text for people, at most 80 columns wide, the verdict last."""
    lines = []
    for name, findings in examination.groups.items():
        lines += [name, *(line for finding in findings for line in _lines(finding)), ""]
    return "\n".join([*lines, verdict(examination)])


def _lines(finding: Finding) -> Iterator[str]:
    yield from _wrapped(f"  {WORDS[finding.status]:<4}  ", finding.text)
    if finding.fix:
        yield from _wrapped(" " * 8 + "fix: ", finding.fix)


def _wrapped(start: str, text: str) -> list[str]:
    """The text in lines, with nothing in it that could steer a terminal."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return textwrap.wrap(plain, WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False)


def verdict(examination: Examination) -> str:
    """What it comes to, in one line."""
    errors, warned = examination.count("error"), examination.count("warning")
    noted = f"; {many(warned, 'warning')}" if warned else ""
    if errors:
        return f"{many(errors, 'thing')} would stop or spoil a training{noted}"
    return f"ready to train{noted}"
