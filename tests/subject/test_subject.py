"""The subject on disk: what goes in comes out, and every way it can be broken is named."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthetic import make_subject

from flame_nerf.subject import SubjectError, load_subject, write_subject


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_subject(tmp_path_factory.mktemp("made") / "subject", size=24, count=6)


@pytest.fixture
def root(made, tmp_path):
    """A copy that a test may break."""
    return shutil.copytree(made.root, tmp_path / "subject")


def edit_json(root, change):
    path = root / "transforms.json"
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta))


def edit_track(root, **changes):
    path = root / "head.npz"
    arrays = dict(np.load(path))
    arrays.update(changes)
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


def test_round_trip(made):
    loaded = load_subject(made.root)
    for field in dataclasses.fields(made.track):
        want, got = getattr(made.track, field.name), getattr(loaded.track, field.name)
        if isinstance(want, np.ndarray):
            assert got.dtype == want.dtype and np.array_equal(got, want), field.name
        else:
            assert got == want, field.name
    for want, got in zip(made.frames, loaded.frames, strict=True):
        assert (want.file_path, want.mask_path, want.timestep, want.split) == (
            got.file_path, got.mask_path, got.timestep, got.split,
        )  # fmt: skip
        assert np.array_equal(want.c2w, got.c2w)
    assert (loaded.fl_x, loaded.cy, loaded.width, loaded.fps, loaded.licence) == (
        made.fl_x, made.cy, made.width, made.fps, made.licence,
    )  # fmt: skip


def test_optional_parts_survive(made, root):
    landmarks = np.full((6, 5, 2), np.nan, dtype=np.float32)
    landmarks[1] = 3.5
    track = dataclasses.replace(made.track, landmarks2d=landmarks, reprojection_error=np.arange(6, dtype=np.float32))
    frames = tuple(dataclasses.replace(f, mask_path=None) for f in load_subject(root).frames)
    subject = dataclasses.replace(made, root=root, track=track, frames=frames, extra={"tracker": {"version": 2}})
    write_subject(subject)
    loaded = load_subject(root)
    assert np.array_equal(loaded.track.landmarks2d, landmarks, equal_nan=True)
    assert loaded.track.reprojection_error[3] == 3
    assert loaded.frames[0].mask_path is None and not loaded.has_masks
    assert loaded.extra == {"tracker": {"version": 2}}


def test_the_folder_can_move(root, tmp_path):
    moved = root.rename(tmp_path / "elsewhere")
    loaded = load_subject(moved)
    assert all(moved in frame.file_path.parents for frame in loaded.frames)


def test_no_pickle_is_read(root):
    edit_track(root, identity=np.array([{"a": 1}], dtype=object))
    with pytest.raises(SubjectError, match=r"head\.npz"):
        load_subject(root)


def _nan_vertex(root):
    vertices = np.load(root / "head.npz")["vertices"]
    vertices[4, 7, 1] = np.nan
    edit_track(root, vertices=vertices)


def _truncate(root):
    path = root / "head.npz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _frame(number, **changes):
    return lambda root: edit_json(root, lambda meta: meta["frames"][number].update(changes))


def _truncated_picture(root):
    path = root / "images" / "00003.png"
    path.write_bytes(path.read_bytes()[:10])


def _wrong_size(root):
    cv2.imwrite(str(root / "masks" / "00002.png"), np.zeros((24, 25), np.uint8))


def _scaled_camera(root):
    edit_json(root, lambda m: m["frames"][1].update(transform_matrix=np.diag([2.0, 2, 2, 1]).tolist()))


BROKEN = {
    "no transforms.json": (lambda root: (root / "transforms.json").unlink(), r"holds no transforms\.json"),
    "no head.npz": (lambda root: (root / "head.npz").unlink(), r"head\.npz does not exist"),
    "truncated npz": (_truncate, r"head\.npz: cannot be read as an npz file"),
    "bad json": (lambda root: (root / "transforms.json").write_text("{,"), r"transforms\.json: is no valid JSON"),
    "plain capture": (lambda root: edit_json(root, lambda m: m.pop("flame_nerf")), r'no "flame_nerf" block'),
    "newer format": (lambda root: edit_json(root, lambda m: m["flame_nerf"].update(version=99)), r"format version 99"),
    "missing picture": (lambda root: (root / "images/00001.png").unlink(), r"frame 00001\.png: file_path .* not exist"),
    "missing mask": (lambda root: (root / "masks/00001.png").unlink(), r"frame 00001\.png: mask_path .* not exist"),
    "one mask undeclared": (
        lambda root: edit_json(root, lambda m: m["frames"][2].pop("mask_path")),
        r"frame 00002\.png has no mask_path while others have",
    ),
    "truncated picture": (_truncated_picture, r"frame 00003\.png: file_path .* cannot be read"),
    "mask of another size": (_wrong_size, r"frame 00002\.png: mask_path .* is 25x24"),
    "NaN vertex": (_nan_vertex, r"head\.npz: vertices of timestep 4"),
    "head as large as numbers go": (
        lambda root: edit_track(
            root, canonical_vertices=np.load(root / "head.npz")["canonical_vertices"] * np.float32(1e37)
        ),
        r"head\.npz: canonical_vertices holds .*absurdly large",
    ),
    "wrong shape": (
        lambda root: edit_track(root, pose=np.zeros((5, 6, 3), np.float32)),
        r"head\.npz: pose has shape \(5, 6, 3\), expected \(6, 6, 3\)",
    ),
    "wrong type": (lambda root: edit_track(root, faces=np.zeros((4, 3))), r"array faces has type float64"),
    "missing array": (lambda root: edit_track(root, region=None), r"array region is missing"),
    "face out of range": (
        lambda root: edit_track(root, faces=np.full((1, 3), 99999), region=np.zeros(1, np.int8)),
        r"faces names vertex 99999",
    ),
    "unknown split": (_frame(0, split="holdout"), r"frame 00000\.png: split is 'holdout'"),
    "timestep out of range": (_frame(5, timestep=6), r"frame 00005\.png: timestep is 6"),
    "timestep no number": (_frame(5, timestep="6"), r"00005\.png\): timestep is '6'"),
    "camera not rigid": (_scaled_camera, r"frame 00001\.png: transform_matrix is no rigid"),
    "camera of text": (_frame(1, transform_matrix="x"), r"00001\.png.*transform_matrix"),
    "camera of numbers beyond floats": (
        _frame(1, transform_matrix=[[10**400] * 4] * 4),
        r"transforms\.json: .*308 digits",
    ),
    "no focal length": (lambda root: edit_json(root, lambda m: m.pop("fl_x")), r"fl_x is None"),
    "no frames": (lambda root: edit_json(root, lambda m: m.update(frames=[])), r"lists no frames"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_subjects_are_named(root, case):
    damage, message = BROKEN[case]
    damage(root)
    with pytest.raises(SubjectError, match=message):
        load_subject(root)


def test_missing_folder(tmp_path):
    with pytest.raises(SubjectError, match="does not exist.*flame-nerf-data track"):
        load_subject(tmp_path / "nothing")


def test_full_disk_leaves_the_old_subject(made, root, monkeypatch):
    before = (root / "transforms.json").read_bytes(), (root / "head.npz").read_bytes()

    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="the disk is full: .*npz"):
        write_subject(dataclasses.replace(load_subject(root), fps=12.0))
    assert before == ((root / "transforms.json").read_bytes(), (root / "head.npz").read_bytes())
    assert not list(root.glob(".*"))


def test_interrupted_between_the_files_is_no_subject(root, monkeypatch):
    real, calls = os.replace, []

    def stop_at_second(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        write_subject(load_subject(root))
    with pytest.raises(SubjectError, match="interrupted"):
        load_subject(root)


@pytest.mark.parametrize("begin", ["root", "folder above", "absolute", "dot"])
def test_a_relative_root_is_not_joined_twice(made, tmp_path, monkeypatch, begin):
    shutil.copytree(made.root, tmp_path / "out" / "me")
    (tmp_path / "out" / "me" / "transforms.json").unlink()
    monkeypatch.chdir(tmp_path / "out" / "me" if begin == "dot" else tmp_path)
    root = Path(".") if begin == "dot" else Path("out/me")
    start = {"root": Path(), "folder above": root, "absolute": root.absolute(), "dot": Path()}[begin]

    def moved(path):
        return None if path is None else start / path.relative_to(made.root)

    frames = tuple(
        dataclasses.replace(frame, file_path=moved(frame.file_path), mask_path=moved(frame.mask_path))
        for frame in made.frames
    )
    subject = dataclasses.replace(made, root=root, frames=frames, background=moved(made.background))
    write_subject(subject) if begin != "root" else write_subject(dataclasses.replace(subject, root=made.root), root)
    again = load_subject(tmp_path / "out" / "me")
    assert [frame.file_path for frame in again.frames] == [
        tmp_path / "out" / "me" / frame.file_path.relative_to(made.root) for frame in made.frames
    ]
    # Moved elsewhere it still loads: the files name each other by the root.
    (tmp_path / "out" / "me").rename(tmp_path / "elsewhere")
    load_subject(tmp_path / "elsewhere")


def test_bad_subject_is_not_written(made, tmp_path):
    frames = (dataclasses.replace(made.frames[0], timestep=77), *made.frames[1:])
    with pytest.raises(SubjectError, match="timestep is 77"):
        write_subject(dataclasses.replace(made, frames=frames), tmp_path)
    assert list(tmp_path.iterdir()) == []
