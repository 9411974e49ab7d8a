"""Colours along a matte's edge, against pictures whose person and background are known apart."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flame_nerf.data.foreground import foreground_colours

SIZE = 200
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + 0.5
RADIUS = np.hypot(ROWS, COLUMNS)
HEAD = 60.0
BLUE, WINDOW = (50.0, 120.0, 250.0), (250.0, 250.0, 245.0)


def person(shade: np.ndarray | float = 1.0) -> np.ndarray:
    """Skin below and hair above, each with its texture."""
    texture = np.random.default_rng(0).normal(0, 4, (SIZE, SIZE, 1))
    return (np.where(ROWS[..., None] < 0, (70, 55, 50), (205, 160, 140)) + texture) * np.asarray(shade).reshape(
        *np.shape(shade), 1
    )


def filmed(person: np.ndarray, behind: tuple[float, ...], blur: float) -> np.ndarray:
    """A disc of the person before a plain wall, through a lens."""
    share = cv2.GaussianBlur((RADIUS < HEAD).astype(float), (0, 0), blur)[..., None]
    return np.clip(share * person + (1 - share) * np.array(behind), 0, 255).astype(np.uint8)


def matte(radius: float = HEAD) -> np.ndarray:
    return np.clip(255 * (radius - RADIUS + 0.5), 0, 255).astype(np.uint8)


def rim_error(picture: np.ndarray, mask: np.ndarray) -> float:
    """Mean error of the outermost five pixels, levels."""
    rim = (mask > 127) & (RADIUS > HEAD - 5)
    return float(np.abs(picture.astype(float) - person())[rim].mean())


@pytest.mark.parametrize("behind", [BLUE, WINDOW])
@pytest.mark.parametrize("blur, radius", [(0.7, HEAD), (1.5, HEAD), (2.5, HEAD), (1.0, HEAD + 2)])
def test_what_is_behind_goes_from_the_rim(behind, blur, radius):
    picture, mask = filmed(person(), behind, blur), matte(radius)
    cleaned = foreground_colours(picture, mask)
    assert rim_error(cleaned, mask) < 0.45 * rim_error(picture, mask)
    deep = RADIUS < HEAD - 10
    assert np.array_equal(cleaned[deep], picture[deep])
    assert np.array_equal(cleaned[mask == 0], picture[mask == 0])


def test_a_matte_that_takes_a_piece_of_the_window_along():
    mask = np.maximum(matte(), 255 * ((np.abs(ROWS) < 12) & (COLUMNS > 0) & (RADIUS < HEAD + 3)).astype(np.uint8))
    cleaned = foreground_colours(filmed(person(), WINDOW, 0.7), mask)
    piece = (mask > 127) & (RADIUS > HEAD) & (np.abs(ROWS) < 8)
    assert piece.sum() > 30 and np.median(cleaned[piece].max(axis=1)) < 225


def test_where_a_matte_cuts_through_the_person_nothing_changes():
    picture = np.clip(person(), 0, 255).astype(np.uint8)
    assert np.array_equal(foreground_colours(picture, matte()), picture)


def test_shade_at_one_side_is_the_person_s():
    """A cheek that darkens towards its outline, before a dark wall, through a good lens."""
    shade = np.clip(1 - 0.35 * np.clip((COLUMNS - 35) / 25, 0, 1), 0, 1)
    dark = person(shade)
    picture, mask = filmed(dark, (20, 20, 20), 0.4), matte()
    cleaned = foreground_colours(picture, mask).astype(float)
    inside = (RADIUS < HEAD - 2.5) & (ROWS > 10)
    assert np.abs(cleaned - picture)[inside].mean() < 0.2


def test_one_picture_twice_is_as_once():
    mask = matte()
    once = foreground_colours(filmed(person(), BLUE, 1.5), mask)
    assert np.abs(foreground_colours(once, mask).astype(float) - once).mean() < 0.2


@pytest.mark.parametrize("value", [0, 255])
def test_a_matte_without_an_edge_changes_nothing(value):
    picture = filmed(person(), BLUE, 1.5)
    assert foreground_colours(picture, np.full((SIZE, SIZE), value, np.uint8)) is picture


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_matte_of_any_picture(data):
    height, width = data.draw(st.integers(1, 64)), data.draw(st.integers(1, 64))
    picture = data.draw(arrays(np.uint8, (height, width, 3)))
    mask = data.draw(arrays(np.uint8, (height, width)))
    if data.draw(st.booleans()):
        mask[: data.draw(st.integers(0, height)), : data.draw(st.integers(0, width))] = 255
    cleaned = foreground_colours(picture, mask)
    assert cleaned.shape == picture.shape and cleaned.dtype == np.uint8
    assert np.array_equal(cleaned[mask == 0], picture[mask == 0])
