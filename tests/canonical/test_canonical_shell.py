"""Samples of rays inside the shell, against a dense march in float64."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import canonical_oracle as oracle
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flame_nerf.canonical import CanonicalMapping, MappingConfig, region_shell
from flame_nerf.canonical.backends import make_search
from flame_nerf.canonical.search import MarchSettings

BACKENDS = ["numba", "warp"]


def as_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def make(vertices: np.ndarray, faces: np.ndarray, backend: str = "numba") -> CanonicalMapping:
    return CanonicalMapping(torch.from_numpy(faces), as_tensor(vertices), MappingConfig(backend=backend))


def camera_rays(rng: np.random.Generator, count: int, distance: float, spread: float = 0.12):
    """Rays from around the head towards points near it: hits, grazes and misses."""
    eye = rng.normal(size=(count, 3))
    eye *= distance / np.linalg.norm(eye, axis=1, keepdims=True)
    along = rng.normal(size=(count, 3)) * spread / 2 - eye
    return as_tensor(eye), as_tensor(along / np.linalg.norm(along, axis=1, keepdims=True))


def first_hits(origins: np.ndarray, directions: np.ndarray, vertices: np.ndarray, faces: np.ndarray, near: float):
    """Distance to the first triangle after ``near``, inf where there is none, and the cosine with its normal: 3x3
    systems solved one by one."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    hits, cosines = np.full(len(origins), np.inf), np.ones(len(origins))
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    for ray, (origin, direction) in enumerate(zip(origins, directions, strict=True)):
        matrix = np.stack((b - a, c - a, np.broadcast_to(-direction, a.shape)), axis=-1)
        solvable = np.abs(np.linalg.det(matrix)) > 1e-18
        u, v, t = np.linalg.solve(matrix[solvable], (origin - a[solvable])[..., None])[..., 0].T
        inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (t >= near)
        if inside.any():
            hits[ray] = t[inside].min()
            cosines[ray] = abs(normals[solvable][inside][t[inside].argmin()] @ direction)
    return hits, cosines


def check_against_dense_march(
    samples, origins, directions, vertices, faces, shell, *, step, behind, near, far, start, grazing=0.0
) -> int:  # fmt: skip
    """Every piece of a ray that must be there is, and no other; those within rounding of a border may be either."""
    origins, directions, vertices = (np.asarray(x, float) for x in (origins, directions, vertices))
    hits, cosines = first_hits(origins, directions, vertices, faces, near) if np.isfinite(behind) else (None, None)
    offsets = samples.offsets.numpy()
    centre = 0.5 * (vertices.min(0) + vertices.max(0))
    radius = 0.5 * np.linalg.norm(vertices.max(0) - vertices.min(0)) + shell.max()
    checked = 0
    for ray in range(len(origins)):
        shift = float(start[ray])
        closest = np.dot(centre - origins[ray], directions[ray])
        low, high = max(near, closest - radius), min(far, closest + radius)
        numbers = np.arange(np.floor(low / step) - 1, np.ceil(high / step) + 1)
        middle = (numbers + shift + 0.5) * step
        points = origins[ray] + middle[:, None] * directions[ray]
        away = oracle.distances(points, vertices, faces)
        nearest = away.min(axis=1)
        tied = away <= nearest[:, None] + 2e-6
        margin_of_all = np.where(tied, shell[None] - nearest[:, None], np.inf).min(axis=1)
        margin_of_any = np.where(tied, shell[None] - nearest[:, None], -np.inf).max(axis=1)
        stop = far
        if hits is not None:
            stop = min(far, hits[ray] + max(behind, min(behind / max(cosines[ray], 1e-9), grazing)))
        slack = 5e-6
        # A ray through an edge may be counted as hit by either side of it; the tolerance is that of the stop.
        surely = (margin_of_all > slack) & (middle > near + slack) & (middle < stop - slack)
        maybe = (margin_of_any > -slack) & (middle > near - slack) & (middle < stop + slack)
        own = slice(offsets[ray], offsets[ray + 1])
        got = np.round(samples.t_start[own].numpy() / step - shift).astype(int)
        np.testing.assert_allclose(samples.t_start[own], (got + shift) * step, atol=1e-6)
        np.testing.assert_allclose(samples.t_end[own], (got + 1 + shift) * step, atol=1e-6)
        assert set(numbers[surely].astype(int)) <= set(got)
        assert set(got) <= set(numbers[maybe].astype(int))
        row = {int(n): i for i, n in enumerate(numbers)}
        for k, face, distance in zip(got, samples.face[own].tolist(), samples.distance[own].tolist(), strict=True):
            assert away[row[k], face] <= nearest[row[k]] * (1 + 2e-6) + 1e-6
            assert abs(distance - nearest[row[k]]) < 2e-6
            assert distance <= shell[face] + 1e-6
        checked += surely.sum()
    return checked


@pytest.fixture(scope="module")
def head():
    vertices, faces = oracle.head_like(6)
    canonical = vertices.astype(np.float32)
    scalp = vertices[faces].mean(axis=1)[:, 1] > 0.03
    return canonical, oracle.deformed(vertices, 0).astype(np.float32), faces, np.where(scalp, 0.045, 0.01)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "case",
    [
        {},
        {"behind": np.inf},
        {"behind": np.inf, "grazing": 0.03},
        {"grazing": 0.05},
        {"grazing": 0.02, "distance": 0.05},
        {"grazing": 0.005},
        {"shell": "thin"},
        {"shell": "thick", "step": 0.009},
        {"shell": "nothing on half"},
        {"near": 0.5, "far": 0.62, "behind": np.inf},
        {"distance": 0.05, "behind": 0.03},
        {"distance": 0.15, "near": 0.05},
        {"distance": 4.0},
    ],
    ids=str,
)
def test_nothing_of_the_shell_is_missed(head, backend, case):
    canonical, posed, faces, mixed = head
    shell = {
        "mixed": mixed,
        "thin": np.full(len(faces), 0.008),
        "thick": np.full(len(faces), 0.05),
        "nothing on half": np.where(mixed > 0.02, 0.0, 0.012),
    }[case.get("shell", "mixed")]
    settings_ = {"step": 0.0023, "behind": 0.012, "near": 0.0, "far": 10.0} | {
        key: case[key] for key in ("step", "behind", "grazing", "near", "far") if key in case
    }
    mapping = make(canonical, faces, backend)
    origins, directions = camera_rays(np.random.default_rng(1), 16, case.get("distance", 0.6))
    which = torch.zeros(16, dtype=torch.int64)
    mesh = mapping.pose(as_tensor(posed))
    samples = mapping.sample_shell([mesh], which, origins, directions, shell=as_tensor(shell), **settings_)
    checked = check_against_dense_march(
        samples, origins, directions, posed, faces, shell.astype(np.float32), start=np.zeros(16), **settings_
    )
    assert checked > 20


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 30), axis_aligned=st.booleans(), planar=st.booleans())
def test_triangle_soup_is_sampled_without_gaps(backend, seed, count, axis_aligned, planar):
    """Wild input: loose triangles, some without area, shells of any thickness, rays along axes, thrown from inside."""
    rng = np.random.default_rng(seed)
    soup = 0.1 * rng.normal(size=(count, 1, 3)) + 0.05 * rng.normal(size=(count, 3, 3))
    if planar:
        soup[..., 1] = 0.01
    soup[1:][rng.random(count - 1) < 0.2, 2] = 0.0
    vertices, faces = soup.reshape(-1, 3).astype(np.float32), np.arange(3 * count).reshape(-1, 3)
    shell = rng.choice([0.0, 0.004, 0.02, 0.06], size=count).astype(np.float32)
    origins = as_tensor(0.15 * rng.normal(size=(10, 3)))
    directions = torch.eye(3)[rng.integers(3, size=10)] if axis_aligned else as_tensor(rng.normal(size=(10, 3)))
    directions = torch.nn.functional.normalize(directions * torch.where(torch.arange(10) % 2 == 0, 1, -1)[:, None])
    mapping = make(vertices, faces, backend)
    marching = {"step": float(rng.uniform(0.002, 0.02)), "near": 0.0, "far": 1.0, "behind": np.inf}
    samples = mapping.sample_shell(
        [mapping.pose(as_tensor(vertices))],
        torch.zeros(10, dtype=torch.int64),
        origins,
        directions,
        shell=torch.from_numpy(shell),
        **marching,
    )
    check_against_dense_march(samples, origins, directions, vertices, faces, shell, start=np.zeros(10), **marching)


@pytest.mark.parametrize("backend", BACKENDS)
def test_layout_jitter_and_positions(head, backend):
    canonical, posed, faces, shell = head
    mapping = make(canonical, faces, backend)
    mesh, rays, step = mapping.pose(as_tensor(posed)), 60, 0.003
    origins, directions = camera_rays(np.random.default_rng(2), rays, 0.6)
    which = torch.zeros(rays, dtype=torch.int64)

    def sample(seed: int | None):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return mapping.sample_shell(
            [mesh], which, origins, directions, shell=as_tensor(shell), step=step, behind=0.01,
            jitter=seed is not None, generator=generator,
        )  # fmt: skip

    samples = sample(7)
    count = len(samples)
    assert samples.offsets.shape == (rays + 1,) and samples.offsets[0] == 0 and samples.offsets[-1] == count
    torch.testing.assert_close(samples.ray_index, torch.repeat_interleave(torch.arange(rays), samples.offsets.diff()))
    inner = samples.ray_index[1:] == samples.ray_index[:-1]
    gaps = (samples.t_start.diff() / step)[inner]
    assert (gaps > 0.99).all()
    torch.testing.assert_close(gaps, gaps.round(), atol=2e-3, rtol=0)
    torch.testing.assert_close(samples.t_end - samples.t_start, torch.full((count,), step), atol=1e-6, rtol=0)
    # One shift per ray, the same again for the same seed, spread over the whole step.
    again = sample(7)
    torch.testing.assert_close(samples.t_start, again.t_start)
    shift = torch.rand(rays, generator=torch.Generator().manual_seed(7))
    check_against_dense_march(
        samples, origins, directions, posed, faces, shell.astype(np.float32),
        start=shift, step=step, behind=0.01, near=0.0, far=1e3,
    )  # fmt: skip
    assert (sample(8).t_start[:20] - samples.t_start[:20]).abs().max() > 1e-5
    still = sample(None).t_start / step
    torch.testing.assert_close(still, still.round(), atol=1e-3, rtol=0)
    # Positions: the middles, with a gradient to the rays.
    origins.requires_grad_()
    directions.requires_grad_()
    positions = samples.positions(origins, directions)
    away = oracle.distances(positions.detach().double().numpy(), posed.astype(float), faces).min(axis=1)
    np.testing.assert_allclose(samples.distance, away, atol=2e-6)
    positions.sum().backward()
    torch.testing.assert_close(origins.grad[:, 0], samples.offsets.diff().float())
    expected = torch.zeros(rays).index_add(0, samples.ray_index, samples.middle)
    torch.testing.assert_close(directions.grad[:, 1], expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_stop_and_limit_only_cut_the_far_end(head, backend):
    canonical, posed, faces, shell = head
    mapping = make(canonical, faces, backend)
    mesh = mapping.pose(as_tensor(posed))
    origins, directions = camera_rays(np.random.default_rng(3), 50, 0.6)
    which = torch.zeros(50, dtype=torch.int64)

    def sample(**kwargs):
        return mapping.sample_shell([mesh], which, origins, directions, shell=as_tensor(shell), step=0.002, **kwargs)

    whole, stopped, few = sample(), sample(behind=0.01), sample(max_samples=5)
    for part, limit in ((stopped, 10**6), (few, 5)):
        for ray in range(50):
            one = whole.t_start[whole.offsets[ray] : whole.offsets[ray + 1]]
            other = part.t_start[part.offsets[ray] : part.offsets[ray + 1]]
            assert len(other) <= limit
            torch.testing.assert_close(one[: len(other)], other)
    assert (few.offsets.diff() == whole.offsets.diff().clamp_max(5)).all()
    assert len(stopped) < len(whole)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rays_end_at_a_depth_below_a_sphere(backend):
    """Against a sphere's own formulas: a ray past its middle at b hits it at the cosine sqrt(1 - (b / r)^2)."""
    radius, behind, grazing, step, away = 0.1, 0.01, 0.05, 0.0005, 0.5
    vertices, faces = oracle.icosphere(32)
    vertices = (radius * vertices / np.linalg.norm(vertices, axis=1, keepdims=True)).astype(np.float32)
    mapping = make(vertices, faces, backend)
    beside = torch.linspace(0.0, 0.985, 30) * radius
    # Turned, so that no ray runs along the sphere's own symmetries.
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    origins = torch.stack([beside, torch.zeros(30), torch.full((30,), -away)], dim=1) @ turn
    directions = torch.tensor([[0.0, 0.0, 1.0]]).repeat(30, 1) @ turn
    samples = mapping.sample_shell(
        [mapping.pose(as_tensor(vertices))], torch.zeros(30, dtype=torch.int64), origins.contiguous(),
        directions.contiguous(), shell=0.09, step=step, behind=behind, grazing=grazing,
    )  # fmt: skip
    cosine = (1 - (beside / radius) ** 2).sqrt()
    after = samples.t_end[samples.offsets[1:] - 1] - (away - radius * cosine)
    # The sphere's faces are turned against it by up to 0.02.
    slack = 1.5 * step + 0.02 * behind / cosine**2
    expected = (behind / cosine).clamp(max=grazing)
    assert (cosine < behind / grazing).sum() >= 1 and (cosine > behind / grazing).sum() >= 20
    assert ((after - expected).abs() <= slack.clamp(max=0.004)).all(), after - expected
    # Cut at a distance, a ray that grazes the sphere would not be half as deep.
    assert (after[cosine < 0.4] > 2 * behind).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_rays_that_miss_and_empty_batches(head, backend):
    canonical, posed, faces, shell = head
    mapping = make(canonical, faces, backend)
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
    mapping = make(canonical, faces, backend)
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
        mapping = make(canonical, faces, backend)
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
    settings = MarchSettings(step=0.002, behind=0.02, grazing=0.05, near=0.02, far=20.0, max_samples=256)
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


def test_shell_of_regions():
    region = torch.tensor([0, 1, 1, 2], dtype=torch.int8)
    shell = region_shell(region, ("skin", "scalp", "teeth"), {"scalp": 0.045, "teeth": 0.004}, default=0.01)
    torch.testing.assert_close(shell, torch.tensor([0.01, 0.045, 0.045, 0.004]))


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
