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

from flame_nerf.data.mixtures import mixtures_of

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
NEARBY = 2.5
"""Half the side of the square in which both colours are taken, in depths."""


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
    """Pixels near a matte's edge that may be mixtures."""

    row: Int[np.ndarray, " N"]
    column: Int[np.ndarray, " N"]
    depth: Float[np.ndarray, " N"]
    """How far inside of the edge they lie, pixels; 0 outside."""
    box: tuple[slice, slice]
    """Part of the picture that holds the edge and what is near it."""
    inside: Bool[np.ndarray, "h w"]
    """Pixels of that part deeper inside,"""
    outside: Bool[np.ndarray, "h w"]
    """and those as far outside."""
    near: int
    """Half the side of the square in which both are looked for, pixels."""


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
    if side < SMALLEST or person.all():
        return None
    deepest = min(deepest, max(2.0, DEEPEST * side))
    near = max(1, round(NEARBY * deepest))
    # Distances are looked for in the box that holds the edge and what is near it.
    left, top, width, height = cv2.boundingRect(matte)
    left, top, right, bottom = max(left - near, 0), max(top - near, 0), left + width + near, top + height + near
    box = slice(top, bottom), slice(left, right)
    inner = person[box].astype(np.uint8)
    depth, away = (cv2.distanceTransform(part, cv2.DIST_L2, 3) for part in (inner, 1 - inner))
    asked = (depth <= deepest) & (matte[box] > 0)
    row, column = np.nonzero(asked)
    return _Edge(row + top, column + left, depth[asked], box, depth > deepest, away > deepest, near)


def _mixtures(picture: UInt8[np.ndarray, "H W 3"], edge: _Edge) -> _Mixtures:
    """The pixels of an edge as mixtures of what lies around them to both sides."""
    pixels = edge.row - edge.box[0].start, edge.column - edge.box[1].start
    found = mixtures_of(picture[edge.box], edge.inside, edge.outside, pixels, edge.near)
    told = found.person.known & found.behind.known
    person, behind, contrast = found.person.mean[told], found.behind.mean[told], found.contrast[told]
    share = np.clip(found.share[told], 0.0, 1.0)
    noise = ((person - behind) ** 2 * (found.person.variance[told] + NOISE**2)).sum(axis=1)
    deviation = np.sqrt(noise) / contrast**2
    distinct = _smoothly(contrast, *DISTINCT)
    likely = distinct * _smoothly((1 - share) / deviation, *UNLIKELY)
    return _Mixtures(edge.row[told], edge.column[told], edge.depth[told], person, behind, share, distinct, likely)


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
