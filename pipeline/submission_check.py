"""Whether a submission is what the grader expects: every fault with its count, an example and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.ballots import parts_of
from ensemble.predictions import examples
from heads.registry import JOINT
from pipeline.errors import LayoutError
from pipeline.findings import Finding, Findings, error, many, ok, warning
from pipeline.findings import render as findings_text
from pipeline.reading import read_limited
from pipeline.submissions import ANSWER, COLUMNS, ID, N_CLASSES, RANGE, SIZES, answer_of, differences, template_ids
from pipeline.tables import MOST_BYTES, read_rows

FAULTS = {
    "empty": ("that are empty", f"predict them; {RANGE}"),
    "decimal": ("with a decimal point", f"write whole numbers (pandas: submission['{ANSWER}'].astype(int))"),
    "none": ("that are no class", RANGE),
}
NEVER_ADVICE = "macro F1 counts each of them 0 if it occurs; was every head trained?"
MARK = b"\xef\xbb\xbf"  # UTF-8 byte order mark


@dataclass(frozen=True, slots=True)
class Check:
    """What was found.

    Attributes:
        file: What was checked.
        findings: In groups: the file, its ids, its answers.
        mix: Rows of each of the 18 classes; empty when there are no answers.
    """

    file: Path
    findings: Findings
    mix: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """The check in plain values for JSON."""
        return {"file": str(self.file), "mix": self.mix, **self.findings.as_dict()}


def check_submission(file: Path, template: Path) -> Check:
    """Compare a submission with the list of ids that it must answer.

    Raises:
        LayoutError: The template is none.
    """
    wanted = template_ids(template)
    try:
        header, rows = read_rows(file)
    except LayoutError as reason:
        message = str(reason).removeprefix(f"{file}: ")
        return Check(file, Findings({"file": [error(message, "write the file anew, with pandas: index=False")]}), {})
    groups = {"file": list(_columns(file, header))}
    mix: dict[str, int] = {}
    if ID in header:
        groups["ids"] = list(_ids([(line, row[header.index(ID)]) for line, row in rows], wanted))
    if ANSWER in header:
        cells = [(line, row[header.index(ANSWER)]) for line, row in rows]
        mix = _mix([text for _, text in cells])
        groups["answers"] = [*_answers(cells), *_never_given(mix)]
    sound = {name: found or [ok(_praise(name, len(rows)))] for name, found in groups.items()}
    return Check(file, Findings(sound), mix)


def _praise(group: str, n_rows: int) -> str:
    return {
        "file": f"columns {', '.join(COLUMNS)}",
        "ids": f"all {n_rows:,} ids of the template, in its order",
        "answers": f"{n_rows:,} whole numbers from 0 to {N_CLASSES - 1}, every class among them",
    }[group]


def _columns(file: Path, header: Sequence[str]) -> Iterator[Finding]:
    if list(header) != list(COLUMNS):
        there = ", ".join(repr(name[:30]) for name in header[:5]) + (", ..." if len(header) > 5 else "")
        advice = "write it without the index (pandas: index=False)" if "" in header else "rename or drop columns"
        yield error(f"columns are {there}, not {', '.join(map(repr, COLUMNS))}", advice)
    if read_limited(file, MOST_BYTES).startswith(MARK):
        advice = "write it as plain UTF-8 (pandas: encoding='utf-8', not 'utf-8-sig')"
        yield warning(f"begins with a byte order mark, which some readers take for a part of {ID!r}", advice)


def _ids(cells: Sequence[tuple[int, str]], wanted: Sequence[str]) -> Iterator[Finding]:
    """Faults of the ids; their order is judged when nothing else is wrong with them."""
    ids = [name for _, name in cells]
    missing, surplus = differences(wanted, ids)
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if missing:
        yield error(f"ids missing: {len(missing):,}, e.g. {examples(missing)}", "answer every id of the template")
    if surplus:
        text = f"rows whose id is not in the template: {len(surplus):,}, e.g. {examples(surplus)}"
        yield error(text, "remove them; is it a submission for another template?")
    if twice:
        lines = [line for line, name in cells if name == twice[0]]
        text = f"ids more than once: {len(twice):,}, e.g. {twice[0]!r} on lines {lines[0]:,} and {lines[1]:,}"
        yield error(text, "keep one row an id")
    moved = [(line, got, name) for (line, got), name in zip(cells, wanted, strict=False) if got != name]
    if moved and not (missing or surplus or twice):
        line, got, name = moved[0]
        text = f"rows in another order: {len(moved):,}, e.g. line {line:,} has {got!r}, the template {name!r}"
        yield error(text, f"with pandas: template[['{ID}']].merge(submission, on='{ID}')")


def _answers(cells: Sequence[tuple[int, str]]) -> Iterator[Finding]:
    kinds = {text: _kind(text) for text in {text for _, text in cells}}
    for kind, (what, advice) in FAULTS.items():
        if wrong := [(line, text) for line, text in cells if kinds[text] == kind]:
            line, text = wrong[0]
            yield error(f"answers {what}: {len(wrong):,}, e.g. {text[:40]!r} on line {line:,}", advice)


def _kind(text: str) -> str:
    """Which fault a cell has; empty when it has none."""
    if not text or text.lower() == "nan":
        return "empty"
    if answer_of(text) is None:
        return "none"
    return "decimal" if "." in text else ""


def _never_given(mix: dict[str, int]) -> Iterator[Finding]:
    never = [name for name, count in mix.items() if not count]
    if never:
        yield warning(f"classes never given: {len(never)} of {N_CLASSES}, e.g. {examples(never)}", NEVER_ADVICE)


def _mix(texts: Sequence[str]) -> dict[str, int]:
    given = [answer for answer in map(answer_of, texts) if answer is not None]
    counts = np.bincount(np.asarray(given, dtype=np.int64), minlength=N_CLASSES).tolist()
    return dict(zip(JOINT.classes, counts, strict=True))


def verdict(check: Check) -> str:
    """The last line: whether to hand the file in."""
    faults = check.findings.count("error")
    return f"do not hand it in: {many(faults, 'fault')}" if faults else "fit to be handed in"


def render(check: Check) -> str:
    """The check as text for a terminal of 80 columns: the class mix, the findings, the verdict."""
    return "\n".join([*mix_table(check.mix), findings_text(check.findings, verdict(check))])


def mix_table(mix: dict[str, int]) -> list[str]:
    """Rows of each class and shares of each head's classes; nothing when there are no answers."""
    n = sum(mix.values())
    if not n:
        return []
    lines = [f"{'':>3}  {'class':<24} {'rows':>8} {'share':>8}"]
    for number, (name, count) in enumerate(mix.items()):
        lines.append(f"{number:>3}  {name:<24} {count:>8,} {count / n:>8.1%}")
    heads = parts_of(np.arange(N_CLASSES), SIZES)
    for part, classes in zip(JOINT.parts, heads, strict=True):
        counts = np.bincount(classes, weights=list(mix.values()))
        shares = ", ".join(f"{name} {count / n:.1%}" for name, count in zip(part.classes, counts, strict=True))
        lines.append(f"{part.name}: {shares}")
    return [*lines, ""]
