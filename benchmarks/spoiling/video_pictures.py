"""Bad videos whose files are sound: odd pictures, odd light, and no, half or several people in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from track_clips import ffmpeg, steady, write_video

from spoiling.good import COUNT, GoodFilms
from spoiling.outcome import Kind, refused, taken
from spoiling.video_files import Make, recoded

NO_FACE = "no face was found"
Pictures = Sequence[np.ndarray]


def filmed(of: Callable[[GoodFilms], Pictures]) -> Make:
    """Pictures at 25 a second."""

    def make(good: GoodFilms, folder: Path) -> Path:
        pictures = [np.ascontiguousarray(picture) for picture in of(good)]
        return write_video(folder / "film.mp4", pictures, steady(len(pictures)))

    return make


def each(change: Callable[[np.ndarray], np.ndarray]) -> Make:
    """The same done to each picture."""
    return filmed(lambda good: [change(picture) for picture in good.person])


def some(rows: Sequence[int], change: Callable[[np.ndarray], np.ndarray]) -> Make:
    """The same done to some of them."""
    return filmed(lambda good: [change(one) if row in rows else one for row, one in enumerate(good.person)])


def one_colour(grey: int) -> Make:
    return filmed(lambda _: [np.full((144, 176, 3), grey, np.uint8)] * COUNT)


def light(gain: float, lift: float = 0.0) -> Callable[[np.ndarray], np.ndarray]:
    return lambda picture: np.clip(gain * picture.astype(float) + lift, 0, 255).astype(np.uint8)


def blurred(sigma: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda picture: cv2.GaussianBlur(picture, (0, 0), sigma)


def noisy(deviation: float) -> Callable[[np.ndarray], np.ndarray]:
    random = np.random.default_rng(0)

    def change(picture: np.ndarray) -> np.ndarray:
        return np.clip(picture + random.normal(0, deviation, picture.shape), 0, 255).astype(np.uint8)

    return change


def smaller(scale: float, left: int = 0, top: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """The picture, small, on grey."""

    def change(picture: np.ndarray) -> np.ndarray:
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        wide = np.full_like(picture, 110)
        wide[top : top + len(small), left : left + small.shape[1]] = small
        return wide

    return change


def covered(draw: Callable[[np.ndarray], object]) -> Callable[[np.ndarray], np.ndarray]:
    """Something drawn over the face, which lies at 50 to 110 across and 35 to 115 down."""

    def change(picture: np.ndarray) -> np.ndarray:
        own = picture.copy()
        draw(own)
        return own

    return change


def _sunglasses(picture: np.ndarray) -> None:
    for x in (66, 94):
        cv2.ellipse(picture, (x, 66), (14, 10), 0, 0, 360, (15, 15, 18), -1)
    cv2.line(picture, (50, 63), (110, 63), (15, 15, 18), 3)


def _mask(picture: np.ndarray) -> None:
    cv2.ellipse(picture, (80, 98), (27, 22), 0, 0, 360, (150, 190, 220), -1)


def _hand(picture: np.ndarray) -> None:
    cv2.ellipse(picture, (98, 88), (16, 34), 20, 0, 360, (190, 140, 110), -1)


def _sheet(picture: np.ndarray) -> None:
    picture[30:125, 40:120] = 235


def _posterised(picture: np.ndarray) -> np.ndarray:
    flat = cv2.bilateralFilter(np.ascontiguousarray(picture), 9, 60, 9) // 64 * 64 + 32
    edges = cv2.Canny(np.ascontiguousarray(picture), 80, 160)
    return np.where(edges[..., None] > 0, 0, flat).astype(np.uint8)


def _beside(first: Pictures, second: Pictures) -> Pictures:
    return [np.concatenate(pair, axis=1) for pair in zip(first, second, strict=False)]


def _crossing(good: GoodFilms) -> Pictures:
    """Two people who change sides."""
    wide = []
    for row, (one, two) in enumerate(zip(good.person, good.other, strict=False)):
        at = round(176 * row / (COUNT - 1))
        picture = np.full((144, 352, 3), 90, np.uint8)
        picture[:, 176 - at : 352 - at] = two
        picture[:, at : at + 176] = one
        wide.append(picture)
    return wide


def _behind(good: GoodFilms) -> Pictures:
    """Somebody at two fifths of the size in a corner."""
    found = []
    for picture, other in zip(good.person, good.other, strict=True):
        found.append(picture.copy())
        found[-1][:56, 106:] = cv2.resize(other, (70, 56), interpolation=cv2.INTER_AREA)
    return found


def _on_a_wall(good: GoodFilms) -> Pictures:
    photo = cv2.resize(good.other[0], (88, 72), interpolation=cv2.INTER_AREA)
    return _beside(good.person, [np.pad(photo, ((30, 42), (0, 0), (0, 0)), constant_values=120)] * COUNT)


def _back_of_the_head(_: GoodFilms) -> Pictures:
    hair = np.random.default_rng(0).integers(20, 60, (144, 176, 1)).astype(np.uint8).repeat(3, axis=2)
    shape = cv2.ellipse(np.zeros((144, 176, 3), np.uint8), (88, 70), (38, 52), 0, 0, 360, (1, 1, 1), -1)
    still = np.where(shape > 0, cv2.blur(hair, (1, 9)), 150).astype(np.uint8)
    return [np.roll(still, row % 3, axis=1) for row in range(COUNT)]


def _cut_in(good: GoodFilms) -> Pictures:
    """Twenty frames of the man, and then four of a woman twice as large."""
    close = [cv2.resize(picture[10:82, 50:138], (176, 144)) for picture in good.other[:4]]
    return [*good.person, *good.person[:-7:-1], *close]


def _slides(good: GoodFilms) -> Pictures:
    return [good.person[row] if row % 2 else good.other[row] for row in range(COUNT)]


def _faded(good: GoodFilms) -> Pictures:
    return [light(min(1.0, row / 5))(one) for row, one in enumerate(good.person)]


def _titled(good: GoodFilms) -> Pictures:
    card = cv2.putText(np.zeros((144, 176, 3), np.uint8), "My film", (20, 80), 0, 1.0, (255, 255, 255), 2)
    return [card] * 6 + list(good.person)


def _dissolved(good: GoodFilms) -> Pictures:
    """From one person to another without a picture of either alone but the first and the last."""
    return mixed(good.person, good.other, np.linspace(0, 1, COUNT))


def mixed(first: Pictures, second: Pictures, shares: Sequence[float]) -> Pictures:
    """Pictures of a dissolve, of which each shows this share of the second film."""
    pairs = zip(shares, first, second, strict=True)
    return [np.rint((1 - share) * one + share * two).astype(np.uint8) for share, one, two in pairs]


def _dissolved_later(good: GoodFilms) -> Pictures:
    shares = np.linspace(0, 1, 10)[1:-1]
    back = good.person[:-9:-1]
    return [*good.person, *mixed(back, good.other[:8], shares), *good.other[8:], *good.other[::-1][:4]]


def _woven(good: GoodFilms, folder: Path) -> Path:
    fields = []
    for row, picture in enumerate(good.person):
        fields.append(picture.copy())
        fields[-1][1::2] = np.roll(picture, 6 if row % 2 else -6, axis=1)[1::2]
    flat = write_video(folder / "flat.avi", fields, steady(COUNT))
    options = ("-c:v", "libx264", "-qp", "0", "-flags", "+ildct+ilme", "-x264opts", "tff=1")
    return ffmpeg("-i", flat, *options, folder / "woven.ts")


def _two_sizes(good: GoodFilms, folder: Path) -> Path:
    coded = ("-c:v", "libx264", "-qp", "0")
    large = ffmpeg("-i", good.clip, *coded, folder / "a.ts")
    small = ffmpeg("-i", good.clip, "-frames:v", "4", "-vf", "scale=88:72", *coded, folder / "b.ts")
    (folder / "c.ts").write_bytes(large.read_bytes() + small.read_bytes())
    return folder / "c.ts"


def marked(*options: str, name: str = "marked.mp4") -> Make:
    """The clip with its metadata changed alone."""
    return lambda good, folder: ffmpeg(*options, "-i", good.clip, "-c", "copy", folder / name)


def deep(primaries: str, transfer: str, *, range_: str = "tv", pixels: str = "yuv420p10le") -> Make:
    """Ten bits of H.265 that are marked as of another colour space."""
    space = "bt2020nc" if primaries == "bt2020" else "bt709"
    told = f"setparams=color_primaries={primaries}:color_trc={transfer}:colorspace={space}:range={range_}"
    coded = ("-c:v", "libx265", "-x265-params", "log-level=none", "-preset", "ultrafast", "-pix_fmt", pixels)
    return recoded("deep.mp4", "-vf", told, *coded)


def wide_range(transfer: str) -> Make:
    """Filmed in high dynamic range, as phones do: its white at 203 cd/m2, in BT.2020."""
    told = f"zscale=pin=bt709:tin=bt709:min=gbr:rin=pc:t={transfer}:p=2020:m=2020_ncl:r=tv:npl=203"
    coded = ("-c:v", "libx265", "-x265-params", "log-level=none", "-preset", "ultrafast")
    return recoded("phone.mov", "-vf", f"format=gbrp,{told},format=yuv420p10le", *coded)


def enlarged(width: int, height: int) -> Make:
    scaled = ("-vf", f"scale={width}:{height}", "-c:v", "mpeg4", "-q:v", "4")
    return recoded("large.mp4", *scaled)


SHAPES: dict[str, Kind] = {
    "turned by its metadata": taken("", marked("-display_rotation", "90", name="a.mp4")),
    "mirrored by its metadata": taken("", marked("-display_hflip")),
    "pixels that are not square": taken("", recoded("wide.mp4", "-vf", "setsar=16/11", "-c:v", "mpeg4")),
    "pixels a hundred times as wide": refused(
        NO_FACE, recoded("w.mp4", "-vf", "setsar=100/1", "-c:v", "mpeg4", "-q:v", "2")
    ),
    "woven of two moments": taken("show two moments", _woven),
    "another size in its middle": taken("4 frames of another size", _two_sizes),
    "odd width and height": taken("", recoded("odd.mkv", "-vf", "crop=171:143", "-c:v", "ffv1")),
    "16 pixels wide": refused(NO_FACE, recoded("tiny.mp4", "-vf", "scale=16:16", "-c:v", "mpeg4")),
    "2 pixels wide": refused(NO_FACE, recoded("line.avi", "-vf", "scale=2:144", "-c:v", "png")),
    "without colour": taken("", recoded("grey.mkv", "-pix_fmt", "gray", "-c:v", "ffv1")),
    "10 bits": taken("", deep("bt709", "bt709")),
    "12 bits": taken("", recoded("a.mkv", "-c:v", "ffv1", "-pix_fmt", "yuv444p12le")),
    "see-through": taken("", recoded("a.mov", "-c:v", "png", "-pix_fmt", "rgba")),
    "HDR, PQ": taken(r"(?s)\A(?!.*marked wrongly).*PQ\) was brought", wide_range("smpte2084")),
    "HDR, HLG": taken(r"HLG\) was brought", wide_range("arib-std-b67")),
    "marked as HDR, PQ": taken("marked wrongly. .* ffmpeg", deep("bt2020", "smpte2084")),
    "marked as HDR, HLG": taken("", deep("bt2020", "arib-std-b67")),
    "full range": taken("", deep("bt709", "bt709", range_="pc", pixels="yuv420p")),
    "a GIF": taken("", recoded("a.gif")),
    "an animated PNG": taken("", recoded("a.apng", "-plays", "0")),
    "an animated WebP": refused("", recoded("a.webp", "-c:v", "libwebp", "-loop", "0")),
    "compressed to a tenth": taken("", recoded("a.mp4", "-c:v", "libx264", "-crf", "40")),
    "compressed to nothing": refused(NO_FACE, recoded("a.mp4", "-c:v", "libx264", "-crf", "51", "-vf", "scale=64:-2")),
    "4K": taken("", enlarged(3840, 2160), large=True),
    "8K": taken("", enlarged(7680, 4320), large=True),
}
"""Sizes, pixels and colours."""

LIGHT: dict[str, Kind] = {
    "black": refused(NO_FACE, one_colour(0)),
    "white": refused(NO_FACE, one_colour(255)),
    "noise": refused(
        NO_FACE,
        filmed(lambda _: list(np.random.default_rng(0).integers(0, 255, (COUNT, 144, 176, 3)).astype(np.uint8))),
    ),
    "nearly black": refused(NO_FACE, each(light(0.01))),
    "dark": taken("", each(light(0.25))),
    "overexposed": taken("", each(light(2.5))),
    "burnt out": refused(NO_FACE, each(light(20, 120))),
    "little contrast": taken("", each(light(0.3, 90))),
    "flicker": taken("", some(range(0, COUNT, 2), light(0.6))),
    "a lamp switched on": taken("", some(range(7, COUNT), light(1.8, 20))),
    "a fade-in": taken("frames? hold no face", filmed(_faded)),
    "negative": taken("", each(lambda picture: 255 - picture)),
    "strong blur": taken("", each(blurred(2.5))),
    "blur beyond a face": refused(NO_FACE, each(blurred(14))),
    "strong noise": taken("", each(noisy(20))),
    "noise for a moment": taken(r"(?s)\A(?!.*cuts to another)", some(range(6, 9), noisy(60))),
    "noise beyond a face": refused(NO_FACE, each(noisy(400))),
    "a still picture": taken("hardly ever changes", filmed(lambda good: [good.person[0]] * COUNT)),
    "frozen for half of it": taken("", filmed(lambda good: [*good.person[:7], *[good.person[7]] * 7])),
    "bars all round": taken("", each(smaller(0.7, 26, 21))),
}
"""How it was lit, focused and recorded."""

PEOPLE: dict[str, Kind] = {
    "the back of a head": refused(NO_FACE, filmed(_back_of_the_head)),
    "a face in its first half alone": taken(
        "7 of 21 frames hold no face", filmed(lambda good: [*good.person, *[light(0.0)(good.person[0])] * 7])
    ),
    "a face for a moment": refused("only . of 14", some(range(4, COUNT), light(0.0))),
    "half out of the picture": taken("", each(lambda picture: picture[:, 78:].repeat(2, axis=1)[:, ::2])),
    "a face of 5 pixels": refused(NO_FACE, each(smaller(0.1, 70, 60))),
    "a face of 12 pixels": taken("", each(smaller(0.2, 70, 60))),
    "upside down": refused("", each(lambda picture: picture[::-1, ::-1])),
    "lying on its side": taken("", each(lambda picture: picture.swapaxes(0, 1)[:, ::-1])),
    "mirrored": taken("", each(lambda picture: picture[:, ::-1])),
    "a hard cut to another person": taken(
        "cuts to another scene at 0.6 s", filmed(lambda good: [*good.person, *good.other[:6]])
    ),
    "a cut there and back": taken(
        "cuts to another scene", filmed(lambda good: [*good.person[:7], *good.other[:4], *good.person[7:]])
    ),
    "a cut too soon": refused(
        "only 7 of 14.*cuts to another scene at 0.3 s", filmed(lambda good: [*good.person[:7], *good.other[:7]])
    ),
    "a moment of somebody closer": taken(r"(?s)\A(?!.*hold no face).*4 frames of others", filmed(_cut_in)),
    "a dissolve to another person": taken("fades into another scene from 0.5 to 0.9 s", filmed(_dissolved_later)),
    "nothing but a dissolve": refused("only [012] of 14.*fades into another scene", filmed(_dissolved)),
    "another person at every moment": refused("only . of 14", filmed(_slides)),
    "a title before it": taken("6 frames of others are left out", filmed(_titled)),
    "two people": taken("2 faces are in the video", filmed(lambda good: _beside(good.person, good.other))),
    "two people who change sides": refused("only . of 14", filmed(_crossing)),
    "somebody small behind": taken("", filmed(_behind)),
    "a photo on the wall": taken("", filmed(_on_a_wall)),
    "sunglasses": taken("", each(covered(_sunglasses))),
    "a mask": taken("", each(covered(_mask))),
    "a hand before the face": taken("", some(range(5, 9), covered(_hand))),
    "a sheet before the face": taken(r"(?s)\A(?!.*cuts to another)", some(range(6, 9), covered(_sheet))),
    "a drawing": taken("", each(_posterised)),
}
"""Who is in it, and what hides them."""
