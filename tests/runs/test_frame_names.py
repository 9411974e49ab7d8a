"""Frame numbers from names: the one that varies in a listing."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.runs.frame_names import frame_numbers, match_by_name, natural, stem_of


class Wrong(Exception):
    pass


def digest(number: int, length: int = 32) -> str:
    return hashlib.md5(str(number).encode()).hexdigest()[:length]


HABITS = {
    "plain": lambda n: f"{n:05d}.png",
    "unpadded": lambda n: f"img{n}.png",
    "roboflow": lambda n: f"x-{n:04d}_jpg.rf.{digest(n)}.jpg",
    "roboflow video": lambda n: f"animal_mp4-{n:04d}_jpg.rf.{digest(n)}.jpg",
    "short hash": lambda n: f"x-{n:04d}_jpg.rf.{digest(n, 10)}.jpg",
    "version": lambda n: f"frame_{n:05d}_v2.jpg",
    "versions that vary": lambda n: f"frame_{n:05d}_v{n % 3 + 1}.jpg",
    "vhap": lambda n: f"{n:05d}_00.png",
    "date": lambda n: f"2024-05-01_frame{n:04d}.png",
    "phone": lambda n: f"IMG_20240501_{n:04d}.jpg",
    "brackets": lambda n: f"clip({n}).png",
    "label studio": lambda n: f"{digest(n, 8)}-frame_{n:06d}.jpg",
    "hash first": lambda n: f"{digest(n, 6)}-{n}.jpg",
    "rate": lambda n: f"video_25fps_{n:04d}.png",
    "two endings": lambda n: f"f.{n:04d}.exr.png",
    "folder": lambda n: f"cam0/{n:04d}.png",
    "windows folder": lambda n: f"C:\\data\\cam0\\{n:04d}.png",
    "deeplabcut": lambda n: f"labeled-data/clip2/img{n:03d}.png",
    "folder a frame": lambda n: f"{n:04d}/image_1.png",
    "uuid": lambda n: f"{n:04d}_{digest(n, 8)}-{digest(n, 4)}-41d3-9a0c-{digest(n, 12)}.png",
    "clock beside": lambda n: f"shot_{n:04d}_{1714559123000 + 40 * n}.png",
    "time": lambda n: f"2024-05-01_12-34-{n % 60:02d}_{n:04d}.png",
    "night": lambda n: f"IMG_202405{n % 30 + 1:02d}_1234{n % 60:02d}_{n}.jpg",
    "clock, named": lambda n: f"{1714559123 + n}_frame_{n:04d}.png",
    "twice": lambda n: f"frame_{n:04d}/frame_{n:04d}.png",
    "size": lambda n: f"take3_1920x1080_{n:03d}.webp",
    "not ASCII": lambda n: f"Gesicht größe 2_{n:03d}.png",
}
"""Names of frame n, as people and programs give them."""


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 9999), min_size=2, max_size=12, unique=True))
@pytest.mark.parametrize("name", HABITS.values(), ids=HABITS.keys())
def test_the_number_that_varies_is_the_frames(name, numbers):
    listing = [name(number) for number in numbers]
    assert frame_numbers(listing, what="x", error=Wrong) == numbers


@pytest.mark.parametrize(
    "name, number",
    [
        (HABITS["roboflow"](12), 12), (HABITS["version"](12), 12), (HABITS["phone"](1234), 1234),
        (HABITS["date"](12), 12), (HABITS["rate"](3), 3), (HABITS["deeplabcut"](4), 4), ("f.0003.exr.png", 3),
        ("cam0/0003.png", 3), ("3", 3), ("video_frame_7_of_9.png", 7),
    ],
)  # fmt: skip
def test_a_name_that_stands_alone(name, number):
    assert frame_numbers([name], what="x", error=Wrong) == [number]


CLASHES = {
    "two cameras": (["00012_00.png", "00012_01.png", "00013_00.png", "00013_01.png"], "00012_0[01]", "00012_01|00013"),
    "two folders": (["cam0/0003.png", "cam1/0003.png", "cam0/0004.png"], "cam0/0003", "cam1/0003|cam0/0004"),
    "two sides": (["left_1.png", "right_1.png", "left_2.png"], "left_1", "right_1"),
    "version copies": (["00012.png", "00013.png", "00013_v2.png"], r"00013\.png", "00013_v2"),
    "cameras of one frame": (["frame_0001_0.png", "frame_0001_1.png"], r"frame_0001_0", "frame_0001_1"),
    "samples": (["0000_1200.png", "0001_1240.png"], "0000_1200", r"0001_1240\.png"),
    "augmented": (["x-12.rf.0510abcdef.jpg", "x-12.rf.1510abcdef.jpg"], "0510abcdef", "1510abcdef"),
    "takes": (["take1_0001.png", "take1_0002.png", "take2_0003.png"], "take1_0001", "take1_0002"),
    "none in one": (["frame_0012.png", "cover.png"], "frame_0012", "cover"),
    "no variation": (["scene1_a.png", "scene1_b.png"], "scene1_a", "scene1_b"),
    "equal": (["a_1.png", "b_2.png", "a_1.png"], r"a_1\.png", r"a_1\.png"),
    "two counters": ([f"{n:03d}_{n + 120:03d}.png" for n in range(9)], "000_120", "001_121"),
    "alone": (["3_9.png"], r"3_9\.png", "3, 9"),
}


@pytest.mark.parametrize("names, one, other", CLASHES.values(), ids=CLASHES.keys())
def test_what_cannot_be_told_names_two_that_clash(names, one, other):
    with pytest.raises(Wrong, match=rf"^mattes: .*({one}).*({other})"):
        frame_numbers(names, what="mattes", error=Wrong)


def test_a_clock_counts_where_it_is_all_there_is():
    assert frame_numbers([f"IMG_20240501_12340{n}.jpg" for n in range(3)], what="x") == [123400, 123401, 123402]
    assert frame_numbers(["cam1_1714559123.png", "cam1_1714559124.png"], what="x") == [1714559123, 1714559124]


def test_names_without_numbers_are_nobodys_frames():
    assert frame_numbers(["a.png", "b.png"], what="x") is None and frame_numbers([], what="x") is None


def test_endings_and_order():
    assert stem_of("cam0\\f.0003.exr.PNG") == "cam0/f.0003" and stem_of("v1.2_7") == "v1.2_7"
    assert sorted(["b1", "10", "9", "a10", "a9", "²"], key=natural) == ["9", "10", "a9", "a10", "b1", "²"]


@given(st.lists(st.text(max_size=12), max_size=6))
def test_any_names_give_numbers_or_the_asked_for_error(names):
    try:
        numbers = frame_numbers(names, what="x", error=Wrong)
    except Wrong as error:
        assert "x: " in str(error)
    else:
        assert numbers is None or len(set(numbers)) == len(names) == len(numbers)


def test_two_listings_are_paired_by_number_and_shifts_are_told():
    pictures, checkpoints = [f"img_{n:04d}.png" for n in range(1, 7)], [f"{n:05d}.frame" for n in range(6)]
    by_name = match_by_name(pictures, checkpoints, what=("p", "c"))
    assert by_name.rows == (1, 2, 3, 4, 5, -1) and by_name.shifts == (0, -1)
    shifted = match_by_name(pictures, checkpoints, what=("p", "c"), shift=-1)
    assert shifted.rows == (0, 1, 2, 3, 4, 5) and shifted.shift == -1
    assert match_by_name(["a.png", "b.png"], ["b.obj", "c.obj"], what=("p", "c")).rows == (-1, 0)
    with pytest.raises(Wrong, match="c: .*x1_0.png and x1_1.png"):
        match_by_name(pictures, ["x1_0.png", "x2_0.png", "x1_1.png"], what=("p", "c"), error=Wrong)
