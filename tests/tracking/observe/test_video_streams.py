"""Which stream of a file is the film, and files whose names or contents look like something else."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from track_clips import ffmpeg, numbered, numbers_in, sampled_from, steady, write_video

from data_tools.tracking.config import TrackingError
from data_tools.tracking.observe.video import probe
from data_tools.tracking.observe.video_stream import ATTACHED_PIC, STILL_IMAGE, TIMED_THUMBNAILS, StreamFacts, choose


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> dict[str, Path]:
    """What files are put together from: a film of 20 frames, smaller and shorter ones, a cover and sound."""
    folder = tmp_path_factory.mktemp("parts")
    made = {
        "film": write_video(folder / "film.mp4", numbered(20, 96, 128), steady(20)),
        "small": write_video(folder / "small.mp4", numbered(20, 32, 48, first=30), steady(20)),
        "short": write_video(folder / "short.mp4", numbered(4, 96, 128, first=30), steady(4)),
        "other": write_video(folder / "other.mp4", numbered(20, 96, 128, first=30), steady(20)),
        "long": write_video(folder / "long.mp4", numbered(12, 32, 48, first=30), steady(12)),
    }
    made["cover"] = ffmpeg("-i", made["other"], "-frames:v", "1", "-vf", "scale=300:300", folder / "cover.jpg")
    made["sound"] = ffmpeg("-f", "lavfi", "-i", "sine=d=1", folder / "sound.wav")
    return made


LAYOUTS = {
    "a picture before the film": ("mp4", ["cover", "film"], []),
    "a picture before the film, in Matroska": ("mkv", ["cover", "film"], []),
    "a picture that is the default": (
        "mp4",
        ["cover", "film"],
        ["-disposition:v:0", "default", "-disposition:v:1", "0"],
    ),
    "a cover, marked as such": ("mp4", ["cover", "film"], ["-disposition:v:0", "attached_pic"]),
    "a small copy first": ("mp4", ["small", "film"], []),
    "a small copy first, in Matroska": ("mkv", ["small", "film"], []),
    "a small copy first, broadcast": ("ts", ["small", "film"], []),
    "a short preview first": ("mp4", ["short", "film"], []),
    "a short preview that is the default": ("mkv", ["short", "film"], ["-disposition:v:0", "default"]),
    "a second angle": ("mp4", ["film", "other"], []),
    "a second angle first, which is not the default": (
        "mkv",
        ["other", "film"],
        ["-disposition:v:0", "0", "-disposition:v:1", "default"],
    ),
    "sound first": ("mp4", ["sound", "film"], []),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_film_is_found_among_the_streams(tmp_path, parts, layout):
    ending, inputs, options = LAYOUTS[layout]
    arguments = [word for name in inputs for word in ("-i", parts[name])]
    maps = [word for place in range(len(inputs)) for word in ("-map", str(place))]
    coded = ["-c:v", "libx264", "-qp", "0"] if ending == "ts" else ["-c:v", "copy"]
    video = ffmpeg(*arguments, *maps, *coded, "-c:a", "aac", *options, tmp_path / f"film.{ending}")
    info, sampled = probe(video, 25.0), sampled_from(video, tmp_path / "out")
    assert (info.width, info.height) == sampled.framing.stored == (128, 96)
    assert numbers_in(tmp_path / "out") == list(range(20)) and sampled.lost == 0
    named = [note for note in sampled.notes if "video streams" in note]
    assert len(named) == (0 if "sound" in inputs else 1)
    assert all("128x96" in note for note in named)


@pytest.mark.parametrize(("name", "codec"), [("song.m4a", "aac"), ("song.mp3", "libmp3lame"), ("song.mka", "aac")])
def test_sound_with_a_cover_is_sound_only(tmp_path, parts, name, codec):
    options = ["-c:v", "copy", "-c:a", codec, "-disposition:v", "attached_pic"]
    song = ffmpeg("-i", parts["sound"], "-i", parts["cover"], "-map", "0", "-map", "1", *options, tmp_path / name)
    with pytest.raises(TrackingError, match=rf"{name}: holds no video stream, sound only; its picture is a cover"):
        probe(song, 25.0)


def test_sound_without_pictures(parts):
    with pytest.raises(TrackingError, match=r"no video stream, sound only\. Give"):
        probe(parts["sound"], 25.0)


def test_one_picture_is_no_video(parts):
    with pytest.raises(TrackingError, match=r"cover\.jpg: is a single picture\. Give a video, or a folder"):
        probe(parts["cover"], 25.0)


def test_a_pattern_of_names_leads_to_the_folder(tmp_path):
    with pytest.raises(TrackingError, match="no such video.*give the folder .* to take its pictures"):
        probe(tmp_path / "frame_%05d.png", 25.0)


@pytest.mark.parametrize("name", ["2024-05-01T10:22:33.mp4", "http:me.mp4", "concat:a|b.mp4", "-i.mp4", "take 50%.mp4"])
def test_names_that_look_like_something_else_are_files(tmp_path, parts, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(parts["film"].read_bytes())
    assert len(sampled_from(Path(name), tmp_path / "out").slots) == 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names that are no text")
def test_a_name_that_is_no_text(tmp_path, parts):
    video = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    video.write_bytes(parts["film"].read_bytes())
    assert len(sampled_from(video, tmp_path / "out").slots) == 20


FACTS = st.builds(
    StreamFacts,
    index=st.integers(0, 9),
    width=st.integers(0, 4000),
    height=st.integers(0, 4000),
    codec=st.just("h264"),
    disposition=st.sampled_from([0, 1, ATTACHED_PIC, TIMED_THUMBNAILS | 1, STILL_IMAGE]),
    frames=st.sampled_from([None, 1, 2, 500]),
    seconds=st.none() | st.floats(0, 1e4),
)


@given(st.lists(FACTS, max_size=5, unique_by=lambda one: one.index))
def test_the_choice_is_never_a_cover_and_never_depends_on_the_order(streams):
    chosen = choose(streams)
    films = [one for one in streams if not one.accompanies and one.frames != 1]
    assert (chosen is None) == (not films)
    assert chosen == choose(streams[::-1])
    if chosen is not None:
        assert chosen in films
        longest = max(one.seconds or 0 for one in films)
        assert (chosen.seconds or 0) >= 0.5 * longest
