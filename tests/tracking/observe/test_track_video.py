"""Sampling of videos: by time, in any shape, and what happens with files that are none."""

import cv2
import numpy as np
import pytest
from track_clips import ffmpeg, numbered, numbers_in, sampled_from, steady, write_video

from data_tools.runs.pictures import load_picture
from data_tools.tracking.config import TrackingError
from data_tools.tracking.observe.video import probe


def test_a_steady_clip_gives_every_frame(tmp_path):
    video = write_video(tmp_path / "a.mp4", numbered(20), steady(20))
    sampled = sampled_from(video, tmp_path / "out")
    assert sampled.slots == tuple(range(20))
    assert numbers_in(tmp_path / "out") == list(range(20))
    assert probe(video, 25.0).frames == pytest.approx(20, abs=1)


def test_a_faster_clip_is_thinned_and_a_slower_one_left_as_it_is(tmp_path):
    fast = write_video(tmp_path / "fast.mp4", numbered(50), steady(50, fps=50))
    assert len(sampled_from(fast, tmp_path / "fast").slots) == 25
    slow = write_video(tmp_path / "slow.mp4", numbered(10), steady(10, fps=12.5))
    assert sampled_from(slow, tmp_path / "slow").slots == tuple(range(0, 20, 2))
    assert numbers_in(tmp_path / "slow") == list(range(10))


def test_variable_rate_goes_by_time_not_by_count(tmp_path):
    times = [0, 40, 80, 90, 100, 120, 300, 340, 1000]
    sampled = sampled_from(write_video(tmp_path / "v.mp4", numbered(9), times), tmp_path / "out")
    assert all(later > earlier for earlier, later in zip(sampled.slots, sampled.slots[1:], strict=False))
    shown = [times[number] for number in numbers_in(tmp_path / "out")]
    # Each picture is shown from a quarter of a tick before its slot to three quarters after it.
    late = np.array(shown) - 40 * np.array(sampled.slots)
    assert late.min() >= -10 and late.max() < 30
    assert sampled.slots[-1] == 25


def test_odd_sizes_portrait_and_large_pictures(tmp_path):
    pictures = [np.random.default_rng(0).integers(0, 255, (146, 98, 3)).astype(np.uint8)] * 3
    video = write_video(tmp_path / "p.mp4", pictures, steady(3))
    sampled = sampled_from(video, tmp_path / "whole")
    assert (sampled.framing.stored, sampled.framing.scale) == ((98, 146), 1.0)
    sampled = sampled_from(video, tmp_path / "small", longest_side=75)
    assert sampled.framing.stored == (50, 75)
    assert load_picture(tmp_path / "small" / "00000.png").shape == (75, 50, 3)


def test_a_phone_clip_marked_as_turned_is_put_upright(tmp_path):
    picture = np.zeros((48, 64, 3), dtype=np.uint8)
    picture[:, 40:] = 255
    flat = write_video(tmp_path / "flat.mp4", [picture] * 4, steady(4))
    turned = ffmpeg("-display_rotation", "90", "-i", flat, "-c", "copy", tmp_path / "turned.mp4")
    sampled = sampled_from(turned, tmp_path / "out")
    assert sampled.framing.stored == (48, 64)
    upright = load_picture(tmp_path / "out" / "00000.png")
    # Turned anticlockwise by 90 degrees, the right side comes up.
    assert upright[:10].mean() > 200 and upright[-10:].mean() < 50


@pytest.mark.parametrize(
    "asked",
    [
        ("-display_hflip",),
        ("-display_vflip",),
        ("-display_rotation", "180"),
        ("-display_rotation", "270"),
        ("-display_rotation", "90", "-display_hflip"),
        ("-display_rotation", "270", "-display_vflip"),
    ],
)
def test_turned_and_mirrored_clips_look_as_ffmpeg_shows_them(tmp_path, asked):
    rng = np.random.default_rng(1)
    picture = cv2.resize(rng.integers(0, 255, (4, 6, 3)).astype(np.uint8), (96, 64), interpolation=cv2.INTER_NEAREST)
    flat = write_video(tmp_path / "flat.mp4", [picture] * 2, steady(2))
    marked = ffmpeg(*asked, "-i", flat, "-c", "copy", tmp_path / "marked.mp4")
    shown = load_picture(ffmpeg("-i", marked, "-frames:v", "1", tmp_path / "shown.png"))
    sampled_from(marked, tmp_path / "out")
    ours = load_picture(tmp_path / "out" / "00000.png")
    assert ours.shape == shown.shape and np.abs(ours.astype(int) - shown).mean() < 2


def test_pixels_that_are_not_square_are_widened(tmp_path):
    flat = write_video(tmp_path / "flat.mp4", numbered(3), steady(3))
    wide = ffmpeg("-i", flat, "-vf", "setsar=16/11", "-c:v", "mpeg4", tmp_path / "wide.mp4")
    info, sampled = probe(wide, 25.0), sampled_from(wide, tmp_path / "out")
    assert (info.width, info.height) == sampled.framing.stored == (93, 48)


def test_pictures_that_are_there_are_not_written_again(tmp_path):
    video = write_video(tmp_path / "a.mp4", numbered(6), steady(6))
    sampled_from(video, tmp_path / "out")
    kept = tmp_path / "out" / "00002.png"
    before = kept.stat().st_mtime_ns
    (tmp_path / "out" / "00004.png").unlink()
    sampled_from(video, tmp_path / "out")
    assert kept.stat().st_mtime_ns == before
    assert numbers_in(tmp_path / "out") == list(range(6))


def test_a_still_clip_is_noticed(tmp_path):
    still = sampled_from(write_video(tmp_path / "s.mp4", numbered(1) * 12, steady(12)), tmp_path / "still")
    moving = sampled_from(write_video(tmp_path / "m.mp4", numbered(12), steady(12)), tmp_path / "moving")
    assert still.still > 0.9 and moving.still == 0.0


@pytest.mark.parametrize(("name", "codec"), [("whole.avi", "mpeg4"), ("whole.mov", "mjpeg"), ("whole.mkv", "mjpeg")])
def test_a_file_that_breaks_off_gives_what_came_before_and_counts_the_rest(tmp_path, name, codec):
    noise = np.random.default_rng(0).integers(0, 255, (40, 96, 128, 3)).astype(np.uint8)
    flat = write_video(tmp_path / "flat.avi", list(noise), steady(40))
    whole = ffmpeg("-i", flat, "-c:v", codec, "-q:v", "5", "-movflags", "faststart", tmp_path / name)
    assert sampled_from(whole, tmp_path / "all").lost == 0
    cut = whole.with_stem("cut")
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    sampled = sampled_from(cut, tmp_path / "out")
    assert 5 < len(sampled.slots) < 40
    assert len(sampled.slots) + sampled.lost == 40
    assert any("Left out" in warning for warning in sampled.warnings)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", ["-c:v", "libx264", "-bf", "3", "-g", "10"]),
        ("a.mp4", ["-c:v", "libx264", "-movflags", "frag_keyframe+empty_moov"]),
        ("a.mkv", ["-c:v", "libx265", "-x265-params", "log-level=none:open-gop=1:keyint=8"]),
        ("a.avi", ["-c:v", "libx264", "-bf", "2"]),
        ("a.avi", ["-c:v", "mpeg4", "-bf", "2"]),
        ("a.ts", ["-c:v", "libx264", "-flags", "+ildct+ilme", "-x264opts", "tff=1"]),
        ("a.mpg", ["-c:v", "mpeg2video", "-bf", "2", "-flags", "+ildct+ilme"]),
        ("a.webm", ["-c:v", "libvpx-vp9", "-auto-alt-ref", "1", "-lag-in-frames", "12", "-b:v", "200k"]),
        ("a.webm", ["-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "12", "-b:v", "200k"]),
        ("a.webm", ["-c:v", "libsvtav1", "-preset", "12"]),
        ("a.mov", ["-c:v", "prores_ks"]),
        ("a.wmv", ["-c:v", "wmv2"]),
        ("a.flv", ["-c:v", "flv"]),
        ("a.gif", []),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value[1:2]),
)
def test_a_sound_file_loses_nothing_whatever_its_codec(tmp_path, name, options):
    flat = write_video(tmp_path / "flat.avi", numbered(30), steady(30))
    sampled = sampled_from(ffmpeg("-i", flat, *options, tmp_path / name), tmp_path / "out")
    assert sampled.slots == tuple(range(30)) and sampled.total == 30
    assert sampled.lost == 0 and sampled.warnings == sampled.notes == ()


def test_damage_in_the_middle_costs_what_is_damaged_and_is_counted(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (20, 96, 128, 3)).astype(np.uint8)
    flat = write_video(tmp_path / "flat.mp4", list(noise), steady(20))
    whole = ffmpeg("-i", flat, "-c:v", "png", tmp_path / "whole.mov")
    content = bytearray(whole.read_bytes())
    starts = [at for at in range(len(content)) if content.startswith(b"\x89PNG\r\n", at)]
    assert len(starts) == 20
    for damaged in (7, 12):
        content[starts[damaged] : starts[damaged] + 400] = bytes(400)
    whole.write_bytes(content)
    sampled = sampled_from(whole, tmp_path / "out")
    assert len(sampled.slots) == 18 and sampled.lost == 2 and sampled.slots[-1] == 19
    assert any("2 frames that cannot be decoded" in warning for warning in sampled.warnings)


def test_frames_of_another_size_are_left_out_and_counted(tmp_path):
    coded = ("-c:v", "libx264", "-qp", "0")
    large = ffmpeg("-i", write_video(tmp_path / "a.mp4", numbered(10, 64, 64), steady(10)), *coded, tmp_path / "a.ts")
    small = ffmpeg("-i", write_video(tmp_path / "b.mp4", numbered(6, 48, 64), steady(6)), *coded, tmp_path / "b.ts")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(large.read_bytes() + small.read_bytes() + large.read_bytes())
    sampled = sampled_from(joined, tmp_path / "out")
    assert sampled.framing.stored == (64, 64) and len(sampled.slots) == 20 and sampled.lost == 6
    assert sampled.total == 26 and any("6 frames of another size" in warning for warning in sampled.warnings)


def test_a_limit_is_no_loss(tmp_path):
    sampled = sampled_from(write_video(tmp_path / "a.mp4", numbered(20), steady(20)), tmp_path / "out", limit=5)
    assert len(sampled.slots) == 5 and sampled.lost == 0 and sampled.warnings == () and sampled.total is None


@pytest.mark.parametrize("content", [b"", b"no video at all", bytes(range(256)) * 100])
def test_a_file_that_is_no_video(tmp_path, content):
    video = tmp_path / "bad.mp4"
    video.write_bytes(content)
    with pytest.raises(TrackingError, match=r"bad\.mp4.*cannot be read as a video"):
        probe(video, 25.0)


def test_no_such_file(tmp_path):
    with pytest.raises(TrackingError, match="no such video"):
        probe(tmp_path / "none.mp4", 25.0)
