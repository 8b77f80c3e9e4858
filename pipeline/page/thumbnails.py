"""Small pictures of photos that travel inside the page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from pipeline.augment import Pixels
from pipeline.drawing import encode_photo
from pipeline.images import stacked

SIDE = 96  # pixels


def data_uris(paths: Sequence[Path], side: int = SIDE) -> list[str]:
    """Each photo squeezed to a square, as a ``data:`` address.

    Args:
        paths: The files.
        side: Of the square, in pixels.

    Raises:
        LayoutError: A photo cannot be read.
    """
    return [data_uri(photo) for photo in stacked(paths, side)]


def data_uri(photo: Pixels) -> str:
    """The (height, width, 3) pixels as the ``data:`` address of a JPEG."""
    return "data:image/jpeg;base64," + base64.b64encode(encode_photo(photo, ".jpg")).decode()
