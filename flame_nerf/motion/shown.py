"""Timestep or pose that a camera or a ray shows, from its metadata and its time."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Int
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from flame_nerf.motion.frame import PosedFrame
from flame_nerf.motion.subject_motion import SubjectMotion

OF_A_TIMESTEP = ("frame_idx", "background")
"""Metadata of rays that belong to one picture: the timestep that it shows, and what was behind the head there."""


def stored_row(
    camera: Cameras | RayBundle, train_rows: Int[Tensor, " N"], overridden: bool, default: int | None = None
) -> int | None:
    """Row of the track that a camera is bound to, or None where it shows another moment.

    Args:
        camera: one camera, or rays that see one moment. "frame_idx" in its metadata is a row; "cam_idx" the number of a
            training camera.
        train_rows: row of each training camera.
        overridden: whether someone asked for a moment of their own, which a dataset's picture alone ignores.
        default: row of what names no moment at all; None: such a camera shows another one.
    """
    metadata = camera.metadata or {}
    if "frame_idx" in metadata:
        return int(torch.as_tensor(metadata["frame_idx"]).flatten()[0])
    # Every camera of the viewer carries a cam_idx, so it counts only where nothing else says what to show.
    if overridden or "expr" in metadata or camera.times is not None:
        return None
    if "cam_idx" not in metadata:
        return default
    index = int(torch.as_tensor(metadata["cam_idx"]).flatten()[0])
    return int(train_rows[max(0, min(index, len(train_rows) - 1))])


def unstored_frame(camera: Cameras | RayBundle, motion: SubjectMotion) -> PosedFrame:
    """The moment of a camera without a row: "expr" in its metadata, else the one at its time, else neutral."""
    metadata = camera.metadata or {}
    if "expr" in metadata:
        return metadata["expr"]
    if camera.times is not None:
        return motion.at_time(float(camera.times.flatten()[0]))
    return motion.neutral()


def without_timestep(rays: RayBundle) -> RayBundle:
    """The same rays, naming no moment: neither a timestep nor a time, nor the background of one's picture."""
    metadata = {name: value for name, value in rays.metadata.items() if name not in OF_A_TIMESTEP}
    return dataclasses.replace(rays, metadata=metadata, times=None)
