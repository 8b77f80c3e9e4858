"""A canvas in units, and the outlines that faces are drawn with.

Units are whatever the canvas's matrix makes of them; x grows to the right and y downwards. Colours are RGB, 0 to 255.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
Photo = NDArray[np.uint8]  # (height, width, 3), RGB
Points = NDArray[np.float64]  # (P, 2), units
SUBPIXEL_BITS = 4


@dataclass(frozen=True, slots=True)
class Canvas:
    """Pixels to draw on in place, and the (2, 3) matrix that takes units to pixels."""

    pixels: Photo
    to_pixels: Points

    def moved(self, x: float, y: float = 0.0) -> "Canvas":
        """The same pixels seen from an origin moved by ``x``, ``y`` units."""
        origin = self.to_pixels @ np.array([x, y, 1.0])
        return Canvas(self.pixels, np.column_stack([self.to_pixels[:, :2], origin]))

    def _fixed_point(self, points: Points) -> list[NDArray[np.int32]]:
        placed = points @ self.to_pixels[:, :2].T + self.to_pixels[:, 2]
        return [np.asarray(np.round(placed * 2**SUBPIXEL_BITS), dtype=np.int32)]

    def fill(self, points: Points, colour: Colour, alpha: float = 1.0) -> None:
        """Paint the inside of a closed outline."""
        layer = self.pixels.copy() if alpha < 1 else self.pixels
        cv2.fillPoly(layer, self._fixed_point(points), colour, cv2.LINE_AA, SUBPIXEL_BITS)
        self._blend(layer, alpha)

    def stroke(self, points: Points, colour: Colour, width: float, alpha: float = 1.0) -> None:
        """Paint an open line, ``width`` units thick."""
        layer = self.pixels.copy() if alpha < 1 else self.pixels
        thickness = max(1, round(width * float(np.hypot(*self.to_pixels[:, 0]))))
        cv2.polylines(layer, self._fixed_point(points), False, colour, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
        self._blend(layer, alpha)

    def _blend(self, layer: Photo, alpha: float) -> None:
        if layer is not self.pixels and alpha > 0:
            cv2.addWeighted(layer, alpha, self.pixels, 1 - alpha, 0, dst=self.pixels)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour ``share`` of the way from ``first`` to ``second``."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def oval(x: float, y: float, width: float, height: float) -> Points:
    """Outline of an ellipse around (x, y) with these half axes."""
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    return np.column_stack([x + width * np.cos(angles), y + height * np.sin(angles)])


def arc(left: float, right: float, y: float, sag: float) -> Points:
    """A line from ``left`` to ``right`` at height ``y`` whose middle hangs ``sag`` units lower."""
    along = np.linspace(-1, 1, 12)
    return np.column_stack([np.interp(along, [-1, 1], [left, right]), y + sag * (1 - along**2)])


def lens(middle: float, half: float, y: float, sags: tuple[float, float]) -> Points:
    """The area between two arcs around ``middle``, ``half`` units to either side."""
    return np.vstack([arc(middle - half, middle + half, y, sags[0]), arc(middle + half, middle - half, y, sags[1])])


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """An upright rectangle."""
    return outline((left, top), (right, top), (right, bottom), (left, bottom))


def outline(*corners: Sequence[float]) -> Points:
    """An outline with sharp corners."""
    return np.array(corners, dtype=float)


def rounded(*corners: Sequence[float]) -> Points:
    """A closed outline whose corners are cut three times (Chaikin's curve)."""
    points = outline(*corners)
    for _ in range(3):
        following = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], axis=1).reshape(-1, 2)
    return points


def squared(photo: Photo, side: int) -> Photo:
    """The photo at ``side`` x ``side`` pixels: its own pixels larger, or fewer of them."""
    how = cv2.INTER_AREA if side < len(photo) else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(photo, (side, side), interpolation=how), dtype=np.uint8)


def write(pixels: Photo, text: str, left: int, bottom: int, width: int) -> None:
    """Write one line of ASCII in place, black, as large as fits into ``width`` pixels but not above 11 pixels."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.42
    (long, _), _ = cv2.getTextSize(text, font, scale, 1)
    scale *= min(1.0, width / max(long, 1))
    cv2.putText(pixels, text, (left, bottom), font, scale, (0, 0, 0), 1, cv2.LINE_AA)
