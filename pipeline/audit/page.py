"""The page of an audit: suspects with their photos, a decision each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heads.registry import head_named
from pipeline.audit.audit import Audit, Shot
from pipeline.audit.overlay import Decision, Row, decision_in, read_overlay, speaks_of
from pipeline.audit.suspects import Suspect, shot_of
from pipeline.audit.text import label_in_words
from pipeline.fixes import SWAP
from pipeline.page.render import render, write_page
from pipeline.page.thumbnails import data_uris

TEMPLATE = "audit.html"
MOST_SHOTS = 12  # of a person


def pictures(audit: Audit, limit: int) -> dict[Path, str]:
    """File -> small picture as a ``data:`` address, for the strongest suspects.

    Raises:
        LayoutError: A photo cannot be read.
    """
    files = list(dict.fromkeys(s.file for one in audit.suspects[:limit] for s in shown_shots(audit, one)))
    return dict(zip(files, data_uris(files), strict=True))


def shown_shots(audit: Audit, suspect: Suspect) -> list[Shot]:
    """The photos that help to judge a suspect: those it is about first, then others of the person."""
    shots = audit.shots[suspect.person]
    return sorted(shots, key=lambda shot: shot.id not in suspect.photos)[:MOST_SHOTS]


def write_audit(file: Path, audit: Audit, limit: int, again: str, *, command: str) -> int:
    """Write the page; its size in bytes.

    Raises:
        ArtifactError: It cannot be written.
        LayoutError: A photo, or the fixes that the runs were trained with, cannot be read.
    """
    earlier = read_overlay(audit.fixes) if audit.fixes else []
    return write_page(file, TEMPLATE, **values_of(audit, limit, pictures(audit, limit), earlier, again, command, ""))


def review_page(audit: Audit, limit: int, drawn: dict[Path, str], rows: Sequence[Row], again: str, file: str) -> str:
    """The same page, whose decisions go to the server that gave it."""
    return render(TEMPLATE, **values_of(audit, limit, drawn, rows, again, "pipe review", file))


def values_of(
    audit: Audit, limit: int, drawn: dict[Path, str], rows: Sequence[Row], again: str, command: str, saved_to: str
) -> dict[str, Any]:
    """What the template shows.

    Args:
        audit: What was found.
        limit: Most suspects.
        drawn: `pictures`.
        rows: The label fixes that there are; a page that is only a file exports them first.
        again: The command that trains with what was decided.
        command: What made the page.
        saved_to: The file that decisions are saved to; empty = the page keeps them itself.
    """
    found = audit.suspects[:limit]
    decided = [decision_in(rows, one) for one in found]
    others = [row for row in rows if not any(speaks_of(row, one) for one in found)]
    return {
        "title": "Labels that may be wrong",
        "again": again,
        "command": command,
        "saved_to": saved_to,
        "earlier": json.dumps([] if saved_to else others),
        "left_out": len(audit.suspects) - len(found),
        "runs": audit.runs,
        "photos": audit.photos,
        "heads": list(dict.fromkeys(one.head for one in found)),
        "cases": [
            _case(audit, number, one, decision, drawn)
            for number, (one, decision) in enumerate(zip(found, decided, strict=True))
        ],
    }


def _case(
    audit: Audit, number: int, suspect: Suspect, decision: Decision | None, drawn: dict[Path, str]
) -> dict[str, Any]:
    head = head_named(suspect.head)
    is_swap = suspect.column == SWAP
    return {
        "number": number,
        "suspect": suspect,
        "what": label_in_words(suspect),
        "word": decision.word if decision else "",
        "value": decision.value if decision else suspect.value,
        "classes": () if is_swap or head.edges else head.classes,
        "limits": head.limits if head.edges and not is_swap else (),
        "shots": [
            {
                "name": shot_of(shot.id),
                "id": shot.id,
                "about": shot.id in suspect.photos,
                "src": drawn[shot.file],
                "given": shot.given.get(suspect.head, "no label"),
                "taken": shot.taken.get(suspect.head, ""),
                "p": shot.probs.get(suspect.head, 0.0),
            }
            for shot in shown_shots(audit, suspect)
        ],
    }
