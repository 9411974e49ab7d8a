"""The head's width from its outline: identity refined so that the silhouette meets the matte from brow to chin.

Landmarks lie on the face only; ears, cheeks and skull come out too narrow without this. Above the brow hair hides the
skull, which can only be too high: it lies inside of the matte. Below the chin the neck begins, and is not used. Heads
with keypoints of their own (animals, whose coat is short) are fitted by all of their outline that moves with the head.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from data_tools.tracking.camera import to_camera
from data_tools.tracking.fit.energy import Seen, mean_face_px, span_rows
from data_tools.tracking.fit.face.face_points import FacePoints
from data_tools.tracking.fit.face.jaw import rotation_of
from data_tools.tracking.fit.pose_and_expression import expressions_of
from data_tools.tracking.fit.residuals import FaceState, anchor_of
from data_tools.tracking.fit.shape import Evidence
from data_tools.tracking.masks.silhouette import OuterTest, is_above, within_band
from flame_nerf.geometry import perspective
from flame_nerf.heads import HeadModel

NOISE = 0.015
"""Standard deviation of an outline point, fraction of the mean face's height; neighbours err together here too."""
REACH = 0.14
"""How far along the outline's normal the matte's edge is searched, same unit. Long hair lies farther out."""
OUTLIER = 0.06
"""Distance, same unit, at which an outline point has lost half its say."""
BORDER = 2.0
"""Pixels from a picture's border within which a matte's edge may be that of the picture."""
HEAD_SHARE = 0.9
"""Skinning weight of the head joint from which a vertex counts as head, not neck."""


class Outline:
    """Outline residuals of keyframes, linearised anew wherever the fit stands."""

    def __init__(
        self, head: HeadModel, points: FacePoints, seen: Seen, mattes: Sequence[UInt8[np.ndarray, "H W"]]
    ) -> None:
        """
        Args:
            seen, mattes: of the keyframes.
        """
        self._points, self._seen, self._mattes = points, seen, mattes
        self._head = head
        self._faces = head.faces.numpy()
        self._of_head = head_part(head)
        self._edges, self._edge_faces, self._border = _edges(self._faces)

    def evidence(self, state: FaceState) -> Evidence:
        """Residuals at a state: how far each outline vertex lies outside the matte's edge, pixels."""
        vertices = head_vertices(self._head, self._points, state)
        camera = to_camera(vertices, state.rotation, state.translation(anchor_of(self._points)))
        pixels = perspective(camera, state.focal, self._seen.centre)
        height = mean_face_px(self._points, state)
        parts = [
            self._of_frame(row, camera[row], pixels[row].numpy(), float(height[row]), state)
            for row in range(len(camera))
        ]
        return Evidence(*(torch.cat([getattr(part, name) for part in parts]) for name in Evidence.__annotations__))

    def _of_frame(
        self,
        row: int,
        camera: Float[Tensor, "V 3"],
        pixels: Float[np.ndarray, "V 2"],
        height: float,
        state: FaceState,
    ) -> Evidence:
        ends = brow_and_chin(self._points, self._seen.pixels[row].numpy())
        vertex, normal = self._contour(pixels)
        inside, above = self._of_head[vertex], np.zeros(len(vertex), dtype=bool)
        if ends is not None:
            above = is_above(pixels[vertex], *ends)
            inside &= above | within_band(pixels[vertex], *ends)
        vertex, normal, above = vertex[inside], normal[inside], above[inside]
        distance = _distance_to_edge(self._mattes[row], pixels[vertex], normal, REACH * height)
        # A picture's border cuts heads off, and is no outline.
        edge, size = pixels[vertex] + distance[:, None] * normal, self._mattes[row].shape[::-1]
        shown = ((edge > BORDER) & (edge < np.array(size) - BORDER)).all(axis=1)
        # What is within the error is not too high: counted on one side alone, it would lower every skull.
        distance = np.where(above, np.minimum(distance + NOISE * height, 0.0), distance)
        found = np.isfinite(distance) & (~above | (distance < 0) & shown)
        vertex, normal, distance = vertex[found], torch.from_numpy(normal[found]), torch.from_numpy(distance[found])

        at = camera[vertex]
        z = at[:, 2:]
        along = state.focal / z * normal
        by_camera = torch.cat([along, -(along * at[:, :2] / z).sum(dim=1, keepdim=True)], dim=1)
        by_turn = torch.linalg.cross(at - state.shift[row], by_camera)
        by_identity = torch.einsum("nc,ncs->ns", by_camera @ state.rotation[row], self._head.shapedirs[vertex].double())
        by_log_focal = (normal * at[:, :2]).sum(dim=1) * state.focal / z[:, 0]
        weight = 1 / (1 + (distance / (OUTLIER * height)) ** 2) / (NOISE * height) ** 2
        return Evidence(
            frame=torch.full((len(vertex),), row),
            residual=-distance,
            by_pose=torch.cat([by_turn, by_camera], dim=1),
            by_identity=by_identity,
            by_log_focal=by_log_focal,
            weight=weight,
        )

    def _contour(self, pixels: Float[np.ndarray, "V 2"]) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, "N 2"]]:
        """Vertices on the outer outline and their outward normals in the picture."""
        triangles = pixels[self._faces]
        first, second = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
        front = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0
        turning = front[self._edge_faces[:, 0]] != front[self._edge_faces[:, 1]]
        edge = self._edges[turning]
        # The visible triangle lies inside, so the outward normal points away from its middle.
        visible = np.where(front[self._edge_faces[turning, 0]], *self._edge_faces[turning].T)
        direction = pixels[edge[:, 1]] - pixels[edge[:, 0]]
        length = np.linalg.norm(direction, axis=1)
        usable = length > 1e-6
        edge, direction, visible = edge[usable], direction[usable] / length[usable, None], visible[usable]
        normal = np.stack([direction[:, 1], -direction[:, 0]], axis=1)
        middle = pixels[edge].mean(axis=1)
        outward = ((middle - triangles[visible].mean(axis=1)) * normal).sum(axis=1)
        normal *= np.sign(outward)[:, None]

        outer = OuterTest(np.concatenate([pixels[edge], pixels[self._border]])).outside(middle + 2.0 * normal)
        return edge[outer, 0], normal[outer]


def head_part(head: HeadModel) -> Bool[np.ndarray, " V"]:
    """Vertices that move with the head, not with the neck."""
    above = [head.head_joint]
    for joint, parent in enumerate(head.parents):
        if parent in above:
            above.append(joint)
    return (head.skinning_weights[:, above].sum(dim=1) > HEAD_SHARE).numpy()


def head_vertices(head: HeadModel, points: FacePoints, state: FaceState) -> Float[Tensor, "T V 3"]:
    """Head-frame vertices at a state with the neck straight, float64."""
    pose = torch.zeros(len(state.expression), len(head.joint_names), 3)
    if points.jaw is not None:
        pose[:, points.jaw.row] = rotation_of(state.expression[:, -1]).float()
    expression = expressions_of(points, state, len(head.expression_names)).float()
    return head.vertices(state.identity.float(), expression, pose).double()


def brow_and_chin(
    points: FacePoints, pixels: Float[np.ndarray, "L 2"]
) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2"]] | None:
    """The detected points between which the head's outline is skin; the ends of the face where the detector's points
    are not on the head model; None where all of the outline counts."""
    if points.detector.span is None:
        return None
    rows = span_rows(points)
    if rows is None:
        return pixels[pixels[:, 1].argmin()], pixels[pixels[:, 1].argmax()]
    return pixels[rows[0]], pixels[rows[1]]


def _edges(
    faces: Int[np.ndarray, "F 3"],
) -> tuple[Int[np.ndarray, "N 2"], Int[np.ndarray, "N 2"], Int[np.ndarray, "B 2"]]:
    """Edges shared by two faces, those faces, and edges of one face only."""
    half = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    owner = np.tile(np.arange(len(faces)), 3)
    order = np.lexsort((half.max(axis=1), half.min(axis=1)))
    ends = np.sort(half[order], axis=1)
    same = (ends[1:] == ends[:-1]).all(axis=1)
    first = np.flatnonzero(same)
    alone = np.ones(len(ends), dtype=bool)
    alone[first] = alone[first + 1] = False
    return ends[first], np.stack([owner[order[first]], owner[order[first + 1]]], axis=1), ends[alone]


def _distance_to_edge(
    matte: UInt8[np.ndarray, "H W"], start: Float[np.ndarray, "N 2"], normal: Float[np.ndarray, "N 2"], reach: float
) -> Float[np.ndarray, " N"]:
    """Signed distance along each normal to the nearest place where the matte falls below one half; NaN if none."""
    import cv2

    offset = np.arange(-reach, reach + 1e-9, 0.5)
    at = (start[:, None] + offset[None, :, None] * normal[:, None] - 0.5).astype(np.float32)
    if len(at) == 0:
        return np.zeros(0)
    value = cv2.remap(matte, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT).astype(float)
    falls = (value[:, :-1] >= 127.5) & (value[:, 1:] < 127.5)
    drop = np.maximum(value[:, :-1] - value[:, 1:], 1e-6)
    place = offset[:-1] + 0.5 * (value[:, :-1] - 127.5) / drop
    distance = np.where(falls, np.abs(place), np.inf)
    best = distance.argmin(axis=1)
    rows = np.arange(len(at))
    return np.where(np.isfinite(distance[rows, best]), place[rows, best], np.nan)
