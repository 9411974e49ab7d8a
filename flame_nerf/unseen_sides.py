"""Sides of the head that the video never shows: the tracked mesh knows where their surface is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flame_nerf.head_views import HeadViews
from flame_nerf.pictures import FlameNerfDataset
from flame_nerf.prior_terms import RenderView
from flame_nerf.priors import perturb_camera
from flame_nerf.subject import Frame, HeadTrack

HAIR_REGIONS = ("scalp", "fur")
"""Where hair lies over the mesh: something is there, but not at the mesh's depth."""
CUT_REGIONS = ("neck",)
"""Where the matte's collar cuts through the mesh: nothing is to be there below the cut."""
LEAST_COSINE = 0.2
"""A triangle is seen where a camera looks at it at least this steeply."""
FRAMES_LOOKED_AT = 60
"""Training frames that visibility is worked out from, spread over the video."""


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
    """Triangles that no training camera looks at from in front. What other parts of the head hide is not considered."""
    seen = np.zeros(len(track.faces), dtype=bool)
    for frame in frames[:: max(1, len(frames) // FRAMES_LOOKED_AT)]:
        corners = np.asarray(track.vertices[frame.timestep])[track.faces]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        towards = frame.c2w[:3, 3] - corners.mean(axis=1)
        cosine = (normal * towards).sum(1) / (np.linalg.norm(normal, axis=1) * np.linalg.norm(towards, axis=1) + 1e-12)
        seen |= cosine > LEAST_COSINE
    return torch.from_numpy(~seen)


class UnseenSides:
    """Opacity and depth of the posed mesh, seen from beside, where no training camera saw it.

    Without it those sides are left empty or hazy, and the head frays as soon as the camera turns. Their colour is the
    field's own guess from what lies near. What the video does show is not touched.
    """

    def __init__(
        self,
        config: UnseenSidesConfig,
        track: HeadTrack,
        frames: Sequence[Frame],
        dataset: FlameNerfDataset,
        device: torch.device,
    ):
        """
        Args:
            config: see there.
            track: the moving mesh.
            frames: those trained on.
            dataset: their pictures, which say where in a view the head is.

        Raises:
            PriorUnavailable: the subject has no masks.
        """
        self.config = config
        cut = torch.from_numpy(track.region_faces(*CUT_REGIONS))
        self._unseen = (unseen_faces(track, frames) & ~cut).to(device)
        self._bare = torch.from_numpy(~track.region_faces(*HAIR_REGIONS)).to(device)
        self._centre = torch.from_numpy(track.canonical_vertices).mean(dim=0).to(device)
        self._views = HeadViews(dataset, config.size, (1.0, 1.0, 1.0))

    def wanted(self, step: int) -> bool:
        """Whether a step is to have this term."""
        return step % self.config.every == 0

    def loss(self, c2w: Float[Tensor, "N 3 4"], render: RenderView, head_size: float = 0.2) -> Float[Tensor, ""]:
        """Mean over rays of (1 - opacity) + |depth - mesh depth| / head size, on unseen triangles only.

        Args:
            c2w: cameras of the training frames, head frame, OpenGL axes.
            render: renders rays at a training frame's moment; besides accumulation and depth, mesh_depth and mesh_face
                say where they meet its mesh.
            head_size: metres of depth error that count like missing opacity.
        """
        frame = int(torch.randint(len(c2w), ()))
        camera = perturb_camera(c2w[frame], self._centre, self.config.max_angle_deg)
        rendered = render(frame, *self._views.rays(frame, camera, jitter=True))
        face = rendered["mesh_face"]
        met = (face >= 0) & self._unseen[face.clamp_min(0)]
        on_skin = met & self._bare[face.clamp_min(0)]
        accumulation = rendered["accumulation"][:, 0]
        off = (rendered["depth"][:, 0] - rendered["mesh_depth"].where(on_skin, torch.zeros(()).to(accumulation))).abs()
        # A ray that meets nothing yet has no depth: first it has to become opaque.
        depth_error = accumulation.detach() * off * on_skin / head_size
        return (((1 - accumulation) + depth_error) * met).mean()
