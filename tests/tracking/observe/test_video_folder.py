"""A folder of pictures as a film: order, gaps, kinds of pictures, and folders that are something else."""

import itertools
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from track_clips import numbered, numbers_in, sampled_from

from data_tools.cli import track
from data_tools.runs.pictures import load_picture, save_picture
from data_tools.runs.workspace import video_key
from data_tools.tracking.config import TrackConfig, TrackingError
from data_tools.tracking.observe.frame_folder import numbers_of
from data_tools.tracking.observe.video import probe


def _folder(path: Path, names: list[str]) -> Path:
    path.mkdir()
    for name, picture in zip(names, numbered(len(names)), strict=True):
        save_picture(path / name, picture)
    return path


def test_pictures_come_in_natural_order(tmp_path):
    folder = _folder(tmp_path / "in", [f"img_{number}.png" for number in range(1, 13)])
    info, sampled = probe(folder, 30.0), sampled_from(folder, tmp_path / "out", fps=30.0)
    assert (info.width, info.height, info.frames) == (64, 48, 12)
    assert numbers_in(tmp_path / "out") == list(range(12))
    assert sampled.slots == sampled.sources == tuple(range(12)) and sampled.total == 12
    assert sampled.lost == 0 and sampled.warnings == sampled.notes == ()


def test_gaps_in_the_numbers_are_counted_and_time_passes_there(tmp_path):
    folder = _folder(tmp_path / "in", [f"f{number:04d}.jpg" for number in (7, 8, 9, 12, 13)])
    sampled = sampled_from(folder, tmp_path / "out")
    assert sampled.slots == (0, 1, 2, 5, 6) and sampled.total == 7
    assert any("2 frames, the first after f0009" in note for note in sampled.notes)


@pytest.mark.parametrize(
    ("stems", "numbers", "told"),
    [
        (["a0", "a3", "a6"], (0, 1, 2), ""),
        (["cam01_f1", "cam01_f2"], (0, 1), ""),
        (["1714558953123", "1714558953167", "1714558963200"], (0, 1, 2), "no count"),
        (["left", "middle", "right"], (0, 1, 2), ""),
        (["s1_f1", "s2_f2"], (0, 1), ""),
        (["f1", "f01"], (0, 1), ""),
        (["only7"], (0,), ""),
    ],
)
def test_how_names_are_numbered(stems, numbers, told):
    found, notes = numbers_of([Path("in", f"{stem}.png") for stem in stems])
    assert found == numbers
    assert (told in notes[0]) if told else notes == ()


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=40, unique=True), st.sampled_from(["", "frame_", "c2_"]))
def test_numbers_rise_from_0_whatever_the_names(values, prefix):
    found, _ = numbers_of([Path("in", f"{prefix}{value}.png") for value in sorted(values)])
    assert found[0] == 0 and all(later > earlier for earlier, later in itertools.pairwise(found))


def test_every_kind_of_picture_becomes_rgb(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    plain = np.zeros((20, 30, 3), dtype=np.uint8)
    plain[:, :] = (200, 100, 50)
    transparent = np.dstack([plain, np.full((20, 30), 255, np.uint8)])
    transparent[:10, :, 3] = 0
    Image.fromarray(plain).save(folder / "1.png")
    Image.fromarray(transparent).save(folder / "2.png")
    cv2.imwrite(str(folder / "3.png"), plain[..., ::-1].astype(np.uint16) * 257)
    Image.fromarray(plain[..., 0]).save(folder / "4.png")
    Image.fromarray(plain).convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "5.png")
    Image.fromarray(plain).convert("CMYK").save(folder / "6.tif")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(plain))).save(folder / "7.JPG", exif=exif, quality=100)
    assert len(sampled_from(folder, tmp_path / "out").slots) == 7
    shown = [load_picture(path) for path in sorted((tmp_path / "out").glob("*.png"))]
    for place in (0, 2, 4, 5, 6):
        assert np.abs(shown[place].astype(int) - plain).max() <= 6, place
    assert (shown[1][:10] == 255).all() and (shown[1][10:] == plain[10:]).all()
    assert (shown[3] == 200).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_of_a_camera_held_any_way_are_upright(tmp_path, orientation):
    (tmp_path / "in").mkdir()
    picture = np.random.default_rng(orientation).integers(0, 255, (12, 20, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(tmp_path / "in" / "1.png", exif=exif)
    with Image.open(tmp_path / "in" / "1.png") as stored:
        truth = np.asarray(ImageOps.exif_transpose(stored))
    info = probe(tmp_path / "in", 25.0)
    sampled_from(tmp_path / "in", tmp_path / "out")
    assert (info.height, info.width) == truth.shape[:2]
    np.testing.assert_array_equal(load_picture(tmp_path / "out" / "00000.png"), truth)


def test_mixed_sizes_are_refused_by_name(tmp_path):
    folder = _folder(tmp_path / "in", ["1.png", "2.png"])
    save_picture(folder / "3.png", np.zeros((30, 30, 3), np.uint8))
    with pytest.raises(TrackingError, match=r"3\.png: is 30x30, but 1\.png is 64x48\. Frames must be of one size"):
        probe(folder, 25.0)
    assert not (tmp_path / "out").exists()


def test_damaged_pictures_are_left_out_and_named(tmp_path):
    folder = _folder(tmp_path / "in", [f"{number}.png" for number in range(5)])
    (folder / "2.png").write_bytes(b"no picture")
    sampled = sampled_from(folder, tmp_path / "out")
    assert sampled.slots == (0, 1, 3, 4) and sampled.lost == 1 and sampled.total == 5
    assert sampled.warnings == ("Left out: 1 picture that cannot be read: 2.png.",)


def test_what_is_no_picture_is_ignored_and_said(tmp_path):
    folder = _folder(tmp_path / "in", ["1.png", "2.png"])
    (folder / "notes.txt").write_text("hello")
    (folder / ".DS_Store").write_text("")
    (folder / "masks").mkdir()
    sampled = sampled_from(folder, tmp_path / "out")
    assert len(sampled.slots) == 2 and sampled.notes == ("Ignored, being no pictures (2): masks, notes.txt.",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "is a folder without pictures .* Give a video, or a folder"),
        (["film.mp4"], "Give a video file, or for all videos of a folder use `flame-nerf-data batch`"),
        (["images/"], "Give the folder inside it that holds the frames: images"),
        (["transforms.json", "images/"], "It holds tracked data already"),
    ],
)
def test_folders_without_pictures_say_what_they_are(tmp_path, content, words):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in content:
        (folder / name).mkdir() if name.endswith("/") else (folder / name).write_text("")
    with pytest.raises(TrackingError, match=words):
        probe(folder, 25.0)


def test_a_picture_that_changes_makes_another_film(tmp_path):
    folder = _folder(tmp_path / "in", ["1.png", "2.png"])
    before = video_key(folder)
    assert before == video_key(folder)
    os.utime(folder / "2.png", ns=(1, 1))
    assert video_key(folder) != before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names that are no text")
@pytest.mark.parametrize("made", ["folder", "file"])
def test_the_command_refuses_in_one_line_names_that_are_no_text(tmp_path, capfdbinary, made):
    source = tmp_path / os.fsdecode(b"caf\xe9")
    source.mkdir() if made == "folder" else source.write_bytes(b"nothing")
    assert track(source, tmp_path / "subject", TrackConfig()) == 1
    said = capfdbinary.readouterr().err
    assert said.count(b"\n") == 1 and b"caf" in said
    assert not (tmp_path / "subject").exists()
