"""How much more substance is expected in the head's mesh than off it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flame_nerf.canonical import CanonicalMapping
from flame_nerf.kernels.availability import cpu_kernels_cover
from flame_nerf.render.step_rays import StepRays

THINNEST_SHELL = 1e-4
"""Metres: where a region's shell has no thickness at all, densities fall as if it had this."""


class Falloff(nn.Module):
    """What densities are multiplied by: exp(-falloff) as much at the shell's edge as at the mesh and inside of it.

    Attributes:
        by_face: logarithm at each face, and slope per metre.
    """

    by_face: Float[Tensor, "F 2"]

    def __init__(self, falloff: float, thickness: Float[Tensor, " F"], flat: Bool[Tensor, " F"]):
        """
        Args:
            falloff: see `SamplingConfig.falloff`.
            thickness: of each face's shell, metres.
            flat: faces off which densities do not fall.
        """
        super().__init__()
        fall = log_falloff(falloff, thickness)
        fall[flat] = 0.0
        self.register_buffer("by_face", fall, persistent=False)

    @torch.no_grad()
    def forward(
        self,
        mapping: CanonicalMapping,
        points: Float[Tensor, "N 3"],
        face: Int[Tensor, " N"],
        distance: Float[Tensor, " N"],
    ) -> Float[Tensor, " N"]:
        """Factors of the densities at canonical points.

        Args:
            mapping: knows what is inside the canonical mesh.
            points: metres.
            face: nearest faces.
            distance: from them, metres.
        """
        if cpu_kernels_cover(points):
            from flame_nerf.kernels.cpu import falloff as kernels

            out = torch.empty(len(points))
            values = (points.detach().contiguous(), face, distance, mapping.planes, self.by_face, out)
            kernels.factors(*(value.numpy() for value in values))
            return out
        at_mesh, slope = self.by_face.index_select(0, face).unbind(dim=1)
        outside = distance.masked_fill(mapping.is_inside(points, face), 0.0)
        return torch.exp(at_mesh - slope * outside)

    @torch.no_grad()
    def of_rays(self, mapping: CanonicalMapping, rays: StepRays, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """Factors of the densities of rays' samples, which lie at canonical `points`, metres."""
        samples, shift = rays.samples, rays.moments.shift
        assert samples is not None, "rays are marched first"
        if shift is not None and shift.canonical is not None:
            # The mapping's canonical mesh has not moved along.
            points = points - shift.canonical[samples.face]
        return self(mapping, points, samples.face, samples.distance)


def log_falloff(falloff: float, thickness: Float[Tensor, " F"]) -> Float[Tensor, "F 2"]:
    """Logarithm at the mesh, and slope per metre, of what densities are multiplied by over each face's shell.

    The mean over the shell is 1: were it less, the haze that training begins with would be thinner, and rays would take
    longer to find a surface in it.
    """
    mean = (1 - math.exp(-falloff)) / falloff if falloff else 1.0
    slope = falloff / thickness.clamp_min(THINNEST_SHELL)
    return torch.stack([torch.full_like(slope, -math.log(mean)), slope], dim=1)
