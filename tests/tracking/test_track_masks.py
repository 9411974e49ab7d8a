"""Outline measures, the collar's cut, smoothing: the geometry around the head."""

import numpy as np
import pytest
import torch
from track_heads import egg_head

from data_tools.tracking.masks.collar import cut_lines, find_collar, head_mask
from data_tools.tracking.masks.silhouette import OuterTest, band_between, outline_iou
from data_tools.tracking.masks.smoothing import smooth_over_time
from data_tools.tracking.observe.matte import decided
from flame_nerf.data.overlap import cover


def _disc(radius: float, centre: tuple[float, float], count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A fan of triangles seen from the front."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    rim = np.stack([np.cos(angle), np.sin(angle)], 1) * radius + centre
    a = np.arange(count)
    return np.concatenate([rim, [centre]]), np.stack([(a + 1) % count, a, np.full(count, count)], 1)


def test_cover_fills_what_the_mesh_covers():
    corners, faces = _disc(30.0, (50.5, 40.25))
    covered = cover(corners, faces, (90, 110))
    rows, columns = np.mgrid[:90, :110] + 0.5
    distance = np.hypot(columns - 50.5, rows - 40.25)
    # The circle of 64 corners, to the pixel: those whose middles lie within.
    assert covered[distance < 29.9].all()
    assert not covered[distance > 30].any()
    assert not cover(corners, faces[:, ::-1], (90, 110)).any()


def test_a_mesh_of_corners_and_edges_on_pixels_middles_has_no_holes_and_no_rim():
    side = np.arange(2, 8)
    corners = np.stack(np.meshgrid(side, side, indexing="xy"), axis=-1).reshape(-1, 2) + 0.5
    row = np.arange(30).reshape(5, 6)[:, :5].ravel()
    a, b, c, d = row, row + 1, row + 6, row + 7
    faces = np.concatenate([np.stack([a, c, b], axis=1), np.stack([b, c, d], axis=1)])
    covered = cover(corners, faces, (10, 12))
    expected = np.zeros((10, 12), dtype=bool)
    expected[2:8, 2:8] = True
    assert (covered == expected).all()
    # A little aside there is one row and one column fewer.
    aside = np.zeros((10, 12), dtype=bool)
    aside[3:8, 3:8] = True
    assert (cover(corners + 0.25, faces, (10, 12)) == aside).all()


def test_outer_test_agrees_with_covering():
    corners, _ = _disc(30.0, (50.5, 40.25))
    rim = np.stack([corners[:64], np.roll(corners[:64], -1, axis=0)], axis=1)
    outer = OuterTest(rim)
    points = np.random.default_rng(0).uniform(-20, 130, (500, 2))
    distance = np.hypot(points[:, 0] - 50.5, points[:, 1] - 40.25)
    assert outer.outside(points)[distance > 32].all()
    assert not outer.outside(points)[distance < 28].any()


def test_iou_counts_only_the_band():
    corners, faces = _disc(30.0, (50.0, 50.0))
    matte = np.zeros((100, 100), dtype=np.uint8)
    matte[:, :50] = 255
    band = band_between(np.array([50.0, 40.0]), np.array([50.0, 60.0]), (100, 100))
    assert band.sum() == 20 * 100
    covered = cover(corners, faces, (100, 100))
    both, either = (covered & (matte > 0) & band).sum(), ((covered | (matte > 0)) & band).sum()
    assert outline_iou(covered, matte, band) == pytest.approx(both / either)
    assert outline_iou(matte > 0, matte, band) == 1.0
    tilted = band_between(np.array([40.0, 40.0]), np.array([60.0, 60.0]), (100, 100))
    assert tilted[49, 49] and not tilted[20, 20] and tilted[10, 85]


def test_smoothing_keeps_lines_and_drops_noise():
    time = np.cumsum(np.random.default_rng(0).uniform(0.5, 1.5, 80))
    line = np.stack([2 + 3 * time, -time], axis=1)
    np.testing.assert_allclose(smooth_over_time(line, time, 4.0), line, atol=1e-9)
    noise = np.random.default_rng(1).normal(size=(80, 1))
    assert smooth_over_time(noise, time, 4.0)[8:-8].std() < 0.45 * noise.std()


def test_the_collar_goes_around_the_neck():
    head = egg_head()
    collar = find_collar(head)
    around = collar.points(head.template.numpy())
    angle = np.degrees(np.arctan2(around[:, 0], around[:, 2]))
    assert np.histogram(angle, 12, (-180, 180))[0].min() > 0
    assert np.abs(np.hypot(around[:, 0], around[:, 2])).max() < 0.06
    front, back = around[np.abs(angle) < 30][:, 1].mean(), around[np.abs(angle) > 150][:, 1].mean()
    assert front < back
    assert head.template[torch.from_numpy(collar.above), 1].min() > -0.2


def _lines(shake: np.ndarray) -> np.ndarray:
    """Cut lines of a ring that hangs 100 pixels down, shaken by some pixels in each frame."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    ring = np.stack([0.05 * np.sin(angle), 0.02 * np.cos(angle), 0.6 - 0.05 * np.cos(angle)], axis=1)
    camera = np.tile(ring, (len(shake), 1, 1))
    pixels = 1000 * camera[..., :2] / camera[..., 2:] + [128.0, 100.0]
    pixels[..., 1] += shake[:, None]
    down = np.tile([0.0, 1.0], (len(shake), 1))
    return cut_lines(camera, pixels, down, np.arange(len(shake)) / 25)


def test_the_cut_is_steady_and_follows_the_front():
    lines = _lines(np.random.default_rng(0).normal(0, 3.0, 60))
    middle = lines[:, 32, 1]
    assert middle[10:50].std() < 1.0
    # The front of the ring hangs lower than its sides.
    assert (lines[:, 32, 1] > lines[:, 2, 1] + 10).all()
    assert (np.diff(lines[..., 0], axis=1) > 0).all()


def test_the_mask_is_soft_ends_at_the_collar_and_near_the_hull():
    line = _lines(np.zeros(5))[2]
    matte = np.full((200, 256), 255, dtype=np.uint8)
    hull = np.stack([np.full(40, 128.0), np.linspace(30, 180, 40)], axis=1)
    hull = np.concatenate([hull, [[np.nan, np.nan], [-5.0, 30.0], [128.0, 500.0]]])
    mask = head_mask(matte, line, hull, 20.0)
    cut = line[32, 1]
    assert mask[int(cut) - 10, 128] == 255 and mask[int(cut) + 10, 128] == 0
    ramp = mask[int(cut) - 8 : int(cut) + 8, 128]
    assert ((ramp > 0) & (ramp < 255)).any() and (np.diff(ramp.astype(int)) <= 0).all()
    aside = mask[60, 128:].astype(int)
    assert aside[10] > 250 and aside[20] == pytest.approx(128, abs=15) and aside[28:].max() == 0
    assert (np.diff(aside) <= 0).all()
    assert head_mask(matte // 2, line, hull, 20.0).max() == 127


def test_what_the_network_half_believes_is_background_and_the_outline_stays():
    belief = np.linspace(0, 1, 101)
    matte = decided(belief)
    assert (matte[belief < 0.29] == 0).all() and (matte[belief > 0.71] == 1).all()
    assert (np.diff(matte) >= 0).all() and np.array_equal(matte > 0.5, belief > 0.5)
    # A ramp stays a ramp: no steps that alias.
    assert np.diff(matte).max() < 0.03
