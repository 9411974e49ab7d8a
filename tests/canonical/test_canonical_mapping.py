"""The mapping from posed to canonical space against a brute-force float64 version."""

from __future__ import annotations

import dataclasses

import canonical_oracle as oracle
import numpy as np
import pytest
import torch
from canonical_cases import BACKENDS, as_tensor, head_and_pose, make, near_surface, one_mesh
from hypothesis import given, settings
from hypothesis import strategies as st

from flame_nerf.canonical import make_search
from flame_nerf.subject import SubjectError


@pytest.fixture(scope="module")
def head():
    return head_and_pose()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["face", "edge", "vertex"])
@pytest.mark.parametrize("scale", [True, False])
def test_default_mapping_agrees_with_brute_force(head, backend, kind, scale):
    """0.1 mm on 99.9 % of samples up to hair's distance from the mesh."""
    canonical, posed, faces = head
    mapping = make(canonical, faces, backend=backend, neighbourhood=kind, scale=scale)
    assert mapping.blend == "face"
    points = near_surface(np.random.default_rng(2), posed, faces, 250, 0.012)
    carried = mapping.to_canonical([mapping.pose(as_tensor(posed))], one_mesh(points), torch.from_numpy(points))
    truth = oracle.map_points(
        points.astype(float), posed.astype(float), canonical.astype(float), faces, kind=kind, scale=scale
    )
    errors = oracle.mapping_errors(truth, carried.points.double().numpy())
    assert (errors < 1e-4).all(), errors.max()


@pytest.mark.parametrize(
    "config",
    [{"beta": 4.0}, {"beta": 2e3}, {"beta": 1e6}, {"beta": 200.0, "squared": False}, {"beta": 0.0}],
    ids=str,
)
@pytest.mark.parametrize("kind", ["edge", "vertex"])
def test_weights_at_every_point_agree_exactly(head, config, kind):
    canonical, posed, faces = head
    mapping = make(canonical, faces, neighbourhood=kind, blend="point", **config)
    points = near_surface(np.random.default_rng(3), posed, faces, 60, 0.01)
    carried = mapping.to_canonical([mapping.pose(as_tensor(posed))], one_mesh(points), torch.from_numpy(points))
    truth = oracle.map_points(
        points.astype(float), posed.astype(float), canonical.astype(float), faces, kind=kind, **config
    )
    errors = oracle.mapping_errors(truth, carried.points.double().numpy())
    assert errors.max() < 2e-6 * (1 + config["beta"] * 1e-5)


def test_blend_is_chosen_by_beta(head):
    canonical, _, faces = head
    assert make(canonical, faces).blend == "face"
    assert make(canonical, faces, beta=2e3).blend == "point"
    assert make(canonical, faces, beta=2e3, neighbourhood="face").blend == "face"
    assert make(canonical, faces, beta=200.0, squared=False).blend == "point"


def test_blend_per_face_keeps_the_bound_it_is_chosen_by(head):
    """Relative weights change by less than the tolerance, so positions by less than that part of the ring's spread."""
    canonical, posed, faces = head
    points = torch.from_numpy(near_surface(np.random.default_rng(4), posed, faces, 400, 0.015))
    results = {}
    for blend in ("face", "point"):
        mapping = make(canonical, faces, blend=blend)
        results[blend] = mapping.to_canonical([mapping.pose(as_tensor(posed))], one_mesh(points), points).points
    alone = make(canonical, faces, neighbourhood="face")
    transforms = alone.pose(as_tensor(posed)).transforms
    face = alone.to_canonical([alone.pose(as_tensor(posed))], one_mesh(points), points).face
    members = make(canonical, faces).neighbours[face].clamp_min(0)
    each = (transforms[members][..., :3] * points[:, None, None]).sum(-1) + transforms[members][..., 3]
    spread = (each[:, :, None] - each[:, None]).norm(dim=-1).flatten(1).amax(1)
    difference = (results["face"] - results["point"]).norm(dim=1)
    assert (difference <= 0.05 * spread + 1e-7).all()


@pytest.mark.parametrize("spread", [0.002, 0.02])
def test_inside_and_outside_against_the_winding_number(head, spread):
    canonical, _, faces = head
    points = near_surface(np.random.default_rng(2), canonical, faces, 400, spread)
    inside = oracle.is_inside(points.astype(float), canonical.astype(float), faces)
    nearest = oracle.distances(points.astype(float), canonical.astype(float), faces).argmin(axis=1)
    found = make(canonical, faces).is_inside(torch.from_numpy(points), torch.from_numpy(nearest)).numpy()
    assert 0.2 < inside.mean() < 0.8
    # Where the nearest place is on a sharp edge, one plane alone does not tell.
    assert (found == inside).mean() > 0.97


@pytest.mark.parametrize("blend", ["face", "point"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_posed_as_canonical_is_the_identity(head, backend, blend):
    canonical, _, faces = head
    mapping = make(canonical, faces, backend=backend, blend=blend)
    points = torch.from_numpy(near_surface(np.random.default_rng(5), canonical, faces, 500, 0.02))
    directions = torch.nn.functional.normalize(torch.randn(500, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    posed = mapping.pose(as_tensor(canonical))
    carried = mapping.to_canonical([posed], one_mesh(points), points, directions=directions)
    torch.testing.assert_close(carried.points, points, atol=1e-6, rtol=0)
    torch.testing.assert_close(carried.directions, directions, atol=1e-5, rtol=0)


@pytest.mark.parametrize("blend", ["face", "point"])
@settings(max_examples=20, deadline=None)
@given(axis=st.tuples(*[st.floats(-3, 3)] * 3), shift=st.tuples(*[st.floats(-2, 2)] * 3), factor=st.floats(0.55, 1.8))
def test_similarity_motion_is_undone(head, blend, axis, shift, factor):
    """Turned, moved and grown: every point goes back to where it was on the canonical head."""
    canonical, _, faces = head
    mapping = make(canonical, faces, blend=blend)
    generator = torch.matrix_exp(torch.linalg.cross(torch.eye(3), torch.tensor(axis).expand(3, 3)).T.contiguous())
    at = torch.from_numpy(near_surface(np.random.default_rng(6), canonical, faces, 200, 0.01))
    shift = torch.tensor(shift)
    posed = mapping.pose(factor * as_tensor(canonical) @ generator.T + shift)
    points = factor * at @ generator.T + shift
    back = mapping.to_canonical([posed], one_mesh(points), points, directions=(points - shift) / factor)
    torch.testing.assert_close(back.points, at, atol=2e-5, rtol=0)
    torch.testing.assert_close(back.directions, at, atol=2e-4, rtol=0)


def test_scale_switch_and_limit(head):
    """Without scale a grown head keeps its lengths off the surface; with it they are divided, up to the limit."""
    canonical, _, faces = head
    centre = canonical[faces].mean(axis=1)
    normal = np.cross(canonical[faces][:, 1] - canonical[faces][:, 0], canonical[faces][:, 2] - canonical[faces][:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    for factor, scale, height in ((1.5, True, 0.004), (1.5, False, 0.006), (3.0, True, 0.006), (3.0, False, 0.012)):
        mapping = make(canonical, faces, neighbourhood="face", scale=scale)
        points = as_tensor(factor * (centre + 0.004 * normal))
        face = torch.arange(len(faces))
        carried = mapping.to_canonical([mapping.pose(factor * as_tensor(canonical))], one_mesh(points), points, face)
        torch.testing.assert_close(carried.points, as_tensor(centre + height * normal), atol=2e-6, rtol=0)


def test_directions_turn_by_a_proper_rotation(head):
    canonical, posed, faces = head
    for blend in ("face", "point"):
        mapping = make(canonical, faces, blend=blend)
        points = torch.from_numpy(near_surface(np.random.default_rng(7), posed, faces, 100, 0.01))
        mesh = mapping.pose(as_tensor(posed))
        columns = [
            mapping.to_canonical([mesh], one_mesh(points), points, directions=axis.expand(100, 3)).directions
            for axis in torch.eye(3)
        ]
        rotation = torch.stack(columns, dim=2)
        torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(100, 3, 3), atol=1e-5, rtol=0)
        assert (torch.linalg.det(rotation) > 0.99).all()


@pytest.mark.parametrize("blend", ["face", "point"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient_to_points_and_directions(head, backend, blend):
    canonical, posed, faces = head
    mapping = make(canonical, faces, backend=backend, blend=blend)
    mesh = mapping.pose(as_tensor(posed))
    points = torch.from_numpy(near_surface(np.random.default_rng(8), posed, faces, 40, 0.01)).requires_grad_()
    directions = torch.randn(40, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    carried = mapping.to_canonical([mesh], one_mesh(points), points, directions=directions)
    rows = []
    for axis in range(3):
        gradients = torch.autograd.grad(carried.points[:, axis].sum(), points, retain_graph=True)
        rows.append(gradients[0])
    jacobian = torch.stack(rows, dim=1)
    for index in range(0, 40, 8):
        expected = oracle.carry(
            points[index].detach().double().numpy(), int(carried.face[index]), posed, canonical, faces
        )
        np.testing.assert_allclose(jacobian[index], expected[:, :3], atol=2e-4)
    turned = torch.autograd.grad((carried.directions * directions.detach().roll(1, 0)).sum(), directions)[0]
    # A rotation's transpose undoes it.
    again = mapping.to_canonical([mesh], one_mesh(points), points.detach(), carried.face, turned)
    torch.testing.assert_close(again.directions, directions.detach().roll(1, 0), atol=1e-4, rtol=0)


def test_triangles_without_area():
    """Collapsed faces are never the nearest, take no part in a blend, and leave finite numbers everywhere."""
    vertices, faces = oracle.head_like(6)
    canonical = vertices.astype(np.float32)
    posed = oracle.deformed(vertices, 1).astype(np.float32)
    squeezed = [5, 17, 100]
    for face in squeezed:
        posed[faces[face, 2]] = 0.5 * (posed[faces[face, 0]] + posed[faces[face, 1]])
    canonical[faces[200, 1]] = canonical[faces[200, 0]]
    dead_posed = [f for f in range(len(faces)) if oracle.frame(posed[faces[f]].astype(float)) is None]
    assert set(squeezed) <= set(dead_posed)
    for backend in BACKENDS:
        for blend in ("face", "point"):
            mapping = make(canonical, faces, backend=backend, blend=blend)
            mesh = mapping.pose(as_tensor(posed))
            assert all(torch.isfinite(x).all() for x in (mesh.transforms, mesh.rotations))
            around = posed[faces[[*squeezed, 200]]].mean(axis=1)
            points = np.repeat(around, 20, axis=0)
            points = (points + np.random.default_rng(9).normal(size=points.shape) * 0.003).astype(np.float32)
            carried = mapping.to_canonical([mesh], one_mesh(points), torch.from_numpy(points))
            assert not np.isin(carried.face, dead_posed).any()
            truth = oracle.map_points(points.astype(float), posed.astype(float), canonical.astype(float), faces)
            assert oracle.mapping_errors(truth, carried.points.double().numpy()).max() < 1e-4


def test_a_whole_collapsed_neighbourhood_moves_with_its_centre():
    canonical, faces = oracle.icosphere(2)
    mapping = make(canonical, faces, neighbourhood="face")
    posed = canonical.copy()
    posed[faces[0]] = posed[faces[0, 0]]
    mesh = mapping.pose(as_tensor(posed))
    point = as_tensor(posed[faces[0, :1]]) + 0.1
    carried = mapping.to_canonical([mesh], one_mesh(point), point, torch.tensor([0]), directions=torch.ones(1, 3))
    expected = canonical[faces[0]].mean(axis=0) + 0.1
    np.testing.assert_allclose(carried.points[0], expected, atol=1e-6)
    torch.testing.assert_close(carried.directions, torch.ones(1, 3))


@pytest.mark.parametrize("blend", ["face", "point"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_several_frames_in_one_call(head, backend, blend):
    canonical, _, faces = head
    mapping = make(canonical, faces, backend=backend, blend=blend)
    meshes = [mapping.pose(as_tensor(oracle.deformed(canonical, seed) + 0.01 * seed)) for seed in range(4)]
    points = torch.from_numpy(near_surface(np.random.default_rng(10), canonical, faces, 500, 0.02))
    directions = torch.randn(500, 3, generator=torch.Generator().manual_seed(2))
    which = torch.randint(4, (500,), generator=torch.Generator().manual_seed(3))
    together = mapping.to_canonical(meshes, which, points, directions=directions)
    for index, mesh in enumerate(meshes):
        own = which == index
        alone = mapping.to_canonical([mesh], one_mesh(points[own]), points[own], directions=directions[own])
        torch.testing.assert_close(together.points[own], alone.points, atol=1e-7, rtol=0)
        torch.testing.assert_close(together.directions[own], alone.directions, atol=1e-7, rtol=0)
        torch.testing.assert_close(together.face[own], alone.face)


@pytest.mark.parametrize("backend", BACKENDS)
def test_reused_structures_and_points_out_of_range(head, backend):
    canonical, posed, faces = head
    mapping = make(canonical, faces, backend=backend)
    points = torch.from_numpy(near_surface(np.random.default_rng(11), posed, faces, 200, 0.02))
    fresh = mapping.to_canonical([mapping.pose(as_tensor(posed))], one_mesh(points), points, max_distance=0.01)
    search = make_search(torch.from_numpy(faces), as_tensor(canonical), backend)
    refitted = search.build(as_tensor(posed), search.build(as_tensor(canonical) + 1))
    refitted = dataclasses.replace(mapping.pose(as_tensor(posed)), search=refitted)
    again = mapping.to_canonical([refitted], one_mesh(points), points, max_distance=0.01)
    torch.testing.assert_close(fresh.distance, again.distance, atol=1e-6, rtol=0)
    # Of faces equally near, a tree of another shape may give another.
    same = fresh.face == again.face
    assert same.float().mean() > 0.9
    torch.testing.assert_close(fresh.points[same], again.points[same], atol=1e-6, rtol=0)
    out = fresh.face < 0
    assert 0 < out.sum() < len(points)
    torch.testing.assert_close(out, torch.isinf(fresh.distance))
    torch.testing.assert_close(fresh.points[out], points[out])
    away = oracle.distances(points.double().numpy(), posed.astype(float), faces).min(axis=1)
    np.testing.assert_array_equal(out.numpy()[np.abs(away - 0.01) > 1e-6], (away > 0.01)[np.abs(away - 0.01) > 1e-6])


def test_no_points_at_all(head):
    canonical, posed, faces = head
    mapping = make(canonical, faces)
    empty = torch.zeros(0, 3)
    carried = mapping.to_canonical([mapping.pose(as_tensor(posed))], one_mesh(empty), empty, directions=empty)
    assert carried.points.shape == (0, 3) and carried.face.shape == (0,)


def test_bad_input_is_named(head):
    canonical, posed, faces = head
    mapping = make(canonical, faces)
    broken = as_tensor(posed).clone()
    broken[7, 1] = float("nan")
    with pytest.raises(ValueError, match="vertex 7"):
        mapping.pose(broken)
    with pytest.raises(ValueError, match="shape"):
        mapping.pose(broken[:-1])
    with pytest.raises(SubjectError, match="no triangle with an area"):
        mapping.pose(torch.zeros(len(posed), 3))
    mesh, points = mapping.pose(as_tensor(posed)), torch.zeros(4, 3)
    with pytest.raises(ValueError, match="mesh_index"):
        mapping.to_canonical([mesh], torch.tensor([0, 0, 1, 0]), points)
    with pytest.raises(ValueError, match="face"):
        mapping.to_canonical([mesh], one_mesh(points), points, torch.full((4,), len(faces)))
    with pytest.raises(ValueError, match="name vertices"):
        make(canonical[:-1], faces)
    with pytest.raises(ValueError, match="neighbourhood"):
        make(canonical, faces, neighbourhood="all")
    with pytest.raises(ValueError, match="backend"):
        make(canonical, faces, backend="cuda")
