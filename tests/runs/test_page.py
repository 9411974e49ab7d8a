"""Pages that a browser shows as they are meant, whatever the names in them, and pictures with the mesh on them."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from data_tools.runs.page import MESH_COLOUR, SIDE, data_uri, mesh_on_picture, render_page

NASTY = "<script>alert('1')</script> & {braces} {{ 7 * 7 }} \"quoted\" ünïcode"


@dataclass
class Found:
    pictures: int = 3
    timesteps: int = 2
    warnings: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()


def page_of(found: Found, **values) -> str:
    values = {"title": "t", "iou": "0.95", "good": True, "facts": [], "figures": [], "listed": 2} | values
    return render_page("import.html", summary=found, **values)


def test_whatever_is_named_stands_there_as_text():
    found = Found(warnings=(NASTY,), left_out=((NASTY, NASTY),))
    page = page_of(found, title=NASTY, facts=[(NASTY, NASTY)], figures=[("data:,", NASTY)])
    assert "<script" not in page and "49" not in page
    assert html.unescape(page).count(NASTY) == 8


def test_frames_left_out_are_listed_up_to_a_number():
    page = page_of(Found(left_out=tuple((f"frame{i}", "blurred") for i in range(5))))
    assert "frame1" in page and "frame2" not in page and "and 3 more" in page
    assert "and" not in page_of(Found(left_out=(("frame1", "x"), ("frame2", "x")))).partition("left out</h2>")[2]
    assert "None." in page_of(Found())


def test_a_value_that_is_missing_is_an_error_and_no_gap():
    import jinja2

    with pytest.raises(jinja2.UndefinedError):
        render_page("import.html", title="t")


@pytest.mark.parametrize("size", [(90, 120), (720, 960)])
def test_the_mesh_is_drawn_where_it_is_seen(size):
    height, width = size
    picture = np.full((height, width, 3), 128, dtype=np.uint8)
    left = np.zeros(size, dtype=np.uint8)
    left[:, : width // 2] = 255
    place = np.array([[0.1, 0.1], [0.1, 0.4], [0.4, 0.1], [0.6, 0.6], [0.9, 0.6], [0.6, 0.9], [np.nan] * 2])
    # The second triangle is seen from behind, the third has a corner behind the camera.
    shown = mesh_on_picture(picture, left, place * [width, height], np.array([[0, 1, 2], [3, 4, 5], [0, 1, 6]]))
    assert max(shown.shape) == SIDE
    down, along = np.array(shown.shape[:2])
    green = shown[..., 1].astype(int) - shown[..., 0]
    assert green[int(0.25 * down), int(0.1 * along)] > 10 < green[int(0.1 * down), int(0.25 * along)]
    assert (np.abs(green[down // 2 :, : along // 3]) < 3).all() and MESH_COLOUR[1] > MESH_COLOUR[0]
    assert (green[down // 2 :, along // 2 + 9 :] <= 20).all()
    assert shown[-1, 0, 0] == 128 and shown[-1, -1, 0] < 90


def test_a_picture_in_a_page_is_the_picture():
    picture = cv2.resize(np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8), (60, 40))
    kind, _, data = data_uri(picture).partition(",")
    assert kind == "data:image/jpeg;base64"
    back = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(back.astype(int) - picture).mean() < 8
