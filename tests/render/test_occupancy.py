"""Skipping: only what is empty goes, and what stays renders the same picture."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flame_nerf.canonical import ShellSamples
from flame_nerf.render.compositing import render_packed
from flame_nerf.render.observed.occupancy import OccupancyConfig, OccupancyGrid, select

BOX = torch.tensor([[-0.1, -0.1, -0.1], [0.1, 0.1, 0.1]])
STEP = 0.002


def density(points):
    """A ball of 5 cm, 3 mm from transparent to solid."""
    return 4000.0 * torch.sigmoid((0.05 - points.norm(dim=1)) / 0.0005)


@pytest.fixture
def rays():
    """Parallel rays through the box, marched through all of it: points and their packed samples."""
    torch.manual_seed(0)
    count, per_ray = 64, 100
    start = torch.cat([(torch.rand(count, 2) - 0.5) * 0.16, torch.full((count, 1), -0.1)], dim=1)
    t = torch.arange(per_ray) * STEP
    ray = torch.arange(count).repeat_interleave(per_ray)
    t_start = t.repeat(count)
    points = start[ray] + (t_start + 0.5 * STEP)[:, None] * torch.tensor([0.0, 0.0, 1.0])
    samples = ShellSamples(
        ray_index=ray,
        t_start=t_start,
        t_end=t_start + STEP,
        offsets=torch.arange(count + 1) * per_ray,
        face=torch.zeros_like(ray),
        mesh_index=torch.zeros_like(ray),
        distance=torch.zeros(len(ray)),
    )
    return points, samples


def render(points, samples):
    color = (points / 0.2 + 0.5).clamp(0, 1)
    return render_packed(density(points), color, samples, len(samples.offsets) - 1, torch.ones(3))


def test_nothing_is_skipped_before_anything_is_known(rays):
    points, samples = rays
    grid = OccupancyGrid(BOX, OccupancyConfig())
    assert len(grid.kept(grid.cells(points), samples)) == len(points)


def test_most_is_skipped_and_the_picture_stays(rays):
    points, samples = rays
    grid = OccupancyGrid(BOX, OccupancyConfig(resolution=64))
    for _ in range(100):
        somewhere = (torch.rand(200_000, 3) - 0.5) * 0.2
        grid.learn(grid.cells(somewhere), density(somewhere), exploring=False)
    kept = grid.kept(grid.cells(points), samples)
    assert len(kept) < 0.3 * len(points)
    few = select(samples, kept)
    whole, part = render(points, samples), render(points[kept], few)
    assert (whole.rgb - part.rgb).abs().max() < 0.01
    assert (whole.accumulation - part.accumulation).abs().max() < 0.01


def test_another_expression_keeps_a_cell_open():
    grid = OccupancyGrid(BOX, OccupancyConfig(resolution=4))
    cells = torch.arange(64)
    grid.learn(cells, torch.zeros(64), exploring=False)
    shown = torch.tensor([5, 9])
    grid.learn(shown, torch.full((2,), 300.0), exploring=False)
    grid.learn(cells, torch.zeros(64), exploring=False)
    assert torch.equal(grid.highest.nonzero()[:, 0], shown)


def test_what_was_dense_is_forgotten_when_exploring_finds_it_empty():
    grid = OccupancyGrid(BOX, OccupancyConfig(resolution=4))
    cells = torch.arange(64)
    grid.learn(cells, torch.full((64,), 100.0), exploring=True)
    for _ in range(60):
        grid.learn(cells, torch.zeros(64), exploring=True)
    assert grid.highest.max() < 0.2
    elsewhere = OccupancyGrid(BOX, OccupancyConfig(resolution=4))
    elsewhere.learn(cells, torch.full((64,), 100.0), exploring=True)
    for _ in range(60):
        elsewhere.learn(cells[:5], torch.zeros(5), exploring=True)
    assert (elsewhere.highest[5:] == 100).all(), "cells that no ray came through keep what is known of them"
    fresh = OccupancyGrid(BOX, OccupancyConfig(resolution=4))
    fresh.learn(cells[:3], torch.zeros(3), exploring=True)
    assert torch.isinf(fresh.highest[3:]).all() and (fresh.highest[:3] == 0).all()


def test_selection_stays_packed(rays):
    _, samples = rays
    kept = torch.rand(len(samples)).lt(0.2).nonzero()[:, 0]
    kept = kept[samples.ray_index[kept] != 7]
    part = select(samples, kept)
    assert torch.equal(part.t_start, samples.t_start[kept])
    counts = torch.bincount(samples.ray_index[kept], minlength=64)
    assert torch.equal(part.offsets.diff(), counts) and counts[7] == 0 and part.offsets[0] == 0


def test_unseen_is_what_no_ray_ever_asked_about():
    grid = OccupancyGrid(torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]), OccupancyConfig(resolution=4))
    met, never = torch.tensor([3, 7]), torch.tensor([8, 63])
    grid.learn(met, torch.tensor([0.0, 5.0]), exploring=True)
    assert not grid.unseen(met).any()
    assert grid.unseen(never).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 12))
def test_a_frozen_copy_is_the_grid_of_when_it_was_asked_for(seed, steps):
    """However often it is asked for, whatever learns between: kernels, torch, or somebody who loads a checkpoint."""
    generator = torch.Generator().manual_seed(seed)
    grid = OccupancyGrid(BOX, OccupancyConfig(resolution=4))
    for _ in range(steps):
        frozen = grid.frozen(grid.empty_space(0.01, unseen_too=False))
        then = grid.highest.clone()
        for _ in range(int(torch.randint(0, 3, (), generator=generator))):
            cells = torch.randint(0, 64, (9,), generator=generator)
            grid.learn(cells, 500 * torch.rand(9, generator=generator), exploring=True)
        if torch.rand((), generator=generator) < 0.3:
            grid.highest.mul_(0.5)
        assert torch.equal(frozen.density, then)
