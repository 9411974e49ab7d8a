"""How a film's camera goes: orbits no farther than training saw, and camera paths of the page."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from disc_avatar import pipeline, reds
from hypothesis import given, settings
from hypothesis import strategies as st
from nerfstudio.cameras.camera_paths import get_path_from_json
from PIL import Image
from synthetic_head import make_head, make_track

from flame_nerf.commands.drive import Drive
from flame_nerf.film import FilmError, film_path, film_sweep, orbit_cameras, read_camera_path, write_camera_path
from flame_nerf.film.filming import Take, film_take, orbit_yaws, take_cameras
from flame_nerf.motion import MotionError, Provenance, SubjectMotion, motion_of_poses, save_motion
from flame_nerf.motion.path_motion import AVATAR_KEY, MOTION_KEY, avatar_entry, motion_beside
from flame_nerf.runtime.errors import UserError
from flame_nerf.runtime.film_options import LookConfig

HELD = LookConfig(width=32, close=False)


def yaws_of(cameras) -> np.ndarray:
    place = cameras.camera_to_worlds.double().numpy()[:, :, 3]
    return np.degrees(np.arctan2(place[:, 0], place[:, 2]))


def test_an_orbit_goes_a_little_beyond_what_training_saw(capsys):
    # Two glances to the side among a hundred frames count for nothing.
    scene = pipeline(yaws=(*np.radians(np.linspace(-12, 4, 98)), 1.5, -1.5))
    middle = yaws_of(take_cameras(scene, Take(reds(1), 10), HELD))[0]
    left, right = orbit_yaws(scene, None)
    np.testing.assert_allclose((middle - left, middle + right), (-12 - 10, 4 + 10), atol=1)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and f"{left:.0f} degrees to the left" in said and f"{left - 10:.0f} and" in said
    seen = yaws_of(take_cameras(scene, Take(reds(200), 10), HELD, (left, right)))
    np.testing.assert_allclose((seen.min(), seen.max()), (middle - left, middle + right), atol=0.1)
    # The wider side is entered without a jolt.
    steps = np.diff(seen)
    assert np.abs(np.diff(steps)).max() < 0.1 * np.abs(steps).max()


def test_an_orbit_is_never_wider_than_thirty_degrees_unless_it_is_told_to(capsys):
    scene = pipeline(yaws=tuple(np.linspace(-1, 1, 21)))
    assert orbit_yaws(scene, None) == (30, 30)
    assert orbit_yaws(scene, 45.0) == (45, 45)
    capsys.readouterr()
    assert orbit_yaws(scene, 0.0) == (0, 0) and not capsys.readouterr().out
    wide = yaws_of(take_cameras(scene, Take(reds(100), 10), HELD, 45.0))
    np.testing.assert_allclose((wide.min(), wide.max()), (-45, 45), atol=0.1)


@pytest.fixture(scope="module")
def motion():
    head = make_head(turning_jaw=True)
    return SubjectMotion(make_track(head, head), head)


@pytest.fixture
def scene(motion):
    """The disc, as red as its jaw is open."""
    made = pipeline()
    made.model.motion = motion
    return made


@pytest.fixture
def path(motion, tmp_path):
    """Nine cameras at 4 a second as the page writes them, whose face opens its mouth."""
    times = np.linspace(0, 1, 9).tolist()
    cameras = orbit_cameras(pipeline().datamanager.train_dataset.cameras, motion.centre, 9, width=64, times=times)
    file = write_camera_path(cameras, tmp_path / "path.json", fps=4)
    poses = []
    for opened in times:
        expression = np.zeros(len(motion.pose_names))
        expression[motion.pose_names.index("jawOpen")] = opened
        poses.append(replace(motion.rest_pose(), expression=expression))
    save_motion(motion_of_poses(poses, motion, 4.0, Provenance(source="me")), motion_beside(file))
    more = {MOTION_KEY: motion_beside(file).name, AVATAR_KEY: avatar_entry(motion, "me"), "is_cycle": False}
    return rewritten(file, **more)


def rewritten(file, **entries):
    document = json.loads(file.read_text()) | entries
    file.write_text(json.dumps({name: value for name, value in document.items() if value is not None}))
    return file


def without_times(file):
    cameras = json.loads(file.read_text())["camera_path"]
    return rewritten(file, camera_path=[{k: v for k, v in camera.items() if k != "render_time"} for camera in cameras])


def test_a_path_s_cameras_are_nerfstudio_s(path):
    theirs, ours = get_path_from_json(json.loads(path.read_text())), read_camera_path(path)
    found = ours.cameras(np.arange(9), 64, 64)
    torch.testing.assert_close(found.camera_to_worlds, theirs.camera_to_worlds, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.fx, theirs.fx.float().reshape(-1, 1), atol=1e-3, rtol=0)
    halfway = ours.cameras(np.array([2.5]), 64, 64).camera_to_worlds[0]
    torch.testing.assert_close(halfway[:, 3], theirs.camera_to_worlds[2:4, :, 3].mean(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(halfway[:, :3] @ halfway[:, :3].T, torch.eye(3), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("timing", "looped", "expected"),
    [
        ("stretch", False, [0, 4, 8]),
        ("hold", False, [0, 2, 4, 6, 8, 8]),
        ("hold", True, [0, 2, 4, 6, 8, 1]),
        ("stretch", False, [0]),
    ],
)
def test_a_path_is_stretched_or_held_over_another_motion_s_length(scene, path, timing, looped, expected):
    along = read_camera_path(rewritten(path, is_cycle=looped), timing)
    cameras = take_cameras(scene, Take(reds(len(expected)), 2.0), HELD, along=along)
    torch.testing.assert_close(cameras.camera_to_worlds.numpy(), along.c2w[expected, :3].astype("float32"))


def test_a_head_that_turns_does_so_before_the_path_s_cameras(scene, path):
    along, turn = read_camera_path(path), np.tile(np.eye(4), (9, 1, 1))
    turn[4, :3, 3] = (0.02, 0.01, -0.05)
    moving, still = (
        take_cameras(scene, Take(reds(9), 4.0, head_movement=moves), HELD, along=along).camera_to_worlds
        for moves in (turn, None)
    )
    moved = still.clone()
    moved[4, :, 3] -= torch.tensor([0.02, 0.01, -0.05])
    torch.testing.assert_close(moving, moved)


def redness(folder) -> list[float]:
    return [np.asarray(Image.open(picture))[16, 16, 0] / 255 for picture in sorted(folder.glob("*.png"))]


def test_a_path_s_own_film_is_what_the_page_showed(scene, path, motion, tmp_path):
    look = LookConfig(width=32)
    film_path(scene, read_camera_path(path), tmp_path / "own", look=look)
    np.testing.assert_allclose(redness(tmp_path / "own"), np.linspace(0, 1, 9), atol=0.01)
    film_path(scene, read_camera_path(path), tmp_path / "part", 4, look=look)
    np.testing.assert_allclose(redness(tmp_path / "part"), np.linspace(0, 1, 9)[:4], atol=0.01)
    # Without faces of its own its times are moments of the avatar's performance, as for Nerfstudio's player.
    film_path(scene, read_camera_path(rewritten(path, motion=None)), tmp_path / "video", look=look)
    track = motion.stored_expression[:, 0].numpy()
    expected = np.interp(np.linspace(0, 10, 9), np.arange(11), track)
    np.testing.assert_allclose(redness(tmp_path / "video"), expected, atol=0.01)
    # One without times says nothing of the face: with a sweep that does not matter.
    timeless = read_camera_path(without_times(path))
    with pytest.raises(FilmError, match="no times.*--motion or --sweep"):
        film_path(scene, timeless, tmp_path / "none", look=look)
    film_sweep(scene, "jawOpen", tmp_path / "swept", 5, along=timeless, look=look)
    assert np.argmax(redness(tmp_path / "swept")) == 2


def test_a_crop_box_is_known_and_left_out(path):
    assert not read_camera_path(path).cropped
    box = {"crop_center": [0, 0, 0], "crop_scale": [1, 1, 1], "crop_rot": [0, 0, 0], "crop_bg_color": [0, 0, 0]}
    assert read_camera_path(rewritten(path, crop=box)).cropped


def test_a_picture_has_the_path_s_shape(scene, path):
    along = read_camera_path(rewritten(path, render_width=1920.0, render_height=1080.0))
    sizes = {}
    for options in ((), (("width", 96),), (("height", 90),), (("width", 50), ("height", 40)), (("supersample", 2),)):
        cameras = take_cameras(scene, Take(reds(2), 4.0), LookConfig(**dict(options)), along=along)
        sizes[options] = int(cameras.width[0]), int(cameras.height[0])
        tangent = float(cameras.height[0] / 2 / cameras.fy[0])
        assert np.degrees(2 * np.arctan(tangent)) == pytest.approx(along.fov_deg[0], abs=1e-3)
    assert list(sizes.values()) == [(256, 144), (96, 54), (160, 90), (50, 40), (512, 288)]


def test_a_path_of_another_avatar_is_not_filmed_by_itself(path, motion, capsys):
    along = read_camera_path(path)
    along.check_avatar(motion, "renamed since", motion_given=False)
    stranger = make_head(seed=3)
    other = SubjectMotion(make_track(stranger, stranger, seed=5), stranger)
    with pytest.raises(FilmError, match="made with another avatar.*'me'"):
        along.check_avatar(other, "you", motion_given=False)
    along.check_avatar(other, "you", motion_given=True)
    assert "stand around another head" in capsys.readouterr().out
    # Older paths say whose faces theirs are.
    old = read_camera_path(rewritten(path, avatar=None))
    old.check_avatar(motion, "me", motion_given=False)
    with pytest.raises(FilmError, match="another avatar"):
        old.check_avatar(motion, "you", motion_given=False)


CAMERA = {"camera_to_world": np.eye(4).reshape(-1).tolist(), "fov": 40.0, "aspect": 1.0}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ('{"camera_path": [{"camera_to_world": [1, 0', "ends too soon"),
        ("[]", "no list 'camera_path'"),
        ({}, "no list 'camera_path'"),
        ({"camera_path": []}, "no cameras: add keyframes"),
        ({"camera_path": [3]}, "camera 0 is no camera"),
        ({"camera_path": [CAMERA, CAMERA | {"camera_to_world": [1.0] * 12}]}, "camera 1 is no list of 16"),
        ({"camera_path": [CAMERA | {"camera_to_world": [1.0] * 16}]}, "no rigid transform"),
        ({"camera_path": [CAMERA | {"camera_to_world": [None] * 16}]}, "no number"),
        ({"camera_path": [CAMERA | {"fov": 0}]}, "fov of camera 0 is 0"),
        ({"camera_path": [CAMERA | {"fov": None}]}, "without 'fov'"),
        ({"camera_path": [CAMERA | {"render_time": "soon"}]}, "render_time of camera 0"),
        ({"camera_path": [CAMERA], "fps": -3}, "fps is -3"),
        ({"camera_path": [CAMERA], "render_width": 1e4, "render_height": 1}, "render_width over render_height"),
        ({"camera_path": [CAMERA], "camera_type": "fisheye"}, "'fisheye'"),
        ({"camera_path": [CAMERA], "avatar": "me"}, "avatar has no size"),
    ],
)
def test_what_is_no_camera_path_is_said_in_one_line(tmp_path, content, words):
    file = tmp_path / "path.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(FilmError, match=words) as caught:
        read_camera_path(file)
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)


ONE = st.none() | st.booleans() | st.floats() | st.text(max_size=5)


@settings(max_examples=40, deadline=None)
@given(
    entry=st.sampled_from(["camera_path", "fps", "render_width", "camera_type", "avatar", "is_cycle"]),
    camera=st.sampled_from([None, "camera_to_world", "fov", "render_time", "aspect"]),
    value=ONE | st.lists(ONE, max_size=4),
)
def test_a_camera_path_of_anything_is_read_or_refused(tmp_path_factory, entry, camera, value):
    file = tmp_path_factory.getbasetemp() / "anything.json"
    content = {"camera_path": [CAMERA], "fps": 10, "render_width": 9, "render_height": 9}
    content |= {entry: value} if camera is None else {"camera_path": [CAMERA | {camera: value}]}
    file.write_text(json.dumps(content))
    try:
        assert len(read_camera_path(file)) == 1
    except FilmError as error:
        assert "\n" not in str(error)


def test_a_path_goes_neither_with_a_plate_nor_with_an_orbit(scene, path, tmp_path):
    with pytest.raises(FilmError, match="--camera-path"):
        look = LookConfig(background="plate")
        film_take(scene, Take(reds(2), 4.0), tmp_path / "a.mp4", look, along=read_camera_path(path))
    with pytest.raises(UserError, match="--camera-path and --orbit"):
        Drive(tmp_path / "config.yml", camera_path=path, orbit=True).run()
    with pytest.raises(UserError, match="--orbit-yaw is -3"):
        Drive(tmp_path / "config.yml", orbit_yaw=-3.0).run()
    with pytest.raises(FilmError, match="no such camera path"):
        Drive(tmp_path / "config.yml", camera_path=tmp_path / "gone.json").run()
    with pytest.raises(UserError, match="no times"):
        Drive(tmp_path / "config.yml", camera_path=without_times(path)).run()
    motion_beside(path).unlink()
    with pytest.raises(MotionError, match="not beside it"):
        read_camera_path(path)
