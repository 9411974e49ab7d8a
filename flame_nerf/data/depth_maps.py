"""Relative depth pictures of a subject: reading them, and what is done about those that say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt16
from nerfstudio.utils.rich_utils import CONSOLE

from flame_nerf.geometry import project, vertex_normals, world_to_camera
from flame_nerf.runtime.door import decode_picture
from flame_nerf.runtime.errors import OneLine
from flame_nerf.runtime.words import escape
from flame_nerf.subject import Frame, Subject

FARTHEST, NEAREST = 1, 65535
"""Values of the farthest and the nearest pixel of a 16-bit map; 0 is reserved for pixels without depth."""
NAMED_FRAMES = 5
"""How many unusable maps one message names."""
CHECKED_FRAMES = 8
"""Of so many at most it is asked whether their maps agree with the mesh."""
REVERSED_AGREEMENT = 0.25
"""Below this share of pairs in the mesh's order, larger means farther in the maps."""
HIDDEN_REGIONS = ("scalp", "neck")
"""Under hair and cloth the mesh's depth is not the picture's."""
LEAST_COSINE, LEAST_APART = 0.3, 0.005
"""Points count where a camera looks at the surface at least this steeply, and pairs from so many metres on."""


class DepthMapError(OneLine, ValueError):
    """A depth map that says nothing. The text names the file and what is wrong with it."""


def read_depth_map(path: Path, stored_size: tuple[int, int], size: tuple[int, int]) -> UInt16[np.ndarray, "H W"]:
    """One relative depth map, larger = nearer, 0 = unknown.

    Reads what `flame-nerf-data depth` writes (16-bit grey PNG), and floating-point TIFF, whose finite values are spread
    over the 16 bits.

    Args:
        path: the map.
        stored_size: width and height of the subject's pictures, which the map must have.
        size: width and height wanted; the nearest pixel is taken, since a mean with unknown ones would be wrong.

    Raises:
        DepthMapError: the file is missing, unreadable, of another size, or holds no two different depths.
    """
    values = decode_picture(path, DepthMapError, remedy="Write it again.", missing=f"{path.name} is missing")
    if values.ndim != 2:
        raise DepthMapError(f"{path.name} has {values.shape[2]} channels, expected one")
    if values.shape[::-1] != tuple(stored_size):
        found, expected = ("x".join(map(str, pair)) for pair in (values.shape[::-1], stored_size))
        raise DepthMapError(f"{path.name} is {found}, the pictures are {expected}")
    if values.dtype.kind == "f":
        values = spread(values)
    elif values.dtype == np.uint8:
        values = values.astype(np.uint16) * 257
    known = values[values > 0]
    if len(known) == 0 or known.min() == known.max():
        raise DepthMapError(f"{path.name} is constant")
    if values.shape[::-1] != tuple(size):
        values = cv2.resize(values, size, interpolation=cv2.INTER_NEAREST)
    return values


def spread(
    nearness: Float[np.ndarray, "H W"], low: float | None = None, high: float | None = None
) -> UInt16[np.ndarray, "H W"]:
    """Depth as 16 bits: `low` becomes the farthest value, `high` the nearest, what is not finite becomes unknown.

    Args:
        nearness: any unit, larger = nearer.
        low, high: the range that matters, by default all of it; what lies outside of it is cut off.
    """
    known = np.isfinite(nearness)
    if not known.any():
        return np.zeros(nearness.shape, dtype=np.uint16)
    low = float(nearness[known].min()) if low is None else low
    high = float(nearness[known].max()) if high is None else high
    along = np.clip((np.where(known, nearness, low) - low) / max(high - low, 1e-20), 0.0, 1.0)
    return np.where(known, np.rint(FARTHEST + along * (NEAREST - FARTHEST)), 0).astype(np.uint16)


def fill_depth_maps(
    maps: UInt16[np.ndarray, "N H W"], subject: Subject, frames: Sequence[Frame], pool: Executor
) -> int:
    """Read the frames' depth maps into an array; those that cannot be used become 0, unknown, and are named once.

    Returns:
        How many maps could be used.
    """
    size, stored_size = (maps.shape[2], maps.shape[1]), (subject.width, subject.height)

    def read(index: int) -> str | None:
        path = frames[index].depth_path
        try:
            if path is None:
                raise DepthMapError(f"{frames[index].file_path.name} has none")
            maps[index] = read_depth_map(subject.root / path, stored_size, size)
        except DepthMapError as error:
            maps[index] = 0
            return str(error)
        return None

    problems = [problem for problem in pool.map(read, range(len(frames))) if problem is not None]
    if problems:
        more = f", and {len(problems) - NAMED_FRAMES} more" if len(problems) > NAMED_FRAMES else ""
        named = escape("; ".join(problems[:NAMED_FRAMES]))
        CONSOLE.log(
            f"[yellow]{len(problems)} of {len(frames)} depth maps cannot be used ({named}{more}): these "
            "frames train without a depth prior. Write them again with "
            f"`flame-nerf-data depth {escape(subject.root)} --overwrite`."
        )
    if other_way_round(maps, subject, frames):
        CONSOLE.log(
            "[yellow]The depth maps are larger where the tracked face is farther, and should be where it is nearer: "
            "they are taken the other way round."
        )
        for values in maps:
            known = values > 0
            values[known] = NEAREST - values[known] + FARTHEST
    return len(frames) - len(problems)


def other_way_round(maps: UInt16[np.ndarray, "N H W"], subject: Subject, frames: Sequence[Frame]) -> bool:
    """Whether the maps order nearly all of the tracked face against its mesh, in the median of a few frames."""
    shares = [_agreement(maps[i], subject, frames[i]) for i in range(0, len(frames), 1 + len(frames) // CHECKED_FRAMES)]
    known = [share for share in shares if np.isfinite(share)]
    return bool(known) and float(np.median(known)) < REVERSED_AGREEMENT


def _agreement(nearness: UInt16[np.ndarray, "H W"], subject: Subject, frame: Frame) -> float:
    """Share of pairs of the face's points that face the camera which a map orders as they are; NaN without any."""
    track = subject.track
    vertices = np.asarray(track.vertices[frame.timestep], dtype=np.float32)
    normals = vertex_normals(torch.from_numpy(vertices), torch.from_numpy(track.faces).long()).numpy()
    towards = frame.c2w[:3, 3] - vertices
    facing = (normals * towards).sum(axis=1) > LEAST_COSINE * np.linalg.norm(towards, axis=1)
    facing[track.faces[track.region_faces(*HIDDEN_REGIONS)]] = False
    height, width = nearness.shape
    scale = width / subject.width, height / subject.height
    places = project(vertices[facing], frame.c2w, subject.intrinsics_of(frame)) * scale
    depth = world_to_camera(vertices[facing], frame.c2w)[:, 2]
    inside = np.isfinite(places).all(axis=1) & (places >= 0).all(axis=1) & (places < (width, height)).all(axis=1)
    column, row = places[inside].astype(int).T
    values, depth = nearness[row, column].astype(np.int64), depth[inside]
    values, depth = values[values > 0], depth[values > 0]
    other = np.random.default_rng(0).permutation(len(depth))
    apart, nearer = depth - depth[other], values[other] - values
    told = (np.abs(apart) > LEAST_APART) & (nearer != 0)
    return float((np.sign(apart[told]) == np.sign(nearer[told])).mean()) if told.any() else float("nan")
