"""Kernels are compiled where neither the package nor the home may be written to."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from flame_nerf.runtime import kernel_cache
from flame_nerf.runtime.kernel_cache import VARIABLE, settle_kernel_cache


@pytest.fixture
def nowhere(tmp_path, monkeypatch) -> Path:
    """Only the temporary folder may be written to."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(kernel_cache, "_may_be_made", lambda _: False)
    monkeypatch.setattr(kernel_cache.sys, "modules", {})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    os.environ.pop(VARIABLE, None)


def test_a_folder_of_one_s_own_is_named_and_found_again(nowhere):
    settle_kernel_cache()
    named = Path(os.environ.pop(VARIABLE))
    assert named.parent == nowhere and stat.S_IMODE(named.stat().st_mode) == 0o700
    settle_kernel_cache()
    assert Path(os.environ[VARIABLE]) == named


@pytest.mark.parametrize("spoil", ["others may write there", "a link"])
def test_what_somebody_else_could_have_put_there_is_not_run(nowhere, tmp_path, spoil):
    folder = nowhere / f"flame_nerf-kernels-{os.getuid()}"
    if spoil == "a link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "theirs")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    settle_kernel_cache()
    named = Path(os.environ[VARIABLE])
    assert named != folder and not named.is_symlink() and stat.S_IMODE(named.stat().st_mode) == 0o700


def test_where_the_usual_places_will_do_nothing_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "there"))
    settle_kernel_cache()
    assert VARIABLE not in os.environ


def test_a_chosen_folder_stays(nowhere, monkeypatch):
    monkeypatch.setenv(VARIABLE, "/chosen")
    settle_kernel_cache()
    assert os.environ[VARIABLE] == "/chosen"
