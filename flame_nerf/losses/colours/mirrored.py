"""Colour for a side of the head that no camera saw, from the other side where one did: heads are about symmetric."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

REACH = 0.02
"""How far from a vertex's mirror image its twin may lie, as a share of the head's width: neither people nor meshes are
symmetric to the millimetre."""
FEWEST_PAIRS = 20
"""Pairs of twins that were both seen, from which on they tell how the light differs from side to side."""
BRIGHTEST = 2.0
"""Ratio of colours from side to side at most, and its inverse at least."""


def twins(vertices: Float[np.ndarray, "V 3"], hair: Bool[Tensor, " V"]) -> tuple[Int[Tensor, " V"], Bool[Tensor, " V"]]:
    """The vertex that lies where each one's mirror image does, and whether there is one of the same kind.

    Args:
        vertices: of the canonical head, metres; x is to its left.
        hair: which of them bear hair: a twin does, too, or neither.
    """
    away, twin = cKDTree(vertices).query(vertices * np.array([-1.0, 1.0, 1.0], vertices.dtype))
    twin = torch.from_numpy(twin)
    near = torch.from_numpy(away <= REACH * float(np.ptp(vertices[:, 0])))
    return twin, near & (hair == hair[twin])


def mirrored_colours(
    colours: Float[Tensor, "V 3"],
    seen: Bool[Tensor, " V"],
    vertices: Float[np.ndarray, "V 3"],
    hair: Bool[Tensor, " V"],
) -> tuple[Float[Tensor, "V 3"], Bool[Tensor, " V"]]:
    """Colours of what was not seen itself, but its twin was, with where that is so.

    Light falls from one side: hair and skin of each side are as much darker or brighter than their twins as they are
    where both were seen.

    Args:
        colours: of the vertices, 0..1; whatever they are where `seen` is false.
        seen: by a camera.
        vertices, hair: as of :func:`twins`.
    """
    twin, has_twin = twins(vertices, hair)
    found = ~seen & has_twin & seen[twin]
    mirrored = colours[twin]
    ratio = (colours.clamp_min(1 / 255) / mirrored.clamp_min(1 / 255)).clamp(1 / BRIGHTEST, BRIGHTEST)
    right = torch.from_numpy(vertices[:, 0] < 0)
    result = torch.zeros_like(colours)
    for side in (right, ~right):
        for kind in (hair, ~hair):
            asked, both = found & side & kind, seen & has_twin & seen[twin] & side & kind
            gain = ratio[both].median(dim=0).values if int(both.sum()) >= FEWEST_PAIRS else torch.ones(3)
            result[asked] = (gain * mirrored[asked]).clamp(0.0, 1.0)
    return result, found
