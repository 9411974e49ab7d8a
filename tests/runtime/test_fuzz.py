"""A few hundred damaged files of every kind that is read: `benchmarks/fuzz.py` does as many as there is time for."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

CASES = {
    "head model (npz)": 150,
    "FLAME (pickle)": 150,
    "FLAME (npz)": 100,
    "masks and landmarks": 150,
    "motions": 200,
    "keypoints": 200,
    "pictures and mattes": 200,
    "subject": 100,
}
"""By reader; the others take seconds to make their sample."""


@pytest.mark.parametrize("name", CASES)
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path, name):
    from fuzz import run
    from fuzzing.samples import READERS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = run(READERS[name](tmp_path), name, 1, range(CASES[name]))
    assert found["read"] and found["refused"], "the sample is read where it was not hit, and refused where it was"
    assert not found["kinds"], found["kinds"]
