"""Distances of irises: nothing but the gaze counts in the eye, and everything in the picture."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import irises  # noqa: E402


def face() -> np.ndarray:
    points = np.zeros((478, 2))
    for (iris, left, right), x in zip(irises.EYES, (100.0, 200.0), strict=True):
        points[left], points[right], points[iris] = (x, 50.0), (x + 40.0, 50.0), (x + 20.0, 50.0)
    return points


def test_a_gaze_counts_in_widths_of_the_eye():
    looking = face()
    looking[468] += (4.0, 0.0)
    looking[473] += (0.0, -2.0)
    assert irises.distances(looking, face()) == pytest.approx(np.array([[0.1, 0.1], [0.05, 0.05]]))


def test_a_face_that_is_moved_turned_and_larger_looks_where_it_looked():
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    looking = face()
    looking[468] += (3.0, 1.0)
    moved = 1.5 * looking @ turn.T + (30.0, -10.0)
    found = irises.distances(moved, looking)
    assert found[:, 1] == pytest.approx(0.0, abs=1e-9) and (found[:, 0] > 0.5).all()
