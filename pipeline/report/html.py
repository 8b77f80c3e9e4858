"""The report as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from heads.registry import HEADS, JOINT
from pipeline.errors import LayoutError
from pipeline.page.render import write_page
from pipeline.report.detail import by_value
from pipeline.report.gallery import examples, wrong_photos
from pipeline.report.oof import OofReport
from pipeline.report.photos import find_photos, with_thumbs
from pipeline.report.plots import age_chart, learning_charts, reliability_chart
from pipeline.report.shown import Known, Shown
from pipeline.terminal import one_line

MEASURES = {"log_loss": "log-loss", "brier": "Brier score", "classwise_ece": "calibration error"}


@dataclass(frozen=True, slots=True)
class Written:
    """What stands on a page: its size in bytes, how many photos it shows, and why none where there is none."""

    size: int
    photos: int
    note: str


def write_html(
    file: Path,
    report: OofReport,
    detail: Mapping[str, Any],
    shown: Shown,
    runs: Sequence[Known],
    *,
    data: Path | None,
    most: int,
    cams: int,
) -> Written:
    """Write the page.

    Args:
        file: Where to.
        report: The scores.
        detail: `pipeline.report.detail.make_detail` of the same runs.
        shown: The runs that are looked at closely.
        runs: All runs of the report.
        data: Where the photos are; None = where the newest run was trained, if they are still there.
        most: Mistakes of each head in the gallery.
        cams: Mistakes of each head that get a map of what spoke for the answer.

    Raises:
        PipelineError: ``data`` holds other photos, a run is damaged, or the page cannot be written.
    """
    wrong = wrong_photos(shown, runs, most)
    cells = examples(shown.joint) if shown.joint else {}
    worst = [each["photo"] for of_head in wrong.values() for each in of_head]
    ids = list(dict.fromkeys([*worst, *(name for names in cells.values() for name in names)]))
    photos = with_thumbs(find_photos(shown, data), ids)
    if cams and photos.thumbs:
        from pipeline.report.cam import with_maps

        photos = with_maps(photos, shown, wrong, cams)
    ages = {head: by_value(seen, photos.of(head, seen.oof.ids.tolist())) for head, seen in shown.heads.items()}
    values = {
        "title": "Out-of-fold report",
        "command": "pipe oof-report --html",
        "report": report.as_dict(),
        "heads": [_head(head, shown, detail, ages[head]) for head in shown.heads],
        "detail": detail,
        "states": _states(detail["by_state"]),
        "joint_classes": JOINT.classes,
        "note": photos.note,
        "measures": MEASURES,
        "most": most,
        "numbers": {"report": report.as_dict(), "detail": detail, "by_value": ages},
        "gallery": {
            "classes": {head: list(seen.oof.classes) for head, seen in shown.heads.items()},
            "wrong": wrong,
            "thumbs": photos.thumbs,
            "cams": {f"{head}\n{name}": address for (head, name), address in photos.cams.items()},
            "examples": {f"{truth},{taken}": names for (truth, taken), names in cells.items()},
            "first": report.next.head if report.next and report.next.head in shown.heads else next(iter(shown.heads)),
        },
    }
    return Written(write_page(file, "oof.html", **values), len(photos.thumbs), photos.note)


def _head(head: str, shown: Shown, detail: Mapping[str, Any], ages: list[dict[str, Any]]) -> dict[str, Any]:
    """What the section of a head shows."""
    run, info = shown.runs[head]
    seen = shown.heads[head]
    try:
        learning, why = learning_charts(run, head, len(info["classes"])), ""
    except LayoutError as error:
        learning, why = [], one_line(str(error))
    edges = HEADS[head].edges if head in HEADS else ()
    return {
        "name": head,
        "run": run.name,
        "classes": seen.oof.classes,
        "about": detail["heads"][head],
        "reliability": reliability_chart(head, detail["heads"][head]["curves"]),
        "learning": learning,
        "no_history": why,
        "ages": age_chart(head, ages, edges) if ages else Markup(""),
        "edges": edges,
    }


def _states(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows by state, with how far each is below the head's best state."""
    return [dict(row) | {"behind": _behind(row, rows)} for row in rows]


def _behind(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> float:
    return max(_of_head(row["head"], rows)) - float(row["accuracy"])


def _of_head(head: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[float]:
    return (float(row["accuracy"]) for row in rows if row["head"] == head)


def told(written: Written, file: Path) -> str:
    """A line on what was written."""
    about = f"{written.size / 2**20:.1f} MB"
    return f"page: {file} ({about}, {written.photos} photos)" + (
        f"\n  no photos: {written.note}" if written.note else ""
    )
