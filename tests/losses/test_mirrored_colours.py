"""A side that no camera saw looks like the other one, under the light of its own side."""

import numpy as np
import pytest
import torch
from synthetic import ellipsoid

from flame_nerf.losses.colours.mirrored import BRIGHTEST, mirrored_colours, twins

LIT = torch.tensor([0.6, 0.7, 0.8])
"""Light on the head's right, as a share of that on its left."""


def painted(vertices):
    """A pattern that both sides share, darker on the right."""
    x, y, z = torch.from_numpy(vertices).float().T
    pattern = torch.stack([0.5 + 3 * z, 0.5 + 2 * y, 0.4 + 2 * x.abs()], dim=1).clamp(0.1, 0.9)
    return torch.where((x < 0)[:, None], LIT * pattern, pattern)


@pytest.fixture(scope="module")
def vertices():
    return ellipsoid()[0].astype(np.float32)


def test_the_unseen_side_is_the_other_ones_image_in_its_own_light(vertices):
    truth, x = painted(vertices), torch.from_numpy(vertices[:, 0])
    bald = torch.zeros(len(vertices), dtype=torch.bool)
    seen = x > -0.02
    colours, found = mirrored_colours(torch.where(seen[:, None], truth, 1.0), seen, vertices, bald)
    unseen = ~seen & (x < -0.021)
    assert unseen.sum() > 100 and (found == ~seen)[unseen].all() and not found[seen].any()
    assert (colours - truth)[unseen].abs().mean() < 0.02
    # The other side's own colours would be far off.
    assert (truth[unseen] / LIT - truth[unseen]).abs().mean() > 0.08


def test_hair_is_no_twin_of_skin_and_a_lopsided_head_has_no_twins(vertices):
    bald, x = torch.zeros(len(vertices), dtype=torch.bool), torch.from_numpy(vertices[:, 0])
    hairy_left = x > 0.01
    _, has_twin = twins(vertices, hairy_left)
    assert not has_twin[x.abs() > 0.015].any() and twins(vertices, bald)[1].all()
    assert not twins(vertices + np.array([0.5, 0, 0], np.float32), bald)[1].any()


def test_a_wild_difference_between_sides_is_no_light(vertices):
    x = torch.from_numpy(vertices[:, 0])
    colours = torch.where((x < 0)[:, None], 0.001, 0.9).expand(-1, 3).contiguous()
    found_colours, found = mirrored_colours(colours, x > -0.02, vertices, torch.zeros(len(vertices), dtype=torch.bool))
    assert found.any() and (found_colours[found] >= 0.9 / BRIGHTEST - 1e-6).all()
