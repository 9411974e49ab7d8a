"""A video file as the camera, and expressions from landmarks that the open head itself poses."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from flame_nerf.commands.tracked import played
from flame_nerf.heads import load_head
from flame_nerf.runtime.errors import UserError
from flame_nerf.viewer.live.camera import CameraReceiver
from flame_nerf.viewer.live.pictures import Camera, Footage

FPS, COUNT = 25, 20


class Brightness:
    """Stands for the face: the jaw opens as the picture brightens; black has no face."""

    def __init__(self):
        self.times = []

    def seen(self, picture, when):
        self.times.append(when)
        level = float(picture.mean()) / 255
        return None if level < 0.1 else SimpleNamespace(
            expression={"jawOpen": level}, head_turn=np.eye(3), calibrating=False
        )  # fmt: skip

    def close(self):
        pass


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    import cv2

    path = tmp_path_factory.mktemp("film") / "grey.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (64, 48))
    for number in range(COUNT):
        level = 0 if number >= COUNT - 5 else 80 + 8 * number
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    return path


def test_a_video_plays_in_real_time_and_a_face_away_is_said(film):
    reader = Brightness()
    receiver = CameraReceiver(Footage(film.name, played(film)), reader)
    began, values = time.monotonic(), []
    while not receiver.ended and time.monotonic() < began + 20:
        moment = receiver.newest(0.05)
        if moment is not None:
            values.append(moment.expression["jawOpen"])
            assert "followed" in receiver.status() or "away" in receiver.status()
    assert receiver.status().startswith("grey.avi")
    assert time.monotonic() - began > 0.9 * COUNT / FPS, "not faster than it was filmed"
    assert values == sorted(values) and values[-1] == pytest.approx((80 + 8 * (COUNT - 6)) / 255, abs=0.05)
    assert reader.times == sorted(reader.times) and reader.times[-1] <= COUNT / FPS
    assert "over" in receiver.status()


def ended(receiver: CameraReceiver) -> str:
    """What a receiver says that hands out no moment and ends."""
    deadline = time.monotonic() + 20
    while not receiver.ended and time.monotonic() < deadline:
        assert receiver.newest(0.05) is None
    return receiver.status()


def broken_off():
    yield 0.0, lambda: np.zeros((48, 64, 3), np.uint8)
    raise UserError("me.mp4: decoding stops after 1 frame")


def undecodable():
    raise ValueError("no such colour\nfor any screen")


def test_what_breaks_is_said_on_the_page(film):
    class Failing(Brightness):
        def seen(self, picture, time):
            raise RuntimeError("the detector broke")

    assert "(the detector broke)" in ended(CameraReceiver(Footage("me.mp4", played(film)), Failing()))
    assert "**broken off**: me.mp4: decoding stops" in ended(
        CameraReceiver(Footage("me.mp4", broken_off()), Brightness())
    )
    said = ended(CameraReceiver(Footage("me.mp4", iter([(0.0, undecodable)])), Brightness()))
    assert "(no such colour for any screen)" in said


def test_a_machine_that_decodes_too_slowly_shows_some_pictures():
    def frames():
        for number in range(30):
            time.sleep(0.06)
            yield number / 50, lambda number=number: number

    shown = [(seconds, picture) for seconds, picture in Footage("slow", frames())]
    assert 2 < len(shown) < 15 and all(picture == round(50 * seconds) for seconds, picture in shown)


def test_what_cannot_be_looked_at_is_said(tmp_path):
    with pytest.raises(UserError, match=r"--video .*nothing\.mp4: no such video"):
        played(tmp_path / "nothing.mp4")
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(UserError, match=r"--video .*text\.mp4: cannot be read as a video"):
        played(tmp_path / "text.mp4")
    with pytest.raises(UserError, match="--camera 99: no such camera"):
        Camera(99)


def test_landmarks_of_a_person_become_their_coefficients():
    pytest.importorskip("mediapipe")
    from data_tools.tracking import live_face

    face, head = live_face(), load_head()
    # Somebody whose face rests otherwise than the mean head's.
    identity = torch.zeros(head.shapedirs.shape[-1])
    identity[:6] = torch.tensor([0.5, -0.5, 0.4, 0.3, -0.3, 0.2])

    def landmarks(turn, **values):
        expression = torch.zeros(len(head.expression_names))
        for name, value in {"mouthSmileLeft": 0.1, **values}.items():
            expression[head.expression_names.index(name)] = value
        vertices = head.template + head.shapedirs @ identity + head.exprdirs @ expression
        points = np.zeros((478, 3))
        points[head.landmarks.index.numpy()] = head.landmark_points(vertices).numpy()
        return 1.7 * turn.apply(points) + [0.5, -0.4, 0.1]

    straight, aside = Rotation.identity(), Rotation.from_euler("yx", [25, -10], degrees=True)
    for number in range(60):
        seen = face.of_landmarks(landmarks(straight), number / 30)
        assert seen.calibrating and not any(seen.expression.values())
    rest = face.of_landmarks(landmarks(straight), 2.1)
    assert not rest.calibrating and max(rest.expression.values()) < 0.02, "the person's own face is neutral"
    asked = {"jawOpen": 0.6, "eyeBlinkLeft": 0.9, "browInnerUp": 0.5}
    seen = face.of_landmarks(landmarks(aside, **asked), 2.2)
    for name, value in asked.items():
        assert seen.expression[name] == pytest.approx(value, abs=0.15), name
    assert seen.expression["eyeBlinkRight"] < 0.1
    turned = Rotation.from_matrix(seen.head_turn) * Rotation.from_matrix(rest.head_turn).inv()
    assert np.degrees((turned * aside.inv()).magnitude()) < 1.5
    face.close()
