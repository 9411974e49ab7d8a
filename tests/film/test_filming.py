"""Films of an avatar that does something: cameras that stand for a head that turns, backgrounds, sound, and folders of
pictures that are gone on with."""

import json
import subprocess
import wave
from pathlib import Path

import commands
import numpy as np
import pytest
import torch
from avatar_fixtures import config_path, packed, project  # noqa: F401
from disc_avatar import BACKGROUND, SIZE, decoded, pipeline, reds
from nerfstudio.cameras.cameras import Cameras
from PIL import Image
from scipy.spatial.transform import Rotation

from flame_nerf.film import FilmError, FilmWriter, Sound, has_sound
from flame_nerf.film.filming import Take, film_take, take_cameras
from flame_nerf.motion import Moments, PosedFrame
from flame_nerf.runtime.film_options import LookConfig


def test_part_of_a_performance_is_a_performance():
    part = reds(10)[7:2:-2]
    assert [float(moment.condition) for moment in part] == pytest.approx([0.65, 0.75, 0.85])


def test_a_head_that_turns_is_seen_as_before_a_still_camera():
    turn = np.tile(np.eye(4), (3, 1, 1))
    turn[1, :3, :3] = Rotation.from_rotvec([0, 0.3, 0]).as_matrix()
    turn[2, :3, 3] = (0.02, 0.01, -0.05)
    look = LookConfig(close=False)
    still = take_cameras(pipeline(), Take(reds(3), 10), look).camera_to_worlds[0].double()
    cameras = take_cameras(pipeline(), Take(reds(3), 10, head_movement=turn), look)
    assert len(cameras) == 3
    nose = np.array([0.01, 0.0, 0.09, 1.0])
    for index in range(3):
        moving = cameras.camera_to_worlds[index].double().numpy()
        seen = moving[:, :3].T @ (nose[:3] - moving[:, 3])
        # The oracle: the nose moved, the camera did not.
        wanted = still[:, :3].numpy().T @ ((turn[index] @ nose)[:3] - still[:, 3].numpy())
        np.testing.assert_allclose(seen, wanted, atol=1e-6)


def test_the_head_stands_upright_however_the_video_was_tilted():
    for look, tilted in ((LookConfig(), False), (LookConfig(upright=False), True)):
        c2w = take_cameras(pipeline(roll=0.7), Take(reds(1), 10), look).camera_to_worlds[0].double()
        up = c2w[:, :3].T @ torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
        assert (abs(float(torch.atan2(up[0], up[1]))) > 0.5) == tilted


def seen_by(cameras: Cameras, index: int, points: np.ndarray) -> np.ndarray:
    """Where a camera of a film sees points, in shares of the picture from its left upper corner."""
    one = cameras[index if len(cameras) > 1 else 0]
    c2w = one.camera_to_worlds.double().numpy()
    seen = (points - c2w[:, 3]) @ c2w[:, :3]
    pixels = float(one.fx) * seen[:, :2] / -seen[:, 2:] * [1, -1] + [float(one.cx), float(one.cy)]
    return pixels / [int(one.width), int(one.height)]


@pytest.mark.parametrize("yaw_deg", [0.0, 30.0])
@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("size", [{}, {"width": 64, "height": 36}, {"height": 48}])
def test_the_head_fills_the_picture_in_all_of_the_film_and_its_neck_does_not_count(yaw_deg, moves, size):
    random = np.random.default_rng(0)
    ball = random.normal(size=(200, 3))
    ball *= 0.11 / np.linalg.norm(ball, axis=1, keepdims=True)
    neck = np.array([[0.0, -0.9, 0.0]])
    vertices = torch.from_numpy(np.concatenate([ball, neck])).float()
    scene = pipeline(roll=0.7)
    scene.model.motion.of_head = torch.arange(201) < 200
    turn = np.tile(np.eye(4), (12, 1, 1))
    turn[:, 0, 3] = np.linspace(-0.1, 0.1, 12)
    moments = Moments(12, lambda index: PosedFrame(vertices, torch.zeros(1)))
    take = Take(moments, 10, head_movement=turn if moves else None)
    look = LookConfig(**size)
    cameras = take_cameras(scene, take, look, yaw_deg)
    wanted = (size.get("width") or size.get("height") or SIZE, size.get("height") or SIZE)
    assert (int(cameras.width[0]), int(cameras.height[0])) == wanted
    seen = np.concatenate([seen_by(cameras, index, ball) for index in range(12)])
    assert seen.min() > 0.02 and seen.max() < 0.98
    # As large as it can be, with the room around it: 5 of 7 parts.
    assert max(np.ptp(seen[:, 0]), np.ptp(seen[:, 1])) > 0.68
    np.testing.assert_allclose((seen.min(axis=0) + seen.max(axis=0)) / 2, 0.5, atol=0.04)
    # No roll before it moves.
    up = cameras.camera_to_worlds[0, :, :3].double().T @ torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    assert abs(float(torch.atan2(up[0], up[1]))) < 1e-5


def test_a_plate_keeps_the_videos_framing():
    plate, far = (
        take_cameras(pipeline(roll=0.7), Take(reds(3), 10), look)
        for look in (LookConfig(background="plate"), LookConfig(close=False, upright=False))
    )
    torch.testing.assert_close(plate.camera_to_worlds, far.camera_to_worlds)
    assert float(plate.fx[0]) == float(far.fx[0])


@pytest.mark.parametrize(("background", "corner"), [("white", 255), ("black", 0), (None, round(255 * BACKGROUND))])
def test_backgrounds_are_behind_the_head_and_not_in_it(tmp_path, background, corner):
    film_take(pipeline(), Take(reds(3), 10), tmp_path / "f", LookConfig(background=background))
    picture = np.asarray(Image.open(tmp_path / "f" / "000000.png"))
    assert picture.shape == (SIZE, SIZE, 3) and np.abs(picture[0, 0].astype(int) - corner).max() <= 1
    assert np.abs(picture[SIZE // 2, SIZE // 2].astype(int) - (255, 0, 0)).max() <= 1
    assert (tmp_path / "f.png").exists()


def test_plate_and_picture_are_fitted_behind(tmp_path):
    Image.new("RGB", (90, 20), (0, 200, 0)).save(tmp_path / "green.png")
    for name, colour in (("plate", (0, 0, 255)), (str(tmp_path / "green.png"), (0, 200, 0))):
        film_take(pipeline(), Take(reds(1), 10), tmp_path / "f", LookConfig(background=name, width=24, height=16))
        picture = np.asarray(Image.open(tmp_path / "f" / "000000.png"))
        assert picture.shape == (16, 24, 3) and np.abs(picture[0, 0].astype(int) - colour).max() <= 1


@pytest.mark.parametrize("suffix", [".webm", ".mov"])
def test_transparent_films_carry_their_matte(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    film_take(pipeline(), Take(reds(4), 10), path, LookConfig(background="transparent", supersample=2))
    frames = decoded(path).astype(int)
    assert len(frames) == 4
    assert frames[:, 0, 0, 3].max() <= 3 and frames[:, SIZE // 2, SIZE // 2, 3].min() >= 250
    middle = frames[:, SIZE // 2, SIZE // 2]
    assert (np.diff(middle[:, 0]) < 0).all() and middle[0, 0] > 235


def tone(path: Path, seconds: float) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
        file.writeframes((8000 * np.sin(np.arange(int(8000 * seconds)) / 3)).astype("<i2").tobytes())
    return path


@pytest.mark.parametrize(("suffix", "seconds"), [(".mp4", 0.3), (".mp4", 3.0), (".webm", 0.3), (".mov", 3.0)])
def test_sound_goes_along_and_neither_cuts_nor_stretches_the_film(tmp_path, suffix, seconds):
    sound, path = tone(tmp_path / "a.wav", seconds), tmp_path / f"film{suffix}"
    with FilmWriter(path, fps=10, sound=Sound(sound, 0.1, 1.0)) as film:
        for _ in range(10):
            film.add(np.zeros((16, 16, 3), np.uint8))
    assert has_sound(path) and len(decoded(path, 16, 16)) == 10
    assert not has_sound(tmp_path / "none.mp4")


@pytest.mark.parametrize(
    ("name", "look", "more", "words"),
    [
        ("a.mp4", {"background": "transparent"}, {}, "opaque"),
        ("a.gif", {}, {}, "ends in"),
        ("a.mp4", {"background": "nowhere.png"}, {}, "nowhere.png"),
        ("a.mp4", {"background": "plate"}, {"yaw_deg": 30.0}, "still camera"),
        ("a.mp4", {"width": 0}, {}, "--width is 0"),
        ("a.mp4", {"supersample": 9}, {}, "--supersample is 9"),
        ("a.mp4", {"width": 8192, "height": 8192, "supersample": 4}, {}, "too large"),
    ],
)
def test_a_film_that_cannot_be_is_refused_and_leaves_nothing(tmp_path, name, look, more, words):
    with pytest.raises(FilmError, match=words) as caught:
        film_take(pipeline(), Take(reds(2), 10), tmp_path / name, LookConfig(**look), **more)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def flame_nerf(*arguments) -> subprocess.CompletedProcess:
    return commands.run("flame-nerf", *arguments)


def test_motion_command_says_what_it_assumed_and_refuses_in_one_line(tmp_path):
    (tmp_path / "lam.json").write_text(json.dumps({"names": ["jawOpen"], "frames": [{"weights": [0.1]}] * 4}))
    finished = flame_nerf("motion", tmp_path / "lam.json", tmp_path / "out.csv")
    assert finished.returncode == 0, finished.stderr
    assert "assumed: 30 frames a second" in finished.stdout and "4 moments at 30 a second" in finished.stdout
    refused = flame_nerf("motion", tmp_path / "gone.npz", tmp_path / "b.npz")
    assert refused.returncode == 1 and "gone.npz: no such file" in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.slow
def test_drive_films_a_subjects_motion_beside_it(project, config_path, tmp_path):  # noqa: F811
    finished = flame_nerf("motion", project / "subjects/me", tmp_path / "me.npz")
    assert finished.returncode == 0, finished.stderr
    driven = ("--frames", 3, "--width", 24, "--output", tmp_path / "films")
    finished = flame_nerf(
        "drive", config_path, "--motion", project / "subjects/me", "--side-by-side", "--background", "white", *driven
    )
    assert finished.returncode == 0, finished.stderr
    frames = decoded(tmp_path / "films/me.mp4", 48, 24)
    assert len(frames) == 3
    assert "trust: " in finished.stdout and len((tmp_path / "films/me.trust.csv").read_text().splitlines()) == 4
    finished = flame_nerf("drive", config_path, "--motion", tmp_path / "me.npz", "--format", "png", *driven)
    assert finished.returncode == 0, finished.stderr
    assert len(list((tmp_path / "films/me").glob("*.png"))) == 3
