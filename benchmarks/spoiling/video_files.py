"""Bad video files: damaged, of another kind, with odd names, streams and clocks."""

from __future__ import annotations

import os
import shutil
import socket
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from track_clips import ffmpeg, steady, write_video

from spoiling.good import COUNT, GoodFilms
from spoiling.outcome import Kind, refused, taken

Make = Callable[[GoodFilms, Path], Path]
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
NO_VIDEO = "cannot be read as a video|holds no video"


def bytes_named(name: str, content: bytes) -> Make:
    def make(_: GoodFilms, folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def named(name: str | bytes, of: Callable[[GoodFilms], Path] = lambda good: good.clip) -> Make:
    """The good clip, or another file, under this name."""
    return lambda good, folder: Path(shutil.copy(of(good), folder / os.fsdecode(name)))


def recoded(name: str, *options: str, before: Sequence[str] = ()) -> Make:
    """The good clip as ffmpeg writes it with these options."""
    return lambda good, folder: ffmpeg(*before, "-i", good.sharp, *options, folder / name)


def joined(name: str, parts: Callable[[GoodFilms], Sequence[Path]], *options: str) -> Make:
    """Files as streams of one."""

    def make(good: GoodFilms, folder: Path) -> Path:
        inputs = parts(good)
        words = [word for path in inputs for word in ("-i", path)]
        maps = [word for place in range(len(inputs)) for word in ("-map", str(place))]
        return ffmpeg(*words, *maps, "-c:v", "copy", *options, folder / name)

    return make


def at_times(*times_ms: int) -> Make:
    """The good clip's pictures, each at its time."""
    return lambda good, folder: write_video(folder / "clock.mp4", good.person[: len(times_ms)], times_ms)


def cut(share: float, *options: str, name: str = "cut.mp4") -> Make:
    """The first part of a file."""

    def make(good: GoodFilms, folder: Path) -> Path:
        # Noise fills it evenly.
        path = ffmpeg("-stream_loop", "2", "-i", good.sharp, "-c:v", "mjpeg", "-q:v", "2", *options, folder / name)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        return path

    return make


def _damaged(good: GoodFilms, folder: Path) -> Path:
    """Two pictures of it are zeros."""
    path = ffmpeg("-i", good.sharp, "-c:v", "png", folder / "damaged.mov")
    content = bytearray(path.read_bytes())
    starts = [at for at in range(len(content)) if content.startswith(b"\x89PNG\r\n", at)]
    for picture in (4, 9):
        content[starts[picture] : starts[picture] + 400] = bytes(400)
    path.write_bytes(content)
    return path


def _no_frames(good: GoodFilms, folder: Path) -> Path:
    return ffmpeg("-i", good.clip, "-c:v", "mpeg4", "-frames:v", "0", folder / "none.mp4")


def _archive(good: GoodFilms, folder: Path) -> Path:
    with zipfile.ZipFile(folder / "film.mp4", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(good.clip, "film.mp4")
    return folder / "film.mp4"


def _list(name: str, text: str) -> Make:
    """A file that names the good one, as film.avi beside it."""

    def make(good: GoodFilms, folder: Path) -> Path:
        shutil.copy(good.clip, folder / "film.ts")
        (folder / name).write_text(text)
        return folder / name

    return make


def _pipe(_: GoodFilms, folder: Path) -> Path:
    os.mkfifo(folder / "pipe.mp4")
    return folder / "pipe.mp4"


def _socket(_: GoodFilms, folder: Path) -> Path:
    here = os.open(".", os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        # The name of a socket must be short.
        os.chdir(folder)
        made.bind("s.mp4")
        os.fchdir(here)
    os.close(here)
    return folder / "s.mp4"


def _linked_to_itself(_: GoodFilms, folder: Path) -> Path:
    (folder / "a.mp4").symlink_to("b.mp4")
    (folder / "b.mp4").symlink_to("a.mp4")
    return folder / "a.mp4"


def _linked_to_nothing(_: GoodFilms, folder: Path) -> Path:
    (folder / "a.mp4").symlink_to("gone.mp4")
    return folder / "a.mp4"


def _linked(good: GoodFilms, folder: Path) -> Path:
    (folder / "a.mp4").symlink_to(good.clip)
    return folder / "a.mp4"


def _folder(name: str, *, fill: Callable[[GoodFilms, Path], object] = lambda *_: None) -> Make:
    def make(good: GoodFilms, folder: Path) -> Path:
        (folder / name).mkdir()
        fill(good, folder / name)
        return folder / name

    return make


def _frames(
    numbers: Sequence[int], ending: Callable[[int], str] = lambda _: "png"
) -> Callable[[GoodFilms, Path], None]:
    def fill(good: GoodFilms, folder: Path) -> None:
        import cv2

        for picture, number in zip(good.person, numbers, strict=False):
            cv2.imwrite(str(folder / f"{number:04d}.{ending(number)}"), np.ascontiguousarray(picture[..., ::-1]))

    return fill


def _mixed_sizes(good: GoodFilms, folder: Path) -> None:
    import cv2

    _frames(range(COUNT))(good, folder)
    for number in (3, 8):
        cv2.imwrite(str(folder / f"{number:04d}.png"), np.zeros((60, 80, 3), np.uint8))


def _one_damaged(good: GoodFilms, folder: Path) -> None:
    _frames(range(COUNT))(good, folder)
    path = folder / "0006.png"
    path.write_bytes(path.read_bytes()[:500])


def _a_pipe_among_them(good: GoodFilms, folder: Path) -> None:
    _frames(range(COUNT))(good, folder)
    (folder / "0006.png").unlink()
    os.mkfifo(folder / "0006.png")


def _texts(_: GoodFilms, folder: Path) -> None:
    (folder / "notes.txt").write_text("nothing to see")


def _same_numbers(good: GoodFilms, folder: Path) -> None:
    _frames(range(COUNT))(good, folder)
    _frames(range(COUNT), lambda _: "jpg")(good, folder)


NO_FILES: dict[str, Kind] = {
    "not there": refused("no such video", lambda _, folder: folder / "none.mp4"),
    "a pattern of names": refused("no such video.*give the folder", lambda _, folder: folder / "frame_%05d.png"),
    "an empty file": refused(NO_VIDEO, bytes_named("a.mp4", b"")),
    "a text": refused(NO_VIDEO, bytes_named("a.mp4", b"this is no film\n" * 40)),
    "an error page": refused(NO_VIDEO, bytes_named("a.mp4", b"<!DOCTYPE html><html><h1>404</h1></html>")),
    "all bytes": refused(NO_VIDEO, bytes_named("a.mp4", bytes(range(256)) * 100)),
    "zeros": refused(NO_VIDEO, bytes_named("a.mp4", bytes(50_000))),
    "the start of a file": refused(NO_VIDEO, bytes_named("a.mp4", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom")),
    "an archive": refused(NO_VIDEO, _archive),
    "a playlist": refused("list of other files|" + NO_VIDEO, _list("a.m3u8", HLS.format("film.ts"))),
    "a playlist named as a film": refused("list of other files|" + NO_VIDEO, _list("a.mp4", HLS.format("film.ts"))),
    "a playlist of an address": refused(NO_VIDEO, _list("a.m3u8", HLS.format("http://127.0.0.1:9/film.ts"))),
    "a list of files": refused("list of other files", _list("a.mp4", "ffconcat version 1.0\nfile 'film.ts'\n")),
    "a session's description": refused(
        "list of other files|" + NO_VIDEO, _list("a.sdp", "v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n")
    ),
    "a picture": refused("is a single picture", named("a.png", lambda good: good.cover)),
    "a picture named as a film": refused("is a single picture", named("a.mp4", lambda good: good.cover)),
    "sound": refused("no video stream, sound only", named("a.wav", lambda good: good.sound)),
    "sound named as a film": refused("no video stream, sound only", named("a.mp4", lambda good: good.sound)),
    "sound with a cover": refused(
        "sound only; its picture is a cover",
        joined("a.m4a", lambda good: [good.sound, good.cover], "-c:a", "aac", "-disposition:v", "attached_pic"),
    ),
    "a pipe": refused("is no regular file", _pipe),
    "a socket": refused("is no regular file", _socket),
    "a device of zeros": refused("is no regular file", lambda *_: Path("/dev/zero")),
    "a device of nothing": refused("is no regular file", lambda *_: Path("/dev/null")),
    "a link to itself": refused("", _linked_to_itself),
    "a link to nothing": refused("no such video", _linked_to_nothing),
    "an empty folder": refused("is a folder without pictures", _folder("frames")),
    "a folder of texts": refused("is a folder without pictures", _folder("frames", fill=_texts)),
    "a folder of two pictures": refused("only 2 of 2", _folder("frames", fill=_frames(range(2)))),
    "a folder of two sizes": refused(
        "0003.png: is 80x60, but 0000.png is 176x144", _folder("frames", fill=_mixed_sizes)
    ),
    "a folder of copies": refused("0000.jpg and 0000.png are one frame twice", _folder("frames", fill=_same_numbers)),
    "no frames": refused("", _no_frames),
    "cut, without its index": refused(NO_VIDEO, cut(0.5)),
    "cut after a hundredth": refused("", cut(0.01, "-movflags", "faststart")),
}
"""Nothing that can be filmed from, or too little."""

ODD_FILES: dict[str, Kind] = {
    "a link": taken("", _linked),
    "cut in half, index first": taken("Left out", cut(0.5, "-movflags", "faststart", name="cut.mov")),
    "cut in half, Matroska": taken("Left out", cut(0.5, name="cut.mkv")),
    "cut in half, AVI": taken("Left out", cut(0.5, name="cut.avi")),
    "damage in the middle": taken("2 frames that cannot be decoded", _damaged),
    "a folder with gaps": taken("", _folder("frames", fill=_frames([*range(6), *range(40, 60)]))),
    "a folder of two kinds": taken("", _folder("frames", fill=_frames(range(99), lambda n: "jpg" if n % 2 else "png"))),
    "a folder with a damaged picture": taken("1 picture that cannot be read", _folder("frames", fill=_one_damaged)),
    "a folder with a pipe in it": taken(
        "Ignored, being no pictures .1.: 0006.png", _folder("frames", fill=_a_pipe_among_them)
    ),
    "a name that is no text": taken("", named(b"caf\xe9.mp4")),
    "a name like an address": taken("", named("http:me.mp4")),
    "a name like an option": taken("", named("-i.mp4")),
    "a name like a pipe's": taken("", named("pipe:0")),
    "a name like a pattern": taken("", named("take 50%d [1].mp4")),
    "a name like markup": taken("", named("[bold]me[red].mp4")),
    "a name of two lines": taken("", named("me\nagain.mp4")),
    "a name as long as may be": taken("", named("m" * 251 + ".mp4")),
    "a name without ending": taken("", named("film")),
    "a film named as a text": taken("", named("film.txt")),
    "a film named as a picture": taken("", named("film.png")),
}
"""Names and files that look worse than they are, and damage that leaves enough."""

STREAMS: dict[str, Kind] = {
    "sound that goes on": taken("", joined("a.mp4", lambda good: [good.clip, good.sound], "-c:a", "aac")),
    "a cover before the film": taken("video streams", joined("a.mp4", lambda good: [good.cover, good.clip])),
    "two films": taken("video streams", joined("a.mp4", lambda good: [good.clip, good.clip])),
    "a small copy first": taken(
        "video streams",
        lambda good, folder: joined(
            "a.mp4", lambda _: [recoded("small.mp4", "-vf", "scale=48:40")(good, folder), good.clip]
        )(good, folder),
    ),
}
"""More than one stream."""

CLOCKS: dict[str, Kind] = {
    "one frame": refused("only 1 of 1|single picture", at_times(0)),
    "two frames": refused("only 2 of 2", at_times(0, 40)),
    "nine frames": refused("only 9 of 9", at_times(*steady(9))),
    "a varying rate": taken("", at_times(0, 40, 80, 130, 170, 300, 340, 500, 540, 600, 700, 1000, 1040, 1090)),
    "one frame a second": taken("", at_times(*range(0, COUNT * 1000, 1000))),
    "240 frames a second": taken("", recoded("fast.mp4", "-c:v", "mpeg4", "-r", "240", before=("-r", "25"))),
    "two seconds at 240": refused("at least 10", at_times(*steady(COUNT, fps=240))),
    "frozen between two moments": taken("", at_times(*steady(7), *range(3_600_000, 3_600_280, 40))),
    "starts after an hour": taken("", recoded("late.mkv", "-c", "copy", "-output_ts_offset", "3600")),
    "starts before zero": taken(
        "", recoded("early.mkv", "-c", "copy", "-output_ts_offset", "-0.2", "-avoid_negative_ts", "disabled")
    ),
    "every time twice": taken(
        "Timestamps .* repeated", recoded("twice.mkv", "-c", "copy", "-bsf:v", "setts=ts=trunc(N/2)*2*40")
    ),
    "times that are all one": taken("Timestamps .* repeated", recoded("one.mkv", "-c", "copy", "-bsf:v", "setts=ts=0")),
    "dropped frames": taken(
        "", recoded("gaps.mkv", "-c:v", "mpeg4", "-vf", "select='not(between(n,4,6))'", "-fps_mode", "passthrough")
    ),
}
"""Short, and with odd time stamps."""
