"""Reports as plain text that fits a terminal of 80 columns and a log file."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap
from typing import Any

from pipeline.report.oof import HeadReport, JointReport, OofReport
from pipeline.terminal import one_line

FORMULA = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"  # the last four are the wide forms of the first


def render(report: OofReport) -> str:
    """The whole report."""
    blocks = ["\n".join(_head(head)) for head in report.heads]
    blocks.append("\n".join(_joint(report.joint)) if report.joint else report.missing)
    if report.next:
        blocks.append("\n".join(wrap(one_line(f"next: {report.next.why}"), 78)))
    return "\n\n".join(blocks)


def csv_rows(report: OofReport) -> Iterator[list[object]]:
    """One row a class of every head and of the 18 classes, for spreadsheets."""
    sources = [(head.run, head.head, head.macro_f1, head.classes) for head in report.heads]
    if report.joint:
        sources.append(
            (
                "+".join(dict.fromkeys(report.joint.runs.values())),
                "18 classes",
                report.joint.macro_f1,
                report.joint.classes,
            )
        )
    for run, head, score, classes in sources:
        for name, row in classes.items():
            yield [
                defused(run),
                defused(head),
                f"{score:.6f}",
                defused(name),
                *(f"{row[k]:.6f}" for k in ("precision", "recall", "f1")),
                int(row["photos"]),
            ]


def defused(cell: str) -> str:
    """Text for a spreadsheet, which takes what looks like a formula for one; an apostrophe makes it text again."""
    start = cell.lstrip(" \"'")[:1]
    return f"'{cell}" if start and start in FORMULA else cell


CSV_HEADER = ["run", "head", "macro_f1", "class", "precision", "recall", "f1", "photos"]


def _head(report: HeadReport) -> Iterator[str]:
    low, high = report.interval_95
    yield one_line(f"{report.run}: {report.head} ({report.objective})")
    spread = f"folds {min(report.folds):.3f}-{max(report.folds):.3f}"
    yield f"  macro F1 {report.macro_f1:.4f}, 95 % {low:.3f}-{high:.3f} over people, {spread}"
    years = "" if report.mean_absolute_error is None else f", off by {report.mean_absolute_error:.1f} years on average"
    yield f"  accuracy {report.accuracy:.4f}, log-loss {report.log_loss:.4f}{years}"
    yield from _classes(report.classes)


def _joint(report: JointReport) -> Iterator[str]:
    low, high = report.interval_95
    yield "18 classes"
    yield from (f"  {head:<8} from {run}" for head, run in report.runs.items())
    yield f"  macro F1 {report.macro_f1:.4f}, 95 % {low:.3f}-{high:.3f} over people"
    yield f"  accuracy {report.accuracy:.4f} on {report.photos} photos"
    yield from _classes(report.classes)
    yield "  what each head costs: macro F1 if it alone were perfect"
    for head, score in sorted(report.if_perfect.items(), key=lambda item: -item[1]):
        yield f"    {head:<8} {score:.4f}  ({score - report.macro_f1:+.4f})"
    yield "  most frequent confusions"
    for truth, taken, photos, share in report.confusions:
        yield f"    {truth:<24} taken for {taken:<24} {photos:5d} ({share:.0%})"


def _classes(classes: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield f"    {'class':<24} precision  recall      F1  photos"
    for name, row in classes.items():
        yield f"    {name:<24} {row['precision']:9.3f} {row['recall']:7.3f} {row['f1']:7.3f} {row['photos']:7.0f}"
