"""Which part of large pictures is stored, and that pictures, mattes and keypoints are cut alike."""

import gc
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keypoint_writers import SAMPLED, deeplabcut_rows, points, write_csv
from track_clips import numbered, sampled_from, steady, write_video

from data_tools.runs.pictures import load_grey, load_picture, save_picture
from data_tools.tracking.observe.framing import Framing, head_framing, whole_frames
from data_tools.tracking.observe.given_mattes import copy_mattes
from data_tools.tracking.observe.keypoint_files import read_keypoint_file
from data_tools.tracking.observe.keypoints import on_video
from data_tools.tracking.observe.landmarks import FoundFace
from data_tools.tracking.observe.video import glimpses

SIDES = st.integers(64, 4000)


@settings(deadline=None)
@given(SIDES, SIDES, *[st.floats(-0.5, 1.5)] * 4, st.none() | st.integers(64, 2048))
def test_a_part_lies_in_the_film_holds_what_must_be_seen_and_is_never_enlarged(width, height, x0, y0, x1, y1, limit):
    low = np.array([min(x0, x1) * width, min(y0, y1) * height])
    high = np.array([max(x0, x1) * width, max(y0, y1) * height])
    found = head_framing((width, height), low, high, limit)
    assert found.left >= 0 and found.top >= 0 and found.width > 0 and found.height > 0
    assert found.left + found.width <= width and found.top + found.height <= height
    assert found.stored[0] <= found.width and found.stored[1] <= found.height
    assert max(found.stored) <= (limit or (512 if found.cropped else 1024))
    if not found.cropped:
        assert found == whole_frames((width, height), limit)
        return
    assert max(width, height) > min(512, limit or 512), "small pictures stay as they are"
    for first, length, side, below, above in (
        (found.left, found.width, width, low[0], high[0]),
        (found.top, found.height, height, low[1], high[1]),
    ):
        assert first <= max(0, below) + 1 and first + length >= min(side, above) - 1
    # The optical axis stays where it was in the film.
    back = found.centre * [found.width, found.height] / found.stored + [found.left, found.top]
    np.testing.assert_allclose(back, [width / 2, height / 2], atol=1e-6)


def test_a_head_that_fills_the_frame_and_a_small_film_are_left_alone():
    low, high = np.array([600.0, 200.0]), np.array([1100.0, 740.0])
    cropped = head_framing((1920, 1080), low, high, None)
    assert (cropped.left, cropped.top, cropped.width, cropped.height) == (580, 200, 540, 540)
    assert cropped.stored == (512, 512)
    assert cropped.words().startswith("Head cropped to 540x540 of 1920x1080, kept at 512x512")
    assert head_framing((1920, 1080), low, high, 800).stored == (540, 540)
    filled = head_framing((1200, 1080), np.array([0.0, 0.0]), np.array([1100.0, 1080.0]), None)
    assert not filled.cropped and filled.stored == (1024, 922)
    small = head_framing((512, 384), np.array([200.0, 100.0]), np.array([300.0, 200.0]), None)
    assert not small.cropped and small.stored == (512, 384)


def test_a_face_that_moves_is_inside_all_the_time():
    number = np.arange(0, 101, 5)
    centre = np.stack([650 + 200 * np.sin(number / 30), 310 + 30 * np.cos(number / 20)], axis=1)
    face = FoundFace(np.array([1920, 1080]), number, centre, 100 + 10 * np.sin(number / 25), 0)
    framing = head_framing((1920, 1080), *face.surroundings(), None)
    boxes = face.boxes(range(101), framing)
    assert framing.cropped and boxes.present.all() and len(boxes.size) == 101
    reach = 1.15 * boxes.size[:, None]
    assert (boxes.centre - reach >= 0).all() and (boxes.centre + reach <= framing.stored).all()
    whole = face.boxes(range(101), whole_frames((1920, 1080), 1920))
    np.testing.assert_allclose(framing.to_stored(whole.centre), boxes.centre, atol=1e-6)
    # Frames that were left out before sampling take their neighbours' place, and a face that was long not seen is gone.
    fewer = face.boxes([*range(60), *range(70, 131)], framing)
    assert len(fewer.size) == 121 and fewer.present[:95].all() and not fewer.present[-15:].any()
    np.testing.assert_allclose(fewer.centre[:40], boxes.centre[:40], atol=2)


def wall(number: int) -> np.ndarray:
    """A picture in which every pixel is told from its neighbours, brighter with its number."""
    rows, columns = np.mgrid[0:60, 0:80]
    return np.stack([columns * 3, rows * 4, np.full((60, 80), 10 + 20 * number)], axis=-1).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "frames").mkdir()
    for number in range(8):
        save_picture(tmp_path / "frames" / f"{number}.png", wall(number))
    return tmp_path / "frames"


def test_pictures_are_cut_to_the_pixel(folder, tmp_path):
    framing = Framing((80, 60), 30, 20, 24, 24, (24, 24))
    sampled = sampled_from(folder, tmp_path / "out", framing=framing)
    assert sampled.framing == framing and len(sampled.slots) == 8
    for number in range(8):
        stored = load_picture(tmp_path / "out" / f"{number:05d}.png")
        np.testing.assert_array_equal(stored, wall(number)[20:44, 30:54])
    half = replace(framing, stored=(12, 12))
    sampled_from(folder, tmp_path / "half", framing=half)
    shrunk = load_picture(tmp_path / "half" / "00000.png").astype(float)
    np.testing.assert_allclose(shrunk, wall(0)[20:44, 30:54].reshape(12, 2, 12, 2, 3).mean(axis=(1, 3)), atol=1)


def test_looking_through_a_film_sees_every_few_pictures_and_the_last(folder):
    seen = list(glimpses(folder, 25.0, None, 3))
    assert [one.number for one in seen] == [0, 3, 6, 7] and {one.film for one in seen} == {(80, 60)}
    np.testing.assert_array_equal(seen[1].picture, wall(3))
    assert [one.number for one in glimpses(folder, 25.0, 5, 3)] == [0, 3, 4]


@pytest.mark.parametrize("side", [1, 2], ids=["as large as the film", "half as large"])
def test_mattes_and_keypoints_go_with_the_pictures(tmp_path, side):
    framing = Framing((640, 320), 200, 40, 200, 200, (100, 100))
    sampled = replace(SAMPLED, framing=framing)
    matte = np.zeros((320 // side, 640 // side), np.uint8)
    # A square from 240 to 300 across and 60 to 120 down in the film.
    matte[60 // side : 120 // side, 240 // side : 300 // side] = 255
    (tmp_path / "m").mkdir()
    for number in range(8):
        cv2.imwrite(str(tmp_path / "m" / f"{number}.png"), matte)
    targets = [tmp_path / f"{i}.png" for i in range(4)]
    assert copy_mattes(tmp_path / "m", targets, sampled, np.arange(4), None) == []
    found = load_grey(targets[0])
    assert found.shape == (100, 100)
    rows, columns = np.nonzero(found > 127)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (10, 40, 20, 50)

    values = points()
    placed, _ = on_video(read_keypoint_file(write_csv(tmp_path / "k.csv", deeplabcut_rows(values))), sampled, "auto",
                         None, 0.6)  # fmt: skip
    # Their whole numbers are the middles of pixels.
    goal = (values[list(SAMPLED.sources), :, :2] + 0.5 - [200, 40]) / 2
    np.testing.assert_allclose(placed[..., :2], goal, atol=1e-3)


@pytest.mark.parametrize("read", ["glimpses", "sample"])
def test_frames_that_are_done_with_do_not_pile_up(tmp_path, read):
    """A frame of 3840x2160 holds 12 MB."""
    video = write_video(tmp_path / "v.mp4", 3 * numbered(40), steady(120))
    most, count = 0, 0

    def held() -> None:
        nonlocal most, count
        count += 1
        if count % 10 == 0:
            most = max(most, sum(isinstance(one, av.VideoFrame) for one in gc.get_objects()))

    gc.collect()
    gc.disable()
    try:
        if read == "sample":
            sampled_from(video, tmp_path / "out", on_frame=held)
        else:
            list(glimpses(video, 25.0, None, 5, held))
    finally:
        gc.enable()
    assert count == 120 and most < 30
