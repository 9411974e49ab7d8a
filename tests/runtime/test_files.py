"""Files and folders under their name are whole: whatever happens meanwhile, what was there before stays."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flame_nerf.runtime.files import spare_name, take_place, whole, whole_folder

KILLED = """
import os, sys
from pathlib import Path
from flame_nerf.runtime.files import whole, whole_folder
kind, path, alone = {"file": whole, "folder": whole_folder}[sys.argv[1]], Path(sys.argv[2]), sys.argv[3] == "alone"
with kind(path, alone=alone) as spare:
    (spare if kind is whole else spare / "half").write_text("half")
    os._exit(9)
"""


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("synced", [False, True])
def test_a_file_appears_whole(tmp_path, alone, synced):
    path = tmp_path / "new" / "folder" / "notes.json"
    with whole(path, alone=alone, synced=synced) as spare:
        spare.write_text("all")
        assert not path.exists() and spare.parent == path.parent
    assert path.read_text() == "all" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError(), KeyboardInterrupt()])
def test_what_goes_wrong_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "notes.json"
    path.write_text("old")
    with pytest.raises(type(error)), whole(path) as spare:
        spare.write_text("half")
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_disk_that_refuses_at_the_end_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "notes.json"
    path.write_text("old")

    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="the disk is full: .* are free"), whole(path) as spare:
        spare.write_text("new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with whole(path, synced=False) as spare:
        spare.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_run_left_is_written_over(tmp_path, kind):
    path = tmp_path / "result"
    done = subprocess.run([sys.executable, "-c", KILLED, kind, path, "alone"], timeout=120)
    assert done.returncode == 9 and not path.exists() and len(list(tmp_path.iterdir())) == 1
    with {"file": whole, "folder": whole_folder}[kind](path, alone=True) as spare:
        (spare if kind == "file" else spare / "all").write_text("all")
    assert list(tmp_path.iterdir()) == [path]
    assert kind == "file" or [one.name for one in path.iterdir()] == ["all"]


def test_two_processes_do_not_write_into_one_another(tmp_path):
    path = tmp_path / "notes.json"
    print_name = "import sys; from pathlib import Path; from flame_nerf.runtime.files import spare_name; "
    other = subprocess.check_output([sys.executable, "-c", print_name + "print(spare_name(Path('a')))"], text=True)
    assert other.strip() not in (spare_name(path.with_name("a")).name, ".a.part")
    with whole(path) as mine, whole(path, alone=True) as alone:
        assert mine != alone
        mine.write_text("all")
        alone.write_text("alone")


def test_a_folder_takes_the_place_of_another(tmp_path):
    folder = tmp_path / "subject"
    for name in ("first", "second"):
        with whole_folder(folder) as spare:
            (spare / name).write_text(name)
    assert [path.name for path in folder.iterdir()] == ["second"] and list(tmp_path.iterdir()) == [folder]
    with pytest.raises(ValueError), whole_folder(folder) as spare:
        raise ValueError
    assert [path.name for path in folder.iterdir()] == ["second"] and list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path):
    folder = tmp_path / "subject"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(OSError):
        take_place(tmp_path / "never made", folder)
    assert (folder / "old").exists() and list(tmp_path.iterdir()) == [folder]
