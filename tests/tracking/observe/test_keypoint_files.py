"""Keypoint files of every program that is read: the same points from each, and what is wrong with them said."""

import csv
import json
import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from harm import Calls
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keypoint_writers import (
    KINDS,
    NAMES,
    SAMPLED,
    coco,
    deeplabcut_rows,
    mmpose,
    mmpose_folder,
    plain,
    points,
    sleap_rows,
    write_csv,
    write_h5,
    write_json,
    write_sleap_h5,
)

from data_tools.tracking import TrackingError
from data_tools.tracking.observe.keypoint_files import read_keypoint_file
from data_tools.tracking.observe.keypoints import on_video


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_pixels(tmp_path, kind):
    values = points()
    file = read_keypoint_file(KINDS[kind](tmp_path, values))
    found, notes = on_video(file, SAMPLED, "auto", None, 0.6)
    unnamed = kind in ("mmpose inferencer", "mmpose folder")
    column = [file.names.index(str(k) if unnamed else name) for k, name in enumerate(NAMES)]
    assert len(file.names) == len(NAMES)
    # The plain JSON counts from the picture's edge as we do, the others from the first pixel's centre.
    shift = 0.0 if kind == "plain" else 0.5
    np.testing.assert_allclose(found[:, column, :2], (values[[0, 2, 4, 6], :, :2] + shift) * 0.5, atol=1e-3)
    if kind != "coco":
        np.testing.assert_allclose(found[:, column, 2], values[[0, 2, 4, 6], :, 2], atol=1e-6)
    assert "pixels" in notes[0] and f"numbered from {int(kind == 'mmpose demo')}" in notes[0]


@pytest.mark.parametrize("end, encoding", [("\r\n", "utf-8"), ("\r", "utf-8"), ("\n", "utf-8-sig"), ("\r\n", "utf-16")])
def test_line_ends_and_encodings_of_all_systems(tmp_path, end, encoding):
    for rows in (deeplabcut_rows(points()), sleap_rows(points())):
        file = read_keypoint_file(write_csv(tmp_path / "k.csv", rows, end, encoding))
        np.testing.assert_allclose(file.points, points())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_in_any_unicode(tmp_path, encoding):
    (tmp_path / "k.json").write_bytes(json.dumps(plain(points())).encode(encoding))
    np.testing.assert_allclose(read_keypoint_file(tmp_path / "k.json").points, points())


def test_mixed_line_ends_and_numbers_as_text(tmp_path):
    lines = [",".join(map(str, row)) for row in deeplabcut_rows(points())]
    ends = (b"\n", b"\r\n")
    (tmp_path / "k.csv").write_bytes(b"".join(line.encode() + ends[row % 2] for row, line in enumerate(lines)))
    np.testing.assert_allclose(read_keypoint_file(tmp_path / "k.csv").points, points())
    document = plain(points())
    document["frames"] = {
        f" {frame} ": {name: [f" {value} " for value in point] for name, point in marks.items()}
        for frame, marks in document["frames"].items()
    }
    file = read_keypoint_file(write_json(tmp_path / "k.json", document))
    np.testing.assert_allclose(file.points, points())
    assert file.frames == tuple(range(8))


def test_labelled_pictures_of_deeplabcut(tmp_path):
    rows = [
        ["scorer", "", "", "me", "me"], ["bodyparts", "", "", "nose_tip", "nose_tip"], ["coords", "", "", "x", "y"],
        ["labeled-data", "clip", "img0004.png", "10", "20"], ["labeled-data", "clip", "img0006.png", "", ""],
    ]  # fmt: skip

    def read():
        with (tmp_path / "k.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
        return read_keypoint_file(tmp_path / "k.csv")

    file = read()
    assert file.frames == (4, 6) and file.points[0, 0].tolist() == [10, 20, 1] and np.isnan(file.points[1]).all()
    rows[4][1] = "clip2"
    with pytest.raises(TrackingError, match="clip/img0004.png and labeled-data/clip2/img0006.png are of two videos"):
        read()


def test_coco_flags_scores_and_sizes(tmp_path):
    document = coco(points(2))
    document["annotations"][0]["keypoints"][:9] = [1, 2, 0, 3, 4, 1, 5, 6, 2]
    file = read_keypoint_file(write_json(tmp_path / "k.json", document))
    assert np.isnan(file.points[0, 0]).all() and file.points[0, 1:3, 2].tolist() == [0.6, 1.0]
    # Found on pictures of half the video's size.
    assert file.size == (640, 320)
    half = replace(file, size=(320, 160), points=file.points * [0.5, 0.5, 1], shift=0.25)
    np.testing.assert_allclose(*(on_video(one, SAMPLED, "auto", None, 0.5)[0] for one in (file, half)))
    results = [{"image_id": 3, "category_id": 1, "keypoints": [10, 20, 0.9] * 5, "score": 0.8}]
    file = read_keypoint_file(write_json(tmp_path / "r.json", results))
    assert file.names == tuple("01234") and file.frames == (3,) and file.points[0, 2, 2] == 0.9


def test_points_that_a_person_placed_in_sleap_have_no_score(tmp_path):
    rows = sleap_rows(points())
    rows[3][5] = rows[3][2] = ""
    assert read_keypoint_file(write_csv(tmp_path / "k.csv", rows)).points[2, 0, 2] == 1.0
    values = points()
    values[2, 0, 2], values[3, 1, :2] = np.nan, np.nan
    found = read_keypoint_file(write_sleap_h5(tmp_path / "k.h5", values)).points
    assert found[2, 0, 2] == 1.0 and np.isnan(found[3, 1]).all()


def test_frames_without_an_animal_count(tmp_path):
    """mmpose's demos count from 1, which is told even where the first and last frames show nothing."""
    document = mmpose(points())
    document["instance_info"][0]["instances"] = document["instance_info"][7]["instances"] = []
    file = read_keypoint_file(write_json(tmp_path / "k.json", document))
    assert file.frames == tuple(range(1, 9)) and file.first_frame == 1 and np.isnan(file.points[[0, 7]]).all()
    del document["instance_info"][0], document["instance_info"][-1]
    file = read_keypoint_file(write_json(tmp_path / "k.json", document))
    found, _ = on_video(file, SAMPLED, "auto", None, 0.6)
    np.testing.assert_allclose(found[1, :, :2], (points()[2, :, :2] + 0.5) * 0.5)


HEAD = "scorer,s,s\nbodyparts,a,a\ncoords,x,y\n"
BAD = {
    "no table": ("k.csv", "a,b,c\n1,2,3\n", "no table of DeepLabCut.*nor of SLEAP"),
    "short row": ("k.csv", "scorer,s,s,s\nbodyparts,a,a,a\ncoords,x,y,likelihood\n0,1,2\n", "frame 0 has 3 cells"),
    "short header": ("k.csv", "scorer,s,s\nbodyparts,a\ncoords,x,y\n0,1,2\n", "the line bodyparts has 2 cells"),
    "word": ("k.csv", HEAD + "0,1,two\n", "'two' is not a number"),
    "twice": ("k.csv", HEAD + "0,1,2\n0,1,2\n", "frame 0 is there twice"),
    "empty": ("k.csv", HEAD, "holds no keypoints"),
    "two scorers": ("k.csv", "scorer,jo,jo,al,al\nbodyparts,a,a,a,a\ncoords,x,y,x,y\n0,1,2,3,4\n", "jo and al"),
    "one part twice": ("k.csv", "scorer,s,s,s\nbodyparts,a,a,a\ncoords,x,y,x\n0,1,2,3\n", "a x is there twice"),
    "three axes": ("k.csv", "scorer,s,s,s\nbodyparts,a,a,a\ncoords,x,y,z\n0,1,2,3\n", "column a 'z'"),
    "short sleap": ("k.csv", "track,frame_idx,instance.score,a.x,a.y\n,0,1,2\n", "line 2 has 4 cells"),
    "broken": ("k.json", '{"frames": ', "ends too soon, in line 1"),
    "slip": ("k.json", '{"frames": {},}', "no valid JSON: line 1"),
    "other": ("k.json", '{"people": []}', "neither COCO.* it holds an object with people"),
    "length": ("k.json", '{"keypoints": ["a", "b"], "frames": {"0": [[1, 2]]}}', 'list of 1 points'),
    "point": ("k.json", '{"frames": {"0": {"nose": [1]}}}', r"frame 0, nose: is \[1\], expected"),
    "units": ("k.json", '{"units": "metres", "frames": {"0": {"nose": [1, 2]}}}', '"units" is'),
    "two spellings": ("k.json", '{"frames": {"0": {"n": [1, 2]}, "00": {"n": [1, 2]}}}', "frame 0 is there twice"),
    "half numbered": ("k.json", '{"frames": [{"frame": 3, "points": {"n": [1, 2]}}, {"points": {"n": [1, 2]}}]}',
                      "entry 0 says its .frame., entry 1 does not"),
    "coco length": ("k.json", '{"annotations": [{"image_id": 1, "keypoints": [1, 2]}, {"image_id": 2, "keypoints": '
                    '[1, 2, 2]}]}', "expected 0"),
    "one picture": ("k.json", '[{"keypoints": [[1, 2]], "keypoint_scores": [1]}]', "one picture.* Give the folder"),
    "three axes of mmpose": ("k.json", '[{"frame_id": 1, "instances": [{"keypoints": [[1, 2, 3]]}]}]',
                             r"frame 1, instance 0: keypoints must be a list of \[x, y\]"),
    "no h5": ("k.h5", "not at all", "does not begin as an HDF5"),
    "ending": ("k.xlsx", "x", "not from .xlsx"),
    "project": ("k.slp", "x", "SLEAP's project. Export its analysis"),
    "latin": ("k.csv", "scorer,s\xff,s\n", "no Unicode text"),
}  # fmt: skip


@pytest.mark.parametrize("name, text, message", BAD.values(), ids=BAD.keys())
def test_what_is_wrong_with_a_file_is_said(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(TrackingError, match=message) as caught:
        read_keypoint_file(tmp_path / name)
    assert name in str(caught.value)


def test_what_is_wrong_with_a_folder_is_said(tmp_path):
    folder = mmpose_folder(tmp_path / "p", points(2))
    write_json(folder / "frame_00009_v2.json", {"frames": {}})
    with pytest.raises(TrackingError, match=r"frame_00009_v2\.json: is no prediction of mmpose"):
        read_keypoint_file(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrackingError, match=r"empty: holds no \.json"):
        read_keypoint_file(tmp_path / "empty")


def test_an_h5_that_would_run_something_is_refused(tmp_path):
    path = write_h5(tmp_path / "k.h5", points(), "table")
    with h5py.File(path, "a") as file:
        file["df_with_missing/table"].attrs["values_block_0_kind"] = np.bytes_(
            pickle.dumps(Calls(Path.touch, tmp_path / "ran"), 0)
        )
    with pytest.raises(TrackingError, match="k.h5"):
        read_keypoint_file(path)
    assert not (tmp_path / "ran").exists()


# Damage of every kind ends in the project's error.

JUNK = st.sampled_from(
    [None, True, -1, 0, 2.5, float("nan"), 10**30, "", "x", "7", [], [[]], {}, {"a": 1}, ["a", None]]
)
WILD = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def read_or_refuse(path: Path) -> None:
    try:
        file = read_keypoint_file(path)
    except TrackingError as error:
        assert path.name in str(error)
    else:
        assert file.points.shape == (len(file.frames), len(file.names), 3)


def swap(value, draw):
    """The content of a JSON with one place, anywhere, replaced or left out."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.booleans()) and draw(st.booleans()):
            return {name: one for name, one in value.items() if name != key}
        return value | {key: swap(value[key], draw)}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], swap(value[at], draw), *value[at + 1 :]]
    return draw(JUNK)


@pytest.mark.parametrize("kind", ["coco", "mmpose demo", "mmpose inferencer", "plain"])
@WILD
@given(st.data())
def test_json_with_any_place_changed_is_read_or_refused(tmp_path, kind, data):
    path = KINDS[kind](tmp_path, points(3))
    document = swap(json.loads(path.read_text()), data.draw)
    read_or_refuse(write_json(path, document))


@pytest.mark.parametrize("rows", [deeplabcut_rows(points(3)), sleap_rows(points(3))], ids=["deeplabcut", "sleap"])
@WILD
@given(data=st.data())
def test_a_table_with_any_cell_changed_is_read_or_refused(tmp_path, rows, data):
    row = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.integers(0, len(rows[row]) - 1))
    changed = [list(cells) for cells in rows]
    text = data.draw(st.text(max_size=5))
    changed[row][column : column + 1] = [text] if data.draw(st.booleans()) else []
    read_or_refuse(write_csv(tmp_path / "k.csv", changed, encoding="utf-8-sig"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mmpose folder"])
@settings(WILD, max_examples=15)
@given(part=st.floats(0, 1), flip=st.booleans())
def test_a_file_cut_short_or_overwritten_is_read_or_refused(tmp_path, kind, part, flip):
    path = KINDS[kind](tmp_path, points(3))
    data = path.read_bytes()
    at = int(part * len(data))
    path.write_bytes(data[:at] + (b"\xff\x00\xfe" + data[at + 3 :] if flip else b""))
    read_or_refuse(path)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "h5" in kind or "table" in kind or "fixed" in kind])
def test_an_h5_with_any_part_gone_or_of_another_kind_is_refused(tmp_path, kind):
    parts = []
    with h5py.File(KINDS[kind](tmp_path, points(3))) as file:
        file.visit(parts.append)
    for part in parts:
        for instead in (None, np.float64(3.5), np.array([b"x", b"y"]), np.zeros((0, 2))):
            path = KINDS[kind](tmp_path, points(3))
            with h5py.File(path, "a") as file:
                del file[part]
                if instead is not None:
                    file[part] = instead
            read_or_refuse(path)
