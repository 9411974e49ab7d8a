"""What a picture's march skips unlooked at is what it would leave out after looking."""

from dataclasses import replace

import canonical_oracle as oracle
import numpy as np
import pytest
import torch

from flame_nerf.canonical import CanonicalMapping
from flame_nerf.render.observed.occupancy import OccupancyConfig, OccupancyGrid
from flame_nerf.render.observed.skipped_space import SkippedSpace

SHELL = 0.04


@pytest.fixture(scope="module")
def head():
    vertices, faces = oracle.head_like(10)
    mapping = CanonicalMapping(torch.from_numpy(faces), torch.from_numpy(vertices.astype(np.float32)))
    meshes = [mapping.pose(torch.from_numpy(oracle.deformed(vertices, seed).astype(np.float32))) for seed in range(2)]
    return mapping, meshes


def grid_of(mapping: CanonicalMapping, share: float) -> OccupancyGrid:
    """A grid that knows a share of its cells, in clumps, to be full and nothing of the others."""
    low, high = mapping.canonical_vertices.amin(dim=0) - SHELL, mapping.canonical_vertices.amax(dim=0) + SHELL
    grid = OccupancyGrid(torch.stack([low, high]), OccupancyConfig(resolution=48))
    coarse = torch.rand(12, 12, 12, generator=torch.Generator().manual_seed(0)) < share
    full = coarse.repeat_interleave(4, 0).repeat_interleave(4, 1).repeat_interleave(4, 2).flatten()
    grid.highest.copy_(torch.where(full, 500.0, torch.inf))
    return grid


def march(mapping, mesh, empty):
    generator = torch.Generator().manual_seed(1)
    origins = torch.nn.functional.normalize(torch.randn(400, 3, generator=generator), dim=1) * 0.6
    target = 0.3 * torch.rand(400, 3, generator=generator) - 0.15
    directions = torch.nn.functional.normalize(target - origins, dim=1)
    which = torch.zeros(400, dtype=torch.long)
    return mapping.sample_shell([mesh], which, origins, directions, shell=SHELL, step=0.0025, behind=0.012, empty=empty)


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_nothing_that_is_there_is_skipped(head, share):
    mapping, meshes = head
    grid = grid_of(mapping, share)
    empty, skipped = grid.empty_space(0.0025, unseen_too=True), SkippedSpace(mapping)
    for mesh in meshes:
        known = skipped.added(empty, [mesh], grid.version)
        looked, found = march(mapping, mesh, empty), march(mapping, mesh, known)
        assert len(looked) > 100
        for name in ("ray_index", "offsets", "face", "t_start", "t_end", "distance"):
            assert torch.equal(getattr(found, name), getattr(looked, name)), name
        assert found.skipped < (0.4 if share < 0.1 else 1.0) * looked.skipped, "most of it is not looked at"


def test_it_follows_what_is_learned_and_leaves_training_alone(head):
    mapping, meshes = head
    grid = grid_of(mapping, 0.02)
    empty, skipped = grid.empty_space(0.0025, unseen_too=True), SkippedSpace(mapping)
    before = skipped.added(empty, meshes[:1], grid.version)
    assert skipped.added(empty, meshes[:1], grid.version).coarse is before.coarse
    new = int(grid.highest.isinf().nonzero()[0])
    grid.learn(torch.tensor([new]), torch.tensor([500.0]), exploring=False)
    assert skipped.added(empty, meshes[:1], grid.version).coarse.full.sum() > before.coarse.full.sum()
    training = replace(empty, unseen_too=False)
    assert skipped.added(training, meshes[:1], grid.version) is training
    assert skipped.added(empty, meshes, grid.version) is empty
    assert skipped.added(None, meshes[:1], grid.version) is None
