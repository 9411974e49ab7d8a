"""The tracker from the outside: the command on a real clip, interruptions, and input that is not what it should be."""

import errno
import json
import subprocess
from pathlib import Path

import commands
import cv2
import numpy as np
import pytest
from track_clips import carphone, pictures_of, steady, write_video

from data_tools.runs.pictures import load_grey, load_picture, save_picture
from data_tools.tracking import TrackConfig, TrackingError, pipeline, track
from data_tools.tracking.fit import stages
from flame_nerf.subject import load_subject

pytest.importorskip("mediapipe", reason="mediapipe is not installed: pip install 'flame-nerf[track]'")
BRIEF = TrackConfig(photometric=False)
"""For what registration with the pictures has no part in: it takes as long as all the rest."""
WOJTEK = Path(__file__).parents[3] / "shared" / "data" / "wojtek.mp4"


def _command(*arguments: str | Path) -> subprocess.CompletedProcess:
    return commands.run("flame-nerf-data", "track", *arguments)


@pytest.fixture(scope="module")
def carphone_pictures() -> list[np.ndarray]:
    return pictures_of(carphone(), 24)


@pytest.fixture
def clip(tmp_path, carphone_pictures) -> Path:
    """Two thirds of a second of a real talking head."""
    return write_video(tmp_path / "clip.mp4", carphone_pictures[:16], steady(16))


@pytest.mark.slow
def test_the_command_on_a_real_clip(tmp_path):
    subject_dir = tmp_path / "subject"
    done = _command(carphone(), subject_dir, "--max-frames", "24")
    assert done.returncode == 0, done.stderr
    assert "ns-train flame-nerf-cpu --data" in done.stdout and "report.html" in done.stdout
    assert "Face landmarks" in done.stderr

    subject = load_subject(subject_dir)
    # The clip's last frames may count as doubtful: nothing comes after them.
    assert len(subject.frames) == 24 and {frame.split for frame in subject.frames} - {"unused"} == {"train", "test"}
    assert subject.track.landmarks2d.shape == (24, 478, 2)
    assert (subject.track.expression >= 0).all() and (subject.track.expression <= 1).all()
    assert not (subject_dir / ".work").exists()
    _check_geometry(subject)
    page = (subject_dir / "report.html").read_text()
    # The mesh on six frames, and the face held still before and after registration, as means and as a film.
    assert page.count("% off</figcaption>") == 6 and page.count("<figcaption>Mean of") == 2
    assert page.count("data:image/webp") == 1
    record = json.loads((subject_dir / "report.json").read_text())
    assert record["verdict"] == "film again" and record["frames"] == 24
    # The three gravest are printed, and how many more there are.
    assert done.stdout.count("Footage ") == 4 and f"{len(record['shortfalls']) - 3} more" in done.stdout
    assert "<svg" in page and 'src="http' not in page
    assert "Registration " in done.stdout

    again = _command(carphone(), subject_dir, "--max-frames", "24")
    assert again.returncode == 0 and "ns-train" in again.stdout and "Face landmarks" not in again.stderr
    other = _command(carphone(), subject_dir, "--max-frames", "20")
    assert other.returncode == 1 and "--overwrite" in other.stderr
    assert len(load_subject(subject_dir).frames) == 24


@pytest.mark.slow
def test_a_folder_of_pictures_is_a_film_and_what_is_left_out_is_counted(tmp_path, carphone_pictures):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, picture in enumerate(carphone_pictures[:16], start=1):
        save_picture(folder / f"img_{number}.png", picture)
    (folder / "img_12.png").write_bytes(b"damaged")
    (folder / "notes.txt").write_text("no picture")
    done = _command(folder, tmp_path / "subject", "--fps", "30", "--no-photometric")
    assert done.returncode == 0, done.stderr
    assert "Frames        15 (1 left out)" in done.stdout
    assert "Left out: 1 picture that cannot be read: img_12.png" in done.stdout and "notes.txt" in done.stdout
    page = (tmp_path / "subject" / "report.html").read_text()
    assert "<b>1</b><span>frames left out</span>" in page and "img_12.png" in page and "notes.txt" in page
    subject = load_subject(tmp_path / "subject")
    assert len(subject.frames) == 15 and subject.fps == 30 and subject.source == "frames"
    np.testing.assert_allclose(load_picture(subject.root / subject.frames[1].file_path), carphone_pictures[1], atol=20)


@pytest.mark.slow
def test_a_webcams_slow_film_is_as_long_as_it_was(tmp_path, carphone_pictures):
    film = write_video(tmp_path / "webcam.mp4", carphone_pictures[:12], steady(12, fps=12.5))
    track(film, tmp_path / "subject", TrackConfig(photometric=False), silent=True)
    assert load_subject(tmp_path / "subject").fps == 12.5
    record = json.loads((tmp_path / "subject" / "report.json").read_text())
    assert record["seconds"] == pytest.approx(12 / 12.5, abs=0.1)


def _check_geometry(subject) -> None:
    """Stored cameras, mesh, landmarks and masks must tell the same story."""
    for row in (0, len(subject.frames) // 2):
        frame = subject.frames[row]
        w2c = np.linalg.inv(frame.c2w)
        camera = subject.track.vertices[frame.timestep] @ w2c[:3, :3].T + w2c[:3, 3]
        assert (camera[:, 2] < 0).all()
        x = subject.cx - subject.fl_x * camera[:, 0] / camera[:, 2]
        y = subject.cy + subject.fl_y * camera[:, 1] / camera[:, 2]
        skin = np.unique(subject.track.faces[subject.track.region_faces("skin", "lips")])
        landmarks = subject.track.landmarks2d[row]
        assert abs(x[skin].mean() - landmarks[:, 0].mean()) < 6 and abs(y[skin].mean() - landmarks[:, 1].mean()) < 10
        mask = load_grey(subject.root / frame.mask_path)
        assert load_picture(subject.root / frame.file_path).shape[:2] == mask.shape
        at = np.clip(landmarks.astype(int), 0, [mask.shape[1] - 1, mask.shape[0] - 1])
        assert (mask[at[:, 1], at[:, 0]] > 200).mean() > 0.97
        # The body below the collar is cut away.
        assert (mask[-8:] > 127).mean() < 0.2


def _check_depth(subject, video):
    """The mesh's own depth is there: the nose nearer than the ears. What another tool wrote there since stays."""
    nose, ear = subject.track.landmarks2d[0, [1, 234]].astype(int)
    path = subject.frames[0].depth_path
    depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert depth.shape == (subject.height, subject.width) and depth[tuple(nose[::-1])] > depth[ear[1], ear[0] + 2] > 0
    path.write_bytes(b"an estimator's")
    track(video, subject.root, silent=True)
    assert path.read_bytes() == b"an estimator's"


@pytest.mark.slow
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, clip, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stages, "motion", interrupt)
        with pytest.raises(KeyboardInterrupt):
            track(clip, tmp_path / "s", silent=True)
    assert not (tmp_path / "s" / "transforms.json").exists()

    def again(*_, **__):
        raise AssertionError("a finished stage was run again")

    with monkeypatch.context() as patch:
        for name in ("sample", "find_face", "find_landmarks", "find_mattes"):
            patch.setattr(pipeline, name, again)
        patch.setattr(stages, "shape", again)
        summary = track(clip, tmp_path / "s", silent=True)
    assert summary.frames == 16 == len(load_subject(tmp_path / "s").frames)
    _check_depth(load_subject(tmp_path / "s"), clip)

    # With other options nothing of it would be reused: the picture stage runs.
    with monkeypatch.context() as patch, pytest.raises(AssertionError, match="run again"):
        patch.setattr(pipeline, "sample", again)
        track(clip, tmp_path / "s", TrackConfig(resolution=100, overwrite=True), silent=True)
    # The old one stays until the new one is whole.
    assert len(load_subject(tmp_path / "s").frames) == 16


@pytest.mark.slow
def test_flow_moves_the_head_where_landmarks_left_it(tmp_path, clip):
    tracks = {flow: tmp_path / f"flow_{flow}" for flow in (False, True)}
    for flow, folder in tracks.items():
        assert track(clip, folder, TrackConfig(flow=flow, photometric=False), silent=True).frames == 16
    plain, followed = (np.stack([frame.c2w for frame in load_subject(folder).frames]) for folder in tracks.values())
    off = np.linalg.norm((plain - followed)[:, :3, 3], axis=1)
    assert 1e-5 < off.max() < 0.03, "the same head in nearly the same place, metres"


@pytest.mark.slow
def test_a_stage_goes_on_in_its_middle(tmp_path, clip, monkeypatch):
    looked_at: list[range] = []
    find = pipeline.find_landmarks

    def second_fails(pictures, boxes, block, on_frame, cuts):
        looked_at.append(block)
        if block.start > 0:
            raise KeyboardInterrupt
        return find(pictures, boxes, block, on_frame, cuts)

    options = TrackConfig(workers=1)
    monkeypatch.setattr("data_tools.runs.blocks.LONGEST", 8)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "find_landmarks", second_fails)
        with pytest.raises(KeyboardInterrupt):
            track(clip, tmp_path / "s", options, silent=True)
    assert [block.start for block in looked_at] == [0, 8]

    def count(pictures, boxes, block, on_frame, cuts):
        looked_at.append(block)
        return find(pictures, boxes, block, on_frame, cuts)

    monkeypatch.setattr(pipeline, "find_landmarks", count)
    monkeypatch.setattr(pipeline, "_find_mattes", interrupt_here)
    with pytest.raises(KeyboardInterrupt):
        track(clip, tmp_path / "s", options, silent=True)
    assert [block.start for block in looked_at] == [0, 8, 8]


def interrupt_here(*_):
    raise KeyboardInterrupt


@pytest.mark.slow
def test_no_such_video_is_one_line_and_no_folder(tmp_path):
    done = _command(tmp_path / "none.mp4", tmp_path / "s")
    assert done.returncode == 1
    assert "no such video" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "s").exists()


def test_no_face_anywhere(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (12, 96, 128, 3)).astype(np.uint8)
    video = write_video(tmp_path / "noise.mp4", list(noise), steady(12))
    with pytest.raises(TrackingError, match=r"noise\.mp4.*no face was found"):
        track(video, tmp_path / "s", silent=True)
    assert not (tmp_path / "s" / "transforms.json").exists()


def test_two_frames_are_too_few(tmp_path, carphone_pictures):
    video = write_video(tmp_path / "two.mp4", carphone_pictures[:2], steady(2))
    with pytest.raises(TrackingError, match="only 2 of 2 sampled frames show a face"):
        track(video, tmp_path / "s", silent=True)


@pytest.mark.slow
def test_frames_without_a_face_are_left_out_and_listed(tmp_path, carphone_pictures, monkeypatch):
    pictures = list(carphone_pictures)
    grey = np.full_like(pictures[0], 128)
    pictures[6:18] = [grey] * 12
    film = write_video(tmp_path / "gap.mp4", pictures, steady(24))

    def stop(*_):
        raise KeyboardInterrupt

    # Stopped when all is written but what it needs no more is still there: the same command again removes that.
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pipeline, "tidy", stop)
        track(film, tmp_path / "s", BRIEF, silent=True)
    assert (tmp_path / "s" / "images" / "00010.jpg").exists() and (tmp_path / "s" / ".work").exists()
    summary = track(film, tmp_path / "s", BRIEF, silent=True)
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [
        "depths", "head.npz", "images", "masks", "report.html", "report.json", "transforms.json"
    ]  # fmt: skip
    assert not list((tmp_path / "s").rglob(".*"))
    assert set(range(6, 18)) <= set(summary.dropped) and summary.frames == 24 - len(summary.dropped) >= 10
    assert any("hold no face" in warning and "6-17" in warning for warning in summary.warnings)
    subject = load_subject(tmp_path / "s")
    assert "00010" not in {frame.file_path.stem for frame in subject.frames}
    assert not (tmp_path / "s" / "images" / "00010.jpg").exists()


@pytest.mark.slow
def test_of_two_faces_the_larger_is_followed_and_said(tmp_path, carphone_pictures):
    pictures = []
    for picture in carphone_pictures[:14]:
        smaller = cv2.resize(picture[:, ::-1], None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
        wide = np.full((picture.shape[0], picture.shape[1] + smaller.shape[1], 3), 90, dtype=np.uint8)
        wide[: smaller.shape[0], : smaller.shape[1]] = smaller
        wide[:, smaller.shape[1] :] = picture
        pictures.append(wide[:, : wide.shape[1] // 2 * 2])
    summary = track(write_video(tmp_path / "two.mp4", pictures, steady(14)), tmp_path / "s", BRIEF, silent=True)
    assert any("2 faces" in warning for warning in summary.warnings)
    centre = load_subject(tmp_path / "s").track.landmarks2d[:, :, 0].mean(axis=1)
    assert centre.min() > 0.7 * carphone_pictures[0].shape[1]


@pytest.mark.slow
def test_a_still_portrait_of_odd_size_is_tracked_with_a_warning(tmp_path, carphone_pictures):
    portrait = carphone_pictures[0][:, 25:122]
    portrait = cv2.resize(portrait, (98, 146), interpolation=cv2.INTER_AREA)
    video = write_video(tmp_path / "still.mp4", [portrait] * 14, steady(14))
    config = TrackConfig(torso="keep", picture_format="png", photometric=False)
    summary = track(video, tmp_path / "s", config, silent=True)
    assert any("still image" in warning for warning in summary.warnings)
    subject = load_subject(tmp_path / "s")
    assert (subject.width, subject.height) == (107, 146) or (subject.width, subject.height) == (98, 146)
    # The body stays in where it is asked for.
    assert (load_grey(subject.root / subject.frames[3].mask_path)[-3:] > 127).mean() > 0.25


@pytest.mark.slow
def test_a_full_disk_is_said_and_leaves_no_subject(tmp_path, clip, monkeypatch):
    written = []

    def fill(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) > 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, data)

    original = Path.write_bytes
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill)
        with pytest.raises(TrackingError, match="disk is full"):
            track(clip, tmp_path / "s", BRIEF, silent=True)
    assert not (tmp_path / "s" / "transforms.json").exists()
    assert not list((tmp_path / "s").rglob("*.part"))
    assert track(clip, tmp_path / "s", BRIEF, silent=True).frames == 16


def test_folders_that_hold_something_else(tmp_path, clip):
    (tmp_path / "photos" / "images").mkdir(parents=True)
    (tmp_path / "photos" / "images" / "mine.png").write_bytes(b"mine")
    with pytest.raises(TrackingError, match="no tracking run left there"):
        track(clip, tmp_path / "photos", silent=True)
    assert (tmp_path / "photos" / "images" / "mine.png").exists()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "transforms.json").write_text(json.dumps({"frames": []}))
    with pytest.raises(TrackingError, match="damaged subject.*--overwrite"):
        track(clip, tmp_path / "damaged", silent=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(TrackingError, match="is a file"):
        track(clip, tmp_path / "file", silent=True)


@pytest.mark.parametrize(
    "options, named", [({"fps": 0.0}, "--fps"), ({"resolution": 8}, "--resolution"), ({"focal_px": -3.0}, "--focal-px")]
)
def test_options_out_of_range_are_named(tmp_path, options, named):
    with pytest.raises(TrackingError, match=named):
        track(tmp_path / "any.mp4", tmp_path / "s", TrackConfig(**options), silent=True)


@pytest.mark.parametrize("option", ["keypoints", "mattes"])
def test_files_that_are_not_there_are_named_before_anything_is_replaced(tmp_path, option):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "transforms.json").write_text("{}")
    with pytest.raises(TrackingError, match=f"none: no such .* Check --{option.replace('_', '-')}"):
        track(tmp_path / "any.mp4", tmp_path / "s", TrackConfig(overwrite=True, **{option: tmp_path / "none"}))
    assert (tmp_path / "s" / "transforms.json").exists()


def test_a_head_model_that_is_not_there(tmp_path, clip):
    with pytest.raises(TrackingError, match="--head"):
        track(clip, tmp_path / "s", TrackConfig(head=str(tmp_path / "none.npz")), silent=True)


@pytest.mark.slow
@pytest.mark.skipif(not WOJTEK.exists(), reason=f"{WOJTEK} is not there: a clip that may be measured on, not shipped")
def test_quality_on_a_clip_of_400_frames(tmp_path):
    summary = track(WOJTEK, tmp_path / "s", silent=True)
    assert summary.frames == 400 and not summary.dropped
    assert summary.reprojection_fraction <= 0.011
    assert summary.outline_iou >= 0.94
    low, high = summary.yaw_range_deg
    assert -25 < low < -12 and 30 < high < 45
