"""Samples of rays inside the shell: several frames, threads, other implementations, and what cannot be marched."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import canonical_oracle as oracle
import numpy as np
import pytest
import torch
from canonical_cases import BACKENDS, as_tensor, camera_rays, head_in_shell, make

from flame_nerf.canonical.backends import make_search
from flame_nerf.canonical.search import MarchSettings


@pytest.fixture(scope="module")
def head():
    return head_in_shell()


@pytest.mark.parametrize("backend", BACKENDS)
def test_rays_that_miss_and_empty_batches(head, backend):
    canonical, posed, faces, shell = head
    mapping = make(canonical, faces, backend=backend)
    mesh, shell = mapping.pose(as_tensor(posed)), as_tensor(shell)
    origins, directions = camera_rays(np.random.default_rng(4), 20, 0.6)
    which = torch.zeros(20, dtype=torch.int64)
    for o, d, extra in (
        (origins, -directions, {}),
        (origins + 5, directions, {}),
        (origins, directions, {"far": 0.2}),
        (origins, directions, {"near": 3.0}),
        (origins[:0], directions[:0], {}),
    ):
        samples = mapping.sample_shell([mesh], which[: len(o)], o, d, shell=shell, step=0.002, **extra)
        assert len(samples) == 0 and samples.offsets.tolist() == [0] * (len(o) + 1)
        carried = mapping.to_canonical([mesh], samples.mesh_index, samples.positions(o, d), samples.face)
        assert carried.points.shape == (0, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_frames_in_one_batch(head, backend):
    canonical, _, faces, shell = head
    mapping = make(canonical, faces, backend=backend)
    meshes = [mapping.pose(as_tensor(oracle.deformed(canonical, seed) + 0.02 * seed)) for seed in range(3)]
    origins, directions = camera_rays(np.random.default_rng(5), 90, 0.6)
    which = torch.arange(90) % 3
    marching = {"shell": as_tensor(shell), "step": 0.002, "behind": 0.01}
    together = mapping.sample_shell(meshes, which, origins, directions, **marching)
    torch.testing.assert_close(together.mesh_index, which[together.ray_index])
    for index, mesh in enumerate(meshes):
        rays = (which == index).nonzero()[:, 0]
        alone = mapping.sample_shell([mesh], 0 * rays, origins[rays], directions[rays], **marching)
        own = together.mesh_index == index
        torch.testing.assert_close(together.ray_index[own], rays[alone.ray_index])
        for name in ("t_start", "t_end", "face", "distance"):
            torch.testing.assert_close(getattr(together, name)[own], getattr(alone, name))


def test_both_implementations_give_the_same_samples(head):
    """With one thickness everywhere: where two thicknesses meet at an edge, either face may be the nearest."""
    canonical, posed, faces, _ = head
    origins, directions = camera_rays(np.random.default_rng(6), 300, 0.6)
    found = []
    for backend in BACKENDS:
        mapping = make(canonical, faces, backend=backend)
        found.append(
            mapping.sample_shell(
                [mapping.pose(as_tensor(posed))],
                torch.zeros(300, dtype=torch.int64),
                origins,
                directions,
                shell=0.015,
                step=0.0017,
                behind=0.012,
                grazing=0.05,
            )
        )
    keys = [set(zip(s.ray_index.tolist(), (s.t_start / 0.0017).round().int().tolist(), strict=True)) for s in found]
    assert len(keys[0] ^ keys[1]) <= 1e-3 * len(keys[0])


def test_threads_change_nothing(head):
    """Split over two threads by torch's setting, and called from several at once: the same samples."""
    canonical, posed, faces, shell = head
    mapping, shell = make(canonical, faces), as_tensor(shell)
    mesh = mapping.pose(as_tensor(posed))
    origins, directions = camera_rays(np.random.default_rng(7), 400, 0.6)

    def sample():
        which = torch.zeros(400, dtype=torch.int64)
        found = mapping.sample_shell([mesh], which, origins, directions, shell=shell, step=0.002, behind=0.01)
        points = found.positions(origins, directions)
        return found, mapping.to_canonical([mesh], found.mesh_index, points)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected, at = sample()
        torch.set_num_threads(2)
        with ThreadPoolExecutor(4) as pool:
            results = [job.result() for job in [pool.submit(sample) for _ in range(8)]]
    finally:
        torch.set_num_threads(before)
    for found, carried in results:
        for name in ("ray_index", "t_start", "t_end", "offsets", "face", "mesh_index", "distance"):
            torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)
        torch.testing.assert_close(carried.face, at.face, rtol=0, atol=0)


def test_bad_marching_is_refused(head):
    canonical, posed, faces, shell = head
    mapping = make(canonical, faces)
    mesh, (origins, directions) = mapping.pose(as_tensor(posed)), camera_rays(np.random.default_rng(8), 4, 0.6)
    which = torch.zeros(4, dtype=torch.int64)
    good = {"shell": as_tensor(shell), "step": 0.002}
    for wrong, message in (
        ({"step": 0.0}, "step"),
        ({"step": float("nan")}, "step"),
        ({"max_samples": 0}, "max_samples"),
        ({"shell": as_tensor(shell[:-1])}, "per face"),
        ({"shell": as_tensor(-shell)}, ">= 0"),
        ({"shell": float("nan")}, ">= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            mapping.sample_shell([mesh], which, origins, directions, **(good | wrong))
    with pytest.raises(ValueError, match="not finite"):
        mapping.sample_shell([mesh], which, origins * float("nan"), directions, **good)
    with pytest.raises(ValueError, match="mesh_index"):
        mapping.sample_shell([mesh], which + 1, origins, directions, **good)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["origin", "direction"])
def test_warp_finds_nothing_along_rays_that_are_not_finite(head, bad, where):
    """On CUDA they are refused only after the march, which must come to an end and touch nothing."""
    canonical, posed, faces, _ = head
    origins, directions = (values[:4].clone() for values in camera_rays(np.random.default_rng(9), 50, 0.6))
    (origins if where == "origin" else directions)[1:, 1] = bad
    settings = MarchSettings(step=0.002, behind=0.02, grazing=0.05, through=True, near=0.02, far=20.0, max_samples=256)
    search = make_search(as_tensor(faces), as_tensor(canonical), "warp")
    found = search.march(
        [search.build(as_tensor(posed))],
        torch.zeros(4, dtype=torch.int64),
        origins,
        directions,
        torch.zeros(4),
        search.make_shell(torch.full((len(faces),), 0.01)),
        settings,
    )
    assert (found.offsets[1:] == found.offsets[1]).all()


def test_a_changed_shell_is_noticed(head):
    canonical, posed, faces, _ = head
    mapping = make(canonical, faces)
    mesh, (origins, directions) = mapping.pose(as_tensor(posed)), camera_rays(np.random.default_rng(9), 50, 0.6)
    which, shell = torch.zeros(50, dtype=torch.int64), torch.full((len(faces),), 0.01)

    def count(thickness) -> int:
        return len(mapping.sample_shell([mesh], which, origins, directions, shell=thickness, step=0.002))

    thin = count(shell)
    assert count(0.01) == thin and count(0.01) == thin
    shell += 0.02
    thick = count(shell)
    assert thick > 2 * thin
    assert count(0.03) == thick
    assert count(0.01) == thin


@pytest.mark.slow
@pytest.mark.parametrize("arch", [80, 90, 100])
def test_kernels_compile_for_cuda(arch, tmp_path):
    """Without a GPU, that the code generated for one compiles is what can be shown."""
    import warp as wp

    from flame_nerf.kernels.warp import mesh as kernels

    wp.init()
    wp.compile_aot_module(kernels, device=None, arch=arch, module_dir=str(tmp_path), use_ptx=True)
    code = "".join(path.read_text() for path in tmp_path.rglob("*.ptx"))
    assert all(f"{name}_" in code for name in ("march", "nearest", "pack", "carry_samples", "apply_tables"))
