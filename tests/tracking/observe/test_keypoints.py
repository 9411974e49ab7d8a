"""Keypoints of a file brought onto a head model and onto a video's frames."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from keypoint_writers import KINDS, NAMES, SAMPLED, deeplabcut_rows, points, write_csv
from track_clips import steady, write_video
from track_heads import egg_head

from data_tools.tracking import TrackConfig, TrackingError, track
from data_tools.tracking.observe.keypoint_files import read_keypoint_file
from data_tools.tracking.observe.keypoint_readers.record import KeypointFile
from data_tools.tracking.observe.keypoints import head_with_keypoints, on_video, read_keypoint_map

# On the video.


def test_missing_points_and_frames_and_doubts(tmp_path):
    values = points()
    values[2, 1] = np.nan
    values[4, :, 2] = 0.3
    rows = deeplabcut_rows(values)
    rows[3 + 2][4:7] = ["", "nan", "NaN"]
    del rows[3 + 6]
    found, _ = on_video(read_keypoint_file(write_csv(tmp_path / "k.csv", rows)), SAMPLED, "auto", None, 0.6)
    assert np.isnan(found[1, 1]).all() and np.isfinite(found[1, [0, 2, 3, 4]]).all()
    assert np.isnan(found[2]).all(), "unsure points"
    assert np.isnan(found[3]).all(), "a frame that the file leaves out"


def test_units_are_told_or_said(tmp_path):
    values = points()
    fractions = KeypointFile(tmp_path, NAMES, tuple(range(8)), values / [640, 320, 1], shift=0.5)
    found, notes = on_video(fractions, SAMPLED, "auto", None, 0.6)
    np.testing.assert_allclose(found[..., :2], values[[0, 2, 4, 6], :, :2] * 0.5)
    assert "normalised" in notes[0]
    in_pixels = replace(fractions, points=values)
    with pytest.raises(TrackingError, match="--keypoint-units pixels"):
        on_video(in_pixels, SAMPLED, "normalised", None, 0.6)
    with pytest.raises(TrackingError, match="outside the 640x320"):
        on_video(replace(fractions, points=values * [8, 8, 1]), SAMPLED, "auto", None, 0.6)
    with pytest.raises(TrackingError, match="--min-likelihood"):
        on_video(replace(fractions, points=values * [1, 1, 0.1]), SAMPLED, "auto", None, 0.6)


def test_numbers_from_one_are_noticed_and_numbers_beyond_refused(tmp_path):
    values = points()
    from_one = KeypointFile(tmp_path / "k.csv", NAMES, tuple(range(1, 9)), values)
    found, notes = on_video(from_one, SAMPLED, "auto", None, 0.6)
    np.testing.assert_allclose(found[0, :, :2], values[0, :, :2] * 0.5)
    assert "numbered from 1" in notes[0]
    with pytest.raises(TrackingError, match=r"k\.csv: has frame 8, but the video's 8 frames are numbered 0 to 7"):
        on_video(from_one, SAMPLED, "auto", 0, 0.6)
    with pytest.raises(TrackingError, match="frame 20"):
        on_video(replace(from_one, frames=(*range(7), 20)), SAMPLED, "auto", None, 0.6)
    # A run that stopped early does not know how long the video is.
    on_video(replace(from_one, frames=(*range(7), 20)), replace(SAMPLED, total=None), "auto", None, 0.6)
    # From 1 and not to the end: both ways fit.
    short = replace(from_one, frames=tuple(range(1, 8)), points=values[:7])
    for sampled in (SAMPLED, replace(SAMPLED, total=None)):
        with pytest.raises(TrackingError, match=r"k\.csv: frames are numbered from 1 to 7.*Say with --first-frame"):
            on_video(short, sampled, "auto", None, 0.6)
    for told in (
        on_video(short, SAMPLED, "auto", 1, 0.6),
        on_video(replace(short, first_frame=1), SAMPLED, "auto", None, 0.6),
    ):
        np.testing.assert_allclose(told[0][1, :, :2], values[2, :, :2] * 0.5)
    by_name = replace(from_one, frames=tuple("abcdefgh"))
    found, notes = on_video(by_name, SAMPLED, "auto", None, 0.6)
    np.testing.assert_allclose(found[1, :, :2], values[2, :, :2] * 0.5)
    with pytest.raises(TrackingError, match="no frame number"):
        on_video(replace(by_name, frames=tuple("abcdefg"), points=values[:7]), SAMPLED, "auto", None, 0.6)


# On the head.


def named_egg():
    head = egg_head()
    return replace(head, landmarks=replace(head.landmarks, names=tuple(f"point_{i}" for i in range(200))))


def file_of(names) -> KeypointFile:
    return KeypointFile(Path("k.csv"), tuple(names), (0,), np.zeros((1, len(names), 3)))


def test_the_heads_own_names_are_found_however_they_are_spelt():
    file = file_of(["Point 7", "point_3", "POINT-9", "point_0", "tail"])
    head, used = head_with_keypoints(named_egg(), file, None, "egg.npz")
    own = named_egg().landmarks
    assert head.landmarks.face.tolist() == own.face[[7, 3, 9, 0]].tolist()
    assert used.names == ("Point 7", "point_3", "POINT-9", "point_0") == head.landmarks.names
    assert "tail" in used.notes[0]


def test_a_misspelt_name_is_named_with_what_it_is_like():
    with pytest.raises(TrackingError, match=r"no keypoint 'pointt_12'; it has point_12"):
        head_with_keypoints(named_egg(), file_of(["pointt_12", *(f"point_{i}" for i in range(5))]), None, "egg.npz")
    with pytest.raises(TrackingError, match="0 of its keypoints"):
        head_with_keypoints(named_egg(), file_of(["tail", "paw"]), None, "egg.npz")
    with pytest.raises(TrackingError, match="no named keypoints.*--keypoint-map"):
        head_with_keypoints(egg_head(), file_of(["nose"]), None, "egg.npz")


def test_a_map_says_where_points_are(tmp_path):
    document = {
        "nose": 12, "chin": {"vertex": "30", "weight": 0.5}, "brow": {"face": 5, "barycentric": [0.2, 0.3, 0.5]},
        "ear": {"landmark": 152}, "tail": None,
    }  # fmt: skip
    (tmp_path / "map.json").write_text(json.dumps(document))
    egg, file = egg_head(), file_of(["nose", "brow", "tail", "chin", "ear", "paw"])
    head, used = head_with_keypoints(egg, file, read_keypoint_map(tmp_path / "map.json"), "map.json")
    placed = head.landmark_points(head.template)
    mesh = egg.template
    expected = torch.stack([
        mesh[12], mesh[30], torch.tensor([0.2, 0.3, 0.5]) @ mesh[egg.faces[5]], egg.landmark_points(mesh)[152]
    ])  # fmt: skip
    torch.testing.assert_close(placed, expected)
    assert used.names == ("nose", "chin", "brow", "ear") and head.landmarks.weight.tolist() == [1.0, 0.5, 1.0, 1.0]
    assert "paw" in used.notes[0] and "tail" in used.notes[0]


@pytest.mark.parametrize(
    "place, message",
    [(99999, "vertex is 99999, expected a whole number from 0 to"), (-1, "vertex is -1"), ({"face": 1e9}, "face is"),
     ({"face": 3, "barycentric": [1, 1, 0]}, "sum to 1"), ("nose", "no landmark number"), ({}, "names no place"),
     ({"vertex": 3, "weight": 7}, "weight is 7")],
)  # fmt: skip
def test_places_off_the_mesh_are_named(place, message):
    with pytest.raises(TrackingError, match=rf"map\.json: keypoint a.*{message}"):
        head_with_keypoints(egg_head(), file_of(["a", "b"]), {"a": place, "b": 1}, "map.json")


def test_a_map_of_other_keypoints_is_refused():
    with pytest.raises(TrackingError, match="'noes', which k.csv does not have; it has nose"):
        head_with_keypoints(egg_head(), file_of(["nose", "ear"]), {"noes": 1}, "map.json")


def test_a_head_in_other_units_is_refused():
    egg = named_egg()
    with pytest.raises(TrackingError, match="Scale the model"):
        head_with_keypoints(
            replace(egg, template=egg.template * 1000), file_of([f"point_{i}" for i in range(9)]), None, "egg.npz"
        )


# Options.


def test_options_that_need_each_other(tmp_path):
    video = write_video(tmp_path / "v.mp4", [np.zeros((64, 64, 3), np.uint8)] * 3, steady(3))
    keypoints = KINDS["deeplabcut csv"](tmp_path, points())
    with pytest.raises(TrackingError, match="--keypoints needs --mattes"):
        track(video, tmp_path / "s", TrackConfig(keypoints=keypoints), silent=True)
    with pytest.raises(TrackingError, match="give the --keypoints too"):
        track(video, tmp_path / "s", TrackConfig(keypoint_map=tmp_path / "m.json"), silent=True)
    with pytest.raises(TrackingError, match="--individual says .* give the --keypoints too"):
        track(video, tmp_path / "s", TrackConfig(individual="rex"), silent=True)
    with pytest.raises(TrackingError, match="no such keypoint file"):
        track(video, tmp_path / "s", TrackConfig(keypoints=tmp_path / "none.csv", mattes=tmp_path), silent=True)
    with pytest.raises(TrackingError, match="--min-likelihood"):
        track(video, tmp_path / "s", TrackConfig(min_likelihood=60), silent=True)
