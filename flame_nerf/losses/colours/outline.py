"""Colour for what no camera saw, from the nearest outline that one did: hair for the back of the head.

At the outline a camera sees what goes on behind it. A little inside of it lies hair, the neck's side or a collar, not
the face; carried over the hidden mesh, that is a likelier colour than what a field makes up from its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.spatial import cKDTree
from torch import Tensor

from flame_nerf.canonical import MeshSearch, make_search
from flame_nerf.canonical.shell import HAIR_REGIONS, NECK_REGIONS
from flame_nerf.geometry import vertex_normals
from flame_nerf.losses.colours.mirrored import mirrored_colours
from flame_nerf.losses.colours.neck import around_the_neck
from flame_nerf.losses.silhouette import FRAMES_SAMPLED, OutlineSurface, first_met, on_rim, picture_places, spread
from flame_nerf.subject import Frame, HeadTrack

NEIGHBOURHOOD, NEIGHBOURS = 0.05, 60
"""Metres around a vertex, and vertices at most, in which the person is looked for in its colour."""
STRANGE = 0.16
"""Length of a difference of colours, each 0..1, by which one is another: dark skin and its hair differ by less than
either and a window."""
INSET = 0.004
"""Metres inside of the outline at which its colour is taken: past its blur, the matte's error and stray hair."""


def outline_colours(
    track: HeadTrack,
    frames: Sequence[Frame],
    intrinsics: Callable[[int], tuple[float, float, float, float]],
    picture: Callable[[int], UInt8[np.ndarray, "H W 4"]],
    surface: OutlineSurface,
    witness: tuple[Float[Tensor, "V 3"], Bool[Tensor, " V"]] | None = None,
) -> tuple[Float[Tensor, "V 3"], Bool[Tensor, " V"]]:
    """Colours of outlines, each vertex's median over the frames or its twin's on the other side, carried over the rest
    of the mesh: over hair that of hair, over skin that of what ends beside it. In 0..1, with where there is one.

    Args:
        track: the moving mesh.
        frames: those trained on; OpenGL cameras in the head's world.
        intrinsics: fl_x, fl_y, cx, cy of one of them, in pixels of its picture.
        picture: of one of them, with its matte.
        surface: what stands off the mesh.
        witness: of :func:`not_the_persons`, which are left out; None: none are.
    """
    faces = torch.from_numpy(track.faces).long()
    hair_faces = torch.from_numpy(track.region_faces(*HAIR_REGIONS))
    hair = torch.zeros(track.vertices.shape[1], dtype=torch.bool)
    hair[faces[hair_faces]] = True
    # At the hairline a vertex is of both, and its colour may be of either.
    hairline = torch.zeros_like(hair)
    hairline[faces[~hair_faces]] = True
    hairline &= hair
    standoff = surface.standoff.cpu()[:, None]
    seen: list[Float[Tensor, "V 3"]] = []
    search: MeshSearch | None = None
    for index in range(0, len(frames), max(1, len(frames) // FRAMES_SAMPLED)):
        vertices = torch.from_numpy(np.asarray(track.vertices[frames[index].timestep])).float()
        normals = vertex_normals(vertices, faces)
        c2w = torch.from_numpy(frames[index].c2w[:3]).float()
        search = search or make_search(faces, vertices, "auto")
        rim = on_rim(search, vertices, normals, c2w[:, 3])
        rgba = torch.from_numpy(np.ascontiguousarray(picture(index)))
        places = (vertices + (standoff - INSET) * normals)[rim]
        column, row, shown = picture_places(places, c2w, intrinsics(index), (rgba.shape[0], rgba.shape[1]))
        values = rgba[row, column]
        # Nothing else may stand there: an ear before the hair behind it.
        before = first_met(search, vertices, c2w[:, 3], places)
        same = (before < 0) | (hair_faces[before.clamp_min(0)] == hair[rim])
        inside = shown & same & (values[:, 3] == 255) & ~hairline[rim]
        seen.append(torch.full((len(vertices), 3), torch.nan))
        seen[-1][rim[inside]] = values[inside, :3].float() / 255
    median = torch.stack(seen).nanmedian(dim=0).values
    known = ~median.isnan().any(dim=1)
    if witness is not None:
        known &= ~not_the_persons(median, known, *witness, track.canonical_vertices)
    mirrored, on_other_side = mirrored_colours(median.nan_to_num(0.0), known, track.canonical_vertices, hair)
    median, known = torch.where(on_other_side[:, None], mirrored, median), known | on_other_side
    colours, there = torch.zeros_like(median), torch.zeros_like(known)
    for part in (hair, ~hair):
        measured = known & part
        there |= part & measured.any()
        colours += torch.stack([spread(median[:, channel], measured, part, faces) for channel in range(3)], dim=1)
    neck = torch.from_numpy(track.region_vertices(*NECK_REGIONS))
    if (known & neck & ~hair).any():
        rest = neck & ~hair & ~known
        colours = around_the_neck(colours, known & neck & ~hair, rest, track.canonical_vertices)
    return colours, there


def not_the_persons(
    colours: Float[Tensor, "V 3"],
    asked: Bool[Tensor, " V"],
    witness: Float[Tensor, "V 3"],
    known: Bool[Tensor, " V"],
    vertices: Float[np.ndarray, "V 3"],
) -> Bool[Tensor, " V"]:
    """Colours that the person has nowhere near: of what is behind, where a matte or a track is wrong at the outline.

    Args:
        colours: 0..1, taken at outlines.
        asked: those to judge.
        witness, known: colours that are the person's, taken away from outlines, and where there is one.
        vertices: of the canonical head, metres.
    """
    strange = torch.zeros_like(asked)
    if not (known.any() and asked.any()):
        return strange
    count = min(NEIGHBOURS, int(known.sum()))
    away, near = cKDTree(vertices[known]).query(vertices[asked], k=list(range(1, count + 1)))
    difference = (colours[asked][:, None] - witness[known][torch.from_numpy(near)]).norm(dim=2)
    difference[torch.from_numpy(away > NEIGHBOURHOOD)] = torch.inf
    least = difference.amin(dim=1)
    # Where nobody can tell, outlines are believed.
    strange[asked] = (least > STRANGE) & least.isfinite()
    return strange
