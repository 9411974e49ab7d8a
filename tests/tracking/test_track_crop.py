"""Heads cut out of large frames: the track of whole frames, from more pixels of the face and fewer of the wall."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from track_clips import pictures_of, steady, write_video

from data_tools.animal import AnimalConfig
from data_tools.animal.scene import film_animal
from data_tools.check import check_subject
from data_tools.runs.pictures import load_grey, save_picture
from data_tools.synth import SynthConfig, synthesise
from data_tools.tracking import TrackConfig, pipeline, track
from flame_nerf.data.face_boxes import project
from flame_nerf.subject import Subject, load_subject

pytest.importorskip("mediapipe", reason="mediapipe is not installed: pip install 'flame-nerf[track]'")
pytestmark = pytest.mark.slow
FRAMES = 24


def before_a_wall(picture: np.ndarray, size: tuple[int, int], left: int, top: int) -> np.ndarray:
    """A picture pasted into a larger one."""
    coarse = np.random.default_rng(0).integers(60, 200, (size[1] // 40, size[0] // 40, 3), dtype=np.uint8)
    large = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    large[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return large


def in_film(subject: Subject) -> np.ndarray:
    """Posed vertices [T V 2] in pixels of the film."""
    told = subject.extra["tracking"]["picture"]
    pixels = [project(subject, frame, subject.track.vertices[frame.timestep]) for frame in subject.frames]
    return np.stack(pixels) / told["scale"] + told["box"][:2]


@pytest.fixture(scope="module")
def person(tmp_path_factory) -> Path:
    """The synthetic person, moving about in the middle of a large frame."""
    folder = tmp_path_factory.mktemp("person")
    synthesise(folder / "truth", SynthConfig(frames=FRAMES, view_moments=1, novel_frames=6), silent=True)
    pictures = pictures_of(folder / "truth" / "film.mp4", FRAMES)
    at = [(512 + round(90 * np.sin(t / 6)), 232 + round(25 * np.cos(t / 5))) for t in range(FRAMES)]
    large = [before_a_wall(picture, (1280, 720), *corner) for picture, corner in zip(pictures, at, strict=True)]
    return write_video(folder / "large.mp4", large, steady(FRAMES))


def test_a_cropped_track_is_that_of_whole_frames(person, tmp_path, monkeypatch):
    options = {"photometric": False, "keep_work": True}
    summary = track(person, tmp_path / "s", TrackConfig(**options), silent=True)
    cropped = load_subject(tmp_path / "s")
    told = cropped.extra["tracking"]["picture"]
    assert told["video_size"] == [1280, 720] and told["box"][2:] == [cropped.width, cropped.height]
    assert summary.notes[0].startswith(f"Head cropped to {told['box'][2]}x{told['box'][3]} of 1280x720")
    assert told["scale"] == 1 and cropped.width == cropped.height <= 512
    assert summary.frames == FRAMES and not any("edge" in warning for warning in summary.warnings)
    assert not [finding for finding in check_subject(cropped) if finding.level == "error"]

    # Another framing goes on from the face that was found, and reads the frames again.
    def again(*_):
        raise AssertionError("a finished stage was run again")

    monkeypatch.setattr(pipeline, "find_face", again)
    whole_summary = track(person, tmp_path / "s", TrackConfig(crop=False, overwrite=True, **options), silent=True)
    whole = load_subject(tmp_path / "s")
    assert (whole.width, whole.height) == (1024, 576) and "cropped" not in whole_summary.notes
    scale = whole.extra["tracking"]["picture"]["scale"]
    assert scale == pytest.approx(0.8) and whole.extra["tracking"]["picture"]["box"] == [0, 0, 1280, 720]
    # The face has the film's own pixels, and the same lens and place in the film.
    height = [np.ptp(one.track.landmarks2d[:, [10, 152], 1], axis=1).mean() for one in (cropped, whole)]
    assert height[0] == pytest.approx(height[1] / scale, rel=0.02)
    assert cropped.fl_x == pytest.approx(whole.fl_x / scale, rel=0.02)
    middle = np.array([cropped.cx, cropped.cy]) + told["box"][:2]
    np.testing.assert_allclose(middle, [640, 360], atol=1e-6)
    apart = np.linalg.norm(in_film(cropped) - in_film(whole), axis=-1)
    assert apart.mean() < 1.0
    turned = [np.stack([frame.c2w[:3, :3] for frame in one.frames]) for one in (cropped, whole)]
    cosine = (np.einsum("tij,tij->t", *turned) - 1) / 2
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean() < 1.5
    assert summary.outline_iou > whole_summary.outline_iou - 0.01


def test_a_body_that_is_kept_is_not_cut_off(person, tmp_path):
    config = TrackConfig(photometric=False, torso="keep", max_frames=12)
    track(person, tmp_path / "s", config, silent=True)
    subject = load_subject(tmp_path / "s")
    assert (subject.width, subject.height) == (1024, 576)


def test_an_animal_is_cut_out_with_its_keypoints_and_mattes(tmp_path):
    """The keypoints' file and the mattes are of the whole film."""
    film_animal(tmp_path / "fox", AnimalConfig(frames=30, size=128, noise_px=0.5), silent=True)
    left, top, size = 300, 110, (640, 400)
    pictures = pictures_of(tmp_path / "fox" / "animal.mp4", 30)
    large = [before_a_wall(picture, size, left, top) for picture in pictures]
    video = write_video(tmp_path / "large.mp4", large, steady(30))
    (tmp_path / "mattes").mkdir()
    for path in (tmp_path / "fox" / "mattes").iterdir():
        matte = np.zeros(size[::-1], np.uint8)
        matte[top : top + 128, left : left + 128] = load_grey(path)
        save_picture(tmp_path / "mattes" / path.name, matte)
    with (tmp_path / "fox" / "keypoints.csv").open() as source, (tmp_path / "k.csv").open("w", newline="") as target:
        writer = csv.writer(target)
        for number, row in enumerate(csv.reader(source)):
            if number >= 3:
                row[1:] = [value and str(float(value) + (left, top, 0)[at % 3]) for at, value in enumerate(row[1:])]
            writer.writerow(row)
    config = TrackConfig(
        head=str(tmp_path / "fox" / "animal_head.npz"),
        keypoints=tmp_path / "k.csv",
        mattes=tmp_path / "mattes",
        focal_px=float(np.load(tmp_path / "fox" / "truth.npz")["focal"]),
        photometric=False,
    )
    summary = track(video, tmp_path / "s", config, silent=True)
    subject = load_subject(tmp_path / "s")
    told = subject.extra["tracking"]["picture"]
    assert told["box"][2] < 300 and told["scale"] == 1 and summary.outline_iou > 0.93
    truth, errors = np.load(tmp_path / "fox" / "truth.npz"), []
    body = np.unique(subject.track.faces[~subject.track.region_faces("neck")])
    found = in_film(subject)
    for row, frame in enumerate(subject.frames):
        at = int(frame.file_path.stem)
        camera = truth["vertices"][at].astype(float) @ truth["rotation"][at].T + truth["translation"][at]
        exact = truth["focal"] * camera[:, :2] / camera[:, 2:] + 64 + [left, top]
        errors.append(np.linalg.norm(found[row] - exact, axis=1)[body].mean())
    assert np.mean(errors) < 1.0
