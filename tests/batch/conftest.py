"""A batch whose commands are stand-ins."""

import sys

import pytest
from batch_folders import STAND_IN


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Videos that say what becomes of them, and where their subjects go; commands are stand-ins."""
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr("data_tools.batch.plan.python_module", lambda module: (sys.executable, str(script), module))
    (tmp_path / "videos").mkdir()
    return tmp_path / "videos", tmp_path / "subjects"
