"""Seen from where no camera filmed, a head whose neck was cut off fades there, and does not end in rags."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import make_subject
from test_unfilmed import FILMED, MESH, filmed, shown

from flame_nerf.render.observed.bust import BELOW, FADE, bust_of

CUT = -0.06
"""Height at which mattes cut the neck, metres."""


@pytest.fixture(scope="module")
def track(tmp_path_factory):
    """A small head that is neck from below its middle on."""
    track = make_subject(tmp_path_factory.mktemp("subject") / "subject", size=32, count=5).track
    low = track.canonical_vertices[track.faces].mean(axis=1)[:, 1] < -0.01
    return replace(track, region=np.where(low, track.region_names.index("neck"), 0).astype(np.int8))


def solid(track, cut=CUT):
    """Vertices that are part of the person; every other one across the cut, too: mattes end in rags."""
    y = torch.from_numpy(track.canonical_vertices)[:, 1]
    return y > cut - 0.002 * (torch.arange(len(y)) % 2)


def cut_off(track, cut=CUT, on=True):
    """A head that is opaque in all of its shell, below the cut as well."""
    found = filmed(track, on)
    count = len(track.canonical_vertices)
    found.set_surface(MESH.expand(count, 3), solid(track, cut), torch.zeros(count))
    return found


def down_the_neck(track, yaw_deg, count=60):
    """Places on the neck that a camera beside the head faces, from far below the cut to the jaw."""
    vertices, faces = torch.from_numpy(track.vertices[0]).float(), torch.from_numpy(track.faces).long()
    middles = vertices[faces[torch.from_numpy(track.region_faces("neck"))]].mean(dim=1)
    yaw = math.radians(yaw_deg)
    facing = middles @ torch.tensor([math.sin(yaw), 0.0, math.cos(yaw)])
    kept = middles[facing > 0.8 * middles[:, [0, 2]].norm(dim=1)]
    return kept[kept[:, 1].argsort()][:: max(1, len(kept) // count)]


def end(track):
    """Where the fade begins to show: what backings leave out beside the cut is put back."""
    found = bust_of(track, cut_off(track).backing.surface)
    assert found is not None
    return found


def test_the_cut_goes_through_where_the_mattes_ended(track):
    found, around = end(track), torch.linspace(-math.pi, math.pi, 30)
    places = torch.stack([0.05 * around.sin(), torch.full_like(around, CUT - BELOW), 0.05 * around.cos()], dim=1)
    spacing = 0.01
    assert (found.shown(places - torch.tensor([0.0, spacing, 0.0])) < 0.05).all()
    assert (found.shown(places + torch.tensor([0.0, FADE + spacing, 0.0])) == 1).all()


@pytest.mark.parametrize("yaw", [60.0, -90.0, 180.0])
def test_seen_from_beside_the_picture_fades_by_height(track, yaw):
    places = down_the_neck(track, yaw)
    found, before = (shown(cut_off(track, on=on), yaw, places)[0]["accumulation"][:, 0] for on in (True, False))
    # A fade of the picture: as much as the place says, however opaque the field is, which ends rays before the mesh.
    before_mesh = torch.tensor([0.0, 0.006, 0.0])
    low, middle, high = (end(track).shown(places + step * before_mesh) for step in (-1, 0, 1))
    assert len(places) > 8 and (before > 0.5).sum() > (middle > 0.5).sum() > 0
    assert (found >= before * low - 0.05).all() and (found <= before * high + 0.05).all()


@pytest.mark.parametrize("yaw", [0.0, FILMED])
def test_filmed_views_are_as_they_were(track, yaw):
    places = down_the_neck(track, yaw)
    found, before = (shown(cut_off(track, on=on), yaw, places)[0] for on in (True, False))
    for name in ("rgb", "accumulation", "depth"):
        assert torch.equal(found[name], before[name])


def test_a_neck_that_nothing_cuts_has_no_end(track):
    assert bust_of(track, cut_off(track, cut=-1.0).backing.surface) is None
