"""The plan of the house: few rooms on the first floor, files read in one sitting, folders that one can look over."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FIRST_FLOOR = 25
LINES = 350
FILES = 15
CROWDED = {"flame_nerf/kernels/cpu"}
"""Folders whose files each hold one kernel, and are looked for by its name."""


def test_the_first_floor_has_few_rooms():
    floor = (ROOT / "flame_nerf").iterdir()
    rooms = [path for path in floor if path.suffix == ".py" or (path / "__init__.py").exists()]
    names = sorted(path.stem for path in rooms if path.stem != "__init__")
    assert len(names) <= FIRST_FLOOR, names
    # What Nerfstudio looks for, under the names that its users know.
    assert {"methods", "dataparser", "datamanager", "model", "field"} <= set(names)


@pytest.mark.parametrize("folder", ["flame_nerf", "data_tools", "tests", "benchmarks"])
def test_files_are_short_and_folders_are_not_crowded(folder):
    crowds: dict[str, int] = {}
    for path in (ROOT / folder).rglob("*.py"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= LINES, f"{path.relative_to(ROOT)} has {lines} lines"
        if path.name != "__init__.py" and folder in ("flame_nerf", "data_tools"):
            where = str(path.parent.relative_to(ROOT))
            crowds[where] = crowds.get(where, 0) + 1
    assert {where: count for where, count in crowds.items() if count > FILES and where not in CROWDED} == {}
