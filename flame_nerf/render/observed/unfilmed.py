"""The head from where no camera filmed it: only what is sure of it keeps the field's shape and colours."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor, nn

from flame_nerf.canonical import CanonicalMapping, make_search
from flame_nerf.canonical.shell import HAIR_REGIONS, INNER_REGIONS, NECK_REGIONS
from flame_nerf.geometry import barycentric, vertex_normals
from flame_nerf.losses.silhouette import spread
from flame_nerf.render.observed.backing import Backing
from flame_nerf.render.observed.bust import Bust, bust_of
from flame_nerf.render.observed.clothes import smoothly
from flame_nerf.render.observed.view_cone import FilmedViews
from flame_nerf.render.step_rays import StepRays
from flame_nerf.subject import HeadTrack

TURN = math.radians(8.0)
"""Angle beyond what was filmed over which a picture comes to be what is said here."""
OFF, EDGE = 0.003, 0.003
"""Metres off the skin, and what stands off it in outlines, that are shown; and over which what is shown ends."""
HAIR_REACH = 0.045
"""Metres from the hair's regions within which it may hang over the skin, as far as it may stand off."""
SLANT, WELL = 0.35, 0.7
"""Cosines at which filming cameras looked at a place, for its colour to be the mesh's, or the field's own. What no
camera saw has few levels of detail, and no specks."""
VIEWS = 60
"""Training cameras that say how well each place was filmed, spread over the video."""
FEW = 0.05
"""Share of them that must have looked so steeply: what fewer saw, few rays of training did."""
ALIKE, OTHER = 0.02, 0.04
"""Distances of colours of full scale, from those of the face to what is still skin, and to what is none."""
OCCLUSION = 0.002
"""Metres that something must lie before a vertex to hide it."""
SMOOTHING = 2
"""Rounds of averaging over neighbours, of what was seen at a slant and differs from vertex to vertex by chance."""
SHAPED_BY_VIDEO = (*HAIR_REGIONS, *NECK_REGIONS, *INNER_REGIONS, "eyelids", "sockets", "ears")
"""Regions whose shape is not the mesh's: hair and clothes, ears, what lies inside, lashes and the rims of glasses."""
OWN_COLOURS = (*HAIR_REGIONS, *INNER_REGIONS, "lips", "eyelids")
"""Regions that keep the field's colours: hair has strands, and the others look different from face to face."""


class Unfilmed(nn.Module):
    """What pictures show beyond the views that were filmed, the more the farther beyond.

    - Skin ends close to the mesh. A nose filmed from in front can have a thorn: in its own colour, it was never seen.
    - Skin that cameras saw at a slant has the mesh's colours: of each vertex, the median over the video. The field's
      own lie at any depth there, and are salt and pepper from beside.
    - Where mattes cut the person off, below the neck, the picture fades.

    Attributes:
        views: what was filmed.
    """

    _skin: Bool[Tensor, " F"]
    _canonical: Float[Tensor, "V 3"]

    def __init__(self, track: HeadTrack, c2w: Float[Tensor, "N 3 4"]):
        """
        Args:
            track: its canonical head, and the regions of its mesh.
            c2w: cameras of the training frames in the head's frame.
        """
        super().__init__()
        canonical = torch.from_numpy(track.canonical_vertices).float()
        self.views = FilmedViews(c2w, canonical.mean(dim=0))
        self._track, self._c2w = track, c2w
        device = c2w.device
        self.register_buffer("_canonical", canonical.to(device), persistent=False)
        skin = torch.from_numpy(~track.region_faces(*SHAPED_BY_VIDEO))
        hair = canonical[torch.from_numpy(track.region_vertices(*HAIR_REGIONS))]
        if len(hair):
            middles = canonical[torch.from_numpy(track.faces).long()].mean(dim=1)
            skin &= torch.from_numpy(cKDTree(hair.numpy()).query(middles.numpy())[0]) > HAIR_REACH
        self.register_buffer("_skin", skin.to(device), persistent=False)
        self._painted: tuple[int, Float[Tensor, "V 4"]] | None = None
        self._bust: tuple[int, Bust | None] | None = None

    @torch.no_grad()
    def shaped(
        self, rays: StepRays, mapping: CanonicalMapping, shell: Float[Tensor, " F"], backing: Backing
    ) -> StepRays:
        """Rays with the densities and colours that are shown from where they come; those from where cameras filmed as
        they are.

        Args:
            rays: with their samples, carried to the canonical head.
            mapping: knows what is inside the canonical mesh.
            shell: thickness of each face's, metres.
            backing: the mesh's colours, and what stands off it.
        """
        samples, canonical = rays.samples, rays.canonical
        assert samples is not None and canonical is not None, "rays are carried"
        drawn = smoothly(self.views.beyond(rays.origins) / TURN)
        if not bool(drawn.any()):
            return rays
        share, face, points = drawn[samples.ray_index], samples.face, canonical.points
        off = samples.distance.masked_fill(mapping.is_inside(points, face), 0.0)
        rest = torch.minimum(OFF + backing.standoff[mapping.faces].amax(dim=1), shell).where(self._skin, shell)[face]
        factor = 1 - smoothly((off - torch.lerp(shell[face], rest, share)) / EDGE)
        factor = torch.where(self._skin[face], factor, 1.0)
        rays = replace(rays, density_factor=factor if rays.density_factor is None else factor * rays.density_factor)
        if not backing.is_known:
            return rays
        corners = mapping.faces[face]
        weights = barycentric(self._canonical[corners], points)[:, :, None]
        paint = (weights * self.paint(backing)[corners]).sum(dim=1)
        return replace(rays, paint=torch.cat([paint[:, :3], paint[:, 3:] * share[:, None]], dim=1))

    def ended(
        self,
        rgb: Float[Tensor, "R 3"],
        accumulation: Float[Tensor, "R 1"],
        depth: Float[Tensor, "R 1"],
        rays: StepRays,
        background: Float[Tensor, "R 3"] | Float[Tensor, " 3"],
        mapping: CanonicalMapping,
        backing: Backing,
    ) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 1"], Float[Tensor, "R 1"]]:
        """What rays show, ending softly where mattes cut the person off. Differentiable in what was rendered.

        Args:
            rgb, accumulation, depth: of the head, over the background.
            rays: the same, with their meshes.
            background: behind each ray, or behind all.
            mapping: of the meshes.
            backing: knows what is part of the person.
        """
        # What one frame showed is there in that frame.
        drawn = smoothly(self.views.beyond(rays.origins, few=0.0) / TURN)
        version = backing.surface._version
        if self._bust is None or self._bust[0] != version:
            self._bust = version, bust_of(self._track, backing.surface)
        bust = self._bust[1]
        if bust is None or not bool(drawn.any()):
            return rgb, accumulation, depth
        left = bust.of_rays(drawn, accumulation, depth, rays, mapping)
        return background + left * (rgb - background), accumulation * left, depth

    def paint(self, backing: Backing) -> Float[Tensor, "V 4"]:
        """Colour of each vertex, 0..1, and how far it is shown in place of the field's; worked out anew whenever the
        mesh's colours are others."""
        version = backing.surface._version
        if self._painted is None or self._painted[0] != version:
            self._painted = version, self._learned(backing.surface.cpu()).to(backing.surface.device)
        return self._painted[1]

    def _learned(self, surface: Float[Tensor, "V 4"]) -> Float[Tensor, "V 4"]:
        track, faces = self._track, torch.from_numpy(self._track.faces).long()
        outer = torch.from_numpy(~track.region_vertices(*INNER_REGIONS))
        cosine = seen_cosine(self._canonical.cpu(), faces, self._c2w.cpu())
        slanted = ((WELL - cosine) / (WELL - SLANT)).clamp(0, 1) * (cosine / SLANT).clamp(0, 1)
        slanted *= torch.from_numpy(~track.region_vertices(*OWN_COLOURS))
        slanted *= 1 - self._clothes(surface)
        paint = [spread(surface[:, channel], (surface[:, 3] > 0) & outer, outer, faces) for channel in range(3)]
        colours = torch.stack([*paint, slanted], dim=1).where(outer[:, None], surface * torch.tensor([1, 1, 1, 0]))
        for _ in range(SMOOTHING):
            colours = torch.lerp(colours, _of_neighbours(colours, faces), 0.5 * slanted[:, None])
        return colours

    def _clothes(self, surface: Float[Tensor, "V 4"]) -> Float[Tensor, " V"]:
        """How far vertices of the neck lie under clothes, 0..1, by their colour: of a bare one the face has the like. A
        mesh's colours there are mixed of all that passed before it: smoke."""
        neck = torch.from_numpy(self._track.region_vertices(*NECK_REGIONS))
        face = torch.from_numpy(~self._track.region_vertices(*SHAPED_BY_VIDEO)) & (surface[:, 3] > 0)
        clothes = torch.zeros(len(surface))
        if neck.any() and face.any():
            apart = torch.cdist(surface[neck, :3], surface[face, :3]).amin(dim=1)
            clothes[neck] = smoothly((apart - ALIKE) / (OTHER - ALIKE))
        return clothes


def seen_cosine(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], c2w: Float[Tensor, "N 3 4"]
) -> Float[Tensor, " V"]:
    """Cosine at which cameras look at each vertex with nothing before it, or more steeply, a share `FEW` of them at
    least; 0 where fewer see it from in front.

    Args:
        vertices, faces: of the head at rest.
        c2w: cameras in its frame.
    """
    normals, search = vertex_normals(vertices, faces), make_search(faces, vertices, "auto")
    structure, found = search.build(vertices.contiguous()), []
    for camera in c2w[:: max(1, len(c2w) // VIEWS), :, 3]:
        towards = vertices - camera
        away = towards.norm(dim=1)
        cosine = -(towards * normals).sum(dim=1) / away
        asked = (cosine > 0).nonzero()[:, 0]
        rays = camera.expand(len(asked), 3).contiguous(), (towards / away[:, None])[asked].contiguous()
        hit, _ = search.first_hit([structure], torch.zeros(len(asked), dtype=torch.long), *rays)
        shown = asked[hit > away[asked] - OCCLUSION]
        found.append(torch.zeros(len(vertices)).index_copy(0, shown, cosine[shown]))
    return torch.stack(found).kthvalue(len(found) - int(FEW * len(found)), dim=0).values


def _of_neighbours(values: Float[Tensor, "V C"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "V C"]:
    """Means over the vertices that share an edge with each."""
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    start, end = torch.cat([edges, edges.flip(1)]).unbind(dim=1)
    count = torch.bincount(start, minlength=len(values)).clamp_min(1)
    return torch.zeros_like(values).index_add_(0, start, values[end]) / count[:, None]
