"""How the head moved from each frame to the next, as optical flow sees it on what expressions leave alone.

Landmarks say where the head is, but each frame's err by themselves by a pixel or so; flow between neighbouring frames
errs by a tenth of that, but its errors add up. Together they say both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from data_tools.runs.pictures import load_grey
from data_tools.tracking.fit.face.face_points import FacePoints
from data_tools.tracking.fit.residuals import FaceState, anchor_of
from flame_nerf.canonical import MeshSearch, make_search
from flame_nerf.geometry import perspective, triangle_normals
from flame_nerf.heads import HeadModel

STILL = 0.006
"""Metres that an expression may move a point at most for it to count as part of the skull."""
CARRIED = 0.9
"""Share of the head's joint in a vertex from which it goes with the skull."""
GRAZING = 0.3
"""Cosine to the camera below which a point is left out: what flow follows along an outline is not one point."""
CORNERS, APART = 300, 5
"""Most points followed from a frame, and pixels between them."""
QUALITY = 0.003
"""How weak a corner may be beside the strongest."""
WINDOW, LEVELS = (17, 17), 2
"""Of the flow, pixels, and halvings of the picture."""
RETURNS = 0.25
"""Pixels by which a point may miss its place when it is followed there and back."""
NOISE, OUTLIER = 0.15, 0.3
"""Usual error of a followed point, and that at which it has lost half its say (Cauchy), pixels."""
MOVES = np.array([0.05, 0.05, 0.05, 0.01, 0.01, 0.01])
"""Usual turn (radians) and shift (metres) between frames: what flow leaves open, such as depth, stays below."""
ENOUGH, SURE = 20, 0.6
"""Points, and their mean error in pixels, from and up to which a movement counts as seen."""
STEPS = 10
EDGE = 0.5
"""OpenCV counts pixels from the middle of the first, this package from the picture's left and upper edge."""


@dataclass(frozen=True)
class SeenMotion:
    """Movement of the head between T successive frames, in camera axes."""

    moved: Float[np.ndarray, "T_minus_1 6"]
    """Turn (rotation vector, radians) and shift of the face's anchor (metres)."""
    sure: Bool[np.ndarray, " T_minus_1"]
    """Whether flow saw it."""

    def frames(self, which: slice) -> SeenMotion:
        """The same between some of the frames, given as a slice with both ends."""
        pairs = slice(which.start, max(which.start, which.stop - 1))
        return SeenMotion(self.moved[pairs], self.sure[pairs])


@dataclass(frozen=True)
class View:
    """How a camera sees the head in one frame."""

    rotation: Float[np.ndarray, "3 3"]
    """Head to camera axes."""
    translation: Float[np.ndarray, "3"]
    """Camera position of the head frame's origin, metres."""
    focal: float
    centre: Float[np.ndarray, "2"]
    """Principal point, pixels."""

    def pixels(self, points_head: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 2"]:
        """Where points of the head frame are in the picture."""
        return perspective(points_head @ self.rotation.T + self.translation, self.focal, self.centre)

    def along(self, pixels: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 3"]:
        """Unit directions of pixels' rays, in camera axes."""
        ahead = np.concatenate([(pixels - self.centre) / self.focal, np.ones((len(pixels), 1))], axis=1)
        return ahead / np.linalg.norm(ahead, axis=1, keepdims=True)


@dataclass(frozen=True)
class Skull:
    """What of a head's surface goes with the skull, in the head frame."""

    search: MeshSearch
    handle: object
    """The neutral head with its identity, for the search."""
    still: Bool[np.ndarray, " F"]
    """Triangles that no expression moves."""
    corners: Float[np.ndarray, "N 3"]
    """Vertices of those triangles."""
    normal: Float[np.ndarray, "F 3"]
    """Of all triangles."""

    @staticmethod
    def of(head: HeadModel, points: FacePoints, state: FaceState) -> Skull:
        """
        Args:
            points: of the same head; they know which expressions are fitted, and in what unit.
            state: has the identity.
        """
        neutral = torch.zeros(len(head.expression_names)), torch.zeros(len(head.joint_names), 3)
        vertices = head.vertices(state.identity.float(), *neutral).contiguous()
        reach = points.unit * head.exprdirs[..., points.expression_rows].norm(dim=1)
        unmoved = reach.amax(dim=-1) < STILL if reach.shape[-1] else torch.ones(len(vertices), dtype=torch.bool)
        still = (unmoved & (head.skinning_weights[:, head.head_joint] > CARRIED))[head.faces].all(dim=1)
        search = make_search(head.faces, vertices, "auto")
        corners = vertices[head.faces[still].unique()].double().numpy()
        normal = triangle_normals(vertices[head.faces]).double().numpy()
        return Skull(search, search.build(vertices), still.numpy(), corners, normal)

    def points_under(
        self, pixels: Float[np.ndarray, "N 2"], view: View
    ) -> tuple[Float[np.ndarray, "N 3"], Bool[np.ndarray, " N"]]:
        """Points of the surface under pixels, metres in camera coordinates, and whether they lie on the skull, not seen
        from the side."""
        along = view.along(pixels)
        origins = np.broadcast_to(-view.rotation.T @ view.translation, along.shape)
        directions = along @ view.rotation
        rays = (torch.from_numpy(np.ascontiguousarray(values, np.float32)) for values in (origins, directions))
        distance, face = self.search.first_hit([self.handle], torch.zeros(len(pixels), dtype=torch.long), *rays)
        hit = (face >= 0).numpy()
        on_skull = hit & self.still[face.clamp_min(0).numpy()]
        facing = -(self.normal[face.clamp_min(0).numpy()] * directions).sum(axis=1)
        return along * np.where(hit, distance.numpy(), 0.0)[:, None], on_skull & (facing > GRAZING)


def seen_motion(
    skull: Skull,
    points: FacePoints,
    state: FaceState,
    pictures: Sequence[Path],
    centre: Float[np.ndarray, "2"],
    first: int,
    stop: int,
    advance: Callable[[int], None] = lambda count: None,
) -> SeenMotion:
    """Movement from each of the frames first .. stop - 1 to the one after it.

    Args:
        state: where the head is in all frames, to about a centimetre.
        pictures: of all frames.
        centre: principal point, pixels.
        advance: called after each frame.
    """
    rotation, shift = state.rotation.numpy(), state.shift.numpy()
    translation = state.translation(anchor_of(points)).numpy()
    moved, sure = np.zeros((stop - first, 6)), np.zeros(stop - first, dtype=bool)
    now = load_grey(pictures[first])
    for frame in range(first, stop):
        following = load_grey(pictures[frame + 1])
        view = View(rotation[frame], translation[frame], state.focal, centre)
        window = _window(view.pixels(skull.corners), now.shape)
        pixels = _corners(now, window)
        surface, on_skull = skull.points_under(pixels, view)
        end, found = _followed(now, following, window, pixels[on_skull])
        if found.sum() >= ENOUGH:
            step, error = rigid_motion(surface[on_skull][found], end[found], shift[frame], state.focal, centre)
            moved[frame - first], sure[frame - first] = step, error < SURE
        now = following
        advance(1)
    return SeenMotion(moved, sure)


def rigid_motion(
    surface: Float[np.ndarray, "N 3"],
    pixels: Float[np.ndarray, "N 2"],
    pivot: Float[np.ndarray, "3"],
    focal: float,
    centre: Float[np.ndarray, "2"],
) -> tuple[Float[np.ndarray, "6"], float]:
    """Turn about a pivot and shift that carry points to where they are seen afterwards, by robust Gauss-Newton steps.

    Args:
        surface: points before, metres in camera coordinates.
        pixels: where they are seen after.
        pivot: metres in camera coordinates.

    Returns:
        The turn (rotation vector) and the shift, and the points' mean error in pixels, by their say.
    """
    import cv2

    step, arm = np.zeros(6), surface - pivot
    rows = np.zeros((len(surface), 2, 6))
    hold = np.diag((NOISE / MOVES) ** 2)
    for _ in range(STEPS):
        turned = arm @ cv2.Rodrigues(step[:3])[0].T
        after = turned + pivot + step[3:]
        scale = focal / after[:, 2]
        off = perspective(after, focal, centre) - pixels
        say = 1 / (1 + (off**2).sum(axis=1) / OUTLIER**2)
        rows[:, 0, 3] = rows[:, 1, 4] = scale
        rows[:, :, 5] = -scale[:, None] * after[:, :2] / after[:, 2:]
        # A turn w moves a point by w x turned.
        x, y, z = turned.T
        rows[:, :, 0] = -z[:, None] * rows[:, :, 4] + y[:, None] * rows[:, :, 5]
        rows[:, :, 1] = z[:, None] * rows[:, :, 3] - x[:, None] * rows[:, :, 5]
        rows[:, :, 2] = -y[:, None] * rows[:, :, 3] + x[:, None] * rows[:, :, 4]
        flat = rows.reshape(-1, 6)
        weighted = flat * np.repeat(say, 2)[:, None]
        change = np.linalg.solve(weighted.T @ flat + hold, -(weighted.T @ off.ravel() + hold @ step))
        step = step + change
        if np.abs(change).max() < 1e-7:
            break
    return step, float(np.sqrt(np.average((off**2).sum(axis=1), weights=say)))


def _window(pixels: Float[np.ndarray, "N 2"], shape: tuple[int, int]) -> Int[np.ndarray, "2 2"]:
    """Part of the picture (least and greatest x, y) that holds pixels, with room for their movement."""
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    room = 0.15 * (high - low)
    limit = np.array(shape[::-1])
    return np.clip(np.stack([np.floor(low - room), np.ceil(high + room)]), 0, limit).astype(int)


def _corners(picture: UInt8[np.ndarray, "H W"], window: Int[np.ndarray, "2 2"]) -> Float[np.ndarray, "N 2"]:
    """Places in a part of the picture that are easily found again, pixels."""
    import cv2

    (left, top), (right, bottom) = window
    if min(right - left, bottom - top) < WINDOW[0]:
        return np.zeros((0, 2))
    found = cv2.goodFeaturesToTrack(picture[top:bottom, left:right], CORNERS, QUALITY, APART)
    return np.zeros((0, 2)) if found is None else found[:, 0].astype(float) + [left, top] + EDGE


def _followed(
    now: UInt8[np.ndarray, "H W"],
    following: UInt8[np.ndarray, "H W"],
    window: Int[np.ndarray, "2 2"],
    pixels: Float[np.ndarray, "N 2"],
) -> tuple[Float[np.ndarray, "N 2"], Bool[np.ndarray, " N"]]:
    """Where the next frame has points of a frame, pixels, and which of them come back when they are followed back."""
    import cv2

    if len(pixels) == 0:
        return pixels, np.zeros(0, dtype=bool)
    (left, top), (right, bottom) = window
    one, other = (np.ascontiguousarray(picture[top:bottom, left:right]) for picture in (now, following))
    edge = np.array([left, top]) + EDGE
    start = (pixels - edge).astype(np.float32)[:, None]
    settings = {"winSize": WINDOW, "maxLevel": LEVELS, "criteria": (3, 30, 0.01)}
    there, found, _ = cv2.calcOpticalFlowPyrLK(one, other, start, None, **settings)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(other, one, there, None, **settings)
    kept = (found & returned)[:, 0] > 0
    return there[:, 0] + edge, kept & (np.linalg.norm((back - start)[:, 0], axis=1) < RETURNS)
