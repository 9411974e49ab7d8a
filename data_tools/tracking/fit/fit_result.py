"""The finished fit: what the stages after it need, and its way to disk and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from data_tools.tracking.fit.face.face_points import FacePoints
from data_tools.tracking.fit.face.jaw import mouth_opening, rotation_of
from data_tools.tracking.fit.neck import neck_pose
from data_tools.tracking.fit.pose_and_expression import expressions_of
from data_tools.tracking.fit.residuals import FaceState, anchor_of
from flame_nerf.geometry import perspective
from flame_nerf.heads import HeadModel
from flame_nerf.heads.eyes import blink_units

LIPS_APART = 0.25
"""jawOpen, or the jaw joint's coefficient, of the canonical mesh: with closed lips the nearest triangle of a point
between them is a matter of luck."""

TOGETHER, KEPT_BLOCKS = 20, 8
"""Frames posed at a time, and how many such runs are kept: each thread goes through frames in their order."""


class PosedMeshes:
    """Posed vertices of T frames, in the head frame, made when they are asked for: those of an hour's video take more
    room than a computer has."""

    def __init__(
        self,
        head: HeadModel,
        identity: Float[Tensor, " S"],
        expression: Float[Tensor, "T E"],
        pose: Float[Tensor, "T J 3"],
    ) -> None:
        # The person at rest is the same in all frames.
        rest, joints = head.rest(identity)
        self._head = replace(
            head,
            template=rest,
            shapedirs=head.shapedirs[..., :0],
            joint_template=joints,
            joint_shapedirs=head.joint_shapedirs[..., :0],
        )
        self._identity, self._expression, self._pose = identity[:0], expression, pose
        self._block = lru_cache(KEPT_BLOCKS)(self._posed)

    def __len__(self) -> int:
        return len(self._expression)

    def __getitem__(self, frame: int) -> Float[np.ndarray, "V 3"]:
        """Those of one frame, metres, float32.

        Raises:
            IndexError: there is no such frame.
        """
        if not 0 <= frame < len(self):
            raise IndexError(f"frame {frame} of {len(self)}")
        block, row = divmod(int(frame), TOGETHER)
        return self._block(block)[row]

    def _posed(self, block: int) -> Float[np.ndarray, "B V 3"]:
        which = slice(TOGETHER * block, TOGETHER * (block + 1))
        with torch.no_grad():
            return self._head.vertices(self._identity, self._expression[which], self._pose[which]).numpy()


@dataclass(frozen=True)
class Fitted:
    """Head and camera of all kept frames, float32 but for the poses."""

    vertices: PosedMeshes | Float[np.ndarray, "T V 3"]
    """Posed, in the head frame, frame by frame."""
    canonical: Float[np.ndarray, "V 3"]
    expression: Float[np.ndarray, "T E"]
    """The person's coefficients: those of `personal_head`."""
    pose: Float[np.ndarray, "T J 3"]
    identity: Float[np.ndarray, " S"]
    rotation: Float[np.ndarray, "T 3 3"]
    """Head to camera axes."""
    translation: Float[np.ndarray, "T 3"]
    """Camera position of the head frame's origin."""
    focal: float
    centre: Float[np.ndarray, "2"]
    mouth_open: Float[np.ndarray, " T"] | None = None
    """0 to about 1; None for heads whose mouth does not open."""

    def in_camera(self, frame: int) -> Float[np.ndarray, "V 3"]:
        """Posed vertices of a frame in camera coordinates."""
        return self.vertices[frame] @ self.rotation[frame].T + self.translation[frame]

    def in_picture(self, frame: int) -> Float[np.ndarray, "V 2"]:
        """Posed vertices of a frame in pixels."""
        camera = self.in_camera(frame)
        return perspective(camera, self.focal, self.centre)

    def pixels_per_metre(self, frame: int) -> float:
        """Scale of the picture at the head's depth."""
        return self.focal / float(self.in_camera(frame)[:, 2].mean())


def pose_head(
    head: HeadModel,
    points: FacePoints,
    state: FaceState,
    seconds: Float[np.ndarray, " T"],
    centre: Float[np.ndarray, "2"],
) -> Fitted:
    """Pose the whole head at a fitted state: neck from the head's turning, eyes from the gaze, the jaw where no
    expression moves it."""
    pose = neck_pose(head, state.rotation, seconds)
    for eye, name in enumerate(("left_eye", "right_eye")):
        if name in head.joint_names:
            pose[:, head.joint_names.index(name), :2] = state.gaze[:, eye]
    if points.jaw is not None:
        pose[:, points.jaw.row] = rotation_of(state.expression[:, -1])
    expression = expressions_of(points, state, len(head.expression_names)).float()
    identity, pose = state.identity.float(), pose.float()
    with torch.no_grad():
        apart, resting = torch.zeros(len(head.expression_names)), torch.zeros(len(head.joint_names), 3)
        if "jawOpen" in head.expression_names:
            apart[head.expression_names.index("jawOpen")] = LIPS_APART
        elif points.jaw is not None:
            resting[points.jaw.row] = rotation_of(torch.tensor(LIPS_APART))
        canonical = head.vertices(identity, apart, resting)
    opening = mouth_opening(head, expression, pose)
    vertices = PosedMeshes(head, identity, expression.clone(), pose)  # Before the coefficients become the person's.
    # Stored coefficients are the person's: with a blink at 1 the lids meet.
    for name, unit in blink_units(head, canonical).items():
        expression[:, head.expression_names.index(name)] /= unit
    return Fitted(
        vertices=vertices,
        canonical=canonical.numpy(),
        expression=expression.numpy(),
        pose=pose.numpy(),
        identity=identity.numpy(),
        rotation=state.rotation.numpy(),
        translation=state.translation(anchor_of(points)).numpy(),
        focal=state.focal,
        centre=centre,
        mouth_open=None if opening is None else opening.numpy(),
    )


def state_arrays(state: FaceState) -> dict[str, np.ndarray]:
    """A fitted state as plain arrays."""
    return {
        "rotation": state.rotation.numpy(),
        "shift": state.shift.numpy(),
        "gaze": state.gaze.numpy(),
        "expression": state.expression.numpy(),
        "identity": state.identity.numpy(),
        "focal": np.array(state.focal),
    }


def state_from(arrays: dict[str, np.ndarray]) -> FaceState:
    """The state that `state_arrays` took apart."""
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items() if name != "focal"}
    return FaceState(**tensors, focal=float(arrays["focal"]))


def lost(distance: Float[np.ndarray, " T"], height: Float[np.ndarray, " T"]) -> Bool[np.ndarray, " T"]:
    """Frames whose landmarks cannot be a face seen from there: far worse than the clip's usual frame."""
    error = distance / height
    return error > max(3 * float(np.median(error)), 0.03)
