"""Files have their blocks before they are mapped, and a full disk is told in words: which file, how much it needs."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from test_files import KILLED

from flame_nerf.runtime.files import DiskFull, refusal_at, whole, whole_folder
from flame_nerf.runtime.space import mapped_file


@contextmanager
def no_larger_than(size: int):
    """No file of this process may become larger: what a full disk does, without filling one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _cannot(*_):
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


@pytest.mark.parametrize("reserves", [True, False])
def test_a_mapped_file_has_its_blocks_and_is_gone_on_with(tmp_path, monkeypatch, reserves):
    if not reserves:
        monkeypatch.setattr(os, "posix_fallocate", _cannot, raising=False)
    path = tmp_path / "part" / "vertices.npy"
    array = mapped_file(path, (1000, 300, 3), np.float32)
    assert path.stat().st_blocks * 512 >= 1000 * 300 * 3 * 4
    assert array.shape == (1000, 300, 3) and not array.any()
    array[7] = 3
    array.flush()
    again = mapped_file(path, (1000, 300, 3), np.float32)
    assert (again[7] == 3).all() and np.load(path).sum() == 3 * 900
    assert [one.name for one in path.parent.iterdir()] == ["vertices.npy"]


@pytest.mark.parametrize("reserves", [True, False])
def test_no_room_to_map_is_an_error_and_no_file(tmp_path, monkeypatch, reserves):
    if not reserves:
        monkeypatch.setattr(os, "posix_fallocate", _cannot, raising=False)
    path = tmp_path / "vertices.npy"
    with no_larger_than(100_000), pytest.raises(DiskFull, match=r"than 100\.0 kB here \(ulimit -f\): it needs 3\.6 MB"):
        mapped_file(path, (1000, 300, 3), np.float32)
    assert list(tmp_path.iterdir()) == []
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(DiskFull, match=r"disk is full: it needs 3\.6 MB, 1\.0 kB are free") as caught:
        mapped_file(path, (1000, 300, 3), np.float32)
    assert caught.value.errno == errno.ENOSPC and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size, needs", [(5_000_000, r"needs 5\.0 MB"), (None, r"needs more than 4\.1 kB")])
def test_no_room_for_a_file_names_it_and_leaves_none(tmp_path, size, needs):
    path = tmp_path / "picture.png"
    with no_larger_than(4096), pytest.raises(DiskFull, match=needs) as caught, whole(path, size=size) as spare:
        spare.write_bytes(bytes(5_000_000))
    assert caught.value.filename == str(path) and list(tmp_path.iterdir()) == []


def test_a_refusal_that_a_library_keeps_to_itself_is_found_out(tmp_path):
    path = tmp_path / "weights.ckpt"
    path.write_bytes(bytes(3000))
    with no_larger_than(4096):
        assert refusal_at(path) == errno.EFBIG
    assert refusal_at(path) is None


def test_a_disk_without_numbers_for_files_is_not_called_full(tmp_path, monkeypatch):
    told = os.statvfs(tmp_path)
    numbers = os.statvfs_result([*told[:5], 1000, 0, 0, *told[8:]])
    monkeypatch.setattr(os, "statvfs", lambda _: numbers)
    assert "no room for another file" in DiskFull(errno.ENOSPC, tmp_path / "a.png", 10).strerror


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path, kind):
    path, make = tmp_path / "result", {"file": whole, "folder": whole_folder}[kind]
    subprocess.run([sys.executable, "-c", KILLED, kind, path, "several"], timeout=120)
    (left,) = tmp_path.iterdir()
    living = left.with_name(left.name.replace(left.name.split("-")[-1], f"{os.getppid()}.part"))
    elsewhere = left.with_name(left.name.replace(left.name.split(".")[-2], "another-7"))
    for spare in (living, elsewhere):
        spare.touch()
    with make(path) as spare:
        (spare if kind == "file" else spare / "all").write_text("all")
    assert sorted(tmp_path.iterdir()) == sorted([path, living, elsewhere])
