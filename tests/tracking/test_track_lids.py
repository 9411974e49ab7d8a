"""Lids: a blink of a frame or two is followed, each eye by itself, and a blink at 1 closes anybody's eyes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from track_clips import carphone, pictures_of, steady, write_video

from data_tools.open_head.render import MeshView, camera_around
from data_tools.tracking.camera import FLIP
from data_tools.tracking.config import TrackConfig
from data_tools.tracking.fit.closures import LidCurves, lid_warnings
from data_tools.tracking.fit.energy import Seen, fitted_pixels, normal_equations
from data_tools.tracking.fit.face.face_points import GAZE_SEEN, face_points
from data_tools.tracking.fit.face.lid_points import openings, usual_openings
from data_tools.tracking.fit.fit_result import pose_head
from data_tools.tracking.fit.initial_pose import first_guess
from data_tools.tracking.fit.lids import closed_at
from data_tools.tracking.fit.offsets import with_bumps
from data_tools.tracking.fit.pose_and_expression import fit_motion
from data_tools.tracking.fit.residuals import FaceState
from data_tools.tracking.fit.shape import fit_shape, shape_equations
from data_tools.tracking.fit.stages import Observations
from data_tools.tracking.observe.framing import whole_frames
from data_tools.tracking.pipeline import track
from flame_nerf.geometry import axis_angle_to_matrix
from flame_nerf.heads import load_head
from flame_nerf.heads.eyes import BLINKS, LIDS, blink_units, derived_blinks, look_turns, personal_head
from flame_nerf.subject import load_subject

FOCAL, CENTRE, FRAMES = 500.0, torch.tensor([128.0, 128.0], dtype=torch.float64), 30
WINK = 8
"""Frame in which the left eye alone is shut;"""
BLINK = 20
"""and that in which both are."""


@pytest.fixture(scope="module")
def head():
    return load_head()


def _person(head, seed: int):
    generator = torch.Generator().manual_seed(seed)
    return 0.6 * torch.randn(head.shapedirs.shape[-1], generator=generator)


@pytest.fixture(scope="module")
def clip(head):
    """A small face (60 pixels) that turns and talks, winks once and blinks once, each for one frame: points and truth,
    with landmarks that err by a third of a pixel, neighbours alike."""
    points = face_points(head)
    identity = _person(head, 1).double()
    time = torch.arange(FRAMES, dtype=torch.float64)
    turn = torch.stack([0.1 * torch.sin(time / 9), 0.3 * torch.sin(time / 11), 0 * time], dim=1)
    names = [head.expression_names[row] for row in points.expression_rows]
    expression = torch.zeros(FRAMES, len(names), dtype=torch.float64)
    expression[:, names.index("jawOpen")] = 0.2 + 0.2 * torch.sin(time / 3)
    shut = closed_at(points, identity)
    expression[WINK, points.lids.blink[0]] = shut[0]
    expression[BLINK, list(points.lids.blink)] = shut
    state = FaceState(
        rotation=torch.from_numpy(FLIP) @ axis_angle_to_matrix(turn),
        shift=torch.tensor([0.0, 0.0, 0.9], dtype=torch.float64).expand(FRAMES, -1).clone(),
        gaze=torch.zeros(FRAMES, 2, 2, dtype=torch.float64),
        expression=expression,
        identity=identity,
        focal=FOCAL,
    )
    pixels = fitted_pixels(points, state, CENTRE)
    noise = torch.randn(FRAMES, 5, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    near = torch.softmax(-torch.cdist(points.mean, points.mean[::100][:5]) / 0.02, dim=1)
    return points, state, Seen(pixels + 0.5 * torch.einsum("lk,tkx->tlx", near, noise), CENTRE)


def test_a_blink_of_one_frame_is_followed_each_eye_by_itself(clip):
    points, truth, seen = clip
    start = replace(first_guess(points, seen, FOCAL), identity=truth.identity)
    found = fit_motion(points, start, seen, np.arange(float(FRAMES)))
    usual = usual_openings(points.lids, seen.pixels)
    share = openings(points.lids, fitted_pixels(points, found, CENTRE), seen.pixels) / usual
    shut = torch.zeros(FRAMES, 2, dtype=torch.bool)
    shut[WINK, 0] = shut[BLINK] = True
    assert float(share[shut].max()) < 0.3
    assert float(share[shut].min()) > -0.1
    # No lid of the other eye, and none of the frames beside it, follows.
    assert float(share[~shut].min()) > 0.75
    seen_share = openings(points.lids, seen.pixels) / usual
    assert np.polyfit(seen_share.flatten(), share.flatten(), 1)[0] == pytest.approx(1, abs=0.1)


def test_a_face_without_blinks_gets_none(clip):
    points, truth, seen = clip
    still = [t for t in range(FRAMES) if t not in (WINK, BLINK)]
    start = replace(first_guess(points, seen.frames(still), FOCAL), identity=truth.identity)
    found = fit_motion(points, start, seen.frames(still), np.arange(float(len(still))))
    assert float(found.expression[:, list(points.lids.blink)].max()) < 0.15


def test_an_eye_that_is_turned_away_says_nothing_of_its_lids(clip):
    points, truth, seen = clip
    turn = torch.zeros(1, 3, dtype=torch.float64)
    turn[0, 1] = 1.4
    aside = replace(truth.frames(slice(0, 1)), rotation=torch.from_numpy(FLIP) @ axis_angle_to_matrix(turn))
    view = Seen(fitted_pixels(points, aside, CENTRE), CENTRE)
    weight = normal_equations(points, aside, view).gaps.weight.unflatten(1, (2, -1))
    # Turned to its left, the head hides its left eye.
    assert float(weight[0, 0].max()) == 0
    ahead = normal_equations(points, truth, seen).gaps.weight
    assert float(ahead.min()) > 0


def test_what_lies_beyond_the_pictures_edge_is_a_guess(clip):
    """A detector squeezes the half of a face that it does not see."""
    points, truth, seen = clip
    edge = CENTRE + torch.tensor([0.0, 400.0], dtype=torch.float64)
    squeezed = seen.pixels.clone()
    squeezed[..., 0] -= 0.3 * (squeezed[..., 0] - edge[0]).clamp_min(0)
    off = {}
    for size in (None, edge):
        view = Seen(squeezed, CENTRE, size=size)
        start = replace(first_guess(points, view, FOCAL), identity=truth.identity)
        found = fit_motion(points, start, view, np.arange(float(FRAMES)))
        inside = ~Seen(seen.pixels, CENTRE, size=edge).outside()
        apart = (fitted_pixels(points, found, CENTRE) - fitted_pixels(points, truth, CENTRE)).norm(dim=-1)
        off[size is None] = float(apart[inside].mean())
    assert off[False] < 0.6 * off[True]
    weight = normal_equations(points, truth, Seen(squeezed, CENTRE, size=edge)).gaps.weight.unflatten(1, (2, -1))
    ahead = truth.rotation[:, 0, 2].abs() < 0.05
    # The subject's left is on the picture's right.
    assert float(weight[ahead, 0].max()) == 0 and float(weight[ahead, 1].min()) > 0


def test_gap_derivatives_agree_with_differences(head, clip):
    points, truth, seen = clip
    seen, state, step = seen.frames(slice(BLINK, BLINK + 1)), truth.frames(slice(BLINK, BLINK + 1)), 1e-4
    rows = normal_equations(points, state, seen).gaps
    for column in (0, 1, 4, 10, 10 + points.lids.blink[0]):
        move = torch.zeros(1, rows.frame.shape[-1], dtype=torch.float64)
        move[:, column] = step
        ahead, behind = (normal_equations(points, state.moved(sign * move), seen).gaps.residual for sign in (1, -1))
        expected = (ahead - behind) / (2 * step)
        scale = float(expected.abs().max()) + 1
        torch.testing.assert_close(rows.frame[..., column], expected, rtol=0, atol=1e-3 * scale)
    # And by who it is: the energy of the whole, so that what shape and frames share is right too.
    base = shape_equations(points, replace(state, identity=state.identity + 0.2), seen)
    column = 3
    values = []
    for sign in (1, -1):
        moved = state.identity + 0.2
        moved[column] += sign * step
        gaps = normal_equations(points, replace(state, identity=moved), seen).gaps
        values.append(0.5 * float((gaps.weight * gaps.residual**2).sum()))
    without = shape_equations(replace(points, lids=None), replace(state, identity=state.identity + 0.2), seen)
    mine = float((base.shared_gradient - without.shared_gradient)[column])
    assert mine == pytest.approx((values[0] - values[1]) / (2 * step), rel=0.02, abs=1)


def test_stored_coefficients_are_the_person_s(head):
    """With offsets that no identity of the model has: what is stored still gives the stored mesh."""
    own = with_bumps(head)
    points = face_points(own)
    identity = torch.cat([_person(head, 2), torch.randn(own.shapedirs.shape[-1] - 100)]).double()
    expression = torch.zeros(3, points.expression.shape[-1], dtype=torch.float64)
    expression[1, list(points.lids.blink)] = closed_at(points, identity)
    expression[2, list(points.lids.blink)] = 0.5 * closed_at(points, identity)
    state = FaceState(
        rotation=torch.from_numpy(FLIP).expand(3, -1, -1).clone(),
        shift=torch.tensor([[0.0, 0.0, 0.9]], dtype=torch.float64).expand(3, -1).clone(),
        gaze=torch.zeros(3, 2, 2, dtype=torch.float64),
        expression=expression, identity=identity, focal=FOCAL,
    )  # fmt: skip
    fitted = pose_head(own, points, state, np.arange(3) / 25, CENTRE.numpy())
    columns = [head.expression_names.index(name) for name in BLINKS]
    np.testing.assert_allclose(fitted.expression[:, columns], [[0, 0], [1, 1], [0.5, 0.5]], atol=2e-3)
    person = personal_head(own, torch.from_numpy(fitted.canonical))
    posed = person.vertices(*(torch.from_numpy(a) for a in (fitted.identity, fitted.expression, fitted.pose)))
    np.testing.assert_allclose(fitted.vertices, posed.numpy(), atol=1e-5)


def _eyeball_seen(head, vertices, yaw_deg: float) -> int:
    """Pixels of a picture in which an eyeball is the first thing met."""
    c2w = camera_around(yaw_deg, 0, 0.4, (0.0, 0.0, 0.06))
    view = MeshView(vertices.numpy(), head.faces.numpy(), c2w, 900.0, 200)
    at = np.stack(np.meshgrid(np.arange(200) + 0.5, np.arange(70, 130) + 0.5), axis=-1).reshape(-1, 2)
    hits = view.pick(at)
    eyes = head.region_mask("eyes").numpy()
    return int(eyes[hits.face[hits.face >= 0]].sum())


@pytest.mark.parametrize("seed", [0, 4, 9])
def test_a_blink_at_one_closes_anybody_s_eyes_and_not_more(head, seed):
    """By what rays meet: nothing of the eyeballs at 1, something well before; and lids that do not cross."""
    identity = _person(head, seed)
    person = personal_head(head, head.rest(identity)[0])

    def at(blink: float):
        values = person.expression_vector(dict.fromkeys(BLINKS, blink))
        return person.vertices(identity, values, torch.zeros(len(head.joint_names), 3))

    seen = {blink: _eyeball_seen(head, at(blink), 0.0) for blink in (0.0, 0.5, 1.0)}
    assert seen[1.0] < 0.08 * seen[0.0] < 0.5 * seen[0.5]
    row = {int(number): k for k, number in enumerate(head.landmarks.index)}
    closed, opened = (head.landmark_points(at(blink)) for blink in (1.0, 0.0))
    for marks in LIDS.values():
        rows = [[row[number] for number in lid[1:4]] for lid in (marks.upper, marks.lower)]
        gap, before = ((p[rows[0], 1] - p[rows[1], 1]).mean() for p in (closed, opened))
        assert abs(float(gap)) < 0.08 * float(before)


def test_looks_are_turns_of_the_eyes_to_the_side_they_name(head):
    turns = look_turns(head)
    assert len(turns) == 8
    for name, (joint, turn) in turns.items():
        degrees = np.degrees(turn.numpy())
        down, left = degrees[0], degrees[1]
        assert joint == ("left_eye" if name.endswith("Left") else "right_eye")
        if "Up" in name or "Down" in name:
            assert abs(left) < 2 and (5 < down < 30 if "Down" in name else -30 < down < -5)
        else:
            outwards = left if joint == "left_eye" else -left
            assert abs(down) < 3 and (10 < outwards < 35 if "Out" in name else -35 < outwards < -10)


def test_heads_without_lids_are_left_alone(head):
    bare = replace(head, landmarks=None)
    assert blink_units(bare, bare.template) == {} and personal_head(bare, bare.template) is bare
    assert derived_blinks(head, head.template) == {}


def test_shut_eyes_tell_no_gaze(clip):
    """The detector draws irises on lids, wherever these are."""
    points, truth, seen = clip
    pixels = seen.pixels.clone()
    pixels[BLINK, points.gaze_points] += torch.tensor([3.0, 4.0], dtype=torch.float64)
    start = replace(first_guess(points, seen, FOCAL), identity=truth.identity)
    found = fit_motion(points, start, Seen(pixels, CENTRE), np.arange(float(FRAMES)))
    beside = found.gaze[[BLINK - 1, BLINK + 1]].mean(dim=0)
    assert float((found.gaze[BLINK] - beside).abs().max()) < np.radians(1.5)
    pixels[BLINK - 6, points.gaze_points] += torch.tensor([3.0, 0.0], dtype=torch.float64)
    seen_again = fit_motion(points, start, Seen(pixels, CENTRE), np.arange(float(FRAMES)))
    assert float((seen_again.gaze[BLINK - 6] - found.gaze[BLINK - 6]).abs().max()) > np.radians(3)


def test_an_iris_that_was_not_found_tells_no_gaze(head, clip):
    """Its place is the detector's guess among places that were found; gaze is that of the other eye, and of before."""
    points, truth, seen = clip
    at, pixels = WINK + 5, seen.pixels.clone()
    pixels[at, points.gaze_points] += torch.tensor([3.0, 2.0], dtype=torch.float64)
    start = replace(first_guess(points, seen, FOCAL), identity=truth.identity)
    looked = []
    for found in (1.0, 0.0):
        irises = torch.ones(FRAMES, 2, dtype=torch.float64)
        irises[at] = found
        gaze = fit_motion(points, start, Seen(pixels, CENTRE, irises=irises), np.arange(float(FRAMES))).gaze
        looked.append(float((gaze - truth.gaze)[at].abs().max()))
    assert looked[0] > np.radians(2) and looked[1] < 0.3 * looked[0]


def test_irises_in_the_pictures_move_as_far_as_the_eyes_do(head):
    """By the detector's own they are seen to move by less."""
    slots, nothing = np.arange(3.0), np.zeros((3, 478, 3))
    shown = Observations(slots.astype(int), slots, slots / 25, nothing, [], whole_frames((64, 64), None))
    assert shown.points_of(head).gaze_seen == GAZE_SEEN and shown.of_points(face_points(head)).irises is None
    found = replace(shown, irises=np.array([[True, False]] * 3))
    assert found.points_of(head).gaze_seen == (1.0, 1.0)
    assert found.of_points(face_points(head)).frames([0, 1]).irises.tolist() == [[1.0, 0.0]] * 2


def test_eyeballs_that_lie_higher_are_no_look_up(head):
    """Two millimetres, as irises tell them that look about and straight ahead on average."""
    own = with_bumps(head)
    points = face_points(own)
    identity = torch.zeros(own.shapedirs.shape[-1], dtype=torch.float64)
    raised = own.joint_shapedirs[own.joint_names.index("left_eye"), 1]
    identity[int(raised[head.shapedirs.shape[-1] :].argmax()) + head.shapedirs.shape[-1]] = 1.0
    component = int(identity.argmax())
    identity[component] = 2e-3 / float(raised[component])
    time = torch.arange(24, dtype=torch.float64)
    look = torch.stack([0.08 * torch.sin(2 * torch.pi * time / 12), 0.1 * torch.sin(2 * torch.pi * time / 8)], dim=1)
    turn = torch.stack([0.1 * torch.cos(time / 5), 0.3 * torch.sin(time / 4), 0 * time], dim=1)
    truth = FaceState(
        rotation=torch.from_numpy(FLIP) @ axis_angle_to_matrix(turn),
        shift=torch.tensor([[0.0, 0.0, 0.6]], dtype=torch.float64).expand(24, -1).clone(),
        gaze=look[:, None].expand(-1, 2, -1).clone(),
        expression=torch.zeros(24, points.expression.shape[-1], dtype=torch.float64),
        identity=identity, focal=FOCAL,
    )  # fmt: skip
    seen = Seen(fitted_pixels(points, truth, CENTRE), CENTRE)
    found = fit_shape(points, first_guess(points, seen, FOCAL), seen, FOCAL, False, 6)
    off = (found.gaze - truth.gaze).mean(dim=(0, 1))
    # Taken for a look up, two millimetres would be 7 degrees.
    assert float(off.abs().max()) < np.radians(2)


def test_irises_are_seen_to_move_by_less_than_the_eyes_do(head):
    points = face_points(head)
    state = torch.zeros(100, dtype=torch.float64), torch.zeros(1, points.expression.shape[-1], dtype=torch.float64)
    iris = points.index == 468
    ahead, down, left = (
        points.points(*state, torch.tensor([[turn, turn]], dtype=torch.float64))[0, iris][0]
        for turn in ([0.0, 0.0], [0.1, 0.0], [0.0, 0.1])
    )
    radius = float((ahead - points.eye_centres(state[0])[1]).norm())
    assert float(down[1] - ahead[1]) == pytest.approx(-0.1 * GAZE_SEEN[0] * radius, rel=0.05)
    assert float(left[0] - ahead[0]) == pytest.approx(0.1 * GAZE_SEEN[1] * radius, rel=0.05)


@pytest.mark.slow
def test_a_real_blink_is_followed_and_said(tmp_path):
    pictures = pictures_of(carphone(), 110)[60:]
    video = write_video(tmp_path / "blink.mp4", pictures, steady(len(pictures)))
    summary = track(video, tmp_path / "blink", TrackConfig(photometric=False), silent=True)
    assert 1 <= summary.closures == summary.closures_followed
    page = (tmp_path / "blink" / "report.html").read_text()
    assert "Lids" in page and "left eye, as seen" in page
    subject = load_subject(tmp_path / "blink")
    blinks = subject.track.expression[:, [subject.track.expression_names.index(name) for name in BLINKS]]
    # One eye is hardly more than half shut by its blink: the other lid does the rest.
    assert blinks.max(axis=0).min() > 0.35 and 0.6 < blinks.max() < 1.1
    assert np.median(blinks) < 0.2


def test_curves_count_closures_and_those_that_are_followed():
    detected, mesh = np.ones((12, 2)), np.ones((12, 2))
    detected[3:5, 0], detected[7, 1], detected[10, 0] = 0.2, 0.3, 0.1
    mesh[5, 0], mesh[7, 1], mesh[0, 1] = 0.3, 0.5, 0.1
    curves = LidCurves(detected, mesh, np.ones((12, 2), dtype=bool))
    # Of three closures one is followed, a frame late, and one by half; a mesh that closes by itself follows none.
    assert curves.closures() == (3, 1)
    assert "2 of 3" in lid_warnings(curves)[0]
    assert curves.frames(np.array([7, 8])).closures() == (1, 0)
    still = LidCurves(np.ones((12, 2)), np.ones((12, 2)), np.ones((12, 2), dtype=bool))
    # That no eye closes is said of the footage, not of the track.
    assert lid_warnings(still) == lid_warnings(None) == ()


def test_a_half_shut_eye_about_where_closed_begins_is_followed_by_one_a_little_wider():
    detected = np.array([1.0, 0.45, 0.39, 0.45, 1.0, 0.45, 0.05, 0.45, 1.0])
    mesh = np.array([1.0, 0.45, 0.43, 0.46, 1.0, 0.45, 0.43, 0.45, 1.0])
    pairs = (np.stack([values, np.ones(9)], axis=1) for values in (detected, mesh))
    assert LidCurves(*pairs, np.ones((9, 2), dtype=bool)).closures() == (2, 1)
