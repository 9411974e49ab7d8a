"""The measure of rags: none of a clean outline, however soft, and the length of what is torn."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import frayed  # noqa: E402


def shape(radius_of) -> np.ndarray:
    """Opacity of a round shape whose radius depends on the angle, in a picture of 200 x 200 pixels."""
    fine = (np.arange(800) + 0.5) / 4 - 100
    x, y = np.meshgrid(fine, fine)
    inside = np.hypot(x, y) < radius_of(np.arctan2(y, x))
    return cv2.resize(inside.astype(np.float32), (200, 200), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("softness", [0.5, 2.0, 8.0])
def test_a_clean_outline_has_its_length_and_no_rags(softness):
    clean = cv2.GaussianBlur(shape(lambda angle: np.full_like(angle, 60.0)), (0, 0), softness)
    length, taken = frayed.outline(clean, 2.0)
    assert length == pytest.approx(2 * np.pi * 60, rel=0.02)
    assert abs(taken) < 0.01 * length


def test_rags_and_scraps_are_what_a_blur_takes():
    torn = shape(lambda angle: 60 + 3 * np.sin(60 * angle))
    length, taken = frayed.outline(torn, 2.0)
    assert length > 1.4 * 2 * np.pi * 60 and taken > 0.2 * length
    scraps = shape(lambda angle: np.full_like(angle, 60.0))
    scraps[::10, ::10] = np.maximum(scraps[::10, ::10], 0.8)
    assert frayed.outline(scraps, 2.0)[1] > 100


def test_what_lies_above_the_chin_does_not_count():
    torn = shape(lambda angle: 60 + 3 * np.sin(60 * angle))
    assert frayed.outline(torn, 2.0, top=190) == (0.0, 0.0)
