"""What stands off the neck is shown from about where cameras filmed it; from elsewhere what lies on the neck."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flame_nerf.canonical import CanonicalMapping
from flame_nerf.canonical.shell import NECK_REGIONS
from flame_nerf.render.observed.view_cone import FilmedViews
from flame_nerf.render.step_rays import StepRays
from flame_nerf.subject import HeadTrack

TURN = math.radians(4.0)
"""Angle beyond what was filmed over which clothes draw back to the neck."""
NEAR, AT_JAW = 0.004, 0.01
"""Metres off the mesh that are shown from everywhere: about the track's error, and at the jaw as much as skin has."""
EDGE = 0.005
"""Metres over which what is shown ends: a soft edge."""
JAW = 0.02
"""Metres below the jaw over which the one becomes the other."""


class Clothes(nn.Module):
    """Factors of densities that leave out, seen from where no camera filmed, what stands off the neck.

    A collar, a suit's shoulders or hair on them lie somewhere in centimetres of space off a mesh that has none of them,
    and do not turn with the head. Filmed from the front alone, they were put at any depth; seen from beside they come
    apart. There the space in which they may show narrows with the angle, until the neck's own surface is left.

    Attributes:
        shell: thickness of each face's shell, metres.
        rest: how much of it is shown from everywhere; all, off the neck.
        views: from where they were filmed.
    """

    shell: Float[Tensor, " F"]
    rest: Float[Tensor, " F"]

    def __init__(self, track: HeadTrack, shell: Float[Tensor, " F"], c2w: Float[Tensor, "N 3 4"]):
        """
        Args:
            track: its canonical head and the regions of its mesh; one without a neck is shown whole.
            shell: thickness of each face's shell, metres.
            c2w: cameras of the training frames in the head's frame.
        """
        super().__init__()
        vertices, faces = torch.from_numpy(track.canonical_vertices).float(), torch.from_numpy(track.faces).long()
        self.views = FilmedViews(c2w, vertices.mean(dim=0))
        neck, rest = torch.from_numpy(track.region_faces(*NECK_REGIONS)), shell.cpu().clone()
        if neck.any() and not neck.all():
            middles, jaw = vertices[faces[neck]].mean(dim=1), vertices[faces[~neck].unique()]
            below = smoothly(torch.cdist(middles, jaw).amin(dim=1) / JAW)
            rest[neck] = torch.minimum(rest[neck], torch.lerp(torch.tensor(AT_JAW), torch.tensor(NEAR), below))
        self.register_buffer("shell", shell, persistent=False)
        self.register_buffer("rest", rest.to(shell.device), persistent=False)

    def drawn_from(self, eyes: Float[Tensor, "R 3"]) -> Float[Tensor, " R"]:
        """How far they are drawn back, 0 to 1, for eyes in the head's frame, metres."""
        return smoothly(self.views.beyond(eyes, few=0.0) / TURN)

    @torch.no_grad()
    def narrowed(
        self, factor: Float[Tensor, " N"] | None, mapping: CanonicalMapping, rays: StepRays
    ) -> Float[Tensor, " N"] | None:
        """Factors of the densities of rays' samples.

        Args:
            factor: what they are multiplied by besides; None: nothing.
            mapping: knows what is inside the canonical mesh.
            rays: with their samples, carried to the canonical head.
        """
        samples, canonical, shift = rays.samples, rays.canonical, rays.moments.shift
        assert samples is not None and canonical is not None, "rays are carried"
        drawn = self.drawn_from(rays.origins)[samples.ray_index]
        which = _where((self.rest < self.shell)[samples.face] & (drawn > 0))
        if len(which) == 0:
            return factor
        points, face = canonical.points[which], samples.face[which]
        if shift is not None and shift.canonical is not None:
            # The mapping's canonical mesh has not moved along.
            points = points - shift.canonical[face]
        off = samples.distance[which].masked_fill(mapping.is_inside(points, face), 0.0)
        shown = shown_share(off, self.shell[face], self.rest[face], drawn[which])
        factor = torch.ones_like(samples.distance) if factor is None else factor
        return factor.index_copy(0, which, factor[which] * shown)


def shown_share(
    off: Float[Tensor, "*N"], room: Float[Tensor, "*N"] | float, rest: Float[Tensor, "*N"], drawn: Tensor | float
) -> Float[Tensor, "*N"]:
    """How much is left of what lies `off` the mesh, drawn back by 0 to 1 from `room` to `rest`; metres."""
    return 1 - smoothly((off - (room + drawn * (rest - room))) / EDGE)


def _where(asked: Bool[Tensor, " N"]) -> Int[Tensor, " M"]:
    """Rows that are asked for; on a GPU, which one would have to wait for, all: none of the others changes."""
    return torch.arange(len(asked), device=asked.device) if asked.is_cuda else asked.nonzero()[:, 0]


def smoothly(value: Tensor) -> Tensor:
    """From 0 to 1 where the value does, without a kink at either end."""
    value = value.clamp(0, 1)
    return value * value * (3 - 2 * value)
