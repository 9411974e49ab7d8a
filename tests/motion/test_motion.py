"""Motion: replay is exact, interpolation is linear, and new expressions are the head model's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from synthetic_head import JOINTS, make_head, make_track

from flame_nerf.motion import MotionError, SubjectMotion, condition_vector

COUNT = 11


@pytest.fixture(scope="module")
def head():
    return make_head(turning_jaw=True)


@pytest.fixture(scope="module")
def track(head):
    return make_track(head, head, COUNT)


def test_replay_is_the_stored_frame(track):
    motion = SubjectMotion(track)
    assert motion.num_timesteps == COUNT
    for index in (0, 4, COUNT - 1):
        posed = motion.at_timestep(index)
        assert torch.equal(posed.vertices, torch.from_numpy(track.vertices[index]))
        eyes_and_jaw = track.pose[index][[JOINTS.index(n) for n in ("jaw", "left_eye", "right_eye")]].reshape(-1)
        assert torch.equal(posed.condition, torch.from_numpy(np.concatenate([track.expression[index], eyes_and_jaw])))
    assert motion.condition_dim == len(posed.condition) == len(motion.condition_names) == 2 + 9
    assert motion.condition_names[:3] == ("jawOpen", "mouthSmileLeft", "jaw.x")


@pytest.mark.parametrize("index", [-1, COUNT])
def test_frames_that_are_not_there(track, index):
    with pytest.raises(IndexError, match=f"timestep {index} .* 0 to {COUNT - 1}"):
        SubjectMotion(track).at_timestep(index)


def test_joints_a_head_lacks_are_left_out_of_the_condition():
    vector = condition_vector(torch.ones(5, 4), torch.ones(5, 2, 3), ("root", "left_eye"))
    assert vector.shape == (5, 7)


def test_time_between_rows_is_linear(track):
    motion = SubjectMotion(track)
    posed = motion.at_time((3 + 0.25) / (COUNT - 1))
    expected = 0.75 * track.vertices[3] + 0.25 * track.vertices[4]
    np.testing.assert_allclose(posed.vertices, expected, atol=1e-6)
    expected = 0.75 * motion.at_timestep(3).condition + 0.25 * motion.at_timestep(4).condition
    np.testing.assert_allclose(posed.condition, expected, atol=1e-5)


def test_a_row_s_own_time_is_that_row_exactly(head):
    track = make_track(head, head, count=1001)
    motion = SubjectMotion(track)
    times = (torch.arange(1001) / 1000).float()
    for index in range(0, 1001, 37):
        assert torch.equal(motion.at_time(float(times[index])).vertices, motion.at_timestep(index).vertices)


@pytest.mark.parametrize(("time", "index"), [(-0.2, 0), (1.3, COUNT - 1), (float("inf"), COUNT - 1)])
def test_times_outside_are_clamped(track, time, index):
    motion = SubjectMotion(track)
    assert torch.equal(motion.at_time(time).vertices, motion.at_timestep(index).vertices)


def test_time_that_is_no_number(track):
    with pytest.raises(MotionError, match="time is not a number"):
        SubjectMotion(track).at_time(float("nan"))


def test_a_single_frame_has_every_time(head):
    motion = SubjectMotion(make_track(head, head, count=1), head)
    assert torch.equal(motion.at_time(0.7).vertices, motion.at_timestep(0).vertices)


def test_posing_a_frame_s_coefficients_gives_that_frame(track, head):
    motion = SubjectMotion(track, head)
    for index in range(COUNT):
        posed = motion.pose(*motion.coefficients(index))
        np.testing.assert_allclose(posed.vertices, track.vertices[index], atol=2e-6)
        np.testing.assert_allclose(posed.condition, motion.at_timestep(index).condition, atol=1e-6)
    by_tensor = motion.pose(torch.from_numpy(track.expression[5]), torch.from_numpy(track.pose[5]))
    np.testing.assert_allclose(by_tensor.vertices, track.vertices[5], atol=2e-6)


def test_a_new_expression_is_the_head_model_s(track, head):
    motion = SubjectMotion(track, head)
    turn = torch.zeros(len(JOINTS), 3)
    for name in ("neck", "head"):
        turn[JOINTS.index(name)] = torch.from_numpy(track.pose[:, JOINTS.index(name)].mean(0))
    turn[JOINTS.index("jaw"), 0] = 0.3
    eyes = [JOINTS.index(name) for name in ("left_eye", "right_eye")]
    turn[eyes] = torch.from_numpy(track.pose[:, eyes]).median(dim=0).values
    expected = head.vertices(torch.from_numpy(track.identity), torch.tensor([0.0, 0.8]), turn)
    posed = motion.pose({"mouthSmileLeft": 0.8}, {"jaw": (0.3, 0.0, 0.0)})
    np.testing.assert_allclose(posed.vertices, expected, atol=2e-6)
    np.testing.assert_allclose(posed.condition, [0, 0.8, 0.3, 0, 0, *turn[eyes].flatten().tolist()], atol=1e-6)


def test_what_the_track_has_beyond_the_model_is_kept(head):
    offset = 0.004 * torch.randn(head.template.shape, generator=torch.Generator().manual_seed(3))
    own = replace(head, template=head.template + offset)
    track = make_track(own, head)
    motion = SubjectMotion(track, head)
    identity = torch.from_numpy(track.identity)
    rest = torch.from_numpy(track.pose).mean(0)
    rest[[JOINTS.index(name) for name in ("root", "jaw", "left_eye", "right_eye")]] = 0
    expected = own.vertices(identity, torch.tensor([0.6, 0.1]), rest)
    posed = motion.pose({"jawOpen": 0.6, "mouthSmileLeft": 0.1})
    np.testing.assert_allclose(posed.vertices, expected, atol=5e-5)
    bare = head.vertices(identity, torch.tensor([0.6, 0.1]), rest)
    assert (bare - expected).norm(dim=-1).max() > 5e-3, "the offset is large enough for the test to fail without it"


def test_neutral(track, head):
    for motion in (SubjectMotion(track), SubjectMotion(track, head)):
        neutral = motion.neutral()
        assert neutral.vertices.shape == track.canonical_vertices.shape
        at = [motion.condition_names.index(f"{eye}.{axis}") for eye in ("left_eye", "right_eye") for axis in "xyz"]
        # Eyes look where this person usually does: a head model's straight ahead may be anywhere.
        usual = motion.conditions[:, at].median(dim=0).values if motion.can_pose else torch.zeros(6)
        torch.testing.assert_close(neutral.condition[at], usual)
        neutral.condition[at] = 0
        assert not neutral.condition.any()
    assert torch.equal(SubjectMotion(track).neutral().vertices, torch.from_numpy(track.canonical_vertices))


def test_sweep_opens_and_closes_one_expression(track, head):
    motion = SubjectMotion(track, head)
    for count in (3, 10, 11):
        sweep = torch.stack([posed.condition for posed in motion.expression_sweep("jawOpen", count)])
        assert len(sweep) == count
        assert sweep[:, 0].max() == pytest.approx(1.0)
        np.testing.assert_allclose(sweep[:, 0], sweep.flip(0)[:, 0], atol=1e-6)
        assert sweep[0, 0] == pytest.approx(0.0) and torch.equal(sweep[:, 1:], sweep[:1, 1:].expand(count, -1))
    with pytest.raises(MotionError, match="at least 3"):
        motion.expression_sweep("jawOpen", 2)


def test_along_a_camera_path(track, head):
    motion = SubjectMotion(track, head)
    poses = torch.eye(4)[None, :3].repeat(3, 1, 1)
    cameras = Cameras(poses, 10.0, 10.0, 5.0, 5.0, times=torch.tensor([0.0, 0.5, 1.2]))
    shown = motion.along(cameras)
    for posed, index in zip(shown, (0, 5, COUNT - 1), strict=True):
        assert torch.equal(posed.vertices, motion.at_timestep(index).vertices)
    without = motion.along(Cameras(poses, 10.0, 10.0, 5.0, 5.0))
    assert len(without) == 3 and torch.equal(without[2].vertices, motion.neutral().vertices)


@pytest.mark.parametrize(
    ("expression", "joints", "words"),
    [
        ({"jawOpne": 1.0}, None, "no expression 'jawOpne'; it has jawOpen"),
        (None, {"jaws": (0, 0, 0)}, "no joint 'jaws'; it has jaw"),
        ({"jawOpen": float("nan")}, None, "'jawOpen' is not a finite number"),
        (torch.zeros(3), None, r"shape \(3,\); the head model takes \(2,\)"),
        (None, torch.zeros(6), r"the head model takes \(6, 3\)"),
    ],
)
def test_wrong_coefficients_are_named(track, head, expression, joints, words):
    with pytest.raises(MotionError, match=words):
        SubjectMotion(track, head).pose(expression, joints)


def test_without_a_head_model_only_replay(track):
    motion = SubjectMotion(track)
    assert not motion.can_pose and motion.pose_names == ()
    with pytest.raises(MotionError, match="head_model.npz"):
        motion.pose({"jawOpen": 1.0})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda head: replace(head, faces=head.faces.flip(0)), "wired differently"),
        (lambda head: replace(head, expression_names=("jawOpen", "frown")), "does not know mouthSmileLeft"),
        (lambda head: replace(head, shapedirs=head.shapedirs[..., :1], joint_shapedirs=head.joint_shapedirs[..., :1]),
         "identity coefficients"),
        (lambda head: replace(head, template=head.template + 0.1), "mm from the tracked mesh"),
    ],
)  # fmt: skip
def test_a_head_model_that_does_not_fit_is_set_aside(track, head, change, words):
    motion = SubjectMotion(track, change(head))
    assert not motion.can_pose and words in motion.why_no_head
    assert torch.equal(motion.at_timestep(2).vertices, torch.from_numpy(track.vertices[2]))
