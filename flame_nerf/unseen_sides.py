"""The head's sides that no training camera looked at, filled in from the mesh and the video's outlines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flame_nerf.canonical import MeshSearch, make_search
from flame_nerf.head_views import HeadViews
from flame_nerf.outline_surface import FRAMES_LOOKED_AT, outline_surface, vertex_normals
from flame_nerf.pictures import FlameNerfDataset
from flame_nerf.prior_terms import RenderView
from flame_nerf.priors import perturb_camera
from flame_nerf.subject import Frame, HeadTrack
from flame_nerf.transfer import to_device

LEAST_COSINE = 0.35
"""A triangle is seen where a camera looks at it at least this steeply."""

OCCLUSION = 0.002
"""Metres that something must lie before a triangle to hide it."""
MARGIN = 0.2
"""Part of the head's size that a view shows around it: what hangs in the air there is to go."""


@dataclass
class UnseenSidesConfig:
    """Filling in what no training camera saw."""

    every: int = 8
    """Steps from one with this term to the next."""
    size: int = 24
    """Rays along the side of the view that is rendered for it."""
    max_angle_deg: float = 75.0
    """How far the camera is carried around the head."""


def unseen_faces(track: HeadTrack, frames: Sequence[Frame]) -> Bool[Tensor, " F"]:
    """Triangles that no training camera sees from in front, with nothing of the mesh before them."""
    faces = torch.from_numpy(track.faces).long()
    search: MeshSearch | None = None
    seen = torch.zeros(len(faces), dtype=torch.bool)
    for frame in frames[:: max(1, len(frames) // FRAMES_LOOKED_AT)]:
        vertices = torch.from_numpy(np.asarray(track.vertices[frame.timestep])).float()
        search = search or make_search(faces, vertices, "auto")
        a, b, c = vertices[faces].unbind(dim=1)
        camera = torch.from_numpy(frame.c2w[:3, 3]).float()
        towards = camera - (a + b + c) / 3
        away = towards.norm(dim=1)
        normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)
        asked = (((normal * towards).sum(dim=1) > LEAST_COSINE * away) & ~seen).nonzero()[:, 0]
        rays = camera.expand(len(asked), 3).contiguous(), (-towards / away[:, None])[asked].contiguous()
        which = torch.zeros(len(asked), dtype=torch.long)
        hit, _ = search.first_hit([search.build(vertices.contiguous())], which, *rays)
        seen[asked[hit > away[asked] - OCCLUSION]] = True
    return ~seen


class UnseenSides:
    """Opacity and depth of the head's surface, seen from beside, where no training camera saw it.

    Without it those sides are left empty or hazy, and the head frays as soon as the camera turns. The surface is the
    posed mesh under the hair that the outlines show; where it is missed beside an unseen side nothing is to be, nor
    where the mattes say that the mesh is not part of the person. Colour is the field's own guess from what lies near.
    What the video does show is not touched.
    """

    def __init__(
        self,
        config: UnseenSidesConfig,
        track: HeadTrack,
        frames: Sequence[Frame],
        dataset: FlameNerfDataset,
        shell: Float[Tensor, " F"],
    ):
        """
        Args:
            config: see there.
            track: the moving mesh.
            frames: those trained on.
            dataset: their pictures, which say where in a view the head is.
            shell: how far from each triangle there may be substance, metres.

        Raises:
            PriorUnavailable: the subject has no masks.
        """
        self.config = config
        device, self._track, self._frames = shell.device, track, frames
        self._views = HeadViews(dataset, config.size, (1.0, 1.0, 1.0), MARGIN)
        self._faces = torch.from_numpy(track.faces).long().to(device)
        self._room = torch.zeros(track.vertices.shape[1], device=device)
        self._room.scatter_reduce_(0, self._faces.flatten(), shell.repeat_interleave(3), "amax")
        unseen = unseen_faces(track, frames)
        hidden = torch.ones(len(self._room), dtype=torch.bool)
        hidden[track.faces[~unseen]] = False
        found = outline_surface(track, frames, dataset.intrinsics, dataset.matte, self._room, hidden)
        self._hair, unseen = found.thickness.to(device), unseen.to(device)
        there = found.is_there.to(device)[self._faces].all(dim=1)
        self._solid, self._empty = unseen & there, ~there
        self._beside = unseen | self._empty
        self._search: MeshSearch | None = None
        self._structure: Any | None = None
        self._centre = torch.from_numpy(track.canonical_vertices).mean(dim=0).to(device)

    def wanted(self, step: int) -> bool:
        """Whether a step is to have this term."""
        return step % self.config.every == 0

    def loss(self, c2w: Float[Tensor, "N 3 4"], render: RenderView, head_size: float = 0.2) -> Float[Tensor, ""]:
        """Mean over rays: (1 - opacity) + |depth - surface's| / head size on unseen triangles, opacity beside them.

        Args:
            c2w: cameras of the training frames, head frame, OpenGL axes.
            render: renders rays at a training frame's moment; besides accumulation and depth, origins and directions
                are the rays after correction.
            head_size: metres of depth error that count like missing opacity.
        """
        frame = int(torch.randint(len(c2w), ()))
        camera = perturb_camera(c2w[frame], self._centre, self.config.max_angle_deg)
        rendered = render(frame, *self._views.rays(frame, camera, jitter=True))
        depth, solid, empty = self.surface(frame, rendered["origins"], rendered["directions"])
        accumulation = rendered["accumulation"][:, 0]
        off = (rendered["depth"][:, 0] - depth.where(solid, 0.0)).abs()
        # A ray that meets nothing yet has no depth: first it has to become opaque.
        wrong = ((1 - accumulation) + accumulation.detach() * off / head_size) * solid + accumulation * empty
        return wrong.mean()

    @torch.no_grad()
    def surface(
        self, frame: int, origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"]
    ) -> tuple[Float[Tensor, " R"], Bool[Tensor, " R"], Bool[Tensor, " R"]]:
        """What rays are to meet at a training frame's moment.

        Returns:
            distance to the surface (inf where it is missed), whether an unseen part of it is met, and whether nothing
            is to be met: beside an unseen part, or on a part of the mesh that the person has not.
        """
        vertices = torch.from_numpy(np.asarray(self._track.vertices[self._frames[frame].timestep]))
        vertices = to_device(vertices.float(), self._faces.device)
        if self._search is None:
            self._search = make_search(self._faces, vertices, "auto")
        out = vertex_normals(vertices, self._faces)
        distance, face = self._first_hit(vertices + self._hair[:, None] * out, origins, directions)
        around = self._first_hit(vertices + self._room[:, None] * out, origins, directions)[1]
        met = face >= 0
        missed_beside = ~met & (around >= 0) & self._beside[around.clamp_min(0)]
        on_nothing = met & self._empty[face.clamp_min(0)]
        return distance, met & self._solid[face.clamp_min(0)], missed_beside | on_nothing

    def _first_hit(self, vertices: Tensor, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        which = torch.zeros(len(origins), dtype=torch.long, device=origins.device)
        rays = origins.contiguous(), directions.contiguous()
        # One structure, refitted for each of a step's two meshes: on CUDA to build one takes longer than to ask it.
        self._structure = self._search.build(vertices.contiguous(), self._structure)
        return self._search.first_hit([self._structure], which, *rays)
