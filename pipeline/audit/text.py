"""An audit as text for the terminal and as a table that is filled in by hand."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pipeline.audit.audit import Audit
from pipeline.audit.suspects import Suspect
from pipeline.fixes import SWAP
from pipeline.options import ARTIFACTS
from pipeline.report.text import defused
from pipeline.terminal import fitted, one_line

CSV_HEADER = [
    *("path", "column", "value", "decision", "given", "suggested", "head", "p_given", "p_suggested", "strength"),
    *("agree", "photos", "border"),
]


def label_in_words(suspect: Suspect) -> str:
    """What is suspected, such as ``female -> male``, or which shots look swapped."""
    if suspect.column == SWAP:
        return f"{' and '.join(suspect.value.split())} swapped"
    return f"{suspect.given} -> {suspect.suggested}"


def _short(suspect: Suspect) -> str:
    return " <> ".join(suspect.value.split()) if suspect.column == SWAP else label_in_words(suspect)


def render(audit: Audit, limit: int) -> str:
    """The strongest suspects, a line each."""
    return "\n".join(_lines(audit, limit))


def training_again(audit: Audit, fixes: str, artifacts: Path) -> str:
    """The command that trains the heads of an audit with a table of fixes."""
    names = [name for own in audit.runs.values() for name in own]
    words = ["pipe", "train-head", *audit.runs]
    if len(audit.runs) > 1 and len(set(names)) == len(names):  # no run has two heads
        words.append("--separate")
    words += ["--data", str(audit.root), "--fixes", fixes, "--name", "fixed"]
    return shlex.join([*words, "--artifacts", str(artifacts)] if artifacts != ARTIFACTS else words)


def advice(audit: Audit, page: Path | None, artifacts: Path) -> str:
    """What to do next."""
    if not audit.suspects:
        return ""
    if page:
        again = training_again(audit, "fixes.csv", artifacts)
        return f"\n\nopen {page}, decide, download fixes.csv, then with the settings of these runs\n  {again}"
    return "\n\nlook at them with --html audit.html, or in the browser with `pipe review`"


def _lines(audit: Audit, limit: int) -> Iterator[str]:
    counts = Counter(suspect.head for suspect in audit.suspects)
    for head, runs in audit.runs.items():
        by = runs[0] if len(runs) == 1 else f"{len(runs)} runs"
        yield one_line(f"{head}: {audit.photos[head]:,} photos, {counts[head]} suspects, by {by}")
    if not audit.suspects:
        yield "no label is contradicted by its out-of-fold predictions"
        return
    yield ""
    yield "p: mean probability of what is predicted; photos: on how many it is predicted"
    yield f"{'':>4} {'head':<7}{'person or photo':<31}{'labelled -> predicted':<25}{'p':>4}  photos"
    at_border = False
    for rank, one in enumerate(audit.suspects[:limit], start=1):
        if one.border and not at_border:
            at_border = True
            yield "     within 5 years of a border, where classes are a matter of opinion"
        photos = f"{one.agree}/{len(one.photos)}"
        yield (
            f"{rank:>4} {one.head:<7}{fitted(one.path, 30)} {fitted(_short(one), 24)} "
            f"{one.p_suggested:4.2f}  {photos:>6}"
        )
    if len(audit.suspects) > limit:
        yield f"     and {len(audit.suspects) - limit} weaker ones: --limit {len(audit.suspects)}"


def csv_rows(audit: Audit, limit: int) -> Iterator[list[object]]:
    """One row a suspect: a table of label fixes once its column ``decision`` says *wrong*."""
    for one in audit.suspects[:limit]:
        numbers = [f"{one.p_given:.4f}", f"{one.p_suggested:.4f}", f"{one.strength:.4f}", one.agree, len(one.photos)]
        names = [one.path, one.column, one.value, "", one.given, one.suggested, one.head]
        yield [*map(defused, names), *numbers, defused(one.border)]
