"""Cuts and dissolves within a video, several people in it, and pictures woven of two moments."""

from __future__ import annotations

import types
from contextlib import nullcontext

import cv2
import numpy as np
import pytest
from track_clips import ffmpeg, sampled_from, steady, write_video

from data_tools.runs.pictures import load_picture
from data_tools.synth import SynthConfig, synthesise
from data_tools.tracking.config import TrackConfig, TrackingError, check
from data_tools.tracking.observe import landmarks
from data_tools.tracking.observe.landmarks import _Detection, find_face
from data_tools.tracking.observe.takes import Neighbours, longest_take, take_words
from data_tools.tracking.observe.video import Glimpse
from data_tools.tracking.observe.video_decode import one_field


def _scene(seed: int, side: int = 96) -> np.ndarray:
    """A picture of its own: smooth blobs."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def _noisy(picture: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 110, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def test_a_scene_that_comes_back_a_little_changed_is_the_first_again():
    scene, other = _scene(1).astype(int), _scene(2).astype(int)
    # Unlike enough to begin a scene, and then too like it to leave it by itself.
    between = [np.rint(share * scene + (1 - share) * other).astype(np.uint8) for share in (0.44, 0.48, 0.52)]
    takes = _takes([_scene(1)] * 6 + between + [_scene(1)] * 6)
    assert takes == (0,) * 6 + (1,) * 3 + (0,) * 6


def _takes(pictures) -> tuple[int, ...]:
    neighbours = Neighbours()
    for picture in pictures:
        neighbours.see(picture)
    return neighbours.takes()


def test_a_cut_to_another_scene_and_back_gives_two_takes():
    shaken = [np.roll(_scene(1), shift, axis=1) for shift in (0, 2, 4, 2, 0, 2)]
    other = [np.roll(_scene(2), shift, axis=0) for shift in (0, 2, 4)]
    assert _takes([*shaken, *other, *shaken[:2]]) == (0,) * 6 + (1,) * 3 + (0,) * 2


@pytest.mark.parametrize(
    "pictures",
    [
        [_scene(1)] * 8,
        [_scene(1)] * 4 + [_noisy(_scene(1), seed) for seed in range(3)] + [_scene(1)] * 4,
        # A light is switched on, a camera pans, and pictures of a slide show: none of them is a cut.
        [_scene(1)] * 4 + [np.clip(_scene(1).astype(int) // 2 + 120, 0, 255).astype(np.uint8)] * 4,
        [np.roll(_scene(1), 4 * step, axis=1) for step in range(24)],
        [cv2.resize(_scene(1)[step : 96 - step, step : 96 - step], (96, 96)) for step in range(24)],
        [cv2.GaussianBlur(_scene(1), (0, 0), 0.1 + step) for step in (*range(12), *range(12, 0, -1))],
        [_scene(seed) for seed in range(12)],
        [_scene(1)] * 4 + [np.full((96, 96, 3), 90, np.uint8)] * 3 + [_scene(1)] * 3,
        [np.full((64, 64, 3), 90, np.uint8)] * 6,
        [_scene(1)],
        [],
    ],
    ids=["still", "noise", "light", "pan", "zoom", "blur", "slides", "gap", "flat", "one", "none"],
)
def test_what_is_no_cut_is_left_alone(pictures):
    assert _takes(pictures) == ()


def _mixed(first, second, length: int) -> list[np.ndarray]:
    """Pictures of a dissolve between two films' pictures."""
    shares = np.linspace(0, 1, length + 2)[1:-1]
    pairs = zip(shares, first, second, strict=False)
    return [np.rint(one * (1 - share) + two * share).astype(np.uint8) for share, one, two in pairs]


@pytest.mark.parametrize("length", [5, 9, 24, 50])
def test_a_dissolve_is_a_take_of_its_own_and_what_comes_back_is_the_first(length):
    scene, other = [_scene(1)] * length, [_scene(2)] * length
    neighbours = Neighbours()
    pictures = [*scene[:5] * 3, *_mixed(scene, other, length), *other[:5] * 3, *_mixed(other, scene, length)]
    for picture in [*pictures, *scene[:5] * 3]:
        neighbours.see(picture)
    takes, dissolves = neighbours.takes(), neighbours.dissolves
    assert len(dissolves) == 2 and sorted(set(takes)) == [0, 1, 2, 3]
    for (first, last), start in zip(dissolves, (15, 30 + length), strict=True):
        # A picture more at each end costs little.
        assert start - 2 <= first <= start and start + length - 1 <= last <= start + length + 1
    assert takes[:12] == takes[-12:] == (0,) * 12 and takes[16] == 1 and takes[15 + length + 7] == 2


def test_dissolves_and_cuts_are_told_apart():
    scenes = [_scene(seed) for seed in (1, 2, 3)]
    pictures = [scenes[0]] * 12 + _mixed([scenes[0]] * 8, [scenes[1]] * 8, 8) + [scenes[1]] * 14 + [scenes[2]] * 6
    neighbours = Neighbours()
    for picture in pictures:
        neighbours.see(picture)
    takes, dissolves = neighbours.takes(), neighbours.dissolves
    assert takes[0] == 0 and takes[15] == 1 and takes[30] == 2 and takes[34:] == (3,) * 6
    used = longest_take(takes, np.arange(40), dissolves)
    words = take_words(takes, used, 40 - len(used), np.arange(40) / 25, dissolves)
    assert "cuts to another scene at 1.4 s and fades into another scene from 0.4 to 0.8 s." in words
    # Nobody is shown alone but by pictures that cannot be used.
    none = longest_take(takes, np.arange(13, 19), dissolves)
    assert len(none) == 0 and "in no other picture" in take_words(takes, none, 40, np.arange(40) / 25, dissolves)


@pytest.mark.parametrize("coarse", [range(0), range(26, 31)])
def test_a_moving_picture_that_turns_coarse_for_a_moment_is_no_dissolve(coarse):
    generator = np.random.default_rng(0)
    room = cv2.resize(
        generator.integers(0, 256, (40, 80, 3)).astype(np.uint8), (1280, 640), interpolation=cv2.INTER_CUBIC
    )
    room = np.clip(room + generator.normal(0, 18, room.shape), 0, 255).astype(np.uint8)
    neighbours = Neighbours()
    for step in range(60):
        picture = room[100:292, 2 * step : 2 * step + 192]
        if step in coarse:
            picture = cv2.resize(cv2.resize(picture, (12, 12), interpolation=cv2.INTER_AREA), (192, 192))
        neighbours.see(picture)
    assert neighbours.dissolves == () and neighbours.takes() == ()


@pytest.mark.slow
def test_one_person_who_fades_into_another_is_noticed_and_one_who_sways_is_not(tmp_path):
    people = []
    for seed in (0, 5):
        config = SynthConfig(8, 64, seed, view_moments=1, novel_frames=6, turn_deg=5.0)
        synthesise(tmp_path / f"{seed}", config, silent=True)
        film = [load_picture(path) for path in sorted((tmp_path / f"{seed}" / "images").iterdir())]
        people.append([np.roll(film[0], round(3 * np.sin(row / 4)), axis=1) for row in range(40)])
    assert all(_takes(person * 2) == () for person in people)
    first, second = people
    takes = _takes([*first, *_mixed(first, second, 12), *second])
    assert len(set(takes)) == 3 and takes[30] == 0 and takes[46] == 1 and takes[60] == 2


def test_the_take_with_most_usable_frames_is_used_and_the_cut_is_named_by_its_time():
    takes = (0,) * 5 + (1,) * 4
    usable = np.array([0, 1, 5, 6, 7, 8])
    used = longest_take(takes, usable)
    assert used.tolist() == [5, 6, 7, 8]
    words = take_words(takes, used, 2, np.arange(9) / 25)
    assert "at 0.2 s" in words and "one take, 0.2 to 0.3 s" in words and "2 frames of others" in words


def test_a_face_behind_a_cut_is_not_looked_for_from_the_one_before(tmp_path, monkeypatch):
    """The first look at another scene starts from what was followed in the last one."""
    looked_at = []

    class Mesh:
        def process(self, crop):
            looked_at.append(round(float(crop.mean()) / 10))
            return types.SimpleNamespace(multi_face_landmarks=[])

    monkeypatch.setattr(landmarks, "face_mesh", lambda: nullcontext(Mesh()))
    pictures = [tmp_path / f"{row}.png" for row in range(6)]
    for row, path in enumerate(pictures):
        cv2.imwrite(str(path), np.full((64, 64, 3), 10 * row + 10, np.uint8))
    boxes = landmarks.FaceBoxes(np.full((6, 2), 32.0), np.full(6, 20.0), np.array([True] * 5 + [False]))
    landmarks.find_landmarks(pictures, boxes, range(1, 6), cuts={2, 5})
    assert looked_at == [1, 2, 3, 3, 4, 5]


def test_a_picture_that_spins_into_the_next_scene_is_told_as_one_cut():
    takes = np.repeat([0, 1, 2, 3, 4], [40, 1, 1, 1, 40])
    words = take_words(takes, np.arange(43, 83), 43, np.arange(83) / 25)
    assert "another scene at 1.6 s. Used" in words


def test_takes_are_found_while_a_video_is_sampled(tmp_path):
    pictures = [_scene(1)] * 6 + [_scene(2)] * 4
    sampled = sampled_from(write_video(tmp_path / "cut.mp4", pictures, steady(10)), tmp_path / "out")
    assert sampled.takes == (0,) * 6 + (1,) * 4 and sampled.still > 0.8


@pytest.fixture
def two_people(monkeypatch) -> list[Glimpse]:
    """Pictures in which a large face is on the left and a small one on the right, and once a third."""
    large, small = _Detection((30.0, 50.0), 30.0), _Detection((75.0, 50.0), 22.0)
    monkeypatch.setattr(landmarks, "_detect", lambda _detector, _picture: [small, large])
    detection = types.SimpleNamespace(FaceDetection=lambda **_: nullcontext())
    monkeypatch.setattr(landmarks, "solutions", lambda: types.SimpleNamespace(face_detection=detection))
    return [Glimpse(5 * row, np.zeros((100, 100, 3), np.uint8), (100, 100)) for row in range(6)]


def test_a_person_is_chosen_by_size(two_people):
    first, second = find_face(two_people), find_face(two_people, person=2)
    assert first.centre[0].tolist() == [30.0, 50.0] and second.centre[0].tolist() == [75.0, 50.0]
    assert first.others == second.others == 1
    with pytest.raises(TrackingError, match="--person is 3, and 2 faces are in the video. Give 1 to 2"):
        find_face(two_people, person=3)
    with pytest.raises(TrackingError, match="--person is 0"):
        check(TrackConfig(person=0))


def _woven(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    result = first.copy()
    result[1::2] = second[1::2]
    return result


@pytest.mark.parametrize("height", [5, 6])
def test_one_field_of_a_ramp_is_the_ramp_but_for_its_last_line(height):
    ramp = np.repeat(np.arange(height, dtype=np.uint16)[:, None, None] * 1000, 3, axis=2)
    found, whole = one_field(ramp), height - (height % 2 == 0)
    assert (found[:whole] == ramp[:whole]).all() and (found[whole:] == ramp[whole - 1]).all()


def test_woven_fields_are_taken_apart_and_whole_pictures_are_not(tmp_path):
    height = 64

    def bar(left: int) -> np.ndarray:
        picture = np.full((height, 96, 3), 60, np.uint8)
        picture[:, left : left + 20] = 200
        return picture

    moving = [_woven(bar(4 * step), bar(4 * step + 8)) for step in range(8)]
    fields = ("-c:v", "libx264", "-qp", "0", "-flags", "+ildct+ilme", "-x264opts", "tff=1")
    for name, pictures, woven in (("moving", moving, 8), ("still", [bar(20)] * 8, 0)):
        flat = ffmpeg(
            "-i", write_video(tmp_path / f"{name}.avi", pictures, steady(8)), *fields, tmp_path / f"{name}.ts"
        )
        sampled = sampled_from(flat, tmp_path / name)
        assert sum("show two moments" in note for note in sampled.notes) == bool(woven)
        lines = load_picture(tmp_path / name / "00004.png")[:, :, 1].astype(int)
        # The bar stands upright: all lines are alike.
        assert np.abs(lines - lines[height // 2]).max() < 40
    assert f"of {8} frames" in sampled_from(tmp_path / "moving.ts", tmp_path / "again").notes[0]
