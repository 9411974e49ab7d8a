"""Data that are not what they say: wrong conventions are named, bad input refused, interruptions leave no subject."""

import errno
import json

import commands
import cv2
import numpy as np
import pytest
from import_copies import import_from
from import_truth import make_truth, picture, silhouette
from import_writers import (
    write_insta,
    write_obj,
)
from PIL import Image

from data_tools.importers import ImportingError, conversion, import_data, pipeline, skull
from data_tools.importers.inputs.cameras import READINGS
from data_tools.importers.inputs.places import Places
from flame_nerf.subject import load_subject

INDEX_FILES = ("transforms_train.json", "transforms_val.json", "transforms_test.json")


@pytest.fixture(scope="session")
def insta(tmp_path_factory):
    root = tmp_path_factory.mktemp("insta") / "src"
    truth = make_truth("still", count=6)
    write_insta(root, truth)
    return root, truth


@pytest.fixture
def source(insta, tmp_path):
    """A copy that a test may spoil."""
    import shutil

    return shutil.copytree(insta[0], tmp_path / "src")


def edit(source, change, files=INDEX_FILES):
    for name in files:
        path = source / name
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))


def edit_matrices(source, change):
    def each(content):
        for frame in content["frames"]:
            frame["transform_matrix"] = np.asarray(change(np.array(frame["transform_matrix"]))).tolist()

    edit(source, each)


def scaled(matrix, factor):
    matrix[:3, 3] *= factor
    return matrix


WRONG = {
    "OpenGL's axes": (lambda s: edit_matrices(s, lambda m: m @ np.diag([1, -1, -1, 1])), "opencv-axes"),
    "world-to-camera": (lambda s: edit_matrices(s, np.linalg.inv), "inverse-opencv"),
    "FLAME times four": (lambda s: edit_matrices(s, lambda m: scaled(m, 4.0)), "scale-4"),
    "millimetres": (lambda s: edit_matrices(s, lambda m: scaled(m, 1000.0)), "scale-1000"),
    "half the size": (
        lambda s: edit(s, lambda c: c.update({n: c[n] / 2 for n in ("fl_x", "fl_y", "cx", "cy")})), "focal-2",
    ),
    "cy from below": (lambda s: edit(s, lambda c: c.update(cy=c["h"] - c["cy"] + 22)), None),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_convention_stops_the_import_and_is_named(source, insta, tmp_path, case):
    spoil, name = WRONG[case]
    spoil(source)
    with pytest.raises(ImportingError, match="does not lie on the pictures") as caught:
        import_from(source, tmp_path)
    assert not (tmp_path / "dst").exists()
    if name is not None:
        words = next(reading.words for reading in READINGS if reading.name == name)
        assert words in str(caught.value)
        summary = import_from(source, tmp_path, camera_fix=name)
        assert summary.outline_iou > 0.9
        subject = load_subject(tmp_path / "dst")
        view, frame = insta[1].views[2], subject.frames[2]
        w2c = np.diag([1, -1, -1, 1]) @ np.linalg.inv(frame.c2w)
        seen = subject.track.vertices[frame.timestep] @ w2c[:3, :3].T + w2c[:3, 3]
        assert np.abs(seen - insta[1].in_camera(view)).max() < 1e-4


def test_a_lost_sign_is_named_though_it_cannot_be_mended(source, tmp_path):
    for path in (source / "images").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:, ::-1])
    with pytest.raises(ImportingError, match="mirrored|right edge"):
        import_from(source, tmp_path)


def test_unchecked_writes_what_it_was_told_to(source, tmp_path):
    WRONG["FLAME times four"][0](source)
    assert import_from(source, tmp_path, unchecked=True).outline_iou < 0.3


def test_a_mirrored_pose_is_named(source, tmp_path):
    edit_matrices(source, lambda m: m @ np.diag([-1, 1, 1, 1]))
    with pytest.raises(ImportingError, match="mirrored.*negate"):
        import_from(source, tmp_path)


def test_without_mattes_it_says_that_nothing_was_checked(source, tmp_path):
    for path in (source / "images").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_COLOR))
    edit(source, lambda c: [frame.pop("seg_mask_path") for frame in c["frames"]])
    summary = import_from(source, tmp_path)
    assert summary.outline_iou is None and any("no mattes" in warning for warning in summary.warnings)
    assert not load_subject(tmp_path / "dst").has_masks


def test_clothes_are_cut_away_by_the_segmentation(source, tmp_path):
    for path in (source / "seg_mask").iterdir():
        red = cv2.imread(str(path))
        red[-30:, :, 2] = np.where(red[-30:, :, 2] > 0, 90, 0)
        cv2.imwrite(str(path), red)
    import_from(source, tmp_path)
    frame = load_subject(tmp_path / "dst").frames[0]
    mask = cv2.imread(str(frame.mask_path), cv2.IMREAD_GRAYSCALE)
    assert mask[-30:].max() == 0 and mask[:-36].max() == 255


def test_missing_frames_are_left_out_and_said(source, tmp_path):
    (source / "images" / "00001.png").unlink()
    (source / "meshes" / "00003.obj").unlink()
    summary = import_from(source, tmp_path)
    assert summary.pictures == 4
    assert dict(summary.left_out) == {
        "00001": "its picture 00001.png does not exist",
        "00003": "its mesh 00003.obj does not exist",
    }
    assert "00001.png" in summary.report.read_text()


def test_mixed_topologies_are_refused(source, insta, tmp_path):
    truth = insta[1]
    write_obj(source / "meshes" / "00004.obj", truth.vertices[4], truth.faces[:8090])
    with pytest.raises(ImportingError, match=r"00004\.obj.*8090 faces.*mixed topologies"):
        import_from(source, tmp_path)


def test_unequal_lengths_are_named(source, tmp_path):
    (source / "flame" / "exp" / "00002.txt").write_text("0.1\n0.2\n")
    with pytest.raises(ImportingError, match=r"00002\.txt has 2 coefficients"):
        import_from(source, tmp_path)


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/passwd", "images/../../x.png", "..\\..\\x.png", ""])
@pytest.mark.parametrize("field", ["file_path", "mesh_path", "exp_path"])
def test_paths_that_climb_out_are_refused(source, tmp_path, field, name):
    edit(source, lambda c: c["frames"][0].update({field: name}), INDEX_FILES[:1])
    with pytest.raises(ImportingError, match=f"frame 0: {field} is .*(leads out|another machine|expected the name)"):
        import_from(source, tmp_path)


def test_paths_inside_may_be_written_in_any_way(tmp_path):
    inner = tmp_path / "a" / "b.png"
    for name in ("a/b.png", "./a/b.png", "a\\b.png", ".\\a\\.\\b.png", str(inner)):
        assert Places(tmp_path).path(name, "here") == inner


def test_windows_line_ends_and_numbers_as_text(tmp_path):
    truth = make_truth("still", count=3)
    write_insta(tmp_path / "src", truth, newline="\r\n")
    edit(tmp_path / "src", lambda c: c.update(fl_x=str(c["fl_x"]), w=f" {int(c['w'])}", cx=f"{c['cx']}"))
    edit_matrices(tmp_path / "src", lambda m: [[f"{value:.9f}" for value in row] for row in m])
    edit(tmp_path / "src", lambda c: [f.update(file_path=f["file_path"].replace("/", "\\")) for f in c["frames"]])
    assert import_from(tmp_path / "src", tmp_path).outline_iou > 0.9
    assert load_subject(tmp_path / "dst").fl_x == 150.0


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda c: c.update(frames=None), "frames is missing"),
        (lambda c: c.pop("fl_x"), "fl_x is missing.*newer version"),
        (lambda c: c.update(fl_x="wide"), "fl_x is no array of numbers"),
        (lambda c: c.update(fl_x=float("nan")), "NaN"),
        (lambda c: c["frames"][0].update(transform_matrix=[[1, 0], [0, 1]]), r"frame 0.*\(2, 2\), expected 4 x 4"),
        (lambda c: c["frames"][0].update(transform_matrix=np.zeros((4, 4)).tolist()), "singular"),
        (lambda c: c["frames"][0].update(transform_matrix=np.diag([2, 1, 1, 1]).tolist()), "scale or shear"),
    ],
)
def test_what_is_wrong_in_an_index_is_named(source, tmp_path, change, words):
    edit(source, change, INDEX_FILES[:1])
    with pytest.raises(ImportingError, match=rf"transforms_train\.json.*{words}"):
        import_from(source, tmp_path)


def test_16_bit_pictures_go_all_the_way(source, insta, tmp_path):
    for row, view in enumerate(insta[1].views):
        matte = silhouette(insta[1], view)
        rgba = np.dstack([picture(matte)[..., ::-1], matte]).astype(np.uint16) * 257
        cv2.imwrite(str(source / "images" / f"{row:05d}.png"), rgba)
    import_from(source, tmp_path)
    frame = load_subject(tmp_path / "dst").frames[1]
    stored = Image.open(frame.file_path)
    assert stored.mode == "RGB"
    assert np.array_equal(np.asarray(stored), picture(silhouette(insta[1], insta[1].views[1])))
    assert np.array_equal(np.asarray(Image.open(frame.mask_path)) > 127, silhouette(insta[1], insta[1].views[1]) > 127)


def test_an_interrupted_import_goes_on_and_never_loads_as_whole(source, tmp_path, monkeypatch):
    written = []
    save = conversion.save_picture

    def full_disk(path, pixels):
        if len(written) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path.name)
        save(path, pixels)

    monkeypatch.setattr(conversion, "save_picture", full_disk)
    with pytest.raises(ImportingError, match="disk is full.*same command again"):
        import_from(source, tmp_path, workers=1)
    assert not (tmp_path / "dst" / "transforms.json").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "dst").rglob("*.png")}
    assert len(before) == 5
    monkeypatch.setattr(conversion, "save_picture", save)
    import_from(source, tmp_path, workers=1)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert len(load_subject(tmp_path / "dst").frames) == 6


def test_a_mesh_that_fails_in_the_middle_can_be_mended(source, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "JUDGED", 2)
    monkeypatch.setattr(skull, "SAMPLED", 2)
    path = source / "meshes" / "00003.obj"
    whole = path.read_bytes()
    path.write_bytes(whole[:5000])
    with pytest.raises(ImportingError, match=r"00003\.obj"):
        import_from(source, tmp_path)
    path.write_bytes(whole)
    assert import_from(source, tmp_path).pictures == 6


def test_a_finished_import_answers_at_once_and_another_needs_leave(source, tmp_path):
    first = import_from(source, tmp_path)
    stamp = (tmp_path / "dst" / "head.npz").stat().st_mtime_ns
    assert import_from(source, tmp_path) == first
    with pytest.raises(ImportingError, match="other data or options.*--overwrite"):
        import_from(source, tmp_path, max_frames=3)
    again = import_from(source, tmp_path, max_frames=3, overwrite=True)
    assert again.pictures == 3 and (tmp_path / "dst" / "head.npz").stat().st_mtime_ns != stamp
    with pytest.raises(ImportingError, match="written over the data"):
        import_data("insta", source, source, silent=True)


def _command(*arguments):
    return commands.run("flame-nerf-data", "import", *arguments)


def test_the_command_says_what_it_found(insta, tmp_path):
    made = _command("auto", insta[0], tmp_path / "dst")
    assert made.returncode == 0, made.stderr
    for words in ("INSTA: transforms_train.json names a mesh", "OpenCV", "5023 vertices", "IoU with the matte", "Next"):
        assert words in made.stdout
    page = (tmp_path / "dst" / "report.html").read_text()
    assert page.count("<img") == 6 and "5023 vertices" in page and "http" not in page.replace("http-equiv", "")
