"""Depth of a posed mesh, pixel by pixel."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from flame_nerf.geometry import homogeneous, perspective, world_to_camera
from flame_nerf.subject import Frame, Subject


@dataclass(frozen=True)
class MeshDepth:
    """What each pixel's middle sees of a mesh."""

    depth: Float[np.ndarray, "H W"]
    """Metres along the camera's axis; NaN where no mesh is."""
    face: Int[np.ndarray, "H W"]
    """The triangle seen; -1 where none is."""


def face_depth(subject: Subject, frame: Frame, without: tuple[str, ...]) -> Float[np.ndarray, "H W"]:
    """Depth of a frame's mesh in metres, NaN off the mesh and on the regions `without`."""
    seen = rasterise(
        subject.track.vertices[frame.timestep],
        subject.track.faces,
        frame.c2w,
        subject.intrinsics_of(frame),
        (subject.width, subject.height),
    )
    left_out = subject.track.region_faces(*without)
    # Index -1, where nothing is seen, picks the last face: its depth is NaN anyway.
    return np.where(left_out[seen.face], np.nan, seen.depth)


def rasterise(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    c2w: Float[np.ndarray, "4 4"],
    intrinsics: tuple[float, float, float, float],
    size: tuple[int, int],
) -> MeshDepth:
    """The nearest triangle and its depth at every pixel's middle; by pytorch3d where that runs on CUDA, else by
    our own kernel.

    Args:
        vertices: world, metres.
        c2w: camera-to-world, OpenGL axes.
        intrinsics: fl_x, fl_y, cx, cy in pixels.
        size: width and height of the picture.
    """
    if torch.cuda.is_available() and importlib.util.find_spec("pytorch3d") is not None:
        return rasterise_pytorch3d(vertices, faces, c2w, intrinsics, size, torch.device("cuda"))
    return rasterise_compiled(vertices, faces, c2w, intrinsics, size)


def rasterise_compiled(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    c2w: Float[np.ndarray, "4 4"],
    intrinsics: tuple[float, float, float, float],
    size: tuple[int, int],
) -> MeshDepth:
    """`rasterise` by this package's kernel, which sees triangles from either side, and those that reach behind the
    camera."""
    from flame_nerf.kernels.cpu.raster import nearest_faces

    corners = homogeneous(world_to_camera(vertices.astype(np.float64), c2w), intrinsics[:2], intrinsics[2:])
    face, depth = np.empty(size[::-1], np.int64), np.empty(size[::-1])
    nearest_faces(corners, faces.astype(np.int64), False, face, depth)
    depth[face < 0] = np.nan
    return MeshDepth(depth, face)


def rasterise_pytorch3d(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    c2w: Float[np.ndarray, "4 4"],
    intrinsics: tuple[float, float, float, float],
    size: tuple[int, int],
    device: torch.device,
) -> MeshDepth:
    """`rasterise` by pytorch3d, whose screen has x to the left and y up, and ends at 1 on the shorter side."""
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.structures import Meshes

    width, height = size
    camera = world_to_camera(vertices, c2w)
    depth, (x, y) = camera[:, 2], perspective(camera, intrinsics[:2], intrinsics[2:]).T
    unit = min(size) / 2
    screen = np.stack([(width / 2 - x) / unit, (height / 2 - y) / unit, depth], axis=1)
    mesh = Meshes(
        [torch.from_numpy(screen.astype(np.float32)).to(device)],
        [torch.from_numpy(faces.astype(np.int64)).to(device)],
    )
    face, found, _, _ = rasterize_meshes(
        mesh, image_size=(height, width), blur_radius=0.0, faces_per_pixel=1, perspective_correct=True
    )
    face, found = face[0, ..., 0].cpu().numpy(), found[0, ..., 0].cpu().numpy().astype(np.float64)
    return MeshDepth(depth=np.where(face >= 0, found, np.nan), face=face)


def ordering_agreement(
    nearness: Float[np.ndarray, "H W"],
    depth: Float[np.ndarray, "H W"],
    where: Bool[np.ndarray, "H W"],
    random: np.random.Generator,
    least_m: float = 0.005,
    pairs: int = 4000,
) -> float:
    """Share of random pixel pairs that two depths order alike; NaN where there is nothing to compare.

    Args:
        nearness: larger = nearer, any unit.
        depth: metres, larger = farther.
        where: pixels to compare.
        least_m: pairs that are less apart in depth say nothing.
    """
    rows = np.flatnonzero(where & np.isfinite(nearness) & np.isfinite(depth))
    if len(rows) < 2:
        return float("nan")
    first, second = random.choice(rows, (2, pairs))
    apart = depth.ravel()[second] - depth.ravel()[first]
    clear = np.abs(apart) > least_m
    if not clear.any():
        return float("nan")
    nearer = nearness.ravel()[first] - nearness.ravel()[second]
    return float((np.sign(nearer[clear]) == np.sign(apart[clear])).mean())
