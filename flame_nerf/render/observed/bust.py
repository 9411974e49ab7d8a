"""Where a bust ends, seen from where no camera filmed: it fades around the neck instead of ending in rags."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flame_nerf.canonical import CanonicalMapping
from flame_nerf.canonical.shell import NECK_REGIONS
from flame_nerf.render.observed.backing import CUT_RINGS, NEGLIGIBLE
from flame_nerf.render.observed.clothes import smoothly
from flame_nerf.render.step_rays import StepRays
from flame_nerf.subject import HeadTrack

BELOW = 0.003
"""Metres below where mattes cut the person off, at which nothing is left: farther down, the field's end is rags."""
FADE = 0.011
"""Metres from there up to where all of it is shown."""
TURNS = 2
"""Harmonics around the neck that a cut's height is made of: a plane has one, what is level in pictures two."""
FEWEST = 12
"""Edges of the mesh across the cut, at least; fewer are not a neck that was cut through."""


class Bust(nn.Module):
    """A head's lower end, where mattes cut it off.

    The mattes end along a line of each picture, which is nowhere in space: what stands before or behind the neck ends
    at another height, and every frame has its own. What a ray shows there is faded as a whole, by the height of the
    place that it shows: densities that fade show what is behind them, and end in holes.

    Attributes:
        middle: of the cut, in the canonical head, metres.
        height: of the cut around it: coefficients of the harmonics, metres.
    """

    middle: Float[Tensor, " 3"]
    height: Float[Tensor, " H"]
    _canonical: Float[Tensor, "V 3"]
    _neck: Bool[Tensor, " V"]

    def __init__(self, track: HeadTrack, cut: Int[Tensor, "E 2"]):
        """
        Args:
            track: its canonical head, y up.
            cut: edges of its mesh from what is part of the person to what is not.
        """
        super().__init__()
        canonical = torch.from_numpy(track.canonical_vertices).float().to(cut.device)
        crossed = canonical[cut].mean(dim=1)
        self.register_buffer("middle", crossed.mean(dim=0), persistent=False)
        solved = torch.linalg.lstsq(_harmonics(crossed - self.middle).cpu(), crossed[:, 1:2].cpu()).solution
        self.register_buffer("height", solved[:, 0].to(cut.device), persistent=False)
        self.register_buffer("_canonical", canonical, persistent=False)
        neck = torch.from_numpy(track.region_vertices(*NECK_REGIONS)).to(cut.device)
        self.register_buffer("_neck", neck, persistent=False)

    def shown(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """How much is shown of places of the canonical head, metres; 0..1."""
        level = points[:, 1] - _harmonics(points - self.middle) @ self.height
        return smoothly((level + BELOW) / FADE)

    @torch.no_grad()
    def of_rays(
        self,
        drawn: Float[Tensor, " R"],
        accumulation: Float[Tensor, "R 1"],
        depth: Float[Tensor, "R 1"],
        rays: StepRays,
        mapping: CanonicalMapping,
    ) -> Float[Tensor, "R 1"]:
        """How much is left of what rays show; 0..1.

        Args:
            drawn: 0 where they come from where cameras filmed, to 1.
            accumulation, depth: of the rays.
            rays, mapping: with their meshes.
        """
        places = rays.origins + depth * rays.directions
        low, high = self._reach(rays)
        near = ((places >= low) & (places <= high)).all(dim=1)
        which = (near & (drawn > 0) & (accumulation[:, 0] > NEGLIGIBLE)).nonzero()[:, 0]
        left = torch.ones_like(accumulation)
        if len(which):
            found = mapping.to_canonical(rays.moments.meshes, rays.mesh_index[which], places[which])
            left[which, 0] = 1 - drawn[which] * (1 - self.shown(found.points))
        return left

    def _reach(self, rays: StepRays) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]:
        """Box around all that belongs to the posed necks, whose places lie up to their own size off them."""
        neck = torch.cat([mesh.vertices[self._neck] for mesh in rays.moments.meshes])
        low, high = neck.amin(dim=0), neck.amax(dim=0)
        return low - 0.5 * (high - low), high + 0.5 * (high - low)


def _harmonics(places: Float[Tensor, "N 3"]) -> Float[Tensor, "N H"]:
    """Of the angle around the neck, of places off its middle."""
    around = torch.atan2(places[:, 0], places[:, 2])[:, None] * torch.arange(1, TURNS + 1, device=places.device)
    return torch.cat([torch.ones_like(around[:, :1]), around.cos(), around.sin()], dim=1)


def bust_of(track: HeadTrack, surface: Float[Tensor, "V 4"]) -> Bust | None:
    """The lower end of a person whose mattes cut off a part of the neck, and of no other.

    Args:
        track: its canonical head and the regions of its mesh.
        surface: of `Backing`, with what is part of the person less some rings of triangles.
    """
    faces = torch.from_numpy(track.faces).long().to(surface.device)
    neck = torch.from_numpy(track.region_vertices(*NECK_REGIONS)).to(surface.device)
    solid = surface[:, 3] > 0
    for _ in range(CUT_RINGS):
        solid = solid.index_fill(0, faces[solid[faces].any(dim=1)].flatten(), True)
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    cut = edges[(solid[edges[:, 0]] != solid[edges[:, 1]]) & neck[edges].all(dim=1)]
    return Bust(track, cut) if len(cut) >= FEWEST else None
