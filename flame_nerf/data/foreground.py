"""Colours of the person alone along the edge of a matte: lenses, chroma subsampling and mattes that are too wide mix
what is behind into the outermost pixels, and a field learns it as a rim.

A pixel there is taken for a mixture of what lies around it well inside and well outside of the matte, and the second
part is exchanged for the first (the compositing equation I = share F + (1 - share) B, solved for F).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

DEEPEST = 0.03
"""How far inside of the edge a mixture is looked for, as a share of the square root of the matte's area: 5 pixels of a
head of 180."""
SMALLEST = 32.0
"""Square root of the area of a matte, pixels, that has an inside to compare its edge with."""
CLEAN = 0.93
"""Share of the person, in the middle of all pixels at a depth, from which on that depth holds no mixture."""
FEWEST = 50
"""Pixels at a depth that say how it is there."""
LEAK = 0.25
"""Share of the person below which a pixel may be deeper inside than that: there the matte took background along."""
DISTINCT = 24.0, 48.0
"""Difference of the colours inside and outside, in levels, from which on they can be told apart; and surely."""
UNLIKELY = 1.5, 3.0
"""Standard deviations from the colour inside from which on a pixel may be a mixture; and surely is."""
NOISE = 6.0
"""Standard deviation that a plain colour has in a film, levels."""
SPREAD = 1.5
"""Width of the window in which both colours are taken, in depths."""


def foreground_colours(
    picture: UInt8[np.ndarray, "H W 3"], matte: UInt8[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W 3"]:
    """A picture whose pixels along the matte's edge show the person alone, for compositing over anything.

    Pixels that the person's own colours explain stay to the bit, and so does the edge where a matte cuts through what
    goes on behind it (a collar's): no other colour is there to tell apart.

    Args:
        picture: as filmed.
        matte: 255 = person.
    """
    edge = _edge(matte)
    if edge is None:
        return picture
    mixtures = _mixtures(picture, edge)
    full, none = _reach(mixtures)
    picture = mixtures.resolved(picture, mixtures.share < LEAK)
    # Again with the person's colour from as near to the edge as it is clean: thin hair is hair, not the skin behind it.
    edge = _edge(matte, none)
    assert edge is not None, "it was found before"
    mixtures = _mixtures(picture, edge)
    return mixtures.resolved(picture, 1 - _smoothly(mixtures.depth, full, none))


class _Edge(NamedTuple):
    """Pixels near a matte's edge."""

    row: Int[np.ndarray, " N"]
    """Of the pixels that may be a mixture."""
    column: Int[np.ndarray, " N"]
    depth: Float[np.ndarray, " N"]
    """How far inside of the edge they lie, pixels; 0 outside."""
    inside: tuple[Int[np.ndarray, " K"], Int[np.ndarray, " K"]]
    """Rows and columns of pixels deeper inside."""
    outside: tuple[Int[np.ndarray, " L"], Int[np.ndarray, " L"]]
    """And of those as far outside."""
    deepest: float
    """Pixels between the edge and either."""


class _Colours(NamedTuple):
    """Colours around each of some pixels."""

    mean: Float[np.ndarray, "N 3"]
    variance: Float[np.ndarray, "N 3"]
    known: Bool[np.ndarray, " N"]
    """Whether there are any."""


class _Mixtures(NamedTuple):
    """Pixels near an edge as mixtures of the colours to both sides of it, where there are any."""

    row: Int[np.ndarray, " N"]
    column: Int[np.ndarray, " N"]
    depth: Float[np.ndarray, " N"]
    person: Float[np.ndarray, "N 3"]
    behind: Float[np.ndarray, "N 3"]
    share: Float[np.ndarray, " N"]
    """Of the person, 0 to 1."""
    distinct: Float[np.ndarray, " N"]
    """How well both colours can be told apart, 0 to 1."""
    likely: Float[np.ndarray, " N"]
    """How far each is a mixture, and no colour of the person's own."""

    def resolved(
        self, picture: UInt8[np.ndarray, "H W 3"], wanted: Float[np.ndarray, " N"] | Bool[np.ndarray, " N"]
    ) -> UInt8[np.ndarray, "H W 3"]:
        """A picture in which they show the person alone, as far as wanted, 0 to 1."""
        mixed = self.likely * wanted
        share = (1 - (1 - self.share) * mixed)[:, None]
        # What the two colours do not explain is texture, as far as the person is there.
        rest = picture[self.row, self.column] - share * self.person - (1 - share) * self.behind
        changed, result = mixed > 0, picture.copy()
        colours = np.clip((self.person + share * rest)[changed] + 0.5, 0, 255)
        result[self.row[changed], self.column[changed]] = colours
        return result


def _edge(matte: UInt8[np.ndarray, "H W"], deepest: float = np.inf) -> _Edge | None:
    """Pixels near a matte's edge, at most `deepest` from it; None if it has none, or the head is too small to have an
    inside. The picture's border is no edge."""
    person = matte > 127
    side = float(np.sqrt(person.sum()))
    deepest = min(deepest, max(2.0, DEEPEST * side))
    around = 3 * round(SPREAD * deepest)
    # Distances are looked for in the box that holds the edge and what is near it.
    rows, columns = (np.flatnonzero((matte > 0).any(axis=axis)) for axis in (1, 0))
    if side < SMALLEST or person.all():
        return None
    top, left = max(rows[0] - around, 0), max(columns[0] - around, 0)
    box = np.s_[top : rows[-1] + around + 1, left : columns[-1] + around + 1]
    person = person[box].astype(np.uint8)
    depth, away = (cv2.distanceTransform(part, cv2.DIST_L2, 3) for part in (person, 1 - person))
    asked = (depth <= deepest) & (matte[box] > 0)
    inside, outside = ((far > deepest) & (far < deepest + around) for far in (depth, away))
    places = [(row + top, column + left) for row, column in map(np.nonzero, (asked, inside, outside))]
    return _Edge(*places[0], depth[asked], places[1], places[2], deepest)


def _colours_around(
    picture: UInt8[np.ndarray, "H W 3"], edge: _Edge, row: Int[np.ndarray, " K"], column: Int[np.ndarray, " K"]
) -> _Colours:
    """Mean and variance of some pixels' colours around each pixel of the edge, from sums over small squares."""
    # Loading the plugin does without.
    from scipy.ndimage import map_coordinates

    side = max(1, round(edge.deepest / 2))
    height, width = (-(-length // side) for length in picture.shape[:2])
    pixels = picture[row, column].astype(np.float32)
    cell = (row // side) * width + column // side
    ones = np.ones((len(pixels), 1), np.float32)
    weights = np.concatenate([ones, pixels, pixels**2], axis=1)
    sums = np.stack([np.bincount(cell, weight, height * width) for weight in weights.T], axis=1)
    blurred = cv2.GaussianBlur(
        sums.astype(np.float32).reshape(height, width, 7), (0, 0), SPREAD * edge.deepest / side,
        borderType=cv2.BORDER_ISOLATED | cv2.BORDER_CONSTANT,
    )  # fmt: skip
    place = np.stack([(at + 0.5) / side - 0.5 for at in (edge.row, edge.column)])
    found = np.stack([map_coordinates(part, place, order=1, mode="nearest") for part in np.moveaxis(blurred, 2, 0)], 1)
    count = found[:, :1]
    known = count[:, 0] > 1e-3
    mean, square = np.split(found[:, 1:] / np.maximum(count, 1e-6), 2, axis=1)
    return _Colours(mean, np.maximum(square - mean**2, 0.0), known)


def _mixtures(picture: UInt8[np.ndarray, "H W 3"], edge: _Edge) -> _Mixtures:
    """The pixels of an edge as mixtures of what lies around them to both sides."""
    inside, outside = (_colours_around(picture, edge, *part) for part in (edge.inside, edge.outside))
    told = inside.known & outside.known
    row, column = edge.row[told], edge.column[told]
    person, behind = inside.mean[told], outside.mean[told]
    apart = person - behind
    square = (apart**2).sum(axis=1) + 1e-3
    share = np.clip(((picture[row, column] - behind) * apart).sum(axis=1) / square, 0.0, 1.0)
    deviation = np.sqrt((apart**2 * (inside.variance[told] + NOISE**2)).sum(axis=1)) / square
    distinct = _smoothly(np.sqrt(square), *DISTINCT)
    likely = distinct * _smoothly((1 - share) / deviation, *UNLIKELY)
    return _Mixtures(row, column, edge.depth[told], person, behind, share, distinct, likely)


def _reach(mixtures: _Mixtures) -> tuple[float, float]:
    """Depths to which all, and from which on none, of a picture's pixels may be mixtures, in pixels.

    A lens and its film blur every edge alike, while shading darkens one cheek: the middle over all of the outline
    tells the one from the other.
    """
    apart = mixtures.distinct > 0.9
    share, depth = mixtures.share[apart], mixtures.depth[apart]
    deepest = 0
    while True:
        there = (depth > deepest) & (depth <= deepest + 1)
        if np.count_nonzero(there) < FEWEST or np.median(share[there]) >= CLEAN:
            return (deepest + 0.5, deepest + 2.0) if deepest else (0.0, 1.0)
        deepest += 1


def _smoothly(value: Float[np.ndarray, " N"], low: float, high: float) -> Float[np.ndarray, " N"]:
    """From 0 at `low` to 1 at `high`."""
    part = np.clip((value - low) / (high - low), 0.0, 1.0)
    return part * part * (3 - 2 * part)
