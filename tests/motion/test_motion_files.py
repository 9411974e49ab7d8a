"""Motions as files: what other programs write is read, what is written reads back, and nonsense ends in one line."""

import json
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_link_take import COLUMNS, performance, write_take
from scipy.spatial.transform import Rotation

from flame_nerf.motion import Motion, MotionError, Provenance, load_motion, save_motion
from flame_nerf.motion.arkit import ARKIT_NAMES
from flame_nerf.motion.performance import CameraTrack


def turned(vectors) -> np.ndarray:
    out = np.tile(np.eye(4), (len(vectors), 1, 1))
    out[:, :3, :3] = Rotation.from_rotvec(vectors).as_matrix()
    return out


NAMES = st.sampled_from([("jawOpen", "eyeBlinkLeft"), ("expr_000", "expr_001", "ear")])


@st.composite
def motions(draw, names=NAMES):
    count = draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    chosen = draw(names)
    joints = draw(st.sampled_from([(), ("jaw",), ("neck", "jaw", "left_eye", "right_eye")]))
    place = turned(rng.normal(size=(count, 3))) if draw(st.booleans()) else None
    if place is not None:
        place[:, :3, 3] = rng.normal(size=(count, 3))
    camera = CameraTrack(np.tile(np.eye(4), (count, 1, 1)), np.array([900.0, 900, 320, 240]), (640, 480))
    return Motion(
        expression=rng.normal(size=(count, len(chosen))) * 10.0 ** draw(st.integers(-6, 2)),
        expression_names=chosen,
        fps=draw(st.floats(1, 240)),
        joints=rng.normal(size=(count, len(joints), 3)),
        joint_names=joints,
        head_to_world=place,
        camera=camera if draw(st.booleans()) else None,
        held=rng.random(count) > 0.7,
        provenance=Provenance("a film", "anny", ("it stood still",), "a.mp4", 1.5, draw(st.booleans())),
    )


@settings(max_examples=25, deadline=None)
@given(motion=motions())
def test_a_motion_file_gives_back_all_of_a_motion(motion, tmp_path_factory):
    path = tmp_path_factory.mktemp("m") / "a.npz"
    assert save_motion(motion, path) == ()
    again = load_motion(path)
    for name in ("expression", "joints", "held"):
        assert np.array_equal(getattr(again, name), getattr(motion, name)), name
    assert (again.head_to_world is None) == (motion.head_to_world is None)
    if motion.head_to_world is not None:
        assert np.array_equal(again.head_to_world, motion.head_to_world)
    assert (again.camera is None) == (motion.camera is None)
    assert again.camera is None or again.camera.size == (640, 480)
    for name in ("expression_names", "joint_names", "fps", "provenance"):
        assert getattr(again, name) == getattr(motion, name), name


@settings(max_examples=25, deadline=None)
@given(motion=motions(st.just(("expr_000", "expr_001", "ear"))))
def test_named_columns_give_back_a_motion(motion, tmp_path_factory):
    path = tmp_path_factory.mktemp("m") / "a.csv"
    save_motion(motion, path)
    again = load_motion(path, fps=None if len(motion) > 1 else motion.fps)
    assert again.fps == pytest.approx(motion.fps, rel=6e-4) and len(again) == len(motion)
    assert np.array_equal(again.expression, motion.expression) and np.array_equal(again.held, motion.held)
    assert again.joint_names == motion.joint_names and np.array_equal(again.joints, motion.joints)
    if motion.head_to_world is not None:
        np.testing.assert_allclose(again.head_to_world, motion.head_to_world, atol=1e-7)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), fps=st.sampled_from([12.0, 24.0, 25.0, 30.0, 50.0, 60.0]))
def test_live_links_columns_give_back_a_face_its_eyes_and_its_turns(seed, fps, tmp_path_factory):
    rng, path = np.random.default_rng(seed), tmp_path_factory.mktemp("m") / "a.csv"
    motion = Motion(
        rng.random((150, 52)), ARKIT_NAMES, fps, 0.2 * rng.normal(size=(150, 2, 3)), ("left_eye", "right_eye"),
        turned(0.3 * rng.normal(size=(150, 3))),
    )  # fmt: skip
    assert save_motion(motion, path) == ()
    assert path.read_text().startswith("Timecode,BlendShapeCount,EyeBlinkLeft,")
    again = load_motion(path)
    assert again.fps == fps and len(again) == 150 and again.expression_names == ARKIT_NAMES
    np.testing.assert_allclose(again.expression, motion.expression, atol=1e-7)
    np.testing.assert_allclose(again.joints, motion.joints, atol=1e-6)
    np.testing.assert_allclose(again.head_to_world, motion.head_to_world, atol=1e-6)


def test_a_real_shaped_take_is_read_with_its_drop_outs_and_doubled_frames(tmp_path):
    values = performance()
    path = write_take(tmp_path / "take.csv", values, dropped={100, 101, 500}, doubled={40, 700})
    motion = load_motion(path)
    assert motion.fps == 60 and len(motion) == 1000
    assert np.flatnonzero(motion.held).tolist() == [100, 101, 500]
    seen = ~motion.held
    np.testing.assert_allclose(motion.column("jawOpen")[seen], values["JawOpen"][seen], atol=1e-6)
    between = values["JawOpen"][499] / 2 + values["JawOpen"][501] / 2
    assert motion.column("jawOpen")[500] == pytest.approx(between, abs=1e-6)
    told = " ".join(motion.provenance.assumed)
    assert "2 rows repeat" in told and "3 moments are missing" in told and "radians" in told


def test_columns_are_matched_by_name_whatever_their_case_and_order(tmp_path):
    values = performance(200)
    shuffled = np.random.default_rng(1).permutation(COLUMNS).tolist()
    plain = load_motion(write_take(tmp_path / "a.csv", values))
    other = load_motion(write_take(tmp_path / "b.csv", values, columns=shuffled, case=lambda n: n[0].lower() + n[1:]))
    assert set(other.expression_names) == set(ARKIT_NAMES)
    for name in ARKIT_NAMES:
        assert np.array_equal(other.column(name), plain.column(name)), name
    assert np.array_equal(other.head_to_world, plain.head_to_world)


def test_yaw_pitch_and_roll_turn_the_face_right_down_and_to_the_right_shoulder(tmp_path):
    names = ("HeadYaw", "HeadPitch", "HeadRoll")
    for turned_by, (point, axis, sign) in zip(
        names, [((0, 0, 1), 0, -1), ((0, 0, 1), 1, -1), ((0, 1, 0), 0, 1)], strict=True
    ):
        values = {name: np.zeros(200) for name in COLUMNS} | {turned_by: np.full(200, 0.3)}
        turn = load_motion(write_take(tmp_path / "a.csv", values)).head_to_world[5, :3, :3]
        # x is to the person's left, y up, z out of the face.
        assert (turn @ np.array(point))[axis] == pytest.approx(sign * np.sin(0.3)), turned_by


def test_degrees_are_told_by_their_range_and_may_be_named(tmp_path):
    values = performance(200)
    radians = load_motion(write_take(tmp_path / "a.csv", values))
    degrees = load_motion(write_take(tmp_path / "b.csv", values, scale=180 / np.pi))
    assert any("degrees" in sentence for sentence in degrees.provenance.assumed)
    np.testing.assert_allclose(degrees.head_to_world, radians.head_to_world, atol=1e-6)
    quarter = load_motion(write_take(tmp_path / "c.csv", values, scale=2 / np.pi), head_units="quarter-turns")
    np.testing.assert_allclose(quarter.head_to_world, radians.head_to_world, atol=1e-6)


def test_a_take_past_midnight_goes_on(tmp_path):
    rows = [
        f"{h}:{m}:{s}:{f:02d}.000,{v}"
        for h, m, s, v in (("23", "59", "59", 0.1), ("00", "00", "00", 0.2))
        for f in range(60)
    ]
    (tmp_path / "a.csv").write_text("Timecode,JawOpen\n" + "\n".join(rows) + "\n00:00:01:00.000,0.3\n")
    motion = load_motion(tmp_path / "a.csv")
    assert len(motion) == 121 and not motion.held.any() and motion.column("jawOpen")[-1] == pytest.approx(0.3)


def test_lams_json_is_read_at_30_and_written_back(tmp_path):
    weights = np.random.default_rng(0).random((40, 52))
    names = [
        name.replace("Left", "_L").replace("Right", "_R") if "eye" in name else name for name in sorted(ARKIT_NAMES)
    ]
    document = {"names": names, "frames": [{"weights": row.tolist(), "time": 0} for row in weights]}
    (tmp_path / "a.json").write_text(json.dumps(document))
    motion = load_motion(tmp_path / "a.json")
    assert motion.fps == 30 and motion.expression_names == tuple(sorted(ARKIT_NAMES))
    save_motion(motion, tmp_path / "b.json")
    again = json.loads((tmp_path / "b.json").read_text())
    column = again["names"].index("jawOpen")
    wanted = weights[:, names.index("jawOpen")]
    np.testing.assert_allclose([frame["weights"][column] for frame in again["frames"]], wanted, atol=1e-6)
    assert len(again["names"]) == 52


@settings(max_examples=25, deadline=None)
@given(motion=motions(), fps=st.floats(1, 240))
def test_another_rate_keeps_the_ends_and_the_turns_rigid(motion, fps):
    again = motion.resampled(fps)
    assert abs((len(again) - 1) / fps - (len(motion) - 1) / motion.fps) <= 1 / fps + 1e-6
    np.testing.assert_allclose(again.expression[0], motion.expression[0], rtol=1e-6)
    assert again.expression.max() <= motion.expression.max() + 1e-6
    if again.head_to_world is not None:
        eye = again.head_to_world[:, :3, :3] @ again.head_to_world[:, :3, :3].transpose(0, 2, 1)
        np.testing.assert_allclose(eye, np.broadcast_to(np.eye(3), eye.shape), atol=1e-9)


def test_half_the_moments_of_twice_the_rate_are_the_same():
    motion = Motion(np.arange(9.0)[:, None], ("jawOpen",), 30.0)
    twice = motion.resampled(60.0)
    assert len(twice) == 17 and np.array_equal(twice.expression[::2], motion.expression)
    assert motion.cropped(0.1, 0.2).expression[:, 0].tolist() == [3, 4, 5]
    assert motion.cropped(0.1, 0.2).provenance.sound_start == pytest.approx(0.1)


HEAD = "Timecode,BlendShapeCount,JawOpen\n"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "", "must name the columns"),
        ("a.csv", HEAD, "no rows"),
        ("a.csv", "JawOpen,x\n0.1,2\n", "--fps"),
        ("a.csv", HEAD + "01:02:03:04.1,61,nan\n01:02:03:05.1,61,0\n", "'jawOpen' of moment 0 is nan"),
        ("a.csv", HEAD + "01:02:03:04.1,61,open\n", "'JawOpen' of row 1"),
        ("a.csv", HEAD + "noon,61,0\n", "timecode 'noon'"),
        ("a.csv", HEAD + "01:00:00:00,61,0\n01:00:00:01\n01:00:00:02,61,0\n", "row 2 has 1 columns"),
        ("a.csv", HEAD + "01:00:09:00,61,0\n01:00:05:00,61,0\n01:00:20:00,61,0\n", "goes back at row 2"),
        ("a.csv", HEAD + "01:00:00:00,61,0\n03:00:00:00,61,0\n", "several takes"),
        ("a.csv", "time,JawOpen,jawopen\n0,0,0\n", "twice"),
        # As many as would take an hour, were each compared with every other.
        ("a.csv", "time," * 200_000 + "\n", "twice"),
        ("a.csv", "\x00\xff", "first line must name"),
        ("a.json", "{", "ends too soon"),
        ("a.json", "[1]", "no motion"),
        ("a.json", '{"names": ["jawOpen"], "frames": []}', "0 frames"),
        ("a.json", '{"names": ["jawOpen"], "frames": [{"weights": [1, 2]}]}', "frame 0 has 2 weights"),
        ("a.json", '{"names": ["jawOpen"], "frames": [{"weights": ["x"]}]}', "frame 0 is not a number"),
        ("a.json", '{"names": ["jawOpen"], "frames": [{"weights": [NaN]}]}', "moment 0 is nan"),
        ("a.npz", "hello", "cannot be read as a motion"),
        ("a.txt", "hello", "no motion: give"),
    ],
)
def test_what_is_no_motion_is_named_in_one_line(tmp_path, name, text, words):
    (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(MotionError) as caught:
        load_motion(tmp_path / name)
    assert words in str(caught.value) and name in str(caught.value) and "\n" not in str(caught.value)


def test_a_take_of_one_row_and_one_that_was_cut_off_are_read(tmp_path):
    (tmp_path / "a.csv").write_text(HEAD + "01:02:03:04.1,61,0.5\n")
    assert len(load_motion(tmp_path / "a.csv")) == 1
    (tmp_path / "b.csv").write_text(HEAD + "01:02:03:04.1,61,0.5\n01:02:03:05.1,61,0.5\n01:02:03:0")
    assert len(load_motion(tmp_path / "b.csv")) == 2


def test_a_file_that_claims_more_than_it_holds_is_refused_before_it_is_unpacked(tmp_path):
    save_motion(Motion(np.zeros((3, 1)), ("jawOpen",), 30.0), tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    claim = "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 52), }".ljust(117) + "\n"
    parts["expression.npy"] = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(claim)) + claim.encode()
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(MotionError, match="claims the shape"):
        load_motion(tmp_path / "b.npz")


@settings(max_examples=60, deadline=None)
@given(at=st.floats(0, 1), byte=st.integers(0, 255), cut=st.booleans())
def test_damaged_files_never_raise_anything_else(at, byte, cut, tmp_path_factory):
    folder = tmp_path_factory.mktemp("m")
    save_motion(
        Motion(np.ones((5, 2)), ("jawOpen", "ear"), 30.0, head_to_world=np.tile(np.eye(4), (5, 1, 1))), folder / "a.npz"
    )
    data = bytearray((folder / "a.npz").read_bytes())
    place = int(at * (len(data) - 1))
    data[place] = byte
    (folder / "a.npz").write_bytes(data[:place] if cut else data)
    try:
        load_motion(folder / "a.npz")
    except MotionError as error:
        assert "a.npz" in str(error)


def test_nothing_is_left_where_a_motion_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    motion = Motion(np.zeros((3, 1)), ("jawOpen",), 30.0)
    for name in ("a.npz", "a.csv", "a.json"):
        with pytest.raises(MotionError):
            save_motion(motion, tmp_path / "file" / name)
    with pytest.raises(MotionError, match="ends in"):
        save_motion(motion, tmp_path / "a.bvh")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ['=HYPERLINK("http://h")', "+1", "-1+2", "@SUM(A1)"])
def test_no_table_is_written_that_a_spreadsheet_would_run(tmp_path, name):
    motion = Motion(np.zeros((3, 1)), (name,), 30.0)
    with pytest.raises(MotionError, match="as a formula"):
        save_motion(motion, tmp_path / "a.csv")
    assert not list(tmp_path.iterdir())
    save_motion(motion, tmp_path / "a.npz")
    assert load_motion(tmp_path / "a.npz").expression_names == (name,)
