"""What is left out while marching is what would be left out afterwards; samples carried at once as one by one."""

from __future__ import annotations

import canonical_oracle as oracle
import numpy as np
import pytest
import torch

from flame_nerf.canonical import CanonicalMapping, EmptySpace, MappingConfig
from flame_nerf.render.observed.occupancy import OccupancyConfig, OccupancyGrid, select

MARCH = {"step": 0.0025, "behind": 0.012}


@pytest.fixture(scope="module", params=["numba", "warp"])
def head(request):
    """A mapping, two posed meshes, 300 rays from in front, and a shell."""
    vertices, faces = oracle.head_like(6)
    config = MappingConfig(backend=request.param)
    mapping = CanonicalMapping(torch.from_numpy(faces), torch.from_numpy(vertices.astype(np.float32)), config)
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


@pytest.mark.parametrize(("max_samples", "behind"), [(1024, 0.012), (1024, np.inf), (5, np.inf)])
def test_backends_skip_alike(head, max_samples: int, behind: float) -> None:
    mapping, _, which, origins, directions, shell = head
    found = []
    for backend in ("numba", "warp"):
        other = CanonicalMapping(mapping.faces, mapping.canonical_vertices, MappingConfig(backend=backend))
        meshes = [other.pose(other.canonical_vertices * size) for size in (1.0, 1.1)]
        empty = make_grid(other).empty_space(0.0025, unseen_too=True)
        options = {"step": 0.0025, "behind": behind, "grazing": 0.05, "through": True}
        options |= {"max_samples": max_samples, "empty": empty}
        found.append(other.sample_shell(meshes, which, origins, directions, shell=shell, **options))
    assert len(found[0]) > 0 and 0 < found[0].skipped == found[1].skipped
    for name in ("ray_index", "offsets", "mesh_index", "t_start", "t_end"):
        assert torch.equal(getattr(found[0], name), getattr(found[1], name)), name
    torch.testing.assert_close(found[0].distance, found[1].distance, atol=1e-6, rtol=0)


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
def test_carried_at_once_as_one_by_one_and_by_the_formula(head, rays: int) -> None:
    mapping, meshes, which, origins, directions, shell = head
    which, origins, directions = which[:rays], origins[:rays], directions[:rays]
    samples = mapping.sample_shell(meshes, which, origins, directions, shell=shell, **MARCH)
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.randn(len(samples), 3, generator=generator) for _ in range(2)]

    def by_formula(o: torch.Tensor, d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """p' = M (o + t d) + b and d' = R d in float64, in plain torch."""
        tables = [torch.stack([getattr(mesh, name) for mesh in meshes]) for name in ("transforms", "rotations")]
        transform, rotation = (table.double()[samples.mesh_index, samples.face] for table in tables)
        along = d.double()[samples.ray_index]
        at = o.double()[samples.ray_index] + samples.middle.double()[:, None] * along
        carried = torch.einsum("nij,nj->ni", transform[:, :, :3], at) + transform[:, :, 3]
        return carried, torch.einsum("nij,nj->ni", rotation, along)

    def at_once(o: torch.Tensor, d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = mapping.carry_samples(meshes, samples, o, d)
        return found.points, found.directions

    def one_by_one(o: torch.Tensor, d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        along, at = d.index_select(0, samples.ray_index), samples.positions(o, d)
        found = mapping.to_canonical(meshes, samples.mesh_index, at, samples.face, along)
        return found.points, found.directions

    results = []
    for way in (by_formula, at_once, one_by_one):
        o, d = origins.clone().requires_grad_(), directions.clone().requires_grad_()
        carried = way(o, d)
        gradients = torch.autograd.grad(carried, (o, d), [up.to(carried[0]) for up in upstream])
        results.append([values.float() for values in (*carried, *gradients)])
    for expected, *others in zip(*results, strict=True):
        for actual in others:
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
