"""What stands off the neck is shown from where it was filmed, and ends softly near the neck from elsewhere."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import make_subject
from test_head_renderer import opacity, renderer
from test_view_cone import camera

from flame_nerf.methods import flame_nerf_cpu, flame_nerf_insta
from flame_nerf.render.observed.clothes import EDGE, NEAR, TURN
from flame_nerf.render.observed.view_cone import SLACK
from flame_nerf.render.shell_config import ShellConfig

FILMED = 10.0
"""Degrees to either side from which there was a camera."""
LIMIT = FILMED + math.degrees(SLACK)


@pytest.fixture(scope="module")
def track(tmp_path_factory):
    return make_subject(tmp_path_factory.mktemp("subject") / "subject", size=32, count=5).track


def filmed(track, neck=0.03, **sampling):
    found = renderer(track, shell=ShellConfig(neck=neck), **sampling)
    cameras = torch.stack([camera(angle) for angle in (-FILMED, 0.0, FILMED)])
    found.set_training_views(cameras, torch.zeros(3, found.field.condition_dim))
    return found


def rays(track, yaw_deg, low=True):
    """Of a camera beside the head past and through the lower half of its neck, or through all of it."""
    neck = track.canonical_vertices[np.unique(track.faces[track.region_faces("neck")])]
    top, bottom = (float(neck[:, 1].max()), float(neck[:, 1].min()))
    generator = torch.Generator().manual_seed(0)
    towards = 0.12 * (torch.rand(80, 3, generator=generator) - 0.5)
    share = torch.rand(80, generator=generator)
    towards[:, 1] = bottom + share * ((top - bottom) / 3 if low else 0.2)
    origins = camera(yaw_deg)[:, 3].expand(80, 3)
    return origins.contiguous(), torch.nn.functional.normalize(towards - origins, dim=1)


@pytest.mark.parametrize("yaw", [0.0, FILMED, -FILMED])
def test_filmed_views_are_as_they_were(track, yaw):
    found, whole = filmed(track), filmed(track, observed_clothes_only=False)
    assert opacity(whole, *rays(track, yaw, low=False)).amax() > 0.3
    # A ray to the side of the head's middle is seen under another angle there, by the training cameras, too.
    torch.testing.assert_close(
        opacity(found, *rays(track, yaw, low=False)), opacity(whole, *rays(track, yaw, low=False)), atol=0, rtol=0
    )


@pytest.mark.parametrize("yaw", [60.0, -90.0, 180.0])
def test_seen_from_elsewhere_the_neck_has_a_thin_shell(track, yaw, monkeypatch):
    monkeypatch.setattr("flame_nerf.render.observed.clothes.JAW", 1e-6)
    given = rays(track, yaw)
    found, whole, thin, thinnest = (
        # Of what is behind the mesh, no more than the thinnest shell has.
        opacity(filmed(track, neck, observed_clothes_only=on, behind=0.9 * NEAR, grazing=0.0), *given)
        for neck, on in ((0.03, True), (0.03, False), (NEAR + EDGE, False), (NEAR, False))
    )
    assert (whole - thin).amax() > 0.1
    assert (found <= thin + 1e-5).all() and (found >= thinnest - 1e-5).all()


def test_they_draw_back_as_the_camera_turns(track):
    found = filmed(track)
    sums = [float(opacity(found, *rays(track, LIMIT + share * math.degrees(TURN))).sum()) for share in (0.3, 0.6, 1.2)]
    whole = float(opacity(filmed(track, observed_clothes_only=False), *rays(track, LIMIT + 4)).sum())
    assert whole > sums[0] > sums[1] > sums[2]


def test_they_are_whole_near_cameras_alone_and_not_anywhere_between_them(track):
    found, whole = filmed(track), filmed(track, observed_clothes_only=False)
    cameras = torch.stack([camera(0.0)] * 99 + [camera(60.0)])
    found.set_training_views(cameras, torch.zeros(100, found.field.condition_dim))
    shares = [
        float(opacity(found, *given).sum() / opacity(whole, *given).sum())
        for given in (rays(track, 0.0), rays(track, 30.0), rays(track, 60.0))
    ]
    assert shares[0] == shares[2] == 1.0 and shares[1] < 0.9


def test_the_head_is_left_alone(track):
    found, whole = filmed(track), filmed(track, observed_clothes_only=False)
    origins, _ = rays(track, 90.0)
    directions = torch.nn.functional.normalize(torch.tensor([0.0, 0.06, 0.02]) - origins, dim=1)
    assert opacity(whole, origins, directions).amin() > 0.3
    torch.testing.assert_close(opacity(found, origins, directions), opacity(whole, origins, directions))


def test_a_mesh_without_a_neck_is_shown_whole(track):
    names = tuple("fur" if name == "neck" else name for name in track.region_names)
    animal = replace(track, region_names=names)
    found, whole = filmed(animal), filmed(animal, observed_clothes_only=False)
    given = rays(track, 120.0, low=False)
    torch.testing.assert_close(opacity(found, *given), opacity(whole, *given))


def test_methods():
    assert flame_nerf_cpu.config.pipeline.model.sampling.observed_clothes_only
    assert not flame_nerf_insta.config.pipeline.model.sampling.observed_clothes_only
