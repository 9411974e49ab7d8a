"""Sampling of videos: by time, in any shape, and what happens with files that are none."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from track_clips import steady, write_video

from data_tools.tracking.config import TrackingError
from data_tools.tracking.pictures import load_picture
from data_tools.tracking.video import probe, sample


def _numbered(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Pictures whose grey level tells their number."""
    return [np.full((height, width, 3), 20 + 4 * index, dtype=np.uint8) for index in range(count)]


def _numbers(folder: Path) -> list[int]:
    return [round((load_picture(path).mean() - 20) / 4) for path in sorted(folder.glob("*.png"))]


def _sample(video: Path, folder: Path, **options):
    settings = {"fps": 25.0, "longest_side": 1024, "limit": None, "suffix": ".png", "workers": 2} | options
    return sample(video, folder, **settings)


def test_a_steady_clip_gives_every_frame(tmp_path):
    video = write_video(tmp_path / "a.mp4", _numbered(20), steady(20))
    sampled = _sample(video, tmp_path / "out")
    assert sampled.slots == tuple(range(20))
    assert _numbers(tmp_path / "out") == list(range(20))
    assert probe(video, 25.0).frames == pytest.approx(20, abs=1)


def test_a_faster_clip_is_thinned_and_a_slower_one_left_as_it_is(tmp_path):
    fast = write_video(tmp_path / "fast.mp4", _numbered(50), steady(50, fps=50))
    assert len(_sample(fast, tmp_path / "fast").slots) == 25
    slow = write_video(tmp_path / "slow.mp4", _numbered(10), steady(10, fps=12.5))
    assert _sample(slow, tmp_path / "slow").slots == tuple(range(0, 20, 2))
    assert _numbers(tmp_path / "slow") == list(range(10))


def test_variable_rate_goes_by_time_not_by_count(tmp_path):
    times = [0, 40, 80, 90, 100, 120, 300, 340, 1000]
    sampled = _sample(write_video(tmp_path / "v.mp4", _numbered(9), times), tmp_path / "out")
    assert all(later > earlier for earlier, later in zip(sampled.slots, sampled.slots[1:], strict=False))
    shown = [times[number] for number in _numbers(tmp_path / "out")]
    # Each picture is shown from a quarter of a tick before its slot to three quarters after it.
    late = np.array(shown) - 40 * np.array(sampled.slots)
    assert late.min() >= -10 and late.max() < 30
    assert sampled.slots[-1] == 25


def test_odd_sizes_portrait_and_large_pictures(tmp_path):
    pictures = [np.random.default_rng(0).integers(0, 255, (146, 98, 3)).astype(np.uint8)] * 3
    video = write_video(tmp_path / "p.mp4", pictures, steady(3))
    sampled = _sample(video, tmp_path / "whole")
    assert (sampled.width, sampled.height, sampled.scale) == (98, 146, 1.0)
    sampled = _sample(video, tmp_path / "small", longest_side=75)
    assert (sampled.width, sampled.height) == (50, 75)
    assert load_picture(tmp_path / "small" / "00000.png").shape == (75, 50, 3)


def test_a_phone_clip_marked_as_turned_is_put_upright(tmp_path):
    picture = np.zeros((48, 64, 3), dtype=np.uint8)
    picture[:, 40:] = 255
    flat = write_video(tmp_path / "flat.mp4", [picture] * 4, steady(4))
    turned = tmp_path / "turned.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", "90", "-i", str(flat)]
    subprocess.run([*command, "-c", "copy", str(turned)], check=True)
    sampled = _sample(turned, tmp_path / "out")
    assert (sampled.width, sampled.height) == (48, 64)
    upright = load_picture(tmp_path / "out" / "00000.png")
    # Turned anticlockwise by 90 degrees, the right side comes up.
    assert upright[:10].mean() > 200 and upright[-10:].mean() < 50


def test_pictures_that_are_there_are_not_written_again(tmp_path):
    video = write_video(tmp_path / "a.mp4", _numbered(6), steady(6))
    _sample(video, tmp_path / "out")
    kept = tmp_path / "out" / "00002.png"
    before = kept.stat().st_mtime_ns
    (tmp_path / "out" / "00004.png").unlink()
    _sample(video, tmp_path / "out")
    assert kept.stat().st_mtime_ns == before
    assert _numbers(tmp_path / "out") == list(range(6))


def test_a_still_clip_is_noticed(tmp_path):
    still = _sample(write_video(tmp_path / "s.mp4", _numbered(1) * 12, steady(12)), tmp_path / "still")
    moving = _sample(write_video(tmp_path / "m.mp4", _numbered(12), steady(12)), tmp_path / "moving")
    assert still.still > 0.9 and moving.still == 0.0


def test_a_file_that_breaks_off_gives_what_came_before_and_says_so(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 96, 128, 3)).astype(np.uint8)
    whole = tmp_path / "whole.avi"
    write_video(whole, list(noise), steady(40))
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    sampled = _sample(cut, tmp_path / "out")
    assert 5 < len(sampled.slots) < 40


@pytest.mark.parametrize("content", [b"", b"no video at all", bytes(range(256)) * 100])
def test_a_file_that_is_no_video(tmp_path, content):
    video = tmp_path / "bad.mp4"
    video.write_bytes(content)
    with pytest.raises(TrackingError, match=r"bad\.mp4.*cannot be read as a video"):
        probe(video, 25.0)


def test_no_such_file(tmp_path):
    with pytest.raises(TrackingError, match="no such video"):
        probe(tmp_path / "none.mp4", 25.0)


def test_sound_without_pictures(tmp_path):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", "sine=d=1", str(tmp_path / "s.wav")]
    subprocess.run(command, check=True)
    with pytest.raises(TrackingError, match="no video stream"):
        probe(tmp_path / "s.wav", 25.0)
