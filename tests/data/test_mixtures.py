"""Mixtures along an edge, against sums pixel by pixel."""

import numpy as np
import pytest

from flame_nerf.data.mixtures import mixtures_of

HEIGHT, WIDTH, NEAR = 40, 50, 6
SKIN, WALL = np.array([200.0, 150.0, 130.0]), np.array([40.0, 90.0, 220.0])


def test_colours_are_means_of_what_counts_nearby():
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    inside, outside = random.random((2, HEIGHT, WIDTH)) < 0.2
    pixels = random.integers(NEAR, HEIGHT - NEAR, 20), random.integers(NEAR, WIDTH - NEAR, 20)
    found = mixtures_of(picture, inside, outside, pixels, NEAR)
    for n, (row, column) in enumerate(zip(*pixels, strict=True)):
        around = np.s_[row - NEAR : row + NEAR + 1, column - NEAR : column + NEAR + 1]
        for side, where in ((found.person, inside), (found.behind, outside)):
            colours = picture[around][where[around]].astype(float)
            assert side.known[n]
            np.testing.assert_allclose(side.mean[n], colours.mean(axis=0), rtol=1e-5)
            np.testing.assert_allclose(side.variance[n], colours.var(axis=0), rtol=1e-3)


@pytest.mark.parametrize("share", [-0.1, 0.0, 0.3, 1.0])
def test_a_mixture_is_told_and_what_is_none(share):
    inside = np.zeros((HEIGHT, WIDTH), dtype=bool)
    inside[:, : WIDTH // 2 - 1] = True
    outside = np.fliplr(inside)
    picture = np.where(inside[..., None], SKIN, WALL)
    across = np.cross(SKIN - WALL, [0.0, 0.0, 1.0])
    across *= 20 / np.linalg.norm(across)
    edge = WIDTH // 2
    picture[:, edge] = share * SKIN + (1 - share) * WALL + across
    rows = np.arange(HEIGHT)
    found = mixtures_of(np.round(picture).astype(np.uint8), inside, outside, (rows, np.full(HEIGHT, edge)), NEAR)
    np.testing.assert_allclose(found.share, share, atol=5e-3)
    np.testing.assert_allclose(found.beside, np.hypot(20, min(share, 0) * np.linalg.norm(SKIN - WALL)), atol=1)
    np.testing.assert_allclose(found.contrast, np.linalg.norm(SKIN - WALL), rtol=1e-4)


def test_where_one_side_is_not_nearby_it_is_said():
    inside = np.zeros((HEIGHT, WIDTH), dtype=bool)
    inside[0, 0] = True
    picture = np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
    found = mixtures_of(picture, inside, ~inside, (np.array([3, 30]), np.array([3, 30])), NEAR)
    assert found.person.known.tolist() == [True, False] and found.behind.known.all()
    assert np.isfinite(found.share).all()
