"""The heads by name; a new head is one file and one line here. No torch, so that reading results stays quick."""

from __future__ import annotations

import difflib

from heads import age, gender, joint, mask
from heads.base import Head, HeadError

HEADS: dict[str, Head] = {head.name: head for head in (mask.HEAD, gender.HEAD, age.HEAD, joint.HEAD)}
JOINT: Head = joint.HEAD
LABELS: tuple[Head, ...] = JOINT.parts


def head_named(name: str) -> Head:
    """The head called ``name``.

    Raises:
        HeadError: There is none; the message names the nearest.
    """
    if name in HEADS:
        return HEADS[name]
    if "," in name:
        raise HeadError(f"unknown head {name!r}; separate heads by spaces: {' '.join(name.replace(',', ' ').split())}")
    near = difflib.get_close_matches(name, HEADS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"heads are: {', '.join(HEADS)}"
    raise HeadError(f"unknown head {name!r}; {hint}")
