"""A comparison of runs as text for a terminal of 80 columns, and the words it shares with the page."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Set
from typing import Any

from heads.registry import JOINT
from pipeline.report.compare import BETTER, OTHER_FOLDS, WORSE, Against, Comparison, HeadComparison
from pipeline.terminal import fitted, one_line, shortened

NAME, CELL = 24, 48  # columns
EPOCHS_SHOWN = 6
UNTAUGHT = "-"  # of a run that does not know a setting


def render(comparison: Comparison) -> str:
    """The whole comparison."""
    blocks = [
        [*_wrapped(conclusions(comparison), start="- ")],
        [*_settings(comparison)],
        *([*_head(head)] for head in comparison.heads),
        [*_curves(comparison)],
        [*_wrapped(comparison.remarks, start="note: ")],
    ]
    return "\n\n".join("\n".join(map(one_line, lines)) for lines in blocks if lines)


def title_of(head: str) -> str:
    """A head as people call it."""
    return f"{len(JOINT.classes)} classes" if head == JOINT.name else head


def conclusions(comparison: Comparison) -> Iterator[str]:
    """One sentence a run: what came out against the first, and what to do."""
    for run in list(comparison.runs)[1:]:
        found = {title_of(head.head): head.against[run] for head in comparison.heads if run in head.against}
        by_verdict: dict[str, list[str]] = {}
        for head, one in found.items():
            by_verdict.setdefault(one.verdict, []).append(f"{head} {one.gain:+.4f}")
        said = "; ".join(f"{verdict} in {', '.join(gains)}" for verdict, gains in by_verdict.items())
        yield f"{run} against {comparison.first}: {said}. {_advice(comparison, run, by_verdict.keys())}"


def _advice(comparison: Comparison, run: str, verdicts: Set[str]) -> str:
    first, seconds = comparison.first, comparison.runs
    if OTHER_FOLDS in verdicts:
        return "Train them on the same folds to be sure."
    if {BETTER, WORSE} <= verdicts:
        return "Each has its strength: let both vote."
    if BETTER in verdicts:
        return f"Take {run}, or let both vote."
    if WORSE in verdicts:
        return f"Keep {first}."
    return f"Keep the quicker one ({min((first, run), key=lambda name: seconds[name])}), or let both vote."


def told(value: Any) -> str:
    """A setting as people write it."""
    if value is None:
        return UNTAUGHT
    return one_line(value) if isinstance(value, str) and value else json.dumps(value)


def said_gain(found: Against) -> str:
    """A gain with its interval."""
    low, high = found.gain_interval_95
    return f"{found.gain:+.4f} ({low:+.3f} to {high:+.3f})"


def _settings(comparison: Comparison) -> Iterator[str]:
    if not comparison.settings:
        yield "no setting differs"
        return
    yield "settings that differ"
    for name, row in comparison.settings.items():
        yield f"  {name}"
        yield from (f"    {fitted(run, NAME)} {shortened(told(value), CELL)}" for run, value in row.items())


def _head(head: HeadComparison) -> Iterator[str]:
    first, *others = head.runs
    yield f"{title_of(head.head)}: macro F1 on {head.photos:,} photos of {head.people:,} people"
    low, high = head.interval_95[first]
    yield f"  {fitted(first, NAME)} {head.macro_f1[first]:.4f}  95 % {low:.3f} to {high:.3f} over people"
    for run in others:
        found = head.against[run]
        yield f"  {fitted(run, NAME)} {head.macro_f1[run]:.4f}  {said_gain(found)}  {found.verdict}"
    for run in others:
        found, place = head.against[run], head.runs.index(run)
        right, wrong = len(found.became_right), len(found.became_wrong)
        yield f"  {shortened(run, 60)} changes"
        yield f"    photos: {right:,} became right, {wrong:,} became wrong"
        people = f"{found.people_better:,} better, {found.people_worse:,} worse"
        yield f"    people: {people}, sign test p = {found.sign_test:.2g}"
        same, together = head.same_answers[0][place], head.error_correlation[0][place]
        yield f"    same answer on {same:.1%} of the photos, errors correlate {together:.2f}"


def _curves(comparison: Comparison) -> Iterator[str]:
    for quantity in quantities(comparison):
        curves = {run: known[quantity] for run, known in comparison.curves.items() if quantity in known}
        epochs = sorted({epoch for curve in curves.values() for epoch in curve})
        shown = shown_epochs(epochs, {max(curve) for curve in curves.values()})
        yield fitted(quantity, NAME + 2) + "".join(f" {f'epoch {epoch}':>8}" for epoch in shown)
        for run, curve in curves.items():
            cells = (f"{curve[epoch]:.4f}" if epoch in curve else "" for epoch in shown)
            yield f"  {fitted(run, NAME)}" + "".join(f" {cell:>8}" for cell in cells)
    if any(comparison.curves.values()):
        yield "  (means over folds; losses compare only under the same loss and objective)"


def shown_epochs(epochs: list[int], lasts: Set[int]) -> list[int]:
    """At most six of the epochs: the last one of every run, and of the others what fits, evenly."""
    others = [epoch for epoch in epochs if epoch not in lasts]
    room = max(0, EPOCHS_SHOWN - len(lasts))
    between = others[:: -(-len(others) // room)] if room and others else []
    return sorted({*lasts, *between})[-EPOCHS_SHOWN:]


def quantities(comparison: Comparison) -> list[str]:
    """What there are learning curves of."""
    return list(dict.fromkeys(name for known in comparison.curves.values() for name in known))


def _wrapped(sentences: Iterator[str] | list[str], start: str) -> Iterator[str]:
    for sentence in sentences:
        yield from textwrap.wrap(
            one_line(sentence), 80, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False
        )
