"""Subjects written for other tools: read back by our importers, they are the same."""

import json
import shutil
from dataclasses import replace

import commands
import cv2
import numpy as np
import pytest
from flame_like import flame_forward, head_from_arrays, make_flame_like
from import_truth import make_truth
from import_writers import (
    write_insta,
    write_vhap,
)
from synthetic import make_subject

from data_tools.exporters import ExportConfig, ExportError, export_subject
from data_tools.importers import ImportConfig, import_data
from flame_nerf.heads import save_head
from flame_nerf.subject import load_subject, write_subject


@pytest.fixture(scope="module")
def flame(tmp_path_factory):
    path = tmp_path_factory.mktemp("flame") / "flame.npz"
    save_head(head_from_arrays(make_flame_like()), path, half_bases=False)
    return path


@pytest.fixture(scope="module")
def of_flame(tmp_path_factory, flame):
    """A subject before three cameras, posed with FLAME."""
    root = tmp_path_factory.mktemp("subject")
    write_vhap(root / "src", make_truth("rig", count=3))
    import_data("vhap", root / "src", root / "dst", ImportConfig(flame=flame), silent=True)
    return root / "dst"


def in_camera(subject, frame):
    w2c = np.linalg.inv(frame.c2w)
    return subject.track.vertices[frame.timestep] @ w2c[:3, :3].T + w2c[:3, 3]


def assert_same(first, second):
    assert len(first.frames) == len(second.frames)
    for one, other in zip(first.frames, second.frames, strict=True):
        assert np.abs(in_camera(first, one) - in_camera(second, other)).max() < 1e-5
        assert np.allclose(first.intrinsics_of(one), second.intrinsics_of(other), atol=1e-6)
        assert one.split == other.split
        masks = [cv2.imread(str(frame.mask_path), cv2.IMREAD_GRAYSCALE).astype(int) for frame in (one, other)]
        assert np.abs(masks[0] - masks[1]).max() <= 1
        inside = masks[0] == 255
        pictures = [cv2.imread(str(frame.file_path)).astype(int) for frame in (one, other)]
        assert np.array_equal(pictures[0][inside], pictures[1][inside])


def test_insta_and_back(tmp_path):
    write_insta(tmp_path / "src", make_truth("still", count=5))
    import_data("insta", tmp_path / "src", tmp_path / "one", silent=True)
    export_subject("insta", tmp_path / "one", tmp_path / "out", silent=True)
    import_data("auto", tmp_path / "out", tmp_path / "two", silent=True)
    first, second = load_subject(tmp_path / "one"), load_subject(tmp_path / "two")
    assert_same(first, second)
    assert np.abs(first.track.expression - second.track.expression).max() < 1e-6
    assert np.abs(first.track.canonical_vertices - second.track.canonical_vertices).max() < 1e-6


def test_insta_takes_any_mesh_with_depth_and_classes(tmp_path):
    subject = make_subject(tmp_path / "egg", size=64, count=6)
    summary = export_subject("insta", subject.root, tmp_path / "out", silent=True)
    assert any("not FLAME's" in note for note in summary.notes)
    content = json.loads((tmp_path / "out" / "transforms_train.json").read_text())
    frame = content["frames"][0]
    assert all((tmp_path / "out" / frame[name]).is_file() for name in frame if name.endswith("_path"))
    depth = cv2.imread(str(tmp_path / "out" / frame["depth_path"]), cv2.IMREAD_UNCHANGED)
    # The head's middle is 0.6 m away and its front 7.5 to 8.5 cm nearer.
    assert depth.dtype == np.uint16 and 500 < depth[32, 32] * content["integer_depth_scale"] * 1000 < 540
    classes = cv2.imread(str(tmp_path / "out" / frame["seg_mask_path"]))[..., 2]
    assert classes[0, 0] == 0 and {250, 130, 200} <= set(np.unique(classes))
    assert len((tmp_path / "out" / frame["exp_path"]).read_text().split()) == 100


def test_vhap_and_back(of_flame, tmp_path, flame):
    export_subject("vhap", of_flame, tmp_path / "out", silent=True)
    import_data("auto", tmp_path / "out", tmp_path / "two", ImportConfig(flame=flame), silent=True)
    assert_same(load_subject(of_flame), load_subject(tmp_path / "two"))


def test_vhap_parameters_are_flame_s_own(of_flame, tmp_path):
    """FLAME's forward pass from the written numbers, seen by the written cameras, gives the subject's heads."""
    export_subject("vhap", of_flame, tmp_path / "out", silent=True)
    subject, model = load_subject(of_flame), make_flame_like()
    content = json.loads((tmp_path / "out" / "transforms.json").read_text())
    for entry, frame in list(zip(content["frames"], subject.frames, strict=True))[::4]:
        with np.load(tmp_path / "out" / entry["flame_param_path"]) as found:
            pose = np.concatenate([found[n].reshape(-1, 3) for n in ("rotation", "neck_pose", "jaw_pose", "eyes_pose")])
            posed = flame_forward(model, found["shape"], found["expr"], pose[None], found["translation"])[0]
            assert "static_offset" not in found.files
        w2c = np.linalg.inv(np.array(entry["transform_matrix"]))
        assert np.abs(posed @ w2c[:3, :3].T + w2c[:3, 3] - in_camera(subject, frame)).max() < 1e-5
        assert (entry["fl_x"], entry["cy"]) == pytest.approx((frame.intrinsics[0], frame.intrinsics[3]))


def test_vhap_s_cameras_keep_their_numbers_where_pictures_are_missing(of_flame, flame, tmp_path):
    """By what the cameras are, not by their order within a moment."""
    subject = load_subject(of_flame)
    frames = [frame for row, frame in enumerate(subject.frames) if row not in (3, 7)]
    shutil.copytree(of_flame, tmp_path / "part")
    own = tmp_path / "part"
    moved = [
        replace(
            frame,
            file_path=own / frame.file_path.relative_to(subject.root),
            mask_path=own / frame.mask_path.relative_to(subject.root),
        )
        for frame in frames
    ]
    write_subject(replace(subject, frames=tuple(moved), root=tmp_path / "part", head_model=str(flame)))
    summary = export_subject("vhap", tmp_path / "part", tmp_path / "out", silent=True)
    content = json.loads((tmp_path / "out" / "transforms.json").read_text())
    of_focal = {}
    for entry in content["frames"]:
        of_focal.setdefault(round(entry["fl_x"], 2), set()).add(entry["camera_index"])
    assert [len(indices) for indices in of_focal.values()] == [1, 1, 1] and not summary.notes
    assert len(content["frames"]) == 7 and set.union(*of_focal.values()) == {0, 1, 2}


def test_a_head_that_is_not_flame_cannot_become_vhap(tmp_path):
    subject = make_subject(tmp_path / "egg", size=32, count=3)
    with pytest.raises(ExportError, match="FLAME"):
        export_subject("vhap", subject.root, tmp_path / "out", silent=True)


def test_several_cameras_cannot_become_insta(of_flame, tmp_path):
    with pytest.raises(ExportError, match="3 different cameras.*vhap"):
        export_subject("insta", of_flame, tmp_path / "out", silent=True)


def test_folders_are_not_overwritten_and_interruptions_go_on(tmp_path, monkeypatch):
    from data_tools.exporters import insta

    subject = make_subject(tmp_path / "egg", size=32, count=5)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ExportError, match="not empty"):
        export_subject("insta", subject.root, tmp_path / "out", silent=True)
    with pytest.raises(ExportError, match="no export left there"):
        export_subject("insta", subject.root, tmp_path / "out", ExportConfig(overwrite=True), silent=True)
    write_obj, written = insta.write_obj, []

    def stop(path, *rest):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write_obj(path, *rest)

    monkeypatch.setattr(insta, "write_obj", stop)
    with pytest.raises(KeyboardInterrupt):
        export_subject("insta", subject.root, tmp_path / "new", ExportConfig(workers=1), silent=True)
    assert not (tmp_path / "new" / "transforms.json").exists()
    before = {path: path.stat().st_mtime_ns for path in written}
    monkeypatch.setattr(insta, "write_obj", write_obj)
    export_subject("insta", subject.root, tmp_path / "new", ExportConfig(workers=1), silent=True)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert len(json.loads((tmp_path / "new" / "transforms.json").read_text())["frames"]) == 5
    export_subject("insta", subject.root, tmp_path / "new", ExportConfig(overwrite=True), silent=True)


def test_the_command(tmp_path):
    subject = make_subject(tmp_path / "egg", size=32, count=3)
    made = commands.run("flame-nerf-data", "export", "insta", subject.root, tmp_path / "out")
    assert made.returncode == 0 and "Pictures      3" in made.stdout, made.stderr
