"""Mattes lose the rim of background that a network takes along, and nothing else."""

import cv2
import numpy as np
import pytest

from data_tools.tracking.masks.edges import without_background

SIDE, RADIUS, REACH = 120, 30, 4
HAIR, BLUE, GREY = (80, 60, 45), (50, 120, 250), (105, 85, 70)


def _disc(radius: float) -> np.ndarray:
    """Share of each pixel inside a disc in the middle."""
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    return np.clip(radius + 0.5 - np.hypot(rows - SIDE / 2, columns - SIDE / 2), 0, 1)


def _picture(head: np.ndarray, colour: tuple, behind: tuple, noise: float = 3.0) -> np.ndarray:
    mixed = head[..., None] * colour + (1 - head[..., None]) * behind
    return np.clip(mixed + np.random.default_rng(0).normal(0, noise, mixed.shape), 0, 255).astype(np.uint8)


def _matte(radius: float) -> np.ndarray:
    return np.round(255 * _disc(radius)).astype(np.uint8)


@pytest.mark.parametrize("too_far", [1, 2, 3])
def test_a_rim_of_background_goes_and_the_head_stays(too_far):
    head = _disc(RADIUS)
    matte = _matte(RADIUS + too_far)
    cleaned = without_background(matte, _picture(head, HAIR, BLUE), REACH)
    assert cleaned[head == 1].min() > 240
    assert cleaned[head == 0].mean() < 0.1 * max(matte[head == 0].mean(), 1)
    assert np.abs(cleaned - 255 * head).mean() < 0.4 * np.abs(matte - 255 * head).mean()
    assert (cleaned <= matte).all()


@pytest.mark.parametrize(
    "behind, noise",
    [
        (GREY, 3.0),  # too like the head
        (BLUE, 90.0),  # of no one colour
    ],
)
def test_where_colour_does_not_tell_the_matte_stays(behind, noise):
    head = _disc(RADIUS)
    matte = _matte(RADIUS + 2)
    picture = _picture(head, HAIR, behind, 0.0)
    random = np.random.default_rng(1).normal(0, noise, picture.shape)
    picture = np.where(head[..., None] > 0, picture, np.clip(picture + random, 0, 255)).astype(np.uint8)
    cleaned = without_background(matte, picture, REACH)
    assert cleaned.sum() > 0.995 * matte.sum()


def test_an_ear_between_dark_hair_and_a_white_wall_is_no_mixture_of_them():
    head = _disc(RADIUS)
    picture = _picture(head, HAIR, (235, 235, 245), 0.0)
    ear = cv2.circle(np.zeros((SIDE, SIDE), np.uint8), (SIDE // 2 + RADIUS - 1, SIDE // 2), 3, 1, -1).astype(bool)
    picture[ear] = 220, 130, 125
    matte = np.maximum(_matte(RADIUS), 255 * ear).astype(np.uint8)
    assert without_background(matte, picture, REACH)[ear].min() > 220


def test_mattes_of_nobody_and_of_everything_stay():
    picture = _picture(_disc(RADIUS), HAIR, BLUE)
    for value in (0, 255):
        matte = np.full((SIDE, SIDE), value, dtype=np.uint8)
        assert np.array_equal(without_background(matte, picture, REACH), matte)
