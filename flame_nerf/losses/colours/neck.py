"""Colour for the neck's hidden side from what was seen at the same height: collars go around necks."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flame_nerf.losses.silhouette import UPRIGHT

NEAREST = 0.005
"""Metres below which a seen vertex is no nearer than another: what is seen there is averaged."""
SHARPNESS = 4
"""Power of the distance by which what was seen farther away counts less."""


def around_the_neck(
    colours: Float[Tensor, "V 3"],
    known: Bool[Tensor, " V"],
    wanted: Bool[Tensor, " V"],
    vertices: Float[np.ndarray, "V 3"],
) -> Float[Tensor, "V 3"]:
    """Colours of the wanted vertices: means over the known ones, by how near they are and, above all, at what height.

    Harmonic colours would run from the hairline to the shoulders in one gradient: a collar, whose edge is filmed to the
    outline, ends there in mist.

    Args:
        colours: of the vertices, 0..1; whatever they are where `known` is false.
        known: at least one.
        wanted: those asked for; the others keep theirs.
        vertices: of the canonical head, metres; y is up.
    """
    places = torch.from_numpy(vertices).float() * torch.tensor([1.0, UPRIGHT, 1.0])
    weight = (torch.cdist(places[wanted], places[known]) + NEAREST) ** -SHARPNESS
    out = colours.clone()
    out[wanted] = weight @ colours[known] / weight.sum(dim=1, keepdim=True)
    return out
