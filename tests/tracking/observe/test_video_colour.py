"""Colours: whatever range, matrix, primaries and transfer function a video has, its pictures look like the original."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from track_clips import ffmpeg, sampled_from

from data_tools.runs.pictures import load_picture, save_picture
from data_tools.tracking.observe.video_colour import (
    BT2020,
    HLG,
    LINEAR,
    PQ,
    TO_BT709,
    Colours,
    colours_of,
    hlg_scene,
    pq_light,
    pq_signal,
    rolled_off,
)

GREYS = (16, 40, 64, 96, 128, 160, 192, 235)
HUES = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 150, 120), (90, 60, 50), (30, 160, 160), (220, 220, 180))
SKIN = [3, 4, 6]
"""Those that skin may have."""
CELL = 16


@pytest.fixture(scope="module")
def chart(tmp_path_factory) -> Path:
    """A row of greys above a row of hues, skin among them."""
    picture = np.full((2 * CELL, 8 * CELL, 3), 128, dtype=np.uint8)
    for row, cells in enumerate(([(grey,) * 3 for grey in GREYS], HUES)):
        for column, colour in enumerate(cells):
            picture[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = colour
    path = tmp_path_factory.mktemp("chart") / "chart.png"
    save_picture(path, picture)
    return path


def _cells(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels in the middle of each grey, and colours in the middle of each hue."""
    middle = picture[CELL // 2 :: CELL, CELL // 2 :: CELL].astype(float)
    return middle[0], middle[1, : len(HUES)]


FROM_SDR = "zscale=pin=bt709:tin=bt709:min=gbr:rin=pc"
"""What ffmpeg is told of the chart; zimg converts it by its own formulas."""
FILMS = {
    "BT.709": (f"{FROM_SDR}:t=bt709:p=bt709:m=bt709:r=tv", "yuv420p", 4, 10),
    "BT.709, full range": (f"{FROM_SDR}:t=bt709:p=bt709:m=bt709:r=pc", "yuv420p", 4, 10),
    "BT.601": (f"{FROM_SDR}:t=bt709:p=bt709:m=170m:r=tv", "yuv420p", 4, 10),
    "BT.709, 10 bits": (f"{FROM_SDR}:t=bt709:p=bt709:m=bt709:r=tv", "yuv420p10le", 4, 10),
    "BT.2020": (f"{FROM_SDR}:t=2020_10:p=2020:m=2020_ncl:r=tv", "yuv420p10le", 4, 10),
    "HLG": (f"{FROM_SDR}:t=arib-std-b67:p=2020:m=2020_ncl:r=tv", "yuv420p10le", 4, 10),
    "PQ": (f"{FROM_SDR}:t=smpte2084:p=2020:m=2020_ncl:r=tv", "yuv420p10le", 4, 10),
    "HLG, white at 203": (f"{FROM_SDR}:t=arib-std-b67:p=2020:m=2020_ncl:r=tv:npl=203", "yuv420p10le", 4, 10),
    "PQ, white at 203": (f"{FROM_SDR}:t=smpte2084:p=2020:m=2020_ncl:r=tv:npl=203", "yuv420p10le", 4, 10),
    "PQ, full range": (f"{FROM_SDR}:t=smpte2084:p=2020:m=2020_ncl:r=pc", "yuv420p10le", 4, 10),
    "Display P3": (f"{FROM_SDR}:t=bt709:p=smpte432:m=bt709:r=tv", "yuv420p10le", 4, 10),
}


@pytest.mark.parametrize("film", FILMS)
def test_pictures_look_like_the_original(tmp_path, chart, film):
    conversion, pixels, grey_off, hue_off = FILMS[film]
    coder = ["-c:v", "libx265", "-x265-params", "log-level=none:lossless=1"]
    still = ["-loop", "1", "-framerate", "25", "-t", "0.12", "-i", chart]
    video = ffmpeg(*still, "-vf", f"format=gbrp,{conversion},format={pixels}", *coder, tmp_path / "film.mp4")
    sampled = sampled_from(video, tmp_path / "out")
    greys, hues = _cells(load_picture(tmp_path / "out" / "00000.png"))
    assert np.abs(greys - np.array(GREYS)[:, None]).max() <= grey_off
    # Of HLG zimg raises each channel to the system's gamma, BT.2100 the luminance: pure hues differ, skin hardly.
    compared = SKIN if "HLG" in film else range(len(HUES))
    assert np.abs(hues - np.array(HUES))[compared].max() <= hue_off
    assert sampled.warnings == ()
    assert any("High dynamic range" in note for note in sampled.notes) == (film[:2] in ("HL", "PQ"))


PHONE = {
    "HLG, portrait": ("arib-std-b67", "270", "transpose=2"),
    "PQ, upside down": ("smpte2084", "180", "hflip,vflip"),
}


@pytest.mark.parametrize("film", PHONE)
def test_a_phones_film_is_upright_in_time_and_as_bright_as_it_was(tmp_path, chart, film):
    """Ten bits of H.265 in high dynamic range, white at 203 cd/m2, 30 frames a second of which some are missing, lying
    as the sensor lies."""
    transfer, turned, back = PHONE[film]
    missing = "select='not(eq(n,3)+eq(n,4)+eq(n,5)+eq(n,10))'"
    conversion = f"format=gbrp,{FROM_SDR}:t={transfer}:p=2020:m=2020_ncl:r=tv:npl=203,format=yuv420p10le"
    coder = ["-fps_mode", "passthrough", "-c:v", "libx265", "-x265-params", "log-level=none", "-tag:v", "hvc1"]
    still = ["-loop", "1", "-framerate", "30", "-t", "0.5", "-i", chart]
    flat = ffmpeg(*still, "-vf", f"{missing},{back},{conversion}", *coder, "-crf", "12", tmp_path / "flat.mov")
    video = ffmpeg("-display_rotation", turned, "-i", flat, "-c", "copy", tmp_path / "phone.mov")
    sampled = sampled_from(video, tmp_path / "out")
    # At 0, 33, 67, 200, 233, 267, 300, 367, 400, 433 and 467 ms; a slot is 40 ms.
    assert sampled.slots == (0, 1, 5, 6, 7, 9, 10, 11), sampled.slots
    assert sampled.framing.stored == (8 * CELL, 2 * CELL) and sampled.warnings == ()
    greys, hues = _cells(load_picture(tmp_path / "out" / "00003.png"))
    assert np.abs(greys - np.array(GREYS)[:, None]).max() <= 6
    assert np.abs(hues - np.array(HUES))[SKIN].max() <= 14


def test_a_film_of_standard_range_that_is_marked_as_pq_is_named_with_the_fix(tmp_path, chart):
    still = ["-loop", "1", "-framerate", "25", "-t", "0.12", "-i", chart]
    coder = ["-c:v", "libx265", "-x265-params", "log-level=none:lossless=1", "-pix_fmt", "yuv420p"]
    wrong = "setparams=color_trc=smpte2084:color_primaries=bt2020:colorspace=bt2020nc"
    video = ffmpeg(*still, "-vf", wrong, *coder, tmp_path / "wrong.mp4")
    (warning,) = sampled_from(video, tmp_path / "wrong").warnings
    assert "marked wrongly" in warning and "\n" not in warning
    options = warning[warning.index("-vf") : warning.index(" MARKED.mp4")].split()
    sampled = sampled_from(ffmpeg("-i", video, *options, tmp_path / "right.mp4"), tmp_path / "right")
    greys, _ = _cells(load_picture(tmp_path / "right" / "00000.png"))
    assert sampled.warnings == () and np.abs(greys - np.array(GREYS)[:, None]).max() <= 6


def test_highlights_are_rolled_off_and_keep_their_hue(tmp_path, chart):
    """A chart whose white is at 203 cd/m2, with a lamp of 1000 in it."""
    light = cv2.imread(str(chart), cv2.IMREAD_COLOR)[..., ::-1] / 255.0
    light = 203 * light**2.4
    light[-4:, -8:] = (1000, 600, 300)
    signal = np.round(65535 * pq_signal(light)).astype(np.uint16)
    shown = Colours(PQ, 1, 1, peak=1000.0).standard(signal)
    greys, _ = _cells(shown)
    # Up to middle grey nothing changes; above it order is kept, and nothing is cut off at white.
    assert np.abs(greys[:5, 0] - GREYS[:5]).max() <= 2
    assert (np.diff(greys[:, 0]) > 5).all() and greys[-1, 0] < 250
    lamp = shown[-1, -1].astype(float)
    np.testing.assert_allclose((lamp / lamp[0]) ** 2.4, [1, 0.6, 0.3], atol=0.02)
    assert lamp[0] == 255


def test_hlg_of_pure_hues_by_bt2100():
    """Its table 5 the other way, from the light of a screen: gamma on the luminance, then the camera's curve."""
    for hue in HUES:
        light = 0.203 * (np.array(hue) / 255) ** 2.4
        scene = light * (light @ (0.2627, 0.6780, 0.0593)) ** (1 / 1.2 - 1)
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        signal = [np.sqrt(3 * e) if e <= 1 / 12 else a * np.log(12 * e - b) + c for e in scene]
        picture = np.round(65535 * np.array(signal)).astype(np.uint16)[None, None]
        shown = Colours(HLG, 1, 1, peak=203.0).standard(picture)
        assert np.abs(shown[0, 0].astype(int) - hue).max() <= 1


def test_published_values():
    """BT.2100 and BT.2408: signals of known light."""
    np.testing.assert_allclose(pq_light([0, 0.5081, 0.5806, 0.7518, 1]), [0, 100, 203, 1000, 10000], rtol=2e-3)
    # A grey card and reference white on a screen of 1000 cd/m2, in HLG: 38 % is 26, 75 % is 203.
    np.testing.assert_allclose(1000 * hlg_scene(np.array([0.38, 0.75, 1.0])) ** 1.2, [26, 203, 1000], rtol=0.02)
    white = np.linalg.inv(TO_BT709[BT2020]) @ np.ones(3)
    np.testing.assert_allclose(white, 1, atol=1e-4)


@example(100.0, 1.0000000000000002, [0.0, 100.0])
@given(st.floats(100, 203), st.floats(1.0, 40.0), st.lists(st.floats(0, 8000), min_size=2, max_size=20))
def test_the_roll_off_keeps_order_and_darker_light(white, ratio, lights):
    peak = min(ratio * white, 10000)
    light = np.sort(lights)
    shown = rolled_off(light, white, peak)
    assert (np.diff(shown) >= -1e-6 * white).all()
    assert (shown <= white * (1 + 1e-6)).all() and (shown <= light * (1 + 1e-6) + 1e-6).all()
    np.testing.assert_allclose(pq_light(pq_signal(light)), light, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("transfer", [PQ, HLG, LINEAR, 1])
def test_black_is_black_and_white_white(transfer):
    colours = Colours(transfer, BT2020, 9, peak=1000.0)
    shown = colours.standard(np.array([[[0, 0, 0], [65535] * 3]], dtype=np.uint16))
    assert shown[0, 0].tolist() == [0, 0, 0] and shown[0, 1].min() >= 254


@pytest.mark.parametrize(
    ("numbers", "word"), [((9, 1, 1), "logarithmic"), ((1, 10, 1), "XYZ"), ((16, 9, 14), "ICtCp"), ((17, 1, 1), "428")]
)
def test_what_cannot_be_shown_is_named(numbers, word):
    warning = Colours(*numbers).warning
    assert word in warning and "BT.709" in warning and "\n" not in warning


def test_what_cannot_be_shown_is_warned_of(tmp_path, chart):
    still = ["-loop", "1", "-framerate", "25", "-t", "0.12", "-i", chart]
    tagged = ["-vf", "format=yuv420p,setparams=color_trc=log100:color_primaries=bt709:colorspace=bt709", "-c:v", "ffv1"]
    sampled = sampled_from(ffmpeg(*still, *tagged, tmp_path / "log.mkv"), tmp_path / "out")
    assert len(sampled.warnings) == 1 and "logarithmic" in sampled.warnings[0]


def test_tags_of_the_stream_hold_where_the_frame_has_none():
    class Context:
        color_trc, color_primaries, colorspace = PQ, BT2020, 9

    frame = av.VideoFrame(16, 16, "yuv420p10le")
    assert colours_of(frame, Context) == Colours(PQ, BT2020, 9)
    assert not colours_of(frame, None).deep
