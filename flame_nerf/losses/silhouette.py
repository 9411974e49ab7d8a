"""The head's surface as the video's outlines tell it: what stands off the mesh, and which of the mesh is there.

A parametric head is bald and ends somewhere on the shoulders. A matte says more: where the skull's rim lies on the
outline, the distance from there to the matte's edge is the hair's thickness; where a vertex is never inside the matte,
the person was cut off above it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy.spatial import cKDTree
from torch import Tensor

from flame_nerf.canonical import MeshSearch, make_search
from flame_nerf.canonical.shell import HAIR_REGIONS, NECK_REGIONS
from flame_nerf.geometry import perspective, vertex_normals, world_to_camera
from flame_nerf.subject import Frame, HeadTrack

FRAMES_SAMPLED = 60
"""Training frames that outlines and visibility are worked out from, spread over the video."""
RIM_COSINE = 0.25
"""A vertex is on the rim where its normal is at least this square to the view."""
PAST_RIM = 0.003
"""Metres off a vertex of the rim at which rays miss the mesh, if it lies on the outline and not before other parts."""
STANDOFF_QUANTILE = 0.25
"""Quantile of the distances by which outlines stand off a vertex: a chin over the chest seems to, in some frames."""
HEIGHTS = 32
"""Distances from the mesh at which the matte is asked."""
SLACK = 0.008
"""Metres that the mesh may stand out of the matte, ears above all, and still be part of the person."""
LEAST_FRAMES = 0.5
"""Share of the frames in which a vertex must be inside the matte to be part of the person."""
NEIGHBOURS = 8
"""Seen vertices that say whether one is there that is always behind others."""
UPRIGHT = 4.0
"""Weight of a difference in height among them, over one along the ground: a collar cuts necks across, though
seldom level."""
SMOOTHING = 300
"""Rounds of averaging over neighbours that carry the rim's thickness over the whole scalp."""


@dataclass(frozen=True)
class OutlineSurface:
    """Evidence of the outlines for each vertex of the mesh."""

    thickness: Float[Tensor, " V"]
    """Metres of hair over it; 0 outside of the hair's regions."""
    standoff: Float[Tensor, " V"]
    """Metres that anything stands off it: beards, collars and long hair, too."""
    is_there: Bool[Tensor, " V"]
    """True if it is part of the person, and not cut off by the mattes."""


def outline_surface(
    track: HeadTrack,
    frames: Sequence[Frame],
    intrinsics: Callable[[int], tuple[float, float, float, float]],
    matte: Callable[[int], UInt8[np.ndarray, "H W"]],
    most: Float[Tensor, " V"],
    hidden: Bool[Tensor, " V"],
) -> OutlineSurface:
    """Measure what stands off the mesh at the outlines of training frames, and carry it over the rest of it.

    What is always behind the head is inside every matte, and that says nothing of it: it is there where what is seen
    nearest to it, at about its height, is. A skull goes on beyond the picture's border; a neck ends there, or its
    chest would be made up.

    Args:
        track: the moving mesh.
        frames: those trained on; OpenGL cameras in the head's world.
        intrinsics: fl_x, fl_y, cx, cy of one of them, in pixels of its matte.
        matte: of one of them, 0 to 255.
        most: how far anything may stand off at each vertex, metres.
        hidden: vertices that no camera saw.
    """
    faces = torch.from_numpy(track.faces).long()
    hair = torch.from_numpy(track.region_vertices(*HAIR_REGIONS))
    neck = torch.from_numpy(track.region_vertices(*NECK_REGIONS))
    most = most.cpu()
    measured: list[Float[Tensor, " V"]] = []
    inside_frames = torch.zeros_like(most)
    search: MeshSearch | None = None
    along = torch.linspace(0.0, 1.0, HEIGHTS)
    for index in range(0, len(frames), max(1, len(frames) // FRAMES_SAMPLED)):
        vertices = torch.from_numpy(np.asarray(track.vertices[frames[index].timestep])).float()
        normals = vertex_normals(vertices, faces)
        c2w, lens = torch.from_numpy(frames[index].c2w[:3]).float(), intrinsics(index)
        alpha = torch.from_numpy(np.ascontiguousarray(matte(index)))
        pixels = round(SLACK * lens[0] / float((vertices.mean(dim=0) - c2w[:, 3]).norm()))
        wide = cv2.dilate(alpha.numpy(), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1,) * 2))
        inside_frames += _inside(torch.from_numpy(wide), vertices, c2w, lens, within=neck)
        search = search or make_search(faces, vertices, "auto")
        rim = on_rim(search, vertices, normals, c2w[:, 3])
        height = along[:, None] * most[rim]
        inside = _inside(alpha, vertices[rim] + height[..., None] * normals[rim], c2w, lens)
        # The first place outside of the matte ends it.
        reached = inside.long().cumprod(dim=0).sum(dim=0)
        measured.append(torch.full_like(most, torch.nan))
        measured[-1][rim] = reached.clamp(min=1).sub(1) / (HEIGHTS - 1) * most[rim]
    measures = torch.stack(measured)
    known = ~measures.isnan().all(dim=0)
    # Skin beside the hair says nothing of its thickness, nor hair of what stands off skin.
    thickness = spread(measures.nanmean(dim=0), known & hair, hair, faces)
    off_skin = spread(measures.nanquantile(STANDOFF_QUANTILE, dim=0), known & ~hair, ~hair, faces)
    share = as_beside(inside_frames / len(measured), hidden.cpu(), track.canonical_vertices)
    return OutlineSurface(thickness, thickness + off_skin, share >= LEAST_FRAMES)


def on_rim(
    search: MeshSearch,
    vertices: Float[Tensor, "V 3"],
    normals: Float[Tensor, "V 3"],
    camera: Float[Tensor, " 3"],
) -> Int[Tensor, " N"]:
    """Vertices that lie on the outline of a posed mesh, seen from a camera, and not before other parts of it."""
    ray = torch.nn.functional.normalize(vertices - camera, dim=1)
    rim = ((ray * normals).sum(dim=1).abs() < RIM_COSINE).nonzero()[:, 0]
    return rim[first_met(search, vertices, camera, vertices[rim] + PAST_RIM * normals[rim]) < 0]


def first_met(
    search: MeshSearch, vertices: Float[Tensor, "V 3"], camera: Float[Tensor, " 3"], points: Float[Tensor, "N 3"]
) -> Int[Tensor, " N"]:
    """Faces of a posed mesh that rays from a camera through points meet first; -1 where they meet none."""
    along = torch.nn.functional.normalize(points - camera, dim=1).contiguous()
    which = torch.zeros(len(points), dtype=torch.long)
    structure = search.build(vertices.contiguous())
    return search.first_hit([structure], which, camera.expand(len(points), 3).contiguous(), along)[1]


def as_beside(
    share: Float[Tensor, " V"], hidden: Bool[Tensor, " V"], vertices: Float[np.ndarray, "V 3"]
) -> Float[Tensor, " V"]:
    """Values of the hidden ones replaced by means over those of the others nearest to them at about their height."""
    count = int((~hidden).sum())
    if count in (0, len(hidden)):
        return share
    places = vertices * np.array([1.0, UPRIGHT, 1.0], vertices.dtype)
    # Numbers of neighbours as a list: a single one would come without its axis.
    _, nearest = cKDTree(places[~hidden]).query(places[hidden], k=list(range(1, min(NEIGHBOURS, count) + 1)))
    return share.masked_scatter(hidden, share[~hidden][torch.from_numpy(nearest)].mean(dim=1))


def _inside(
    alpha: UInt8[Tensor, "H W"],
    points: Float[Tensor, "*N 3"],
    c2w: Float[Tensor, "3 4"],
    lens: tuple[float, float, float, float],
    within: Bool[Tensor, "*N"] | None = None,
) -> Bool[Tensor, "*N"]:
    """Whether points are seen inside a matte. Beyond the picture's border counts as it does at the border, but for
    those that are to lie `within` the picture: they are not inside there."""
    column, row, before = picture_places(points, c2w, lens, (alpha.shape[0], alpha.shape[1]))
    inside = (alpha[row, column] > 127) & before
    if within is None:
        return inside
    height, width = alpha.shape
    at_border = (column == 0) | (row == 0) | (column == width - 1) | (row == height - 1)
    return inside & ~(within & at_border)


def well_inside(alpha: UInt8[Tensor, "H W"], pixels: float) -> Bool[Tensor, "H W"]:
    """What is opaque in a matte, and so many pixels away from all that is not, rounded, one at least; the picture's
    border is no end."""
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * max(1, round(pixels)) + 1,) * 2)
    return torch.from_numpy(cv2.erode((alpha.numpy() == 255).astype(np.uint8), around)).bool()


def picture_places(
    points: Float[Tensor, "*N 3"],
    c2w: Float[Tensor, "3 4"],
    lens: tuple[float, float, float, float],
    size: tuple[int, int],
) -> tuple[Int[Tensor, "*N"], Int[Tensor, "*N"], Bool[Tensor, "*N"]]:
    """Column and row of the pixel that shows each point, or of the border's nearest to it, in a picture of `size`
    (height, width), and whether the point is before the camera."""
    camera = world_to_camera(points, c2w)
    depth = camera[..., 2:]
    pixels = perspective(torch.cat([camera[..., :2], depth.clamp(min=1e-6)], dim=-1), lens[:2], lens[2:]).long()
    column, row = (pixels[..., axis].clamp(0, size[1 - axis] - 1) for axis in (0, 1))
    return column, row, depth[..., 0] > 0


def spread(
    values: Float[Tensor, " V"], known: Bool[Tensor, " V"], wanted: Bool[Tensor, " V"], faces: Int[Tensor, "F 3"]
) -> Float[Tensor, " V"]:
    """Values of all wanted vertices, harmonic between the known ones; zero elsewhere, and without any known one."""
    if not known.any():
        return torch.zeros_like(values)
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = edges[wanted[edges].all(dim=1)]
    start, end = torch.cat([edges, edges.flip(1)]).unbind(dim=1)
    degree = torch.zeros_like(values).index_add_(0, start, torch.ones(len(start)))
    filled = torch.where(known, values, values[known].mean())
    free = wanted & ~known & (degree > 0)
    for _ in range(SMOOTHING):
        mean = torch.zeros_like(values).index_add_(0, start, filled[end]) / degree.clamp(min=1)
        filled = torch.where(free, mean, filled)
    return torch.where(wanted, filled, 0.0)
