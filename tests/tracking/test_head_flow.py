"""Movement of the head by optical flow: against exact movements, on points and on ray-traced pictures."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from track_heads import egg_head

from data_tools.runs.pictures import save_picture
from data_tools.tracking.camera import FLIP
from data_tools.tracking.fit.energy import Seen
from data_tools.tracking.fit.face.face_points import face_points
from data_tools.tracking.fit.head_flow import SeenMotion, Skull, View, rigid_motion, seen_motion
from data_tools.tracking.fit.initial_pose import first_guess
from data_tools.tracking.fit.newton import second_difference
from data_tools.tracking.fit.pose_and_expression import POSE_BEND, fit_motion, seen_bend
from data_tools.tracking.fit.residuals import FaceState, anchor_of
from flame_nerf.canonical import make_search
from flame_nerf.geometry import axis_angle_to_matrix, matrix_to_axis_angle, perspective

SIZE, FOCAL = 256, 380.0
CENTRE = np.array([SIZE / 2, SIZE / 2])


def calm_head():
    """The egg, whose expressions move only what lies below its eyes."""
    head = egg_head()
    below = head.template[:, 1] < -0.02
    moves = head.exprdirs * below[:, None, None]
    moves[below, 1, 0] = -0.01
    return replace(head, exprdirs=moves)


def filmed(head, frames: int, speed: float = 1.0) -> tuple:
    """The head's points and a state in which it turns, nods, leans and comes nearer, with a sudden start."""
    points = face_points(head)
    time = torch.arange(frames, dtype=torch.float64) * speed
    # Nothing before the middle, then at once in full movement.
    time = (time - time[frames // 2]).clamp_min(0)
    turn = torch.stack([0.012 * time, -0.02 * time, 0.015 * time], dim=1)
    place = torch.stack([0.001 * time, -0.0007 * time, 0.5 + 0.001 * time], dim=1)
    state = FaceState(
        rotation=torch.from_numpy(FLIP) @ axis_angle_to_matrix(turn),
        shift=place,
        gaze=torch.zeros(frames, 2, 2, dtype=torch.float64),
        expression=torch.zeros(frames, points.expression.shape[-1], dtype=torch.float64),
        identity=torch.zeros(points.shape.shape[-1], dtype=torch.float64),
        focal=FOCAL,
    )
    return points, state


def true_motion(state: FaceState) -> np.ndarray:
    """What `SeenMotion.moved` is to be."""
    turn = matrix_to_axis_angle(state.rotation[1:] @ state.rotation[:-1].transpose(1, 2))
    return torch.cat([turn, state.shift[1:] - state.shift[:-1]], dim=1).numpy()


def photograph(head, points, state: FaceState, frame: int) -> np.ndarray:
    """A grey picture of the head in a texture that is fixed to it, ray by ray."""
    rotation, translation = state.rotation[frame].numpy(), state.translation(anchor_of(points))[frame].numpy()
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    along = np.stack([(columns - CENTRE[0]) / FOCAL, (rows - CENTRE[1]) / FOCAL, np.ones_like(rows)], -1).reshape(-1, 3)
    directions = torch.from_numpy(along @ rotation / np.linalg.norm(along, axis=1, keepdims=True)).float()
    origins = torch.from_numpy(-rotation.T @ translation).float().expand(len(directions), 3).contiguous()
    search = make_search(head.faces, head.template, "auto")
    which = torch.zeros(len(origins), dtype=torch.long)
    distance, face = search.first_hit([search.build(head.template)], which, origins, directions)
    at = (origins + distance[:, None] * directions).numpy()
    waves = np.random.default_rng(3).normal(0, 250, (24, 3))
    shade = np.sin(np.where(np.isfinite(at), at, 0.0) @ waves.T + np.arange(24)).mean(axis=1)
    picture = np.where((face >= 0).numpy(), 128 + 250 * shade, 255.0).reshape(SIZE, SIZE)
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 0.7), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("wrong", [0.0, 0.2])
def test_a_rigid_motion_is_found_through_outliers(wrong):
    random = np.random.default_rng(5)
    pivot = np.array([0.01, -0.02, 0.5])
    before = pivot + random.uniform(-0.08, 0.08, (150, 3))
    truth = np.array([0.02, -0.03, 0.04, 0.001, -0.002, 0.003])
    after = (before - pivot) @ cv2.Rodrigues(truth[:3])[0].T + pivot + truth[3:]
    pixels = FOCAL * after[:, :2] / after[:, 2:] + CENTRE
    stray = random.random(len(pixels)) < wrong
    pixels[stray] += random.uniform(3, 9, (stray.sum(), 2))
    found, error = rigid_motion(before, pixels, pivot, FOCAL, CENTRE)
    # The pull towards no movement costs a little of what is seen worst, the turns out of the picture.
    np.testing.assert_allclose(found, truth, atol=3e-4)
    assert error < (0.05 if wrong == 0.0 else 0.6)


def test_rays_meet_the_surface_and_know_the_skull():
    head = calm_head()
    points, state = filmed(head, 3)
    skull = Skull.of(head, points, state)
    middle = head.template[head.faces].mean(dim=1)
    assert skull.still.any() and not skull.still[(middle[:, 1] < -0.03).numpy()].any()
    # A triangle of the forehead and one of the chin, both seen from in front.
    aside = torch.tensor([[0.0, 0.05], [0.0, -0.06]])
    before = middle[:, :2] + (middle[:, 2:] < 0)
    chosen = [int((before - place).norm(dim=1).argmin()) for place in aside]
    rotation, translation = state.rotation[0].numpy(), state.translation(anchor_of(points))[0].numpy()
    in_camera = middle[chosen].double().numpy() @ rotation.T + translation
    pixels = FOCAL * in_camera[:, :2] / in_camera[:, 2:] + CENTRE
    view = View(rotation, translation, FOCAL, CENTRE)
    found, on_skull = skull.points_under(np.concatenate([pixels, [[2.0, 2.0]]]), view)
    np.testing.assert_allclose(found[:2], in_camera, atol=1e-5)
    assert on_skull.tolist() == [True, False, False]


def test_flow_between_pictures_is_the_heads_movement(tmp_path):
    head = calm_head()
    points, state = filmed(head, 6)
    pictures = [tmp_path / f"{frame}.png" for frame in range(6)]
    for frame, path in enumerate(pictures):
        save_picture(path, photograph(head, points, state, frame))
    counted = []
    found = seen_motion(Skull.of(head, points, state), points, state, pictures, CENTRE, 0, 5, counted.append)
    assert found.sure.all() and counted == [1] * 5
    # A tenth of a pixel is 0.13 mm here: turns out of the picture are seen worst.
    np.testing.assert_allclose(found.moved[:, :2], true_motion(state)[:, :2], atol=5e-3)
    np.testing.assert_allclose(found.moved[:, 2], true_motion(state)[:, 2], atol=1e-3)
    np.testing.assert_allclose(found.moved[:, 3:5], true_motion(state)[:, 3:5], atol=3e-4)
    blank = tmp_path / "blank.png"
    save_picture(blank, np.full((SIZE, SIZE), 200, dtype=np.uint8))
    nothing = seen_motion(Skull.of(head, points, state), points, state, [blank, blank, *pictures], CENTRE, 0, 2)
    assert not nothing.sure.any() and not nothing.moved.any(), "a plain picture and a cut say nothing"


def test_the_fit_follows_a_sudden_start_that_landmarks_blur():
    head = calm_head()
    points, truth = filmed(head, 40)
    at_head = points.points(truth.identity, truth.expression, truth.gaze)
    camera = (at_head - anchor_of(points)) @ truth.rotation.transpose(1, 2) + truth.shift[:, None]
    noise = torch.randn(40, 1, 2, generator=torch.Generator().manual_seed(0)).double()
    centre = torch.from_numpy(CENTRE)
    # All points of a frame err alike, as a detector's do.
    seen = Seen(perspective(camera, FOCAL, centre) + 0.7 * noise, centre)
    start, slots = first_guess(points, seen, FOCAL), np.arange(40.0)
    moved = SeenMotion(true_motion(truth), np.ones(39, dtype=bool))

    def off(state: FaceState) -> float:
        return float((np.abs(true_motion(state) - moved.moved)[:, 3:5]).mean())

    plain, followed = fit_motion(points, start, seen, slots), fit_motion(points, start, seen, slots, motion=moved)
    assert off(followed) < 0.2 * off(plain)
    unseen = SeenMotion(moved.moved, np.zeros(39, dtype=bool))
    blind = fit_motion(points, start, seen, slots, motion=unseen)
    torch.testing.assert_close(blind.rotation, plain.rotation)
    torch.testing.assert_close(blind.shift, plain.shift)


def test_flow_is_trusted_by_the_size_of_a_pixel_and_less_in_fast_movement():
    slots = np.arange(6.0)
    speed = np.array([0.0, 0.0, 0.02, 0.3, 0.3])
    moved = np.concatenate([speed[:, None] * [1.0, 0, 0], speed[:, None] * [0, 0, 0.2]], axis=1)
    motion = SeenMotion(moved, np.array([True, True, True, True, False]))
    errors = {pixel: seen_bend(motion, slots, second_difference(slots), pixel)[1] for pixel in (5e-4, 1e-3)}
    # At rest by the pixel alone, in fast movement or where a movement was not seen no better than without flow.
    np.testing.assert_allclose(errors[1e-3][0], 2 * errors[5e-4][0])
    for error in errors.values():
        assert (error[0] < error[1]).all() and (error[1] < error[2]).all() and (error[2:] == POSE_BEND).all()


def test_windows_of_a_long_clip_use_their_own_movements(monkeypatch):
    head = calm_head()
    points, truth = filmed(head, 90)
    at_head = points.points(truth.identity, truth.expression, truth.gaze)
    camera = (at_head - anchor_of(points)) @ truth.rotation.transpose(1, 2) + truth.shift[:, None]
    seen = Seen(perspective(camera, FOCAL, torch.from_numpy(CENTRE)), torch.from_numpy(CENTRE))
    moved, slots = SeenMotion(true_motion(truth), np.ones(89, dtype=bool)), np.arange(90.0)
    monkeypatch.setattr("data_tools.tracking.fit.pose_and_expression.WINDOW", 30)
    monkeypatch.setattr("data_tools.tracking.fit.pose_and_expression.LOOKAHEAD", 10)
    found = fit_motion(points, first_guess(points, seen, FOCAL), seen, slots, motion=moved)
    np.testing.assert_allclose(true_motion(found), moved.moved, atol=1e-4)
