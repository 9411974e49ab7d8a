"""What is left out while marching is what would be left out afterwards; samples carried at once as one by one."""

from __future__ import annotations

import canonical_oracle as oracle
import numpy as np
import pytest
import torch

from flame_nerf.canonical import CanonicalMapping, EmptySpace, MappingConfig
from flame_nerf.occupancy import OccupancyConfig, OccupancyGrid, select

MARCH = {"step": 0.0025, "behind": 0.012}


@pytest.fixture(scope="module")
def head():
    """A mapping, two posed meshes, 300 rays from in front, and a shell."""
    vertices, faces = oracle.head_like(6)
    mapping = CanonicalMapping(torch.from_numpy(faces), torch.from_numpy(vertices.astype(np.float32)))
    meshes = [mapping.pose(torch.from_numpy(oracle.deformed(vertices, i).astype(np.float32))) for i in range(2)]
    generator = torch.Generator().manual_seed(0)
    origins = torch.tensor([0.1, 0.05, 0.6]).repeat(300, 1)
    target = 0.22 * torch.rand(300, 3, generator=generator) - 0.11
    directions = torch.nn.functional.normalize(target - origins, dim=1)
    return mapping, meshes, torch.arange(300) // 150, origins, directions, torch.full((len(faces),), 0.015)


def make_grid(mapping: CanonicalMapping, seed: int = 0) -> OccupancyGrid:
    """A grid that knows a third of its cells to be full, a third to be empty, and of a third nothing."""
    low, high = mapping.canonical_vertices.amin(dim=0) - 0.01, mapping.canonical_vertices.amax(dim=0) + 0.01
    grid = OccupancyGrid(torch.stack([low, high]), OccupancyConfig(resolution=24))
    kind = torch.randint(0, 3, grid.highest.shape, generator=torch.Generator().manual_seed(seed))
    grid.highest.copy_(torch.tensor([0.01, 500.0, torch.inf])[kind])
    return grid


@pytest.mark.parametrize("unseen_too", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_skipping_while_marching_is_selecting_afterwards(head, unseen_too: bool, threads: int) -> None:
    mapping, meshes, which, origins, directions, shell = head
    grid = make_grid(mapping)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        empty = grid.empty_space(MARCH["step"], unseen_too)
        found = mapping.sample_shell(meshes, which, origins, directions, shell=shell, empty=empty, **MARCH)
    finally:
        torch.set_num_threads(before)
    everything = mapping.sample_shell(meshes, which, origins, directions, shell=shell, **MARCH)
    points = mapping.to_canonical(
        meshes, everything.mesh_index, everything.positions(origins, directions), everything.face
    ).points
    cells = grid.cells(points)
    kept = grid.kept(cells, everything)
    if unseen_too:
        kept = kept[~grid.unseen(cells[kept])]
    expected = select(everything, kept)
    assert 0 < len(expected) < 0.8 * len(everything) and everything.skipped == 0
    assert found.skipped == expected.skipped == len(everything) - len(expected)
    for name in ("ray_index", "offsets", "face", "mesh_index", "t_start", "t_end", "distance"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


def test_all_and_nothing_can_be_empty(head) -> None:
    mapping, meshes, which, origins, directions, shell = head
    grid = make_grid(mapping)
    marched = len(mapping.sample_shell(meshes, which, origins, directions, shell=shell, **MARCH))
    for density, expected in ((0.0, 0), (1e3, marched)):
        grid.highest.fill_(density)
        empty = grid.empty_space(MARCH["step"], unseen_too=True)
        found = mapping.sample_shell(meshes, which, origins, directions, shell=shell, empty=empty, **MARCH)
        assert len(found) == expected and found.skipped == marched - expected
        assert found.offsets[-1] == expected and len(found.offsets) == 301


def test_exact_blend_does_not_skip_while_marching(head) -> None:
    mapping, _, which, origins, directions, shell = head
    exact = CanonicalMapping(mapping.faces, mapping.canonical_vertices, MappingConfig(blend="point"))
    assert mapping.can_skip and not exact.can_skip
    meshes = [exact.pose(exact.canonical_vertices)] * 2
    empty = EmptySpace(torch.zeros(8), 2, torch.tensor([[-1.0] * 3, [1.0] * 3]), 1.0, False)
    with pytest.raises(ValueError, match="cannot leave out"):
        exact.sample_shell(meshes, which, origins, directions, shell=shell, empty=empty, **MARCH)


@pytest.mark.parametrize("rays", [300, 1, 0])
def test_carried_at_once_as_one_by_one(head, rays: int) -> None:
    mapping, meshes, which, origins, directions, shell = head
    which, origins, directions = which[:rays], origins[:rays], directions[:rays]
    samples = mapping.sample_shell(meshes, which, origins, directions, shell=shell, **MARCH)
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.randn(len(samples), 3, generator=generator) for _ in range(2)]
    results = []
    for at_once in (True, False):
        o, d = origins.clone().requires_grad_(), directions.clone().requires_grad_()
        if at_once:
            found = mapping.carry_samples(meshes, samples, o, d)
        else:
            found = mapping.to_canonical(
                meshes, samples.mesh_index, samples.positions(o, d), samples.face, d.index_select(0, samples.ray_index)
            )
        gradients = torch.autograd.grad((found.points, found.directions), (o, d), upstream)
        results.append((found.points, found.directions, *gradients))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
