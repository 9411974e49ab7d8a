"""One synthetic person drives another: their equal expressions, and how each face is made."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import driving  # noqa: E402

from flame_nerf.heads import load_head  # noqa: E402


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(driving, "FRAMES", 100)


@pytest.mark.parametrize("spilled", [{}, driving.SPILLED], ids=["exact", "spilled"])
def test_another_s_performance_lands_where_the_person_s_own_would_and_keeps_who_it_is(spilled):
    landmarks_percent, _, neutral_mm = driving.people_scores(spilled, 1.0)
    assert landmarks_percent <= 2.0 and neutral_mm <= 1.0


def test_copied_numbers_carry_over_how_the_performer_is_made():
    assert driving.people_scores(driving.SPILLED, 0.0)[2] > 3.0


def test_another_take_is_the_same_person_doing_something_else():
    first, second = (driving.person(load_head(), 0, take) for take in (0, 1))
    np.testing.assert_array_equal(first.canonical_vertices, second.canonical_vertices)
    apart = np.abs(first.expression - second.expression).max(axis=0)
    assert (apart > 0.3).sum() >= 12
    assert (first.expression.max(axis=0) > 0).tolist() == (second.expression.max(axis=0) > 0).tolist()
