"""The mask of what belongs to the head: the person's matte above a steady line along the posed mesh's collar, and near
what the mattes of all frames together take for the head (see `hull`)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from data_tools.tracking.masks.smoothing import smooth_over_time
from flame_nerf.heads import HeadModel

SLOPE = 0.53
"""The collar runs through the neck joint and falls towards the front by this much, about from the seventh vertebra to
the notch between the collarbones."""
STEEPEST = 2.0
"""The same at most for other heads, whose collar runs square to the neck: theirs need not stand upright."""
FEWEST_POINTS = 12
"""A plane that meets the mesh in fewer edges has missed the neck."""
STEADY_SECONDS = 0.6
"""The line moves no faster than in about this time: a cut that jumps from frame to frame cannot be learned."""
SOFT = 0.02
"""Half width of the ramp from head to background, fraction of the collar's width."""
SAMPLES = 64
"""Points of the cut line."""
COARSE = 4
"""The line's ramp is computed on every fourth pixel."""
SHARPEST = 2.0
"""Width of a ramp at least, pixels."""


@dataclass(frozen=True)
class Collar:
    """Points around the base of the neck, each on an edge of the mesh; none if the mesh ends above it."""

    edge: Int[np.ndarray, "N 2"]
    share: Float[np.ndarray, " N"]
    """Of the edge's second vertex."""
    above: Bool[np.ndarray, " V"]
    """Vertices of the mesh that lie above it."""

    def points(self, vertices: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "N 3"]:
        """Where the collar is on a posed mesh."""
        first, second = vertices[self.edge[:, 0]], vertices[self.edge[:, 1]]
        return first + self.share[:, None] * (second - first)


def find_collar(head: HeadModel) -> Collar:
    """Where a slanted plane through the neck joint cuts the mean head; the mesh's lowest open edge if it misses it."""
    faces, rest = head.faces.numpy(), head.template.numpy()
    half = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    edges, count = np.unique(half, axis=0, return_counts=True)
    if "neck" in head.joint_names:
        joint = head.joint_template[head.joint_names.index("neck")].numpy()
        level = rest[:, 1] - joint[1] + _slope(head) * (rest[:, 2] - joint[2])
        first, second = level[edges[:, 0]], level[edges[:, 1]]
        crossed = (first < 0) != (second < 0)
        if crossed.sum() >= FEWEST_POINTS:
            return Collar(edges[crossed], first[crossed] / (first[crossed] - second[crossed]), level >= 0)
    loop = _lowest_loop(edges[count == 1], rest)
    return Collar(np.stack([loop, loop], axis=1), np.zeros(len(loop)), np.ones(len(rest), dtype=bool))


def _slope(head: HeadModel) -> float:
    """How much a head's collar falls towards the front; heads with keypoints of their own are no human's."""
    if head.landmarks is None or not head.landmarks.names:
        return SLOPE
    _, up, ahead = (head.joint_template[head.head_joint] - head.joint_template[head.joint_names.index("neck")]).tolist()
    return float(np.clip(ahead / max(up, 1e-6), -STEEPEST, STEEPEST))


def _lowest_loop(border: Int[np.ndarray, "B 2"], vertices: Float[np.ndarray, "V 3"]) -> Int[np.ndarray, " N"]:
    """Vertices of the lowest of a mesh's open edges, in no particular order; none on a closed mesh."""
    if len(border) == 0:
        return np.zeros(0, dtype=int)
    graph = coo_matrix((np.ones(len(border)), border.T), shape=(len(vertices), len(vertices)))
    label = connected_components(graph, directed=False)[1]
    on_border = np.unique(border)
    loops = [on_border[label[on_border] == name] for name in np.unique(label[on_border])]
    return min(loops, key=lambda loop: vertices[loop, 1].mean())


def cut_lines(
    collar_camera: Float[np.ndarray, "T N 3"],
    collar_pixels: Float[np.ndarray, "T N 2"],
    down: Float[np.ndarray, "T 2"],
    seconds: Float[np.ndarray, " T"],
) -> Float[np.ndarray, "T samples 2"]:
    """The front of the collar as a line from the picture's left to its right, smooth along itself and over time.

    Args:
        collar_camera, collar_pixels: the collar's vertices in camera coordinates and in pixels.
        down: unit vector in the picture towards the person's feet.
        seconds: time of each frame.

    Returns:
        Pixels; the line leaves its ends at a right angle to `down`.
    """
    across = np.stack([down[:, 1], -down[:, 0]], axis=1)
    sideways = np.einsum("tnc,tc->tn", collar_pixels, across)
    height = np.einsum("tnc,tc->tn", collar_pixels, down)
    reach = np.linspace(-1.0, 1.0, SAMPLES)
    lines = np.empty((len(collar_pixels), SAMPLES, 2))
    for row in range(len(lines)):
        left, right = sideways[row].min(), sideways[row].max()
        middle, half = (left + right) / 2, (right - left) / 2
        near = collar_camera[row, :, 2] <= collar_camera[row, :, 2].mean()
        order = np.argsort(sideways[row, near])
        place = (sideways[row, near][order] - middle) / max(half, 1e-6)
        lines[row, :, 1] = np.interp(reach, place, height[row, near][order])
        lines[row, :, 0] = middle + reach * half
    lines[..., 1] = _smooth_along(lines[..., 1])
    flat = np.concatenate([lines.reshape(len(lines), -1), down], axis=1)
    steady = smooth_over_time(flat, seconds, STEADY_SECONDS)
    lines, down = steady[:, :-2].reshape(lines.shape), steady[:, -2:]
    down = down / np.linalg.norm(down, axis=1, keepdims=True)
    across = np.stack([down[:, 1], -down[:, 0]], axis=1)
    return lines[..., :1] * across[:, None] + lines[..., 1:] * down[:, None]


def _smooth_along(height: Float[np.ndarray, "T samples"]) -> Float[np.ndarray, "T samples"]:
    place = np.arange(SAMPLES, dtype=float)
    return smooth_over_time(height.T, place, sigma=SAMPLES / 16).T


def head_mask(
    matte: UInt8[np.ndarray, "H W"],
    line: Float[np.ndarray, "samples 2"],
    hull_pixels: Float[np.ndarray, "N 2"],
    reach: float,
) -> UInt8[np.ndarray, "H W"]:
    """The matte above the cut line and within reach of the head's hull, 255 = head.

    Args:
        line: from `cut_lines`.
        hull_pixels: points that belong to the head, closer together than `reach`.
        reach: pixels.
    """
    # Smoothed, or each of the points would show in the edge.
    distance = cv2.blur(_distance(matte.shape, hull_pixels), (2 * round(reach) + 1,) * 2)
    near_hull = 0.5 + (reach - distance) / max(0.5 * reach, SHARPEST)
    level = np.minimum(_enlarge(_line_level(matte.shape, line), matte.shape), np.clip(near_hull, 0.0, 1.0))
    return np.round(matte * level).astype(np.uint8)


def near(shape: tuple[int, int], pixels: Float[np.ndarray, "N 2"], reach: float) -> Bool[np.ndarray, "H W"]:
    """Which pixels lie within `reach` pixels of any of some points."""
    return _distance(shape, pixels) <= reach


def _distance(shape: tuple[int, int], pixels: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "H W"]:
    """How far each pixel is from the nearest that holds one of some points, in pixels."""
    free = np.ones(shape, dtype=np.uint8)
    at = pixels[((pixels >= 0) & (pixels < shape[::-1])).all(axis=1)].astype(int)
    free[at[:, 1], at[:, 0]] = 0
    return cv2.distanceTransform(free, cv2.DIST_L2, cv2.DIST_MASK_5)


def _line_level(shape: tuple[int, int], line: Float[np.ndarray, "samples 2"]) -> Float[np.ndarray, "h w"]:
    """0.5 on the line, falling by one per ramp downwards; the line goes on level beyond its ends."""
    chord = line[-1] - line[0]
    width = max(float(np.linalg.norm(chord)), 1e-6)
    across = chord / width
    down = np.array([-across[1], across[0]])
    rows, columns = (COARSE * (np.arange(-(-side // COARSE)) + 0.5) for side in shape)
    sideways = columns[None, :] * across[0] + rows[:, None] * across[1]
    below = columns[None, :] * down[0] + rows[:, None] * down[1]
    ramp = 2 * max(SOFT * width, COARSE / 2)
    return 0.5 + (np.interp(sideways, line @ across, line @ down) - below) / ramp


def _enlarge(level: Float[np.ndarray, "h w"], shape: tuple[int, int]) -> Float[np.ndarray, "H W"]:
    """A coarse grid of levels at every pixel, cut to 0..1: after enlarging, or ramps would come out rounded."""
    step = float(COARSE)
    to_picture = np.array([[step, 0.0, 0.5 * step - 0.5], [0.0, step, 0.5 * step - 0.5]])
    fine = cv2.warpAffine(
        level.astype(np.float32), to_picture, shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.clip(fine, 0.0, 1.0)
