"""Mattes of another program: a folder of pictures or a video."""

from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
from keypoint_writers import SAMPLED

from data_tools.tracking import TrackingError
from data_tools.tracking.observe.given_mattes import check_mattes, copy_mattes


def disc(size: tuple[int, int], x: int) -> np.ndarray:
    picture = np.zeros(size, np.uint8)
    cv2.circle(picture, (x, size[0] // 2), size[0] // 4, 255, -1)
    return picture


def test_mattes_of_every_kind_of_picture(tmp_path):
    folder, targets = tmp_path / "mattes", [tmp_path / f"{i}.png" for i in range(4)]
    folder.mkdir()
    matte = disc((320, 640), 300)
    colour = np.full((320, 640, 3), 90, np.uint8)
    cv2.imwrite(str(folder / "m_0000.png"), matte)
    cv2.imwrite(str(folder / "m_0002.png"), matte.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "m_0004.png"), np.dstack([colour, matte]))
    cv2.imwrite(str(folder / "m_0006.png"), matte // 255)
    assert copy_mattes(folder, targets, SAMPLED, np.arange(4), None) == []
    for target in targets:
        found = cv2.imread(str(target), cv2.IMREAD_UNCHANGED)
        assert found.shape == (160, 320) and abs(found.mean() - matte.mean()) < 1.0


def test_a_missing_matte_leaves_its_frame_out_and_a_wrong_shape_is_named(tmp_path):
    targets = [tmp_path / f"{i}.png" for i in range(4)]
    folder = tmp_path / "m"
    folder.mkdir()
    with pytest.raises(TrackingError, match="holds no pictures"):
        copy_mattes(folder, targets, SAMPLED, np.arange(4), None)
    for number in (0, 2, 6):
        cv2.imwrite(str(folder / f"{number}.png"), disc((160, 320), 100))
    assert copy_mattes(folder, targets, SAMPLED, np.arange(4), None) == [2]
    cv2.imwrite(str(folder / "4.png"), disc((160, 200), 100))
    with pytest.raises(TrackingError, match=r"4\.png: is 200x160, the video's pictures are 640x320"):
        copy_mattes(folder, targets, SAMPLED, np.arange(4), None)
    cv2.imwrite(str(folder / "004.png"), disc((160, 320), 100))
    with pytest.raises(TrackingError, match=r"004\.png and 4\.png are both of frame 4"):
        copy_mattes(folder, targets, SAMPLED, np.arange(4), None)
    with pytest.raises(TrackingError, match="no such folder"):
        copy_mattes(tmp_path / "none", targets, SAMPLED, np.arange(4), None)


@pytest.mark.parametrize("pixel_format", ["gray", "rgba"])
def test_mattes_from_a_video(tmp_path, pixel_format):
    """By brightness, and by transparency where the video has it."""
    path, targets = tmp_path / "m.mov", [tmp_path / f"{i}.png" for i in range(4)]
    codec, stored = ("mjpeg", "yuvj420p") if pixel_format == "gray" else ("png", "rgba")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 160, stored
        for number in range(8):
            matte = disc((160, 320), 40 + 30 * number)
            if pixel_format == "rgba":
                matte = np.dstack([np.full((160, 320, 3), 128, np.uint8), matte])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(matte, format=pixel_format)))
        container.mux(stream.encode())
    assert copy_mattes(path, targets, SAMPLED, np.arange(4), None) == []
    for target, number in zip(targets, SAMPLED.sources, strict=True):
        difference = cv2.imread(str(target), cv2.IMREAD_GRAYSCALE).astype(int) - disc((160, 320), 40 + 30 * number)
        assert np.abs(difference).mean() < 1.0
    with pytest.raises(TrackingError, match="has 8 frames, the video 16"):
        copy_mattes(path, targets, replace(SAMPLED, total=16), np.arange(4), None)


def test_inverted_mattes_are_noticed():
    marks = np.array([[[100.0, 80, 1], [105, 85, 1], [np.nan] * 3]])
    check_mattes(marks, [disc((160, 320), 100)], "m")
    with pytest.raises(TrackingError, match="only 0 % of the keypoints lie on the mattes"):
        check_mattes(marks, [255 - disc((160, 320), 100)], "m")


def written(folder, names):
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / name), disc((160, 320), 60 + 20 * number))
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "x-{:04d}_jpg.rf.3510abcdef.jpg", "frame_{:05d}_v2.jpg", "img{}.png", "{:05d}_00.png",
        "2024-05-01_frame{:04d}.png", "IMG_20240501_{:04d}.jpg", "clip({}).png", "a1b2c3-{}.jpg",
        "video_25fps_{:04d}.png", "f.{:04d}.exr.png",
    ],
)  # fmt: skip
def test_mattes_are_of_the_frames_that_their_names_say(tmp_path, name):
    """A different disc in each frame, found where its number says whatever else the name holds."""
    folder = written(tmp_path / "m", [name.format(number) for number in range(8)])
    targets = [tmp_path / f"{i}.png" for i in range(4)]
    assert copy_mattes(folder, targets, SAMPLED, np.arange(4), None) == []
    for target, number in zip(targets, SAMPLED.sources, strict=True):
        difference = cv2.imread(str(target), cv2.IMREAD_GRAYSCALE).astype(int) - disc((160, 320), 60 + 20 * number)
        assert np.abs(difference).mean() < 2.0


def test_mattes_of_two_cameras_or_from_an_unknown_start_are_refused(tmp_path):
    targets = [tmp_path / f"{i}.png" for i in range(4)]
    cameras = written(tmp_path / "cameras", [f"{n:05d}_0{c}.png" for n in range(4) for c in range(2)])
    with pytest.raises(TrackingError, match=r"cameras: two numbers vary .*0000\d_0\d\.png and 0000\d_0\d\.png"):
        copy_mattes(cameras, targets, SAMPLED, np.arange(4), None)
    from_one = written(tmp_path / "one", [f"{n:05d}.png" for n in range(1, 8)])
    with pytest.raises(TrackingError, match="numbered from 1 to 7, and the video has 8: .*--first-frame 0 or"):
        copy_mattes(from_one, targets, SAMPLED, np.arange(4), None)
    assert copy_mattes(from_one, targets, SAMPLED, np.arange(4), 1) == []
    written(tmp_path / "nested", ["inside/0.png"])
    with pytest.raises(TrackingError, match=r"nested: holds no pictures .* but the folder inside"):
        copy_mattes(tmp_path / "nested", targets, SAMPLED, np.arange(4), None)
