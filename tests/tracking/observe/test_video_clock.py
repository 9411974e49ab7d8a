"""Clocks that restart, wrap, leap, stammer or are not there: no frame is lost by them, and time goes on."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from track_clips import ffmpeg, numbered, numbers_in, sampled_from, steady, write_video

from data_tools.tracking.observe.video_clock import Clock, even_rate


def _piece(folder, name: str, first: int, count: int = 15, options=()):
    flat = write_video(folder / f"{name}.mp4", numbered(count, first=first), steady(count))
    return ffmpeg("-i", flat, "-c:v", "libx264", "-qp", "0", *options, folder / f"{name}.ts")


def test_joined_pieces_whose_clocks_begin_anew(tmp_path):
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(_piece(tmp_path, str(first), first).read_bytes() for first in (0, 15, 30)))
    sampled = sampled_from(joined, tmp_path / "out")
    assert numbers_in(tmp_path / "out") == list(range(45)) and sampled.lost == 0
    assert sampled.slots == tuple(range(45)) and sampled.total == 45
    assert any("clock jumps 2 times" in note for note in sampled.notes)


@pytest.mark.parametrize("seconds", [3600, 40000])
def test_a_clock_that_leaps_ahead(tmp_path, seconds):
    late = _piece(tmp_path, "late", 15, options=["-output_ts_offset", str(seconds)])
    joined = tmp_path / "joined.ts"
    joined.write_bytes(_piece(tmp_path, "early", 0).read_bytes() + late.read_bytes())
    sampled = sampled_from(joined, tmp_path / "out")
    assert numbers_in(tmp_path / "out") == list(range(30)) and sampled.slots == tuple(range(30))


def test_a_counter_that_wraps_around(tmp_path):
    # 33 bits at 90 kHz are full after 26.5 hours; the muxer adds 1.4 s of its own.
    wrapping = _piece(tmp_path, "wrapping", 0, 20, ["-output_ts_offset", str(2**33 / 90000 - 1.4 - 0.4)])
    sampled = sampled_from(wrapping, tmp_path / "out")
    assert numbers_in(tmp_path / "out") == list(range(20)) and sampled.slots == tuple(range(20))


def test_no_timestamps_at_all(tmp_path):
    flat = write_video(tmp_path / "flat.mp4", numbered(20), steady(20))
    raw = ffmpeg("-i", flat, "-c:v", "libx264", "-qp", "0", "-bf", "2", tmp_path / "raw.h264")
    sampled = sampled_from(raw, tmp_path / "out")
    assert any("no timestamps: frames were spaced 40.0 ms apart" in note for note in sampled.notes)
    assert numbers_in(tmp_path / "out") == list(range(20)) and sampled.slots == tuple(range(20))


def test_a_beginning_that_an_edit_list_cuts_away_is_not_shown_and_named(tmp_path):
    flat = write_video(tmp_path / "flat.mp4", numbered(20), steady(20))
    coded = ffmpeg("-i", flat, "-c:v", "libx264", "-qp", "0", "-g", "20", tmp_path / "coded.mp4")
    cut = ffmpeg("-ss", "0.2", "-i", coded, "-c", "copy", tmp_path / "cut.mp4")
    sampled = sampled_from(cut, tmp_path / "out")
    assert numbers_in(tmp_path / "out") == list(range(5, 20)) and sampled.slots[0] == 0
    assert any("5 frames that the file's edit list cuts away" in note for note in sampled.notes)


def test_a_clip_that_begins_before_zero(tmp_path):
    times = [time - 200 for time in steady(20)]
    sampled = sampled_from(write_video(tmp_path / "early.mkv", numbered(20), times), tmp_path / "out")
    assert numbers_in(tmp_path / "out") == list(range(20)) and sampled.slots == tuple(range(20))


def test_frames_that_come_too_fast_are_counted(tmp_path):
    sampled = sampled_from(write_video(tmp_path / "a.mp4", numbered(30), steady(30, fps=50)), tmp_path / "out")
    assert len(sampled.slots) == 15 and sampled.lost == 0
    assert any("Passed over: 15 of 30 frames" in note for note in sampled.notes)


def _times(stamps: list[float | None], rate: float | None = 25.0) -> tuple[list[float], Clock]:
    clock = Clock(rate)
    return [clock.at(stamp) for stamp in stamps], clock


@given(st.lists(st.none() | st.floats(-1e6, 1e6), max_size=60), st.none() | st.floats(-10, 1e6))
def test_time_rises_whatever_the_timestamps_do(stamps, rate):
    times, _ = _times(stamps, rate)
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    assert times[:1] in ([], [0.0])


@given(st.lists(st.floats(0.001, 9.0), min_size=1, max_size=60), st.floats(-1e4, 1e4))
def test_a_sound_clock_is_left_as_it_is(steps, start):
    stamps = np.cumsum([start, *steps])
    times, clock = _times(stamps.tolist())
    np.testing.assert_allclose(times, stamps - start, atol=1e-6)
    assert clock.restarts == clock.replaced == 0


@given(st.lists(st.tuples(st.floats(-1e5, 1e5), st.integers(20, 40)), min_size=2, max_size=5), st.floats(10, 60))
def test_pieces_with_clocks_of_their_own_are_one_film(pieces, fps):
    stamps = [start + index / fps for start, count in pieces for index in range(count)]
    times, _ = _times(stamps, fps)
    jumps = np.abs(np.diff([start for start, _ in pieces]))
    if (jumps > 20).all():
        np.testing.assert_allclose(np.diff(times), 1 / fps, rtol=1e-3)


@pytest.mark.parametrize(
    "stamps",
    [
        [0.0, None, None, 0.12, 0.16],
        [None, None, 5.0, 5.04, 5.08],
        [0.0, 0.0, 0.08, 0.08, 0.16],
        [0.0, 0.08, 0.04, 0.12, 0.16],
    ],
    ids=["missing", "late", "repeated", "out of order"],
)
def test_disordered_timestamps_cost_no_frame(stamps):
    times, clock = _times(stamps)
    slots = [int(25 * time + 0.25) for time in times]
    assert len(set(slots)) == 5 and slots[-1] <= 5
    assert clock.replaced > 0 and clock.restarts == 0


@pytest.mark.parametrize("rate", [None, 0.0, 90000.0, -1.0])
def test_rates_that_cannot_be_are_not_believed(rate):
    assert _times([None] * 3, rate)[0] == pytest.approx([0.0, 0.04, 0.08])


@pytest.mark.parametrize("rate", [8.0, 4500 / 377, 12.5, 15.0, 20.0, 24000 / 1001, 24.0])
def test_a_slower_film_keeps_its_own_rate(rate):
    number = np.delete(np.arange(300), [3, 57, 58, 200])
    slots = np.floor(number * 25.0 / rate + 0.25).astype(int)
    assert even_rate(slots, number, 25.0) == pytest.approx(rate, rel=5e-4)
    paused = np.where(number < 100, slots, slots + 70)
    assert even_rate(paused, number, 25.0) == pytest.approx(rate, rel=5e-3)


@pytest.mark.parametrize("rate", [25.0, 30000 / 1001, 30.0, 60.0])
def test_a_faster_film_has_the_rate_of_the_sampling_clock(rate):
    slots, number = np.unique(np.floor(np.arange(300) * 25.0 / rate + 0.25).astype(int), return_index=True)
    assert even_rate(slots, number, 25.0) == 25.0
    missing = np.delete(np.arange(len(slots)), [40, 41, 90])
    assert even_rate(slots[missing], number[missing], 25.0) == 25.0
    assert even_rate([7], [7], 25.0) == 25.0
