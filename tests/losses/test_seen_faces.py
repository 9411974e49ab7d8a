"""How steeply cameras looked at each part of the mesh, and the detail that is left to what they did not see."""

import dataclasses

import numpy as np
import torch
from test_unseen_views import film

from flame_nerf.losses.seen_faces import LEFT_OUT, WELL_SEEN, levels_left_out, steepest_views


def test_the_steepest_of_all_cameras_counts():
    track, frames = film([-0.6, 0.0, 0.6])
    found = steepest_views(track, frames).numpy()
    corners = track.canonical_vertices[track.faces].astype(np.float64)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middle, normal = corners.mean(axis=1), normal / np.linalg.norm(normal, axis=1, keepdims=True)
    towards = np.stack([frame.c2w[:3, 3] for frame in frames])[:, None] - middle
    cosine = (towards / np.linalg.norm(towards, axis=2, keepdims=True) * normal).sum(axis=2).max(axis=0)
    # An ellipsoid hides nothing but what is turned away; what is seen well enough is not looked at any further.
    seen = cosine > 0.02
    assert np.abs(np.minimum(found, WELL_SEEN) - np.minimum(cosine, WELL_SEEN))[seen].max() < 1e-4
    assert (found[cosine < -0.02] == 0).all()


def test_what_cameras_saw_keeps_its_detail_and_the_back_does_without():
    track, frames = film([-0.3, 0.0, 0.3])
    left_out = levels_left_out(track, steepest_views(track, frames)).numpy()
    z = track.canonical_vertices[:, 2]
    assert (left_out[z > 0.06] == 0).all() and (left_out[z < -0.02] == LEFT_OUT).all()
    # Between them it comes back bit by bit.
    assert {1, 2} <= set(left_out[(z > -0.02) & (z < 0.06)])


def test_the_mouth_keeps_all_detail():
    track, frames = film([-0.3, 0.0, 0.3])
    names = tuple("mouth" if name == "lips" else name for name in track.region_names)
    turned = [dataclasses.replace(frame, c2w=np.diag([-1.0, 1.0, -1.0, 1.0]) @ frame.c2w) for frame in frames]
    track = dataclasses.replace(track, region_names=names)
    inner = np.unique(track.faces[track.region_faces("mouth")])
    left_out = levels_left_out(track, steepest_views(track, turned)).numpy()
    assert len(inner) and (left_out[inner] == 0).all() and left_out.max() == LEFT_OUT


def test_a_crease_among_what_was_seen_keeps_its_detail():
    track, frames = film([0.0])
    steepest = steepest_views(track, frames)
    middle = track.canonical_vertices[track.faces].mean(axis=1)
    row = np.abs(middle[:, 1]).argmin()
    crease = (np.abs(middle[:, 1] - middle[row, 1]) < 1e-3) & (middle[:, 2] > 0.06)
    assert crease.sum() > 5
    steepest[torch.from_numpy(crease)] = 0.0
    front = track.canonical_vertices[:, 2] > 0.07
    small = dataclasses.replace(track, canonical_vertices=0.4 * track.canonical_vertices)
    # 3 mm wide it is one, and 8 mm wide a place of its own.
    assert (levels_left_out(small, steepest).numpy()[front] == 0).all()
    assert levels_left_out(track, steepest).numpy()[front].any()
