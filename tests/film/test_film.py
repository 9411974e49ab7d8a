"""Films: mp4 files that play, what they show, and failures that leave nothing behind."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from camera_ring import ring
from PIL import Image

from flame_nerf.film import (
    FilmError,
    FilmWriter,
    contact_sheet,
    find_ffmpeg,
    mean_camera,
    orbit_cameras,
    provide_ffmpeg,
    render_film,
    render_images,
    side_by_side,
)
from flame_nerf.motion import PosedFrame


def moments(values) -> list[PosedFrame]:
    return [PosedFrame(torch.zeros(1, 3), torch.tensor([float(value)])) for value in values]


class GreyModel(torch.nn.Module):
    """Paints the whole picture in the grey of the moment it is given: the override's condition, else the time."""

    def __init__(self, width=32, height=24):
        super().__init__()
        self.override = None
        self.device = torch.device("cpu")
        self.size = (height, width)
        self.seen = []

    def get_outputs_for_camera(self, camera, obb_box=None):
        assert not self.training, "films are rendered in evaluation mode"
        grey = float(self.override.condition[0]) if self.override is not None else float(camera.times.reshape(-1)[0])
        self.seen.append((grey, camera.camera_to_worlds[0].clone()))
        return {"rgb": torch.full((*self.size, 3), grey)}


def read_film(path) -> np.ndarray:
    """All frames of a film as RGB, decoded by another program than the one that wrote it."""
    film = cv2.VideoCapture(str(path))
    frames = []
    while True:
        found, frame = film.read()
        if not found:
            return np.array(frames)
        frames.append(frame[..., ::-1])


# Writing


@pytest.mark.parametrize(("width", "height"), [(64, 48), (63, 47), (33, 48), (2, 2)])
def test_a_film_plays_back_what_was_put_in(tmp_path, width, height):
    ramp = np.linspace(20, 230, width, dtype=np.uint8)[None, :, None].repeat(height, 0).repeat(3, 2)
    pictures = [np.clip(ramp + 10 * step, 0, 255).astype(np.uint8) for step in range(7)]
    with FilmWriter(tmp_path / "new folder" / "ramp.mp4", fps=10) as film:
        for picture in pictures:
            film.add(picture)
    frames = read_film(tmp_path / "new folder" / "ramp.mp4")
    assert frames.shape == (7, height + height % 2, width + width % 2, 3)
    assert np.abs(frames[:, :height, :width].astype(int) - np.array(pictures).astype(int)).mean() < 6
    assert cv2.VideoCapture(str(tmp_path / "new folder" / "ramp.mp4")).get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["ramp.mp4"]


def test_a_film_is_h264_in_yuv420p(tmp_path):
    with FilmWriter(tmp_path / "grey.mp4", fps=25) as film:
        film.add(np.full((16, 16, 3), 128, dtype=np.uint8))
    about = subprocess.run([find_ffmpeg(), "-i", tmp_path / "grey.mp4"], capture_output=True, text=True).stderr
    assert "h264" in about and "yuv420p" in about


def test_an_error_while_filming_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), FilmWriter(tmp_path / "broken.mp4", fps=25) as film:
        film.add(np.zeros((8, 8, 3), dtype=np.uint8))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_film_there_before_survives_a_failed_one(tmp_path):
    (tmp_path / "kept.mp4").write_bytes(b"before")
    with pytest.raises(FilmError, match="frame 1 is"), FilmWriter(tmp_path / "kept.mp4", fps=25) as film:
        film.add(np.zeros((8, 8, 3), dtype=np.uint8))
        film.add(np.zeros((8, 10, 3), dtype=np.uint8))
    assert (tmp_path / "kept.mp4").read_bytes() == b"before"


def test_a_film_without_frames_and_a_speed_of_nothing(tmp_path):
    with pytest.raises(FilmError, match="without frames"), FilmWriter(tmp_path / "none.mp4", fps=25):
        pass
    with pytest.raises(FilmError, match="above 0"):
        FilmWriter(tmp_path / "none.mp4", fps=0)
    assert list(tmp_path.iterdir()) == []


def test_no_encoder_is_one_clear_message(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FilmError, match="pip install imageio-ffmpeg"), FilmWriter(tmp_path / "film.mp4", fps=25):
        pass
    provide_ffmpeg()
    assert shutil.which("ffmpeg") is None


def fake_ffmpeg(folder, monkeypatch, script):
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("head -c 100 >/dev/null; echo 'out.mp4: No space left on device' >&2; exit 228", "the disk is full"),
        ("cat >/dev/null; echo 'Error writing trailer: No space left on device' >&2; exit 1", "the disk is full"),
        ("head -c 100 >/dev/null; echo 'Unknown encoder libx264' >&2; exit 1", "Unknown encoder libx264"),
    ],
)
def test_an_encoder_that_stops_says_why(tmp_path, monkeypatch, script, words):
    (tmp_path / "bin").mkdir()
    fake_ffmpeg(tmp_path / "bin", monkeypatch, script)
    out = tmp_path / "out"
    with pytest.raises(FilmError, match=words), FilmWriter(out / "film.mp4", fps=25) as film:
        for _ in range(20):
            film.add(np.zeros((256, 256, 3), dtype=np.uint8))
    assert list(out.iterdir()) == []


def test_the_wheel_s_ffmpeg_is_put_where_nerfstudio_looks(tmp_path, monkeypatch):
    pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for _ in range(2):
        provide_ffmpeg()
        found = shutil.which("ffmpeg")
        assert found is not None and found.startswith(str(tmp_path / "cache"))
        assert subprocess.run([found, "-version"], capture_output=True).returncode == 0
        monkeypatch.setenv("PATH", str(tmp_path))


# Rendering


def test_a_film_shows_the_moments_given(tmp_path):
    model, before = GreyModel(33, 25), moments([0.5])[0]
    model.override = before
    model.train()
    greys = [0.0, 0.25, 0.5, 0.75, 1.0]
    path = orbit_cameras(ring(), torch.zeros(3), 5)
    render_film(model, path, moments(greys), tmp_path / "film.mp4", 5, sheet=tmp_path / "sheet.png")
    assert [grey for grey, _ in model.seen] == greys
    torch.testing.assert_close(torch.stack([pose for _, pose in model.seen]), path.camera_to_worlds)
    frames = read_film(tmp_path / "film.mp4")
    assert frames.shape == (5, 26, 34, 3)
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)) / 255, greys, atol=0.02)
    assert model.override is before and model.training
    assert Image.open(tmp_path / "sheet.png").size == (4 * 33 + 3 * 4, 2 * 25 + 4)


def test_one_camera_serves_a_sweep_and_one_moment_an_orbit():
    model = GreyModel()
    assert len(list(render_images(model, mean_camera(ring()), moments([0, 0.5, 1])))) == 3
    assert len(list(render_images(model, ring(), moments([0.5])))) == 3
    with pytest.raises(FilmError, match="3 cameras for 2 moments"):
        list(render_images(model, ring(), moments([0, 1])))


def test_without_moments_the_cameras_times_decide():
    model = GreyModel()
    model.override = moments([0.9])[0]
    list(render_images(model, orbit_cameras(ring(), torch.zeros(3), 3, times=[0.0, 0.5, 1.0])))
    assert [grey for grey, _ in model.seen] == [0.0, 0.5, 1.0]


def test_a_pipeline_s_model_is_found_and_put_back_after_an_error(tmp_path):
    model = GreyModel()
    model.train()
    pipeline = SimpleNamespace(model=model, datamanager=None)
    with pytest.raises(FilmError, match="0 frames a second"):
        render_film(pipeline, ring(), moments([1.0]), tmp_path / "film.mp4", fps=0)
    model.get_outputs_for_camera = lambda camera: 1 / 0
    with pytest.raises(ZeroDivisionError):
        render_film(pipeline, ring(), moments([1.0]), tmp_path / "film.mp4", fps=25)
    assert model.override is None and model.training
    assert list(tmp_path.iterdir()) == []


class GreyDataset:
    """Two pictures of one grey each, with a matte over the left half that is 0.1 brighter."""

    def __init__(self):
        self.cameras = ring(yaws=(0.0, 0.1), times=torch.tensor([[0.4], [0.6]]))
        self.image_filenames = ["00007.png", "00019.png"]
        self.subject = SimpleNamespace(fps=12.0)

    def __len__(self):
        return 2

    def __getitem__(self, index):
        image = torch.full((24, 32, 3), (0.4, 0.6)[index])
        image[:, :16] += 0.1
        mask = torch.zeros(24, 32, 1)
        mask[:, :16] = 1.0
        return {"image": image, "mask": mask}


@pytest.mark.parametrize("name", ["pairs.png", "pairs.mp4"])
def test_side_by_side_measures_within_the_matte(tmp_path, name):
    values = side_by_side(GreyModel(), GreyDataset(), [0, 1], tmp_path / name)
    assert values == pytest.approx([20.0, 20.0], abs=0.2), "a tenth off is 20 dB"
    if name.endswith(".mp4"):
        assert len(read_film(tmp_path / name)) == 2
        assert cv2.VideoCapture(str(tmp_path / name)).get(cv2.CAP_PROP_FPS) == pytest.approx(12)
    else:
        sheet = np.asarray(Image.open(tmp_path / name))
        assert sheet.shape[1] == 64
        assert abs(int(sheet[22 + 12, 8, 0]) - 0.5 * 255) < 2 and abs(int(sheet[22 + 12, 40, 0]) - 0.4 * 255) < 2


def test_side_by_side_of_frames_that_are_not_there(tmp_path):
    with pytest.raises(FilmError, match="frame 2 of a dataset with frames 0 to 1"):
        side_by_side(GreyModel(), GreyDataset(), [0, 2], tmp_path / "pairs.png")
    with pytest.raises(FilmError, match="no frames"):
        side_by_side(GreyModel(), GreyDataset(), [], tmp_path / "pairs.png")


def test_contact_sheet_lays_out_rows():
    sheet = contact_sheet([np.full((10, 20, 3), value, dtype=np.uint8) for value in (0, 50, 100)], columns=2)
    assert sheet.shape == (24, 44, 3)
    assert sheet[0, 0, 0] == 0 and sheet[0, 24, 0] == 50 and sheet[14, 0, 0] == 100 and sheet[14, 24, 0] == 255


def test_a_picture_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FilmError, match="sheet.png"):
        render_film(
            GreyModel(), ring(), moments([0.5]), tmp_path / "film.mp4", 25, sheet=tmp_path / "file" / "sheet.png"
        )  # fmt: skip
