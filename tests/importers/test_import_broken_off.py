"""Imports that break off, on a full disk or killed: one line, and the same command again makes the same subject."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
from import_truth import make_truth
from import_writers import write_insta

from data_tools.importers import ImportingError, conversion, import_data, pipeline
from data_tools.runs import workspace
from flame_nerf.subject import load_subject


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("broken_off") / "src"
    write_insta(root, make_truth("still", 4))
    return root


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory) -> Path:
    return run(source, tmp_path_factory.mktemp("whole"))


def run(source: Path, folder: Path) -> Path:
    import_data("insta", source, folder / "dst", silent=True)
    return folder / "dst"


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def assert_same(made: Path, whole: Path) -> None:
    assert files(made) == files(whole)
    with np.load(made / "head.npz") as arrays, np.load(whole / "head.npz") as wanted:
        assert arrays.files == wanted.files and all(np.array_equal(arrays[n], wanted[n]) for n in wanted.files)
    for name in files(whole):
        if name.endswith((".png", ".jpg")):
            assert (made / name).read_bytes() == (whole / name).read_bytes()


def test_no_room_for_the_meshes_is_one_line_and_goes_on(source, whole, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Larger than any picture, smaller than the meshes: a mapped file without blocks would end the process here.
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    try:
        with pytest.raises(
            ImportingError, match=r"vertices\.npy: .*than 60\.0 kB here.*it needs \d.*\. Raise the limit \(ulimit"
        ) as caught:
            run(source, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    left = files(tmp_path / "dst")
    assert "\n" not in str(caught.value) and "transforms.json" not in left
    assert not [name for name in left if name.endswith((".part", ".npy"))]
    assert_same(run(source, tmp_path), whole)


@pytest.mark.parametrize("stage", ["a picture", "the meshes", "the subject", "tidying up"])
def test_stopped_at_any_stage_it_goes_on_to_the_same(source, whole, tmp_path, monkeypatch, stage):
    module, name = {
        "a picture": (conversion, "matte_of"),
        "the meshes": (conversion, "mapped_file"),
        "the subject": (pipeline, "write_subject"),
        "tidying up": (workspace, "end_parts"),
    }[stage]

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, name, stop)
        run(source, tmp_path)
    assert files(tmp_path / "dst") != files(whole)
    assert_same(run(source, tmp_path), whole)
    assert len(load_subject(tmp_path / "dst").frames) == 4
