"""Samples of rays inside the shell, against a dense march in float64."""

from __future__ import annotations

import canonical_oracle as oracle
import numpy as np
import pytest
import torch
from canonical_cases import BACKENDS, as_tensor, camera_rays, head_in_shell, make
from hypothesis import given, settings
from hypothesis import strategies as st

from flame_nerf.canonical import region_shell
from flame_nerf.kernels.ray_ends import CHORD, PAST


def hits_along(origin: np.ndarray, direction: np.ndarray, vertices: np.ndarray, faces: np.ndarray, near: float):
    """Distances [H] to all triangles that a ray meets from ``near`` on, in order, and the cosines with their normals:
    3x3 systems solved one by one."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    matrix = np.stack((b - a, c - a, np.broadcast_to(-direction, a.shape)), axis=-1)
    solvable = np.abs(np.linalg.det(matrix)) > 1e-18
    u, v, t = np.linalg.solve(matrix[solvable], (origin - a[solvable])[..., None])[..., 0].T
    inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (t >= near)
    order = t[inside].argsort()
    return t[inside][order], (normals[solvable][inside] @ direction)[order]


def end_of(hits: np.ndarray, cosines: np.ndarray, behind: float, grazing: float, through: bool) -> float:
    """Where a ray ends that meets triangles there: as `flame_nerf.kernels.ray_ends` says, told once more."""
    if len(hits) == 0:
        return np.inf
    entry, cosine = hits[0], cosines[0]
    stop = entry + max(behind, min(behind / max(abs(cosine), 1e-9), grazing))
    later = hits > entry + PAST
    if not through or not later.any():
        return stop
    out, other = hits[later][0], cosines[later][0]
    shallow = (out - entry) * (abs(cosine) + abs(other)) / CHORD < behind
    if cosine * other >= 0 or not (out < stop or shallow):
        return stop
    beyond = hits > out + PAST
    return end_of(hits[beyond], cosines[beyond], behind, grazing, through)


def check_against_dense_march(
    samples, origins, directions, vertices, faces, shell, *, step, behind, near, far, start, grazing=0.0, through=False
) -> int:  # fmt: skip
    """Every piece of a ray that must be there is, and no other; those within rounding of a border may be either."""
    origins, directions, vertices = (np.asarray(x, float) for x in (origins, directions, vertices))
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
        if np.isfinite(behind):
            met = hits_along(origins[ray], directions[ray], vertices, faces, near)
            stop = min(far, end_of(*met, behind, grazing, through))
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
    return head_in_shell()


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
        {"through": True},
        {"through": True, "behind": 0.03},
        {"through": True, "grazing": 0.05, "behind": 0.005},
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
        key: case[key] for key in ("step", "behind", "grazing", "through", "near", "far") if key in case
    }
    mapping = make(canonical, faces, backend=backend)
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
    mapping = make(vertices, faces, backend=backend)
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
    mapping = make(canonical, faces, backend=backend)
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
    mapping = make(canonical, faces, backend=backend)
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
    mapping = make(vertices, faces, backend=backend)
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
def test_what_cuts_a_corner_or_is_thin_goes_on(backend):
    """Three spheres in a row: a thin one like an ear, then a head's size, then one that only grazing rays come to."""
    radii, middles, behind, step = (0.004, 0.1, 0.05), (0.1, 0.3, 0.6), 0.012, 0.001
    unit, triangles = oracle.icosphere(24)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    beside = (0.0, 0.0966, 0.099)
    places = [np.array([beside[i], 0, middle]) for i, middle in zip((0, 0, 2), middles, strict=True)]
    vertices = np.concatenate([r * unit + at for r, at in zip(radii, places, strict=True)]).astype(np.float32)
    faces = np.concatenate([triangles + i * len(unit) for i in range(3)])
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    mapping = make((vertices @ turn.numpy()).astype(np.float32), faces, backend=backend)
    origins = torch.tensor([[x, 0.0, 0.0] for x in (0.0, 0.07, 0.0966)]) @ turn
    directions = torch.tensor([[0.0, 0.0, 1.0]]).repeat(3, 1) @ turn

    def ends(through: bool) -> list[float]:
        samples = mapping.sample_shell(
            [mapping.pose(mapping.canonical_vertices)], torch.zeros(3, dtype=torch.int64), origins.contiguous(),
            directions.contiguous(), shell=0.09, step=step, behind=behind, through=through,
        )  # fmt: skip
        return samples.t_end[samples.offsets[1:] - 1].tolist()

    entries = [middle - (radius**2 - at**2) ** 0.5 for middle, radius, at in ((0.3, 0.1, 0.07), (0.3, 0.1, 0.0966))]
    assert ends(False) == pytest.approx([0.096 + behind, entries[0] + behind, entries[1] + behind], abs=3 * step)
    # Past the ear into the head; the same where the head is deep; past a corner of it, into the last sphere.
    last = 0.6 - (0.05**2 - (0.099 - 0.0966) ** 2) ** 0.5
    assert ends(True) == pytest.approx([0.2 + behind, entries[0] + behind, last + behind], abs=3 * step)


def test_shell_of_regions():
    region = torch.tensor([0, 1, 1, 2], dtype=torch.int8)
    shell = region_shell(region, ("skin", "scalp", "teeth"), {"scalp": 0.045, "teeth": 0.004}, default=0.01)
    torch.testing.assert_close(shell, torch.tensor([0.01, 0.045, 0.045, 0.004]))
