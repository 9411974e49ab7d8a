"""Colours of the whole mesh: what the video shows, the outline's behind, and the mouth's own inside of the mouth."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import RADII, ellipsoid, look_at_origin
from test_silhouette import FOCAL, LENS, SIZE, head

from flame_nerf.losses.colours.mouth import DIMMEST
from flame_nerf.losses.colours.surface import SHADED, surface_colours
from flame_nerf.losses.seen_faces import LEAST_COSINE, steepest_views
from flame_nerf.losses.silhouette import OutlineSurface
from flame_nerf.subject import Frame

HALO = 1.5
"""Pixels by which mattes are too wide."""
YAWS = [-0.3, 0.0, 0.3]
LEFT, RIGHT, LIPS = np.array([[200, 60, 40], [40, 60, 200], [180, 90, 80]], np.uint8)


def with_a_throat(track, seen: bool):
    """The ellipsoid with a second, smaller one inside: a mouth, which bulges out of the face where it is to be seen."""
    shift = np.array([0.0, 0.0, 0.035 if seen else 0.0], np.float32)
    inner = 0.7 * track.canonical_vertices + shift
    count, of_face = len(inner), len(track.faces)
    region = np.concatenate([np.zeros(of_face), np.full(of_face, 1)])
    # Lips: the middle of the face.
    middle = track.canonical_vertices[track.faces].mean(axis=1)
    region[:of_face][(np.abs(middle[:, :2]).max(axis=1) < 0.02) & (middle[:, 2] > 0)] = 2
    canonical = np.concatenate([track.canonical_vertices, inner]).astype(np.float32)
    return dataclasses.replace(
        track, canonical_vertices=canonical, vertices=np.repeat(canonical[None], len(YAWS), 0),
        faces=np.concatenate([track.faces, track.faces + count]), region=region.astype(np.int8),
        region_names=("skin", "mouth", "lips"),
    )  # fmt: skip


def filmed(track, halo: int | None = None):
    """From three sides, red left of the middle of the picture and blue right of it, with brown lips; `halo`: brightness
    of what is behind the head, of which mattes take the nearest for a part of it."""
    frames = [Frame(Path(f"{i}.png"), None, None, look_at_origin(yaw, 0.0), i, "train") for i, yaw in enumerate(YAWS)]
    pictures = []
    for frame in frames:
        local = (track.canonical_vertices - frame.c2w[:3, 3]) @ frame.c2w[:3, :3]
        width = 0.9 * FOCAL * RADII[:2].min() / -local[:, 2].mean()
        rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
        picture = np.empty((SIZE, SIZE, 4), np.uint8)
        picture[..., :3] = np.where(columns[..., None] < 0, LEFT, RIGHT)
        if (track.region == 2).any():
            front = (np.array([0.0, 0.0, RADII[2]]) - frame.c2w[:3, 3]) @ frame.c2w[:3, :3]
            beside = columns - FOCAL * front[0] / -front[2]
            picture[np.maximum(np.abs(rows), np.abs(beside)) < 0.45 * width, :3] = LIPS
        away = np.hypot(rows, columns)
        if halo is not None:
            picture[away > width - HALO, :3] = halo
        picture[..., 3] = np.where(away < width, 255, 0)
        pictures.append(picture)
    count = len(track.canonical_vertices)
    hidden = torch.ones(count, dtype=torch.bool)
    hidden[track.faces[steepest_views(track, frames) > LEAST_COSINE]] = False
    surface = OutlineSurface(torch.zeros(count), torch.zeros(count), torch.ones(count, dtype=torch.bool))
    colours, known = surface_colours(track, frames, lambda i: LENS, lambda i: pictures[i], surface, hidden)
    return 255 * colours.numpy(), known, hidden


@pytest.fixture(scope="module")
def whole():
    vertices, faces = ellipsoid()
    rest = vertices.astype(np.float32)
    return dataclasses.replace(
        head(len(YAWS)), faces=faces, canonical_vertices=rest, vertices=np.repeat(rest[None], len(YAWS), 0),
        region=np.zeros(len(faces), np.int8),
    )  # fmt: skip


def test_what_was_seen_has_its_own_colour_and_the_back_its_sides_outlines(whole):
    colours, known, hidden = filmed(whole)
    x, y, z = whole.canonical_vertices.T
    assert known.all() and hidden.any()
    for side, colour in ((x < -0.035, LEFT), (x > 0.035, RIGHT)):
        of = side & (np.abs(y) < 0.03)
        assert np.abs(colours[of & (z > 0.045)] - colour).max() < 2
    left, right = (colours[side & (z < -0.03)].mean(axis=0) for side in (x < -0.035, x > 0.035))
    assert left[0] - right[0] > 25 and right[2] - left[2] > 25


def test_the_unseen_part_of_the_mouth_looks_like_its_seen_part_and_darker_further_in(whole):
    track = with_a_throat(whole, seen=True)
    colours, known, hidden = filmed(track)
    inner = np.arange(len(colours)) >= len(whole.canonical_vertices)
    assert known[inner].all() and hidden[inner].numpy().sum() > 100 and not hidden[inner].all()
    seen, unseen = (colours[inner & (hidden.numpy() == which)] for which in (False, True))
    low, high = seen.min(axis=0) - 1, seen.max(axis=0) + 1
    assert ((unseen >= DIMMEST * low) & (unseen <= high)).all()
    depth = -track.canonical_vertices[inner & hidden.numpy(), 2]
    near, far = (unseen[side].mean() for side in (depth < np.quantile(depth, 0.1), depth > np.quantile(depth, 0.9)))
    assert far < 0.9 * near


def test_a_mouth_that_never_opened_is_as_its_lips_in_the_shade(whole):
    colours, known, hidden = filmed(with_a_throat(whole, seen=False))
    inner = np.arange(len(colours)) >= len(whole.canonical_vertices)
    assert hidden[inner].all() and known[inner].all()
    assert np.abs(colours[inner] - SHADED * LIPS).max() < 25


def test_a_mattes_edge_lends_no_colour(whole):
    """Mattes are too wide by a pixel or two: what is bright behind the head is no part of it."""
    colours, known, _ = filmed(whole, halo=255)
    assert known.all()
    assert colours.max() < LEFT.max() + 2
