"""A colour for every vertex of the mesh: what the video shows there, or what stands nearest to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.spatial import cKDTree
from torch import Tensor

from flame_nerf.canonical import MeshSearch, make_search
from flame_nerf.canonical.shell import HAIR_REGIONS, INNER_REGIONS
from flame_nerf.geometry import vertex_normals
from flame_nerf.losses.colours.mirrored import mirrored_colours
from flame_nerf.losses.colours.mouth import mouth_colours
from flame_nerf.losses.colours.outline import not_the_persons, outline_colours
from flame_nerf.losses.silhouette import FRAMES_SAMPLED, OutlineSurface, picture_places, spread, well_inside
from flame_nerf.subject import Frame, HeadTrack

LEAST_COSINE = 0.25
"""A vertex is seen where a camera looks at it at least this steeply."""
OCCLUSION = 0.002
"""Metres that something must lie before a vertex to hide it."""
PAST_EDGE = 0.004
"""Metres inside of the matte's edge from which on a pixel shows the person alone: past its blur and the matte's
error."""
COAST = 0.015
"""Metres from what no camera saw within which a colour may be that of what is behind the head."""
SHADED = 0.4
"""Brightness of an inner region that no camera ever saw, as a share of the lips'."""


def surface_colours(
    track: HeadTrack,
    frames: Sequence[Frame],
    intrinsics: Callable[[int], tuple[float, float, float, float]],
    picture: Callable[[int], UInt8[np.ndarray, "H W 4"]],
    surface: OutlineSurface,
    hidden: Bool[Tensor, " V"],
) -> tuple[Float[Tensor, "V 3"], Bool[Tensor, " V"]]:
    """Colours of the mesh, in 0..1, with where there is one.

    What cameras saw has the median of what they saw; the hidden outer surface has what they saw of the head's other
    side, or the nearest outline's; what is hidden inside of mouth and eyes has that of the part of the same region that
    was seen, or the lips' in the shade.

    Args:
        track, frames, intrinsics, picture, surface: as of :func:`outline_colours`.
        hidden: vertices that no camera saw.
    """
    faces = torch.from_numpy(track.faces).long()
    colours, known = seen_colours(track, frames, intrinsics, picture)
    regions = INNER_REGIONS, ("lips", "eyelids"), ("lips",), HAIR_REGIONS
    inner, moving, lips, hair = (torch.from_numpy(track.region_vertices(*names)) for names in regions)
    outer = ~inner
    # Around mouth and eyes creases are hidden that are nobody's outline.
    inland = _inland(known, outer & ~moving, track.canonical_vertices)
    coast = known & outer & ~inland & ~moving
    known &= ~not_the_persons(colours, coast, colours, inland, track.canonical_vertices)
    outline, there = outline_colours(track, frames, intrinsics, picture, surface, (colours, inland))
    lips, seen = lips & known, known & ~hidden.cpu()
    mirrored, on_other_side = mirrored_colours(colours, seen & outer, track.canonical_vertices, hair)
    from_outline = hidden.cpu() & there & outer
    colours = torch.where(from_outline[:, None], outline, colours)
    colours = torch.where((on_other_side & outer)[:, None], mirrored, colours)
    known = seen | from_outline | on_other_side & outer
    filled, has_colour = _spread(colours, known & outer, outer, faces), outer & (known & outer).any()
    for name in INNER_REGIONS:
        part = torch.from_numpy(track.region_vertices(name))
        if (known & part).any():
            values = _spread(colours, known & part, part, faces)
        elif lips.any():
            values = (SHADED * colours[lips].mean(dim=0)).expand_as(colours)
        else:
            continue
        filled, has_colour = torch.where(part[:, None], values, filled), has_colour | part
    filled = mouth_colours(track, frames, intrinsics, picture, filled, known, hidden.cpu())
    return filled, has_colour


def seen_colours(
    track: HeadTrack,
    frames: Sequence[Frame],
    intrinsics: Callable[[int], tuple[float, float, float, float]],
    picture: Callable[[int], UInt8[np.ndarray, "H W 4"]],
) -> tuple[Float[Tensor, "V 3"], Bool[Tensor, " V"]]:
    """Median colour of each vertex over the frames that see it, in 0..1, with whether any does.

    Args:
        track: the moving mesh.
        frames: those trained on; OpenGL cameras in the head's world.
        intrinsics: fl_x, fl_y, cx, cy of one of them, in pixels of its picture.
        picture: of one of them, with its matte.
    """
    faces = torch.from_numpy(track.faces).long()
    search: MeshSearch | None = None
    seen: list[Float[Tensor, "V 3"]] = []
    for index in range(0, len(frames), max(1, len(frames) // FRAMES_SAMPLED)):
        vertices = torch.from_numpy(np.asarray(track.vertices[frames[index].timestep])).float().contiguous()
        c2w = torch.from_numpy(frames[index].c2w[:3]).float()
        towards = vertices - c2w[:, 3]
        away = towards.norm(dim=1)
        steep = -(towards * vertex_normals(vertices, faces)).sum(dim=1) > LEAST_COSINE * away
        rgba = torch.from_numpy(np.ascontiguousarray(picture(index)))
        column, row, shown = picture_places(vertices, c2w, intrinsics(index), (rgba.shape[0], rgba.shape[1]))
        inside = well_inside(rgba[..., 3], PAST_EDGE * intrinsics(index)[0] / float(away.mean()))
        asked = (steep & shown & inside[row, column]).nonzero()[:, 0]
        search = search or make_search(faces, vertices, "auto")
        which = torch.zeros(len(asked), dtype=torch.long)
        rays = c2w[:, 3].expand(len(asked), 3).contiguous(), (towards / away[:, None])[asked].contiguous()
        hit, _ = search.first_hit([search.build(vertices)], which, *rays)
        asked = asked[hit > away[asked] - OCCLUSION]
        seen.append(torch.full((len(vertices), 3), torch.nan))
        seen[-1][asked] = rgba[row[asked], column[asked], :3].float() / 255
    median = torch.stack(seen).nanmedian(dim=0).values
    return median.nan_to_num(0.0), ~median.isnan().any(dim=1)


def _inland(
    known: Bool[Tensor, " V"], outer: Bool[Tensor, " V"], vertices: Float[np.ndarray, "V 3"]
) -> Bool[Tensor, " V"]:
    """Those of the known that lie farther than `COAST` from the outer ones that are not."""
    unknown = (outer & ~known).numpy()
    if not unknown.any():
        return known
    away, _ = cKDTree(vertices[unknown]).query(vertices, distance_upper_bound=COAST)
    return known & torch.from_numpy(~np.isfinite(away))


def _spread(
    colours: Float[Tensor, "V 3"], known: Bool[Tensor, " V"], wanted: Bool[Tensor, " V"], faces: Tensor
) -> Float[Tensor, "V 3"]:
    """Colours of all wanted vertices from the known ones."""
    return torch.stack([spread(colours[:, channel], known, wanted, faces) for channel in range(3)], dim=1)
