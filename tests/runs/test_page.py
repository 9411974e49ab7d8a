"""Pages that a browser shows as they are meant, whatever the names in them, and pictures with the mesh on them."""

from __future__ import annotations

import base64
import html
import re
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from data_tools.runs.charts import curves
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


def points_of(chart: str, number: int) -> list[np.ndarray]:
    """The pieces of a curve as [N, 2] points of the drawing."""
    path = re.search(rf'class="curve c{number}" d="([^"]*)"', chart).group(1)
    return [np.array([point.split(",") for point in piece.split("L")], float) for piece in path.split("M")[1:]]


def test_a_curve_goes_through_its_values():
    values = np.array([1.0, 3.0, 2.0, 5.0])
    chart = curves([("yaw", values), (NASTY, -values)], unit="°")
    (points,), (below,) = points_of(chart, 0), points_of(chart, 1)
    # Evenly from left to right, and upwards in proportion.
    np.testing.assert_allclose(np.diff(points[:, 0], 2), 0, atol=0.11)
    np.testing.assert_allclose(np.diff(points[:, 1]), np.diff(values) / 4 * (points[3, 1] - points[0, 1]), atol=0.11)
    assert points[3, 1] < points[0, 1] < below[0, 1] < below[3, 1]
    assert ">5°<" in chart and ">-5°<" in chart and "<script" not in chart and chart.count("</text>") == 4 + 4 + 2


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0], [np.nan] * 3, [1.0, np.nan, np.nan, 2.0, 3.0, np.nan]])
def test_curves_of_every_kind_have_numbers_in_them_alone(values):
    chart = curves([("error", np.array(values))], mark=1.0)
    assert "nan" not in chart and "inf" not in chart and "class=mark" in chart
    pieces = points_of(chart, 0)
    assert sum(map(len, pieces)) == np.isfinite(values).sum()
    assert len(pieces) == (np.diff(np.isfinite([np.nan, *values]).astype(int)) > 0).sum()
