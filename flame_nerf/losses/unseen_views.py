"""The head from where no training camera looked: a surface where none saw it, and no fraying where some did."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tyro.conf import Fixed

from flame_nerf.canonical import MeshSearch, make_search
from flame_nerf.canonical.shell import INNER_REGIONS
from flame_nerf.data.dataset import FlameNerfDataset
from flame_nerf.geometry import vertex_normals
from flame_nerf.losses.colours.surface import surface_colours
from flame_nerf.losses.head_views import HeadViews
from flame_nerf.losses.seen_faces import LEAST_COSINE, WELL_SEEN, levels_left_out, steepest_views
from flame_nerf.losses.semantic import RenderView, ShownFace
from flame_nerf.losses.silhouette import outline_surface
from flame_nerf.losses.view_geometry import perturb_camera
from flame_nerf.runtime.old_runs import StoredConfig
from flame_nerf.runtime.to_device import to_device
from flame_nerf.subject import Frame, HeadTrack

MARGIN = 0.2
"""Part of the head's size that a view shows around it: what hangs in the air there is to go."""


MAX_ANGLE_DEG = 180.0
"""Largest turn of the camera around the head: what is never rendered here stays see-through."""
MAX_PITCH_DEG = 37.5
"""Largest turn of the camera up and down."""
MOUTH_SHARE = 0.25
"""Share of the views that look into an open mouth: wider than it was filmed, and from beside."""
MOUTH_ANGLE_DEG, MOUTH_PITCH_DEG = 60.0, 20.0
"""Largest turn of their camera around the head, and up and down."""
MOUTH_MARGIN = 0.15
"""Part of the lips' size that such a view shows around them."""
COLOUR_WEIGHT = 2.0
"""Weight of the mean difference of a hidden surface's colour from the nearest outline's, beside missing opacity."""


@dataclass
class UnseenViewsConfig(StoredConfig):
    """Supervision of what no training camera saw."""

    every: int = 8
    """Steps between two with this term. Larger is faster, as its view is rendered beside the step's rays, and weakens
    it."""
    size: Fixed[int] = 24
    """Rays along the side of the view rendered for it. Larger closes smaller gaps; time grows with the square."""
    observed_tolerance: float = 0.004
    """Metres by which the mesh under its hair may be wrong where cameras saw the head: seen from the side, its surface
    may lie so far inside at most, and outside so far off what the video's outlines show. Larger suits a track that fits
    loosely, and lets outlines fray; inf: no limit, which leaves holes in the side views of what looks right in
    front."""


class SurfaceHit(NamedTuple):
    """Surface that rays shall hit."""

    near: Float[Tensor, " R"]
    """Metres at which they may meet the surface at the earliest."""
    far: Float[Tensor, " R"]
    """And at the latest: the same on sides that no camera saw."""
    solid: Bool[Tensor, " R"]
    """True if they shall hit it; otherwise near and far mean nothing."""
    empty: Bool[Tensor, " R"]
    """True if they shall hit nothing: beside the head, or on a part of the mesh that the person has not."""
    colour: Float[Tensor, "R 3"]
    """What they shall show of a surface that no camera saw, or only at a slant, in 0..1."""
    coloured: Float[Tensor, " R"]
    """How much that counts: 1 for what none saw, 0 where one looked straight at it or the colour is not known."""


UnseenSidesConfig = UnseenViewsConfig
"""Deprecated name: it serves config.yml files of older runs alone."""


class UnseenViews:
    """Opacity and depth of the head's surface, seen from beside.

    Without it sides that no training camera saw are left empty or hazy, and what cameras did see frays as soon as one
    turns away from them. The surface is the posed mesh under the hair that the outlines show; where it is missed beside
    an unseen side nothing is to be, nor where the mattes say that the mesh is not part of the person. What cameras saw
    may lie anywhere within a tolerance of the mesh, and within what stands off it in the video's outlines: the video
    knows better where. What none saw has the colour of the nearest outline, or in the mouth of what was seen beside it.

    Attributes:
        colours: of the mesh's vertices, 0..1; [V, 3], on the CPU.
        solid: vertices that are part of the person and have a colour; [V], on the CPU.
        standoff: what stands off them in the video's outlines, metres; [V].
        left_out: eighths of a grid's levels that a field shall do without around each vertex; [V], on the CPU.
        open_mouth: see there.
    """

    def __init__(
        self,
        config: UnseenViewsConfig,
        track: HeadTrack,
        frames: Sequence[Frame],
        dataset: FlameNerfDataset,
        shell: Float[Tensor, " F"],
        open_mouth: Callable[[int], ShownFace | None] | None = None,
    ):
        """
        Args:
            config: see there.
            track: the moving mesh.
            frames: those trained on.
            dataset: their pictures, which say where in a view the head is.
            shell: how far from each triangle there may be substance, metres.
            open_mouth: the face of a training frame with its mouth open, another each time; None where there is none.

        Raises:
            PriorUnavailable: the subject has no masks.
        """
        self.config = config
        device, self._track, self._frames = shell.device, track, frames
        self._views = HeadViews(dataset, config.size, (1.0, 1.0, 1.0), MARGIN)
        self._faces = torch.from_numpy(track.faces).long().to(device)
        self._room = torch.zeros(track.vertices.shape[1], device=device)
        self._room.scatter_reduce_(0, self._faces.flatten(), shell.repeat_interleave(3), "amax")
        steepest = steepest_views(track, frames)
        unseen = steepest <= LEAST_COSINE
        self.left_out = levels_left_out(track, steepest)
        hidden = torch.ones(len(self._room), dtype=torch.bool)
        hidden[track.faces[~unseen]] = False
        found = outline_surface(track, frames, dataset.intrinsics, dataset.matte, self._room, hidden)
        pictures = dataset.intrinsics, dataset.get_numpy_image
        self.colours, known = surface_colours(track, frames, *pictures, found, hidden)
        self.solid = known & found.is_there
        corners = torch.from_numpy(track.faces).long()
        self._colour = self.colours[corners].mean(dim=1).to(device)
        little = (1 - (steepest - LEAST_COSINE) / (WELL_SEEN - LEAST_COSINE)).clamp(0, 1)
        # Mouth and eyes look different from face to face: what was seen of them tells more than its median.
        moving = torch.from_numpy(track.region_faces(*INNER_REGIONS, "lips", "eyelids"))
        little[moving] = unseen[moving].float()
        self._coloured = (little * known[corners].all(dim=1)).to(device)
        self._hair, self.standoff, unseen = found.thickness.to(device), found.standoff.to(device), unseen.to(device)
        there = found.is_there.to(device)[self._faces].all(dim=1)
        self._solid, self._seen, self._empty = unseen & there, ~unseen & there, ~there
        self._search: MeshSearch | None = None
        self._structure: Any | None = None
        self.open_mouth = open_mouth
        self._lips = torch.from_numpy(np.flatnonzero(track.region_vertices("lips"))).to(device)
        self._centre = torch.from_numpy(track.canonical_vertices).mean(dim=0).to(device)

    def wanted(self, step: int) -> bool:
        """True if a step is to have this term."""
        return step % self.config.every == 0

    def loss(self, c2w: Float[Tensor, "N 3 4"], render: RenderView, head_size: float = 0.2) -> Float[Tensor, ""]:
        """Mean over rays: (1 - opacity) + |depth - where it may be| / head size on the surface, and on hidden ones the
        difference of colour; opacity beside it.

        Args:
            c2w: cameras of the training frames, head frame, OpenGL axes.
            render: renders rays at a training frame's moment; besides rgb, background, accumulation and depth, origins
                and directions are the rays after correction.
            head_size: metres of depth error that count like missing opacity.
        """
        frame = int(torch.randint(len(c2w), ()))
        shown = self._face_to_show(frame)
        if shown is None:
            camera = perturb_camera(c2w[frame], self._centre, MAX_ANGLE_DEG, max_pitch_deg=MAX_PITCH_DEG)
            rendered = render(frame, *self._views.rays(frame, camera, jitter=True))
        else:
            camera = perturb_camera(c2w[frame], self._centre, MOUTH_ANGLE_DEG, max_pitch_deg=MOUTH_PITCH_DEG)
            lips = shown.vertices.to(self._lips.device)[self._lips]
            rays = self._views.rays_towards(frame, camera, lips, MOUTH_MARGIN)
            rendered = render(frame, *rays, shown)
        met = self.surface(frame, rendered["origins"], rendered["directions"], shown)
        accumulation, depth = rendered["accumulation"][:, 0], rendered["depth"][:, 0]
        near, far = met.near.where(met.solid, depth.detach()), met.far.where(met.solid, depth.detach())
        off = (near - depth).clamp_min(0) + (depth - far).clamp_min(0)
        # A ray that meets nothing yet has no depth: first it has to become opaque.
        wrong = ((1 - accumulation) + accumulation.detach() * off / head_size) * met.solid + accumulation * met.empty
        # Of what a ray meets: a wrong colour is no reason to be more transparent.
        behind = rendered["background"] * (1 - rendered["accumulation"])
        colour = (rendered["rgb"] - behind) / rendered["accumulation"].clamp_min(1e-4)
        other = accumulation.detach() * (colour - met.colour).abs().mean(dim=1)
        return (wrong + COLOUR_WEIGHT * other * met.coloured).mean()

    def _face_to_show(self, frame: int) -> ShownFace | None:
        """A face with an open mouth for some of the views, None for the others: they show the frame's own."""
        if self.open_mouth is None or len(self._lips) == 0 or float(torch.rand(())) >= MOUTH_SHARE:
            return None
        return self.open_mouth(frame)

    @torch.no_grad()
    def surface(
        self,
        frame: int,
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        shown: ShownFace | None = None,
    ) -> SurfaceHit:
        """Surface that rays shall hit at a training frame's timestep, or of a face shown instead."""
        if shown is None:
            vertices = torch.from_numpy(np.asarray(self._track.vertices[self._frames[frame].timestep]))
            vertices = to_device(vertices.float(), self._faces.device)
        else:
            vertices = shown.vertices.to(self._faces.device)
        search = self._search = self._search or make_search(self._faces, vertices, "auto")
        out = vertex_normals(vertices, self._faces)

        def hits(height: Float[Tensor, " V"]) -> tuple[Tensor, Tensor]:
            return self._first_hit(search, vertices + height[:, None] * out, origins, directions)

        tolerance = self.config.observed_tolerance
        (distance, face), (_, around) = hits(self._hair), hits(self._room)
        hit, in_shell, face, around = face >= 0, around >= 0, face.clamp_min(0), around.clamp_min(0)
        near, far, solid = distance, distance, hit & self._solid[face]
        empty = (~hit & in_shell & ~self._seen[around]) | (hit & self._empty[face])
        if math.isfinite(tolerance):
            inner_distance, inner = hits(self._hair - tolerance)
            outer_distance, outer = hits(self.standoff + tolerance)
            seen = hit & self._seen[face] & (inner >= 0)
            near = torch.where(seen, torch.minimum(outer_distance, distance), distance)
            far = torch.where(seen, torch.maximum(inner_distance, distance), distance)
            solid = solid | seen
            empty = empty | ((outer < 0) & in_shell & self._seen[around])
        coloured = self._coloured[face] * (hit & solid)
        return SurfaceHit(near, far, solid, empty, self._colour[face], coloured)

    def _first_hit(
        self, search: MeshSearch, vertices: Tensor, origins: Tensor, directions: Tensor
    ) -> tuple[Tensor, Tensor]:
        which = torch.zeros(len(origins), dtype=torch.long, device=origins.device)
        rays = origins.contiguous(), directions.contiguous()
        # One structure, refitted for each of a step's meshes: on CUDA to build one takes longer than to ask it.
        self._structure = search.build(vertices.contiguous(), self._structure)
        return search.first_hit([self._structure], which, *rays)
