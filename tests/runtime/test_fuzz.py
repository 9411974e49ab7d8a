"""A few thousand damaged files of every kind that is read: `benchmarks/fuzz.py` does as many as there is time for."""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

CASES = {
    "subject": 200,
    "head model (npz)": 200,
    "FLAME (pickle)": 600,
    "FLAME (npz)": 300,
    "masks and landmarks": 1000,
    "motions": 600,
    "import metrical-tracker": 80,
    "import insta": 120,
    "import vhap": 100,
    "import nha": 100,
    "import imavatar": 100,
    "import deca": 100,
    "keypoints": 600,
    "pictures and mattes": 1000,
    "config.yml": 150,
    "packed avatar": 150,
}
"""By reader: as many as it reads in half a second or so."""


@pytest.fixture
def left_as_it_was(monkeypatch):
    """Some samples put things in the readers' surroundings."""
    from data_tools.importers.readers import deca, imavatar, insta, metrical, nha, vhap

    for module in (deca, imavatar, insta, metrical, nha, vhap):
        monkeypatch.setattr(module, "open_flame", module.open_flame)
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())


@pytest.mark.parametrize("name", CASES)
def test_damaged_files_are_read_or_refused_in_one_line(left_as_it_was, name):
    from fuzz import MEMORY, run
    from fuzzing.samples import READERS

    assert CASES.keys() == READERS.keys()
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        warnings.simplefilter("ignore")
        found = run(READERS[name](Path(folder)), name, 1, range(CASES[name]))
    assert found["read"] and found["refused"], "the sample is read where it was not hit, and refused where it was"
    assert not found["kinds"], found["kinds"]
