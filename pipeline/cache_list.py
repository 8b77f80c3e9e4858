"""What the cache of resized photos holds, told; and made smaller on request."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.entries import Entry, entries, evict
from pipeline.files import remove
from pipeline.findings import many
from pipeline.findings import size as bytes_in_words
from pipeline.locks import unused


def shrunk(folder: Path, gib: float) -> list[str]:
    """Remove the least recently used entries until at most so many GiB are left; what was removed, a line each.

    Raises:
        ArtifactError: A file cannot be removed.
    """
    return [what for _, what in evict(folder, int(gib * 2**30))]


def cleared(folder: Path) -> list[str]:
    """Remove all entries that nobody uses, and what is remembered of photos; what was removed, a line each.

    Raises:
        ArtifactError: A file cannot be removed.
    """
    removed = [what for _, what in evict(folder, -1)]
    remove(folder.glob("contents-*.json"))
    return removed


def listing(folder: Path) -> dict[str, Any]:
    """The entries of a cache in plain values, the most recently used first."""
    rows = [row for entry in reversed(entries(folder)) if (row := _row(entry))]
    return {"folder": str(folder), "size": sum(row["size"] for row in rows), "entries": rows}


def _row(entry: Entry) -> dict[str, Any] | None:
    """What there is to tell of an entry; nothing of one that is not whole."""
    facts = entry.facts
    if facts is None:
        return None
    with unused(entry.lock) as free:
        used = datetime.fromtimestamp(entry.last_used, UTC)
        return {
            "file": str(entry.array),
            "pixels": facts["pixels"],
            "photos": facts["photos"],
            "size": entry.size,
            "last_used": used.isoformat(timespec="seconds"),
            "in_use": not free,
        }


def render(found: dict[str, Any]) -> str:
    """The listing as text for people."""
    lines = [f"removed {what}" for what in found["removed"]]
    rows = found["entries"]
    if not rows:
        return "\n".join([*lines, f"no resized photos are kept in {found['folder']}"])
    if any(row["in_use"] for row in rows):
        lines.append("what is in use (or on a disk without locks) stays")
    lines.append(f"{found['folder']}: {many(len(rows), 'list')} of photos, {bytes_in_words(found['size'])}")
    lines.append(f"  {'pixels':>6} {'photos':>9} {'size':>12}  {'last used':<16}  in use")
    for row in rows:
        used = datetime.fromisoformat(row["last_used"]).astimezone().strftime("%Y-%m-%d %H:%M")
        use = "yes" if row["in_use"] else "no"
        lines.append(f"  {row['pixels']:>6} {row['photos']:>9,} {bytes_in_words(row['size']):>12}  {used:<16}  {use}")
    return "\n".join(lines)
