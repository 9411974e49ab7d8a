"""Tracking by heads that open the mouth with a joint and whose expressions are statistical, as FLAME's are."""

from dataclasses import replace

import numpy as np
import torch
from track_heads import egg_head

from data_tools.tracking.camera import FLIP
from data_tools.tracking.fit.energy import Seen, fitted_pixels, mean_distance, within_bounds
from data_tools.tracking.fit.face.face_points import GAUSSIAN_UNIT, face_points
from data_tools.tracking.fit.face.jaw import FULL_TURN, mouth_opening, opens_by_joint, rotation_of
from data_tools.tracking.fit.fit_result import pose_head
from data_tools.tracking.fit.initial_pose import first_guess
from data_tools.tracking.fit.outline import head_vertices
from data_tools.tracking.fit.pose_and_expression import expressions_of, fit_motion
from data_tools.tracking.fit.residuals import FaceState, anchor_of, linearise
from data_tools.tracking.photometric.surfels import spread_surfels
from flame_nerf.geometry import axis_angle_to_matrix

FOCAL, CENTRE = 700.0, torch.tensor([256.0, 256.0], dtype=torch.float64)


def _head(correctives: float = 0.0):
    """The egg with a chin that follows its jaw joint, and expressions without bounds."""
    head = egg_head()
    chin = (
        torch.sigmoid((-0.02 - head.template[:, 1]) / 0.01) * (head.template[:, 2] > 0) * (head.template[:, 1] > -0.1)
    )
    weights = head.skinning_weights * (1 - chin[:, None])
    weights[:, 3] += chin
    posedirs = torch.randn(45, len(chin), 3, generator=torch.Generator().manual_seed(0)) * correctives
    names = tuple(f"expr_{row:03d}" for row in range(len(head.expression_names)))
    return replace(
        head, skinning_weights=weights, expression_names=names, expression_range="gaussian", posedirs=posedirs
    )


def _state(points, frames: int) -> FaceState:
    generator = torch.Generator().manual_seed(3)
    time = torch.arange(frames, dtype=torch.float64)
    expression = 0.2 * torch.randn(points.expression.shape[-1], generator=generator, dtype=torch.float64)
    expression = expression * torch.sin(time[:, None] / 7 + torch.arange(len(expression)))
    expression[:, -1] = 0.3 + 0.3 * torch.sin(time / 9)
    turn = torch.stack([0.1 * torch.sin(time / 17), 0.4 * torch.sin(time / 23), 0 * time], 1)
    return FaceState(
        rotation=torch.from_numpy(FLIP) @ axis_angle_to_matrix(turn),
        shift=torch.tensor([[0.0, 0.0, 0.6]], dtype=torch.float64).expand(frames, 3).clone(),
        gaze=torch.zeros(frames, 2, 2, dtype=torch.float64),
        expression=expression,
        identity=0.5 * torch.randn(6, generator=generator, dtype=torch.float64),
        focal=FOCAL,
    )


def test_the_open_head_opens_by_expression_and_flame_by_its_joint():
    assert not opens_by_joint(egg_head()) and face_points(egg_head()).jaw is None
    head = _head()
    points = face_points(head)
    assert opens_by_joint(head) and points.jaw.row == 3
    assert points.unit == GAUSSIAN_UNIT and torch.isinf(points.low[:-1]).all() and torch.isfinite(points.low[-1])
    assert len(points.expression_rows) == points.expression.shape[-1] - 1


def test_points_are_where_the_head_model_puts_them():
    head = _head(correctives=1e-3)
    points = face_points(head)
    state = _state(points, 5)
    pose = torch.zeros(5, 6, 3)
    pose[:, 3] = rotation_of(state.expression[:, -1]).float()
    expression = expressions_of(points, state, len(head.expression_names)).float()
    expected = head.landmark_points(head.vertices(state.identity.float(), expression, pose)).double()
    found = points.points(state.identity, state.expression, state.gaze)
    # Skinning weights are blended within a triangle before turning instead of after, and the egg's are 1.5 cm large.
    assert (found - expected).norm(dim=-1).max() < 6e-4
    still = points.points(state.identity, state.expression * torch.tensor([1.0] * 6 + [0.0]), state.gaze)
    assert (found - still).norm(dim=-1).max() > 5e-3


def test_the_jaws_derivative_agrees_with_differences():
    points = face_points(_head())
    state, step = _state(points, 4), 1e-5
    pixels = torch.zeros(4, len(points.index), 2, dtype=torch.float64)
    at = linearise(points, state, pixels, CENTRE)
    move = torch.zeros(4, at.frame.shape[-1], dtype=torch.float64)
    move[:, -1] = step
    ahead = linearise(points, state.moved(move), pixels, CENTRE).residual
    behind = linearise(points, state.moved(-move), pixels, CENTRE).residual
    expected = (ahead - behind) / (2 * step)
    found = at.frame[..., -1].double()
    # Exact where the jaw carries a point alone; elsewhere right enough to steer by.
    alone = points.jaw.share > 0.999
    assert alone.any()
    torch.testing.assert_close(found[:, alone], expected[:, alone], rtol=1e-3, atol=1e-2)
    assert (found - expected).norm() < 0.1 * expected.norm()


def test_coefficients_keep_to_their_bounds():
    points = face_points(_head())
    state = _state(points, 2)
    wild = replace(state, expression=torch.full_like(state.expression, 9.0))
    kept = within_bounds(points, wild).expression
    assert (kept[:, :-1] == 9.0).all() and (kept[:, -1] == points.high[-1]).all()
    blend = face_points(egg_head())
    wild = replace(state, expression=torch.full((2, blend.expression.shape[-1]), -2.0, dtype=torch.float64))
    assert (within_bounds(blend, wild).expression == 0).all()


def test_the_fit_finds_the_jaw():
    head = _head()
    points = face_points(head)
    truth = _state(points, 40)
    seen = Seen(fitted_pixels(points, truth, CENTRE), CENTRE)
    start = replace(first_guess(points, seen, FOCAL), identity=truth.identity)
    found = fit_motion(points, start, seen, np.arange(40.0))
    assert float(mean_distance(points, found, seen).mean()) < 0.5
    assert float((found.expression[:, -1] - truth.expression[:, -1]).abs().mean()) < 0.05
    posed = pose_head(head, points, found, np.arange(40) / 25, CENTRE.numpy())
    opening = mouth_opening(head, torch.from_numpy(posed.expression), torch.from_numpy(posed.pose))
    np.testing.assert_allclose(posed.pose[:, 3, 0], FULL_TURN * found.expression[:, -1], atol=1e-6)
    np.testing.assert_allclose(posed.mouth_open, opening, atol=1e-6)
    lips_apart = np.abs(posed.canonical - head.rest(torch.from_numpy(posed.identity))[0].numpy()).max()
    assert lips_apart > 2e-3


def test_surfels_follow_the_jaw():
    """Where the posed mesh has them, and with the right derivative by its opening."""
    head = _head()
    points = face_points(head)
    state = _state(points, 5)
    surfels = spread_surfels(head, points, state.identity, 300)
    places = surfels.places(state.expression)
    corners = head_vertices(head, points, state)[:, head.faces[torch.from_numpy(surfels.face)]]
    posed = torch.einsum("nc,tnck->tnk", torch.from_numpy(surfels.barycentric), corners)
    # Skinning weights are blended inside a triangle, where the mesh blends skinned corners: the same to second order.
    off = np.abs(places + anchor_of(points).numpy() - posed.numpy())
    assert off.mean() < 3e-5 and off.max() < 1e-3
    step = torch.zeros_like(state.expression)
    step[:, -1] = 1e-2
    difference = (surfels.places(state.expression + step) - surfels.places(state.expression - step)) / 2e-2
    assert np.abs(difference).max() > 0.01
    # Where the jaw carries a point in part only, its turned arm stands for the one at rest.
    np.testing.assert_allclose(surfels.by_jaw(places), difference, atol=0.1 * np.abs(difference).max())
    assert face_points(egg_head()).jaw is None
    plain = spread_surfels(egg_head(), face_points(egg_head()), state.identity, 50)
    assert plain.by_jaw(plain.places(torch.zeros(1, 5, dtype=torch.float64))) is None
