"""Photos as points: principal components, and how far each photo lies from the others of its class.

N photos, S side of the small ones in pixels, D features, P components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heads.base import FloatArray, IntArray
from pipeline.augment import Pixels
from pipeline.eda.looking import blocks

SHRUNK = 4  # pixels of a side that are averaged to one: 48 become 12
COMPONENTS = 16
FEWEST = 5  # photos of a class, for a centre that one photo does not decide


@dataclass(frozen=True, slots=True)
class Axes:
    """Principal components.

    Attributes:
        mean: (D,) of the features.
        directions: (P, D) of unit length, the one of most variance first.
        shares: (P,) share of the variance.
    """

    mean: FloatArray
    directions: FloatArray
    shares: FloatArray


def features(small: Pixels) -> FloatArray:
    """The (N, D) colours of the photos, averaged over squares; 0 to 1."""
    n, side = len(small), small.shape[1] // SHRUNK
    found = np.empty((n, side * side * 3), dtype=np.float32)
    for rows in blocks(n):
        squares = small[rows].reshape(-1, side, SHRUNK, side, SHRUNK, 3)
        found[rows] = squares.mean(axis=(2, 4), dtype=np.float32).reshape(-1, found.shape[1]) / 255
    return found


def principal_axes(points: FloatArray, n_components: int = COMPONENTS) -> Axes:
    """The components of (N, D) points, by the eigenvectors of their (D, D) covariance; N does not matter for memory.

    A direction's largest part is positive, so that the same data give the same picture. There are fewer components when
    D or N - 1 is smaller.
    """
    mean = points.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((points.shape[1], points.shape[1]))
    for rows in blocks(len(points)):
        centred = points[rows] - mean
        covariance += centred.T @ centred
    values, vectors = np.linalg.eigh(covariance)
    order = np.argsort(-values)[: max(1, min(n_components, len(points) - 1))]
    directions = vectors[:, order].T
    largest = np.abs(directions).argmax(axis=1)
    directions = directions * np.sign(directions[np.arange(len(directions)), largest])[:, None]
    total = max(float(values.clip(0).sum()), np.finfo(float).tiny)
    return Axes(mean, directions, values[order].clip(0) / total)


def projected(points: FloatArray, axes: Axes) -> FloatArray:
    """The (N, P) coordinates of (N, D) points."""
    found = np.empty((len(points), len(axes.directions)))
    for rows in blocks(len(points)):
        found[rows] = (points[rows] - axes.mean) @ axes.directions.T
    return found


def distances(coordinates: FloatArray, classes: IntArray) -> FloatArray:
    """How far each photo lies from the middle of its class, in units of what is usual for the class.

    Each component is divided by its spread within classes; the middle is the median, and the distance is divided by the
    median distance of the class, so 1 is usual.

    Args:
        coordinates: (N, P).
        classes: (N,) class of each photo; -1 = none.

    Returns:
        (N,); NaN without a class, or in one of fewer than five photos.
    """
    centred = np.full_like(coordinates, np.nan)
    for index in np.unique(classes[classes >= 0]):
        rows = classes == index
        if rows.sum() >= FEWEST:
            centred[rows] = coordinates[rows] - np.median(coordinates[rows], axis=0)
    known = ~np.isnan(centred[:, 0])
    found = np.full(len(coordinates), np.nan)
    if known.any():
        spread = np.sqrt((centred[known] ** 2).mean(axis=0))
        found[known] = np.linalg.norm(centred[known] / np.where(spread > 0, spread, 1), axis=1)
    for index in np.unique(classes[known]):
        rows = known & (classes == index)
        usual = float(np.median(found[rows]))
        found[rows] = found[rows] / usual if usual > 0 else 0.0
    return found
