"""Anti-aliased outlines: more rays where a picture's opacity varies, and only there."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

ACROSS = 2
"""Rays across such a pixel, and down it."""
LEAST_CHANGE = 0.05
"""Change of opacity among a pixel and its eight neighbours above which it has more rays: a twentieth of a head's
pixels. Below, they would change the picture by less than is seen."""


def outline_pixels(accumulation: Float[Tensor, "H W"]) -> Int[Tensor, " P"]:
    """Pixels, numbered row by row, near which opacity varies."""
    opacity = accumulation[None]
    highest = torch.nn.functional.max_pool2d(opacity, 3, stride=1, padding=1)
    lowest = -torch.nn.functional.max_pool2d(-opacity, 3, stride=1, padding=1)
    return (highest - lowest > LEAST_CHANGE).flatten().nonzero()[:, 0]


def places_within(pixels: Int[Tensor, " P"], width: int) -> Float[Tensor, "P*S 2"]:
    """Rows and columns, as of Nerfstudio's image coordinates, of the middles of S equal squares of each pixel."""
    steps = (torch.arange(ACROSS, device=pixels.device) + 0.5) / ACROSS
    within = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1).reshape(-1, 2)
    corners = torch.stack([pixels // width, pixels % width], dim=1)
    return (corners[:, None] + within).reshape(-1, 2)


def averaged(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """One row a pixel from a row each of the rays within it. Depth is the mean of what the rays meet."""
    parts = {name: outputs[name].unflatten(0, (-1, ACROSS**2)) for name in ("rgb", "accumulation", "depth")}
    opacity = parts["accumulation"].sum(dim=1)
    depth = (parts["depth"] * parts["accumulation"]).sum(dim=1) / opacity.clamp_min(1e-10)
    return {"rgb": parts["rgb"].mean(dim=1), "accumulation": opacity / ACROSS**2, "depth": depth}
