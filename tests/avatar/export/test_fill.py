"""Colours of what nobody sees: from all sides, without a seam, each region's own."""

from __future__ import annotations

import numpy as np
import pytest
from test_atlas import ball

from flame_nerf.avatar.export.atlas import unwrap
from flame_nerf.avatar.export.fill import filled

pytest.importorskip("xatlas", reason="textures need the extra 'export'")


@pytest.fixture(scope="module")
def scene():
    vertices, triangles = ball(400)
    atlas = unwrap(vertices, triangles, size=128)
    return vertices, triangles, atlas, atlas.at_texels(vertices, triangles)


def nobody(triangles):
    return np.zeros(len(triangles), int)


def test_what_is_known_stays(scene):
    vertices, triangles, atlas, places = scene
    colour = np.random.default_rng(0).uniform(size=places.shape)
    weight = np.where(places[:, 2] > 0, 1.0, 0.0)
    found = filled(atlas, vertices, triangles, nobody(triangles), colour, weight)
    np.testing.assert_allclose(found[weight == 1], colour[weight == 1])


def test_the_back_goes_from_one_side_to_the_other_without_a_seam(scene):
    vertices, triangles, atlas, places = scene
    colour = np.repeat((places[:, :1] > 0) * 1.0, 3, axis=1)
    weight = np.where(places[:, 2] > 0.02, 1.0, 0.0)
    found = filled(atlas, vertices, triangles, nobody(triangles), colour, weight)[:, 0]
    back = places[:, 2] < -0.03
    assert found[back].min() > 0 and found[back].max() < 1
    # On the far pole both sides count alike, and to either side its own the more.
    middle = back & (np.abs(places[:, 0]) < 0.005)
    assert found[middle].mean() == pytest.approx(0.5, abs=0.1)
    assert np.corrcoef(found[back], places[back, 0])[0, 1] > 0.95
    # Linear in between: no step anywhere.
    order = np.argsort(places[back, 0])
    assert np.abs(np.diff(found[back][order][::20])).max() < 0.2


def test_regions_are_filled_by_themselves(scene):
    vertices, triangles, atlas, places = scene
    region = (vertices[triangles].mean(1)[:, 1] < 0).astype(int)
    below = region[atlas.texel_triangle[atlas.covered]] == 1
    colour = np.where(below, 0.9, 0.1)[:, None] * np.ones(3)
    weight = np.where(places[:, 2] > 0.0, 1.0, 0.0)
    found = filled(atlas, vertices, triangles, region, colour, weight)[:, 0]
    clear = np.abs(places[:, 1]) > 0.03
    assert np.abs(found[clear] - colour[clear, 0]).max() < 0.05
    mixed = filled(atlas, vertices, triangles, nobody(triangles), colour, weight)[:, 0]
    assert np.abs(mixed[clear] - colour[clear, 0]).max() > 0.15


def test_a_region_of_which_nothing_is_known_takes_what_is_around_it(scene):
    vertices, triangles, atlas, _ = scene
    region = (vertices[triangles].mean(1)[:, 2] < -0.08).astype(int)
    inside = region[atlas.texel_triangle[atlas.covered]] == 1
    colour = np.where(inside[:, None], 0.0, 0.6) * np.ones(3)
    found = filled(atlas, vertices, triangles, region, colour, np.where(inside, 0.0, 1.0))
    np.testing.assert_allclose(found[inside], 0.6, atol=1e-6)


def test_a_piece_that_hangs_on_nothing_takes_what_is_nearest():
    vertices, triangles = ball(60)
    both = np.concatenate([vertices, vertices + (0.25, 0, 0)])
    wired = np.concatenate([triangles, triangles + len(vertices)])
    atlas = unwrap(both, wired, size=128)
    alone = atlas.texel_triangle[atlas.covered] >= len(triangles)
    places = atlas.at_texels(both, wired)
    colour = np.where(alone[:, None], 0.0, 0.5 + 3 * places)
    found = filled(atlas, both, wired, nobody(wired), colour, np.where(alone, 0.0, 1.0))
    # The side of the first ball that faces the second; its colours go from 0.2 to 0.8.
    assert np.abs(found[alone, 0] - 0.8).max() < 0.2


def test_where_nothing_is_known_nothing_is_made_up(scene):
    vertices, triangles, atlas, places = scene
    found = filled(atlas, vertices, triangles, nobody(triangles), np.zeros_like(places), np.zeros(len(places)))
    assert not found.any()


def test_a_row_of_teeth_has_the_colour_of_the_lips_in_front_of_it():
    vertices, triangles = ball(60)
    row = vertices * (0.1, 0.1, 1.0)
    lips, neck = vertices * 0.2 + (0, 0, 0.125), vertices * 0.2 + (0, 0, -0.15)
    pieces = np.concatenate([row, lips, neck])
    wired = np.concatenate([triangles + piece * len(vertices) for piece in range(3)])
    atlas = unwrap(pieces, wired, size=128)
    piece = atlas.texel_triangle[atlas.covered] // len(triangles)
    colour = np.array([[0.0, 0.0, 0.0], [0.8, 0.3, 0.3], [0.1, 0.1, 0.4]])[piece]
    found = filled(atlas, pieces, wired, nobody(wired), colour, (piece > 0) * 1.0)
    np.testing.assert_allclose(found[piece == 0], np.tile([0.8, 0.3, 0.3], ((piece == 0).sum(), 1)), atol=1e-6)
