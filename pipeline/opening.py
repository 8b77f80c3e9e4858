"""The one door through which pictures are opened: known formats, bearable sizes, the first frame to its last pixel."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from pipeline.errors import LayoutError
from pipeline.reading import read_limited

# decoded in this process, where for EPS Pillow would start a program; MPO, JPEGs in a row, comes with JPEG
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
MOST_PIXELS = 89_478_485  # 256 MiB as RGB
MOST_BYTES = 512 * 2**20


def picture_bytes(file: Path) -> bytes:
    """The bytes of a picture's file.

    Raises:
        LayoutError: It cannot be read, is empty or far too large.
    """
    try:
        content = read_limited(file, MOST_BYTES)
    except OSError as error:
        raise LayoutError(f"cannot be read: {error.strerror or error}") from error
    if not content:
        raise LayoutError("is empty")
    return content


def decoded(content: bytes) -> Image.Image:
    """The first frame of a picture, as it is stored; its size is judged by the header, before a pixel is decoded.

    Raises:
        LayoutError: It is no picture of a known format, too large, damaged or truncated.
    """
    return glanced(content, 0)[1]


def glanced(content: bytes, least: int) -> tuple[tuple[int, int], Image.Image]:
    """The (width, height) of a picture as it is stored, and the picture, decoded to its end but not always in full.

    Args:
        content: Its bytes.
        least: A JPEG is decoded at half, a quarter or an eighth where both sides keep so many pixels, which takes a
            fifth of the time; 0 = in full.

    Raises:
        LayoutError: It is no picture of a known format, too large, damaged or truncated.
    """
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
        width, height = picture.size
        if width * height > MOST_PIXELS:
            raise LayoutError(_too_large(f"{width} x {height} pixels"))
        if least:
            picture.draft(None, (least, least))
        picture.load()
        return (width, height), picture
    except UnidentifiedImageError:
        raise LayoutError("is not an image (JPEG, PNG, BMP, WEBP or TIFF)") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:  # Pillow's own look at the header
        raise LayoutError(_too_large(str(error))) from error
    except LayoutError:
        raise
    except Exception as error:  # on damaged bytes, Pillow's decoders raise nearly anything
        raise LayoutError(f"cannot be read: {error or type(error).__name__}") from error


def _too_large(size: str) -> str:
    return f"is too large to be decoded safely: {size}; make it smaller, at most {MOST_PIXELS:,} pixels"
