"""Hair and cuts that outlines show, against a head whose hair is known: the ellipsoid filmed with a thicker one."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from synthetic import ellipsoid, look_at_origin

from flame_nerf.geometry import vertex_normals
from flame_nerf.losses.silhouette import as_beside, outline_surface
from flame_nerf.subject import Frame, HeadTrack

SIZE, FOCAL, HAIR = 256, 500.0, 0.02
LENS = (FOCAL, FOCAL, SIZE / 2, SIZE / 2)
YAWS = [-0.5, -0.25, 0.0, 0.25, 0.5]


def head(rows: int) -> HeadTrack:
    """The ellipsoid at rest, its upper half under hair."""
    vertices, faces = ellipsoid(rings=48, sectors=64)
    above = vertices[faces].mean(axis=1)[:, 1] > 0
    return HeadTrack(
        faces=faces, canonical_vertices=vertices.astype(np.float32),
        vertices=np.repeat(vertices[None], rows, 0).astype(np.float32),
        expression=np.zeros((rows, 1), np.float32), expression_names=("jawOpen",),
        pose=np.zeros((rows, 1, 3), np.float32), joint_names=("head",), identity=np.zeros(0, np.float32),
        region=above.astype(np.int8), region_names=("skin", "scalp"),
    )  # fmt: skip


def outline(vertices: np.ndarray, c2w: np.ndarray) -> np.ndarray:
    """Matte of a convex body: the hull of its projected vertices."""
    matte = np.zeros((SIZE, SIZE), np.uint8)
    return cv2.fillConvexPoly(matte, cv2.convexHull(projected(vertices, c2w)), 255)


def projected(vertices: np.ndarray, c2w: np.ndarray) -> np.ndarray:
    local = (vertices - c2w[:3, 3]) @ c2w[:3, :3]
    pixels = np.stack([FOCAL * local[:, 0], -FOCAL * local[:, 1]], axis=1) / -local[:, 2:] + SIZE / 2
    return np.round(pixels - 0.5).astype(np.int32)


@pytest.fixture(scope="module")
def track():
    return head(len(YAWS))


def track_skin(track) -> torch.Tensor:
    """Vertices that are not of the hair's region alone."""
    skin = torch.ones(track.vertices.shape[1], dtype=torch.bool)
    skin[track.faces[track.region == 1]] = False
    return skin


def measured(track, mattes, hidden=None, yaws=YAWS):
    frames = [Frame(Path(f"{i}.png"), None, None, look_at_origin(yaw, 0.0), i, "train") for i, yaw in enumerate(yaws)]
    most = torch.full((track.vertices.shape[1],), 0.045)
    hidden = torch.zeros(len(most), dtype=torch.bool) if hidden is None else torch.from_numpy(hidden)
    return outline_surface(track, frames, lambda index: LENS, lambda index: mattes[index], most, hidden)


def test_normals_of_a_ball():
    vertices, faces = ellipsoid(rings=40, sectors=60)
    ball = torch.from_numpy(vertices / np.linalg.norm(vertices, axis=1, keepdims=True))
    normals = vertex_normals(ball, torch.from_numpy(faces).long())
    assert (normals * ball).sum(dim=1).min() > 0.999
    assert torch.allclose(normals.norm(dim=1), torch.ones(len(ball), dtype=ball.dtype))


@pytest.mark.parametrize("hair", [0.0, 0.01, HAIR])
def test_hair_is_as_thick_as_the_outline_says_all_over_the_scalp(track, hair):
    rest = torch.from_numpy(track.vertices[0])
    body = (rest + hair * vertex_normals(rest, torch.from_numpy(track.faces).long())).numpy()
    found = measured(track, [outline(body, look_at_origin(yaw, 0.0)) for yaw in YAWS])
    scalp = np.unique(track.faces[track.region == 1])
    # A pixel is 1.2 mm; vertices up to 14 degrees off the rim measure a little more or less.
    thickness = found.thickness[scalp].numpy()
    assert abs(np.median(thickness) - hair) < 0.0025
    # Also behind the head, which no outline passes.
    back = scalp[track.canonical_vertices[scalp, 2] < -0.06]
    assert len(back) and np.abs(found.thickness[back].numpy() - hair).max() < 0.005
    bald = np.setdiff1d(np.arange(len(rest)), scalp)
    assert (found.thickness[bald] == 0).all()


def test_what_stands_off_skin_is_measured_too_and_is_no_hair(track):
    rest = torch.from_numpy(track.vertices[0])
    beard = (rest[:, 1] < -0.03) & (track_skin(track))
    body = rest + 0.012 * beard[:, None] * vertex_normals(rest, torch.from_numpy(track.faces).long())
    mattes = [np.zeros((SIZE, SIZE), np.uint8) for _ in YAWS]
    for matte, yaw in zip(mattes, YAWS, strict=True):
        for triangle in projected(body.numpy(), look_at_origin(yaw, 0.0))[track.faces]:
            cv2.fillConvexPoly(matte, triangle, 255)
    found = measured(track, mattes)
    inside, outside = beard & (rest[:, 1] < -0.045), track_skin(track) & (rest[:, 1] > -0.015)
    assert abs(float(found.standoff[inside].median()) - 0.012) < 0.003
    assert float(found.standoff[outside].median()) < 0.003
    assert not found.thickness[beard].any()


def test_what_lies_before_the_head_does_not_stand_off_it(track):
    """A ball before the face: its own rim is inside every matte, and is no outline."""
    vertices, faces = ellipsoid(rings=12, sectors=16)
    ball = (0.15 * vertices + [0.0, 0.0, 0.09]).astype(np.float32)
    count = track.vertices.shape[1]
    both = dataclasses.replace(
        track,
        faces=np.concatenate([track.faces, (faces + count).astype(track.faces.dtype)]),
        canonical_vertices=np.concatenate([track.canonical_vertices, ball]),
        vertices=np.concatenate([track.vertices, np.repeat(ball[None], len(YAWS), 0)], axis=1),
        region=np.concatenate([track.region, np.zeros(len(faces), np.int8)]),
    )
    found = measured(both, [outline(track.vertices[0], look_at_origin(0.0, 0.0)) for _ in YAWS], yaws=[0.0] * len(YAWS))
    assert found.standoff[count:].max() < 0.004


def test_what_the_mattes_cut_off_is_not_there(track):
    mattes = [outline(track.vertices[0], look_at_origin(yaw, 0.0)) for yaw in YAWS]
    for matte in mattes:
        matte[SIZE // 2 + 40 :] = 0
    there = measured(track, mattes).is_there.numpy()
    # 40 pixels below the middle, at 0.6 m and a focal length of 500 pixels: 4.8 cm.
    height = track.canonical_vertices[:, 1]
    assert there[(height > -0.035)].all() and not there[height < -0.065].any()


@pytest.mark.parametrize("name, ends", [("neck", True), ("face", False)])
def test_a_neck_ends_at_the_picture_s_border_and_a_skull_goes_on_beyond_it(track, name, ends):
    cut = dataclasses.replace(track, region_names=(name, "scalp"))
    mattes = [outline(track.vertices[0], look_at_origin(yaw, 0.0))[: SIZE // 2 + 40] for yaw in YAWS]
    there, height = measured(cut, mattes).is_there.numpy(), track.canonical_vertices[:, 1]
    assert there[height > -0.035].all()
    assert not there[height < -0.065].any() if ends else there.all()


def test_what_is_behind_the_head_is_there_where_the_head_is_at_its_height(track):
    mattes = [outline(track.vertices[0], look_at_origin(yaw, 0.0)) for yaw in YAWS]
    for matte in mattes:
        matte[SIZE // 2 + 40 :] = 0
    # A point behind the head is inside every matte, however low on the mesh it is.
    low = int(track.canonical_vertices[:, 1].argmin())
    behind = np.repeat(track.vertices[:1], len(YAWS), 0)
    behind[:, low] = [0.0, -0.05, -0.15]
    moved = dataclasses.replace(track, vertices=behind)
    hidden = np.arange(behind.shape[1]) == low
    assert measured(moved, mattes).is_there[low]
    found = measured(moved, mattes, hidden).is_there
    assert not found[low] and found[~torch.from_numpy(hidden)].float().mean() > 0.6


def test_a_collar_that_rises_to_the_back_cuts_what_is_hidden_there(track):
    _x, y, z = track.canonical_vertices.T
    hidden = torch.from_numpy(z < -0.02)
    seen_there = torch.from_numpy((y > -0.05 - 0.5 * z).astype(np.float32))
    share = as_beside(seen_there.where(~hidden, 1.0), hidden, track.canonical_vertices)
    behind = hidden.numpy()
    assert (share[behind & (y < -0.06)] < 0.5).all() and (share[behind & (y > -0.02)] > 0.5).all()
    assert torch.equal(share[~hidden], seen_there[~hidden])


@pytest.mark.parametrize("seen", [0, 1, 3])
def test_hardly_anything_seen(track, seen):
    hidden = torch.arange(len(track.canonical_vertices)) >= seen
    share = as_beside(torch.full((len(hidden),), 0.25), hidden, track.canonical_vertices)
    assert torch.equal(share, torch.full((len(hidden),), 0.25))


def test_a_mesh_a_little_too_wide_is_there_all_the_same(track):
    thinner = track.vertices[0] * np.array([0.93, 1.0, 1.0])
    assert measured(track, [outline(thinner, look_at_origin(yaw, 0.0)) for yaw in YAWS]).is_there.all()


def test_one_bad_matte_takes_nothing_away(track):
    mattes = [outline(track.vertices[0], look_at_origin(yaw, 0.0)) for yaw in YAWS]
    mattes[2][:] = 0
    assert measured(track, mattes).is_there.float().mean() > 0.95
