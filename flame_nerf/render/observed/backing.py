"""The mesh behind the field: where training left a hole, a picture shows the head's own surface and no background."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor, nn

from flame_nerf.canonical import CanonicalMapping
from flame_nerf.geometry import barycentric, triangle_normals
from flame_nerf.render.step_rays import StepRays

NEGLIGIBLE = 1 / 128
"""Transmittance that is not worth a look behind: two 8-bit steps at most."""
SHALLOW, DEEP = 0.004, 0.008
"""Metres that a ray goes below the surface, from where it begins to be solid to where it is. At an outline, which the
mesh meets to a few millimetres, the field alone says what is there."""
PROBE = 0.05
"""Metres behind a ray's entry, at most, at which its depth is looked at: deep enough for a ray that grazes the head."""
CUT_RINGS = 3
"""Triangles between what mattes cut off and what stands behind the field."""
END_RINGS = 2
"""Triangles beside those of what mattes cut off that count as its open end, too."""
LAYERS = 2
"""Parts of the head behind each other that a ray may meet before it is given up: ear and head, lip and teeth."""
_PAST = 1e-4
"""Metres past a hit from which the next is looked for."""
_BEYOND = 1e3
"""Metres at which no ray meets anything any more."""


class Backing(nn.Module):
    """The posed mesh as the last layer of a picture, behind all that the field says.

    What training has seen is opaque, and hides it. It shows where rays come through: at sides and in mouths that no
    frame showed, at faces beyond all that were filmed. A ray is stopped where it goes below the surface by more than
    `DEEP`; one that slips through a gap into the head (an eyelid's, say) is stopped wherever it comes to. Only one that
    comes in where the person was cut off, from below, shows nothing: not the far side of the neck from inside.

    Attributes:
        surface: colour of each vertex, 0..1, and how far it is part of the person, 0 or 1. All zero: not known, and
            pictures are as without.
        standoff: what stands off each vertex in the video's outlines, metres.
        deep_always: see there.
    """

    surface: Float[Tensor, "V 4"]
    standoff: Float[Tensor, " V"]
    deep_always: Bool[Tensor, " F"]

    def __init__(self, vertices: int, deep_always: Bool[Tensor, " F"]):
        """
        Args:
            vertices: V.
            deep_always: faces with the head behind them however thin they are: teeth, tongue, the mouth's lining, eyes.
        """
        super().__init__()
        self.register_buffer("surface", torch.zeros(vertices, 4))
        self.register_buffer("standoff", torch.zeros(vertices))
        self.register_buffer("deep_always", deep_always, persistent=False)
        self._known: tuple[int, bool] | None = None

    @property
    def is_known(self) -> bool:
        """Whether the mesh has colours."""
        if self._known is None or self._known[0] != self.surface._version:
            self._known = self.surface._version, bool(self.surface[:, 3].any())
        return self._known[1]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # Runs from before there was one are shown as they were. A pipeline loads its model, and then itself without.
        for name, values in (("surface", self.surface), ("standoff", self.standoff)):
            state_dict.setdefault(prefix + name, values.clone())
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @torch.no_grad()
    def learn(
        self,
        colours: Float[Tensor, "V 3"],
        solid: Bool[Tensor, " V"],
        standoff: Float[Tensor, " V"],
        faces: Int[Tensor, "F 3"],
    ) -> None:
        """Take the mesh's colours, and what stands off it.

        Args:
            colours: of the vertices, 0..1.
            solid: those that have one and are part of the person. Where the person was cut off differs from frame to
                frame: what is next to the rest, by `CUT_RINGS` triangles, is left out.
            standoff: metres.
            faces: of the mesh.
        """
        self.standoff.copy_(standoff)
        for _ in range(CUT_RINGS):
            cut = faces[~solid[faces].all(dim=1)]
            solid = solid.index_fill(0, cut.flatten(), False)
        self.surface.copy_(torch.cat([colours, solid[:, None]], dim=1))

    def behind(
        self,
        rgb: Float[Tensor, "R 3"],
        accumulation: Float[Tensor, "R 1"],
        depth: Float[Tensor, "R 1"],
        rays: StepRays,
        background: Float[Tensor, "R 3"] | Float[Tensor, " 3"],
        mapping: CanonicalMapping,
        box: OrientedBox | None = None,
    ) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 1"], Float[Tensor, "R 1"]]:
        """A picture's rays with the mesh behind them. Differentiable in what was rendered.

        Args:
            rgb, accumulation, depth: of the field, over the background.
            rays: the same, with their meshes.
            background: behind each ray, or behind all.
            mapping: of the meshes.
            box: the mesh outside of it is left out.
        """
        kept = ~self._from_below(rays, mapping)[:, None]
        rgb = torch.where(kept, rgb, background)
        accumulation, depth = accumulation * kept, depth * kept
        through = 1 - accumulation
        asked = kept[:, 0] & (through[:, 0] > NEGLIGIBLE)
        which = (asked & _may_meet(rays, self.surface[:, 3] > 0)).nonzero()[:, 0]
        layers = torch.zeros(len(rays), 5, device=through.device)
        with torch.no_grad():
            layers[which] = self._layers(rays.part(which), mapping, box)
        colour, opacity, behind = layers.split([3, 1, 1], dim=1)
        closed = accumulation + through * opacity
        ends = depth * accumulation + through * behind
        return rgb + through * (colour - opacity * background), closed, ends / closed.clamp_min(1e-10)

    @torch.no_grad()
    def _from_below(self, rays: StepRays, mapping: CanonicalMapping) -> Bool[Tensor, " R"]:
        """Whether rays first meet the inside of the mesh where the person was cut off."""
        end = self.surface[:, 3] == 0
        for _ in range(END_RINGS):
            end = end.index_fill(0, mapping.faces[end[mapping.faces].any(dim=1)].flatten(), True)
        inside = torch.zeros(len(rays), dtype=torch.bool, device=rays.origins.device)
        if not end.any():
            return inside
        which = _may_meet(rays, end).nonzero()[:, 0]
        part = rays.part(which)
        _, face = _next_hit(part, mapping, torch.zeros(len(part), device=rays.origins.device))
        vertices = torch.stack([mesh.vertices for mesh in rays.moments.meshes])
        corners = vertices[part.mesh_index[:, None], mapping.faces[face.clamp_min(0)]]
        met = (face >= 0) & end[mapping.faces].all(dim=1)[face.clamp_min(0)]
        inside[which] = met & ~_faces(corners, part)
        return inside

    def _layers(self, rays: StepRays, mapping: CanonicalMapping, box: OrientedBox | None) -> Float[Tensor, "R 5"]:
        """Colour, opacity, and metres along the ray, of the mesh; the first and the last times the second."""
        out = torch.zeros(len(rays), 5, device=rays.origins.device)
        start = torch.zeros(len(rays), device=rays.origins.device)
        going = torch.arange(len(rays), device=rays.origins.device)
        vertices = torch.stack([mesh.vertices for mesh in rays.moments.meshes])
        solid_faces = self.surface[mapping.faces, 3].any(dim=1)
        for _ in range(LAYERS):
            part = rays.part(going)
            entry, face = _next_hit(part, mapping, start)
            # What is behind a part that was cut off is left to the field: most of what is looked at is that.
            met = (face >= 0) & solid_faces[face]
            going, part, entry, face = going[met], part.part(met.nonzero()[:, 0]), entry[met], face[met]
            if len(going) == 0:
                break
            start, beyond = _next_hit(part, mapping, entry)
            corners, after = (
                vertices[part.mesh_index[:, None], mapping.faces[which]] for which in (face, beyond.clamp_min(0))
            )
            # A first surface turned away from the ray, or a second turned to it, is met from inside of the head.
            within = self.deep_always[face] | ~_faces(corners, part) | ((beyond >= 0) & _faces(after, part))
            probe = part.origins + (entry + (0.5 * (start - entry)).clamp_max(PROBE))[:, None] * part.directions
            found = mapping.to_canonical(part.moments.meshes, part.mesh_index, probe, max_distance=DEEP)
            assert found.distance is not None, "the search gives it where faces are not given"
            solid = ((found.distance - SHALLOW) / (DEEP - SHALLOW)).clamp(0, 1).where(~within, 1.0)
            place = part.origins + entry[:, None] * part.directions
            surface = (barycentric(corners, place)[:, :, None] * self.surface[mapping.faces[face]]).sum(dim=1)
            share = solid * surface[:, 3] * (1 - out[going, 3])
            if box is not None:
                share = share * box.within(place).reshape(share.shape)
            values = torch.cat([surface[:, :3], torch.ones_like(entry)[:, None], entry[:, None]], dim=1)
            out[going] += share[:, None] * values
        return out


def _may_meet(rays: StepRays, part: Bool[Tensor, " V"]) -> Bool[Tensor, " R"]:
    """Whether rays go through the box around some of the vertices: most of a picture's background does not."""
    places = torch.cat([mesh.vertices[part] for mesh in rays.moments.meshes])
    step = torch.where(rays.directions.abs() < 1e-12, 1e-12, rays.directions)
    low, high = ((places.amin(dim=0) - rays.origins) / step, (places.amax(dim=0) - rays.origins) / step)
    return torch.minimum(low, high).amax(dim=1) <= torch.maximum(low, high).amin(dim=1)


def _next_hit(
    rays: StepRays, mapping: CanonicalMapping, start: Float[Tensor, " R"]
) -> tuple[Float[Tensor, " R"], Int[Tensor, " R"]]:
    """Metres along rays to what they meet past `start`, and its face; inf and -1 where that is nothing."""
    start = start + _PAST
    # What is past everything starts anywhere beyond the head.
    origins = rays.origins + start.where(start.isfinite(), _BEYOND)[:, None] * rays.directions
    distance, face = mapping.first_hit(rays.moments.meshes, rays.mesh_index, origins, rays.directions)
    return start + distance, face


def _faces(corners: Float[Tensor, "R 3 3"], rays: StepRays) -> Bool[Tensor, " R"]:
    """Whether triangles turn their outsides towards where rays come from."""
    return (triangle_normals(corners) * rays.directions).sum(dim=1) < 0
