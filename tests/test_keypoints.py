"""Keypoint files of other programs, brought onto a head model and a video; and mattes from a folder or a video."""

import csv
import json
import pickle
from dataclasses import replace
from pathlib import Path

import av
import cv2
import h5py
import numpy as np
import pytest
import torch
from track_clips import steady, write_video
from track_heads import egg_head

from data_tools.tracking import TrackConfig, TrackingError, track
from data_tools.tracking.given_mattes import check_mattes, copy_mattes
from data_tools.tracking.keypoint_files import read_keypoint_file
from data_tools.tracking.keypoint_readers.record import KeypointFile
from data_tools.tracking.keypoints import head_with_keypoints, on_video, read_keypoint_map
from data_tools.tracking.video import Sampled

NAMES = ("nose_tip", "left_ear_tip", "right_ear_tip", "chin", "brow")
SAMPLED = Sampled(
    slots=(0, 1, 2, 3), sources=(0, 2, 4, 6), width=320, height=160, scale=0.5, still=0.0, total=8
)  # fmt: skip


def points(frames: int = 8, seed: int = 0) -> np.ndarray:
    """Made-up keypoints on a video of 640 x 320: x, y, likelihood."""
    random = np.random.default_rng(seed)
    size = (frames, len(NAMES))
    return np.stack([random.uniform(5, 630, size), random.uniform(5, 310, size), random.uniform(0.7, 1, size)], axis=-1)


def deeplabcut_rows(values: np.ndarray, names=NAMES) -> list[list]:
    head = [
        ["scorer"] + ["DLC_resnet50_dogs"] * 3 * len(names),
        ["bodyparts"] + [name for name in names for _ in range(3)],
        ["coords"] + ["x", "y", "likelihood"] * len(names),
    ]
    return head + [[row, *values[row].ravel()] for row in range(len(values))]


def write_csv(path: Path, rows: list[list], end: str = "\n", bom: bool = False) -> Path:
    text = end.join(",".join(str(cell) for cell in row) for row in rows) + end
    path.write_bytes(text.encode("utf-8-sig" if bom else "utf-8"))
    return path


def write_h5(path: Path, values: np.ndarray, layout: str, names=NAMES) -> Path:
    """As pandas stores DeepLabCut's table: "table" through PyTables with pickled attributes, or "fixed"."""
    columns = [("DLC_resnet50_dogs", name, coordinate) for name in names for coordinate in ("x", "y", "likelihood")]
    flat = values.reshape(len(values), -1)
    with h5py.File(path, "w") as file:
        group = file.create_group("df_with_missing")
        if layout == "table":
            group.attrs["pandas_type"] = np.bytes_(b"frame_table")
            kind = np.dtype([("index", "<i8"), ("values_block_0", "<f8", (flat.shape[1],))])
            table = np.zeros(len(flat), dtype=kind)
            table["index"], table["values_block_0"] = np.arange(len(flat)), flat
            group.create_dataset("table", data=table).attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(columns, 0))
            return path
        group.attrs["pandas_type"], group.attrs["nblocks"] = np.bytes_(b"frame"), 1
        group["axis1"] = np.arange(len(flat))
        for axis in ("axis0", "block0_items"):
            group.attrs[f"{axis}_nlevels"] = 3
            for level in range(3):
                known = sorted({column[level] for column in columns})
                group[f"{axis}_level{level}"] = np.array(known, dtype="S")
                group[f"{axis}_label{level}"] = np.array([known.index(c[level]) for c in columns], dtype=np.int8)
        group["block0_values"] = flat
    return path


def coco(values: np.ndarray, names=NAMES, first: int = 0) -> dict:
    """Every frame an image; the points with COCO's flags for a third number."""
    flags = np.where(np.isnan(values[..., 0]), 0, 2)
    marked = np.concatenate([np.nan_to_num(values[..., :2]), flags[..., None]], axis=-1)
    return {
        "images": [
            {"id": 100 + row, "file_name": f"clip/frame_{row + first:06d}.jpg", "width": 640, "height": 320}
            for row in range(len(values))
        ],
        "annotations": [
            {"id": row, "image_id": 100 + row, "category_id": 1, "keypoints": marked[row].ravel().tolist()}
            for row in range(len(values))
        ],
        "categories": [{"id": 1, "name": "dog", "keypoints": list(names)}],
    }


def plain(values: np.ndarray, names=NAMES) -> dict:
    frames = {str(row): {name: values[row, k].tolist() for k, name in enumerate(names)} for row in range(len(values))}
    return {"units": "pixels", "frames": frames}


def write(folder: Path, kind: str, values: np.ndarray) -> Path:
    if kind == "csv":
        return write_csv(folder / "k.csv", deeplabcut_rows(values))
    if kind in ("table", "fixed"):
        return write_h5(folder / "k.h5", values, kind)
    document = coco(values) if kind == "coco" else plain(values)
    (folder / "k.json").write_text(json.dumps(document))
    return folder / "k.json"


@pytest.mark.parametrize("kind", ["csv", "table", "fixed", "coco", "plain"])
def test_every_format_gives_the_same_pixels(tmp_path, kind):
    values = points()
    file = read_keypoint_file(write(tmp_path, kind, values))
    assert set(file.names) == set(NAMES) and file.frames == tuple(range(8))
    found, notes = on_video(file, SAMPLED, "auto", None, 0.6)
    column = [file.names.index(name) for name in NAMES]
    # The plain JSON counts from the picture's edge as we do, the others from the first pixel's centre.
    shift = 0.0 if kind == "plain" else 0.5
    np.testing.assert_allclose(found[:, column, :2], (values[[0, 2, 4, 6], :, :2] + shift) * 0.5, atol=1e-3)
    if kind != "coco":
        np.testing.assert_allclose(found[:, column, 2], values[[0, 2, 4, 6], :, 2], atol=1e-6)
    assert "pixels" in notes[0] and "numbered from 0" in notes[0]


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


@pytest.mark.parametrize("end, bom", [("\r\n", False), ("\r", False), ("\n", True)])
def test_line_ends_and_marks_of_all_systems(tmp_path, end, bom):
    file = read_keypoint_file(write_csv(tmp_path / "k.csv", deeplabcut_rows(points()), end, bom))
    np.testing.assert_allclose(file.points, points())


def test_mixed_line_ends_and_numbers_as_text(tmp_path):
    lines = [",".join(map(str, row)) for row in deeplabcut_rows(points())]
    ends = (b"\n", b"\r\n")
    (tmp_path / "k.csv").write_bytes(b"".join(line.encode() + ends[row % 2] for row, line in enumerate(lines)))
    np.testing.assert_allclose(read_keypoint_file(tmp_path / "k.csv").points, points())
    document = plain(points())
    document["frames"] = {
        f" {frame} ".strip(): {name: [f" {value} " for value in point] for name, point in marks.items()}
        for frame, marks in document["frames"].items()
    }
    (tmp_path / "k.json").write_text(json.dumps(document))
    np.testing.assert_allclose(read_keypoint_file(tmp_path / "k.json").points, points())


def test_labelled_pictures_of_deeplabcut(tmp_path):
    rows = [
        ["scorer", "", "", "me", "me"], ["bodyparts", "", "", "nose_tip", "nose_tip"], ["coords", "", "", "x", "y"],
        ["labeled-data", "clip", "img0004.png", "10", "20"], ["labeled-data", "clip", "img0006.png", "", ""],
    ]  # fmt: skip
    with (tmp_path / "k.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    file = read_keypoint_file(tmp_path / "k.csv")
    assert file.frames == (4, 6) and file.points[0, 0].tolist() == [10, 20, 1] and np.isnan(file.points[1]).all()


def test_of_several_animals_the_one_seen_most_is_followed(tmp_path):
    values = points()
    rows = deeplabcut_rows(np.concatenate([values * [1, 1, 0.4], values], axis=1), NAMES + NAMES)
    rows.insert(1, ["individuals"] + ["rex"] * 15 + ["fido"] * 15)
    file = read_keypoint_file(write_csv(tmp_path / "k.csv", rows))
    np.testing.assert_allclose(file.points, values)
    assert "fido" in file.notes[0] and "2 animals" in file.notes[0]
    document = coco(values)
    document["annotations"] += [{**document["annotations"][0], "keypoints": [1, 1, 2] + [0, 0, 0] * 4}]
    (tmp_path / "k.json").write_text(json.dumps(document))
    file = read_keypoint_file(tmp_path / "k.json")
    np.testing.assert_allclose(file.points[..., :2], values[..., :2])
    assert "several animals" in file.notes[0]


def test_coco_flags_scores_and_sizes(tmp_path):
    document = coco(points(2))
    document["annotations"][0]["keypoints"][:9] = [1, 2, 0, 3, 4, 1, 5, 6, 2]
    (tmp_path / "k.json").write_text(json.dumps(document))
    file = read_keypoint_file(tmp_path / "k.json")
    assert np.isnan(file.points[0, 0]).all() and file.points[0, 1:3, 2].tolist() == [0.6, 1.0]
    # Found on pictures of half the video's size.
    assert file.size == (640, 320)
    half = replace(file, size=(320, 160), points=file.points * [0.5, 0.5, 1], shift=0.25)
    np.testing.assert_allclose(*(on_video(one, SAMPLED, "auto", None, 0.5)[0] for one in (file, half)))
    results = [{"image_id": 3, "category_id": 1, "keypoints": [10, 20, 0.9] * 5, "score": 0.8}]
    (tmp_path / "r.json").write_text(json.dumps(results))
    file = read_keypoint_file(tmp_path / "r.json")
    assert file.names == tuple("01234") and file.frames == (3,) and file.points[0, 2, 2] == 0.9


def test_units_are_told_or_said(tmp_path):
    values = points()
    fractions = KeypointFile(tmp_path, NAMES, tuple(range(8)), values / [640, 320, 1], shift=0.5)
    found, notes = on_video(fractions, SAMPLED, "auto", None, 0.6)
    np.testing.assert_allclose(found[..., :2], values[[0, 2, 4, 6], :, :2] * 0.5)
    assert "normalised" in notes[0]
    in_pixels = replace(fractions, points=values)
    with pytest.raises(TrackingError, match="--keypoint-units pixels"):
        on_video(in_pixels, SAMPLED, "normalised", None, 0.6)
    with pytest.raises(TrackingError, match="outside the 320x160"):
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
    by_name = replace(from_one, frames=tuple("abcdefgh"))
    found, notes = on_video(by_name, SAMPLED, "auto", None, 0.6)
    np.testing.assert_allclose(found[1, :, :2], values[2, :, :2] * 0.5)
    with pytest.raises(TrackingError, match="no frame number"):
        on_video(replace(by_name, frames=tuple("abcdefg"), points=values[:7]), SAMPLED, "auto", None, 0.6)


BAD = {
    "no table": ("k.csv", "a,b,c\n1,2,3\n", "no table of DeepLabCut"),
    "short row": ("k.csv", "scorer,s,s,s\nbodyparts,a,a,a\ncoords,x,y,likelihood\n0,1,2\n", "frame 0 has 3 cells"),
    "word": ("k.csv", "scorer,s,s\nbodyparts,a,a\ncoords,x,y\n0,1,two\n", "'two' is not a number"),
    "twice": ("k.csv", "scorer,s,s\nbodyparts,a,a\ncoords,x,y\n0,1,2\n0,1,2\n", "frame 0 is there twice"),
    "empty": ("k.csv", "scorer,s,s\nbodyparts,a,a\ncoords,x,y\n", "holds no keypoints"),
    "broken": ("k.json", '{"frames": ', "no valid JSON: line 1"),
    "other": ("k.json", '{"people": []}', "neither COCO"),
    "length": ("k.json", '{"keypoints": ["a", "b"], "frames": {"0": [[1, 2]]}}', 'list of 1 points'),
    "point": ("k.json", '{"frames": {"0": {"nose": [1]}}}', r"frame 0, nose: is \[1\], expected"),
    "units": ("k.json", '{"units": "metres", "frames": {"0": {"nose": [1, 2]}}}', '"units" is'),
    "coco length": ("k.json", '{"annotations": [{"image_id": 1, "keypoints": [1, 2]}, {"image_id": 2, "keypoints": '
                    '[1, 2, 2]}]}', "expected 0"),
    "no h5": ("k.h5", "not at all", "cannot be read as DeepLabCut's HDF5"),
    "ending": ("k.xlsx", "x", "not from .xlsx"),
}  # fmt: skip


@pytest.mark.parametrize("name, text, message", BAD.values(), ids=BAD.keys())
def test_what_is_wrong_with_a_file_is_said(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(TrackingError, match=message) as caught:
        read_keypoint_file(tmp_path / name)
    assert name in str(caught.value)


def test_an_h5_that_would_run_something_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    path = write_h5(tmp_path / "k.h5", points(), "table")
    with h5py.File(path, "a") as file:
        file["df_with_missing/table"].attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(Evil(), 0))
    with pytest.raises(TrackingError, match="k.h5"):
        read_keypoint_file(path)
    assert not (tmp_path / "ran").exists()


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


# Mattes.


def disc(size: tuple[int, int], x: int) -> np.ndarray:
    picture = np.zeros(size, np.uint8)
    cv2.circle(picture, (x, size[0] // 2), size[0] // 4, 255, -1)
    return picture


def test_mattes_of_every_kind_of_picture(tmp_path):
    folder, targets = tmp_path / "mattes", [tmp_path / f"{i}.png" for i in range(4)]
    folder.mkdir()
    matte = disc((320, 640), 300)
    colour = np.full((320, 640, 3), 90, np.uint8)
    cv2.imwrite(str(folder / "m_0000.png"), matte)
    cv2.imwrite(str(folder / "m_0002.png"), matte.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "m_0004.png"), np.dstack([colour, matte]))
    cv2.imwrite(str(folder / "m_0006.png"), matte // 255)
    assert copy_mattes(folder, targets, SAMPLED, np.arange(4), None) == []
    for target in targets:
        found = cv2.imread(str(target), cv2.IMREAD_UNCHANGED)
        assert found.shape == (160, 320) and abs(found.mean() - matte.mean()) < 1.0


def test_a_missing_matte_leaves_its_frame_out_and_a_wrong_shape_is_named(tmp_path):
    targets = [tmp_path / f"{i}.png" for i in range(4)]
    folder = tmp_path / "m"
    folder.mkdir()
    with pytest.raises(TrackingError, match="holds no pictures"):
        copy_mattes(folder, targets, SAMPLED, np.arange(4), None)
    for number in (0, 2, 6):
        cv2.imwrite(str(folder / f"{number}.png"), disc((160, 320), 100))
    assert copy_mattes(folder, targets, SAMPLED, np.arange(4), None) == [2]
    cv2.imwrite(str(folder / "4.png"), disc((160, 200), 100))
    with pytest.raises(TrackingError, match=r"4\.png: is 200x160, the video's pictures are 320x160"):
        copy_mattes(folder, targets, SAMPLED, np.arange(4), None)
    cv2.imwrite(str(folder / "004.png"), disc((160, 320), 100))
    with pytest.raises(TrackingError, match="both of frame 4"):
        copy_mattes(folder, targets, SAMPLED, np.arange(4), None)
    with pytest.raises(TrackingError, match="no such folder"):
        copy_mattes(tmp_path / "none", targets, SAMPLED, np.arange(4), None)


@pytest.mark.parametrize("pixel_format", ["gray", "rgba"])
def test_mattes_from_a_video(tmp_path, pixel_format):
    """By brightness, and by transparency where the video has it."""
    path, targets = tmp_path / "m.mov", [tmp_path / f"{i}.png" for i in range(4)]
    codec, stored = ("mjpeg", "yuvj420p") if pixel_format == "gray" else ("png", "rgba")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 160, stored
        for number in range(8):
            matte = disc((160, 320), 40 + 30 * number)
            if pixel_format == "rgba":
                matte = np.dstack([np.full((160, 320, 3), 128, np.uint8), matte])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(matte, format=pixel_format)))
        container.mux(stream.encode())
    assert copy_mattes(path, targets, SAMPLED, np.arange(4), None) == []
    for target, number in zip(targets, SAMPLED.sources, strict=True):
        difference = cv2.imread(str(target), cv2.IMREAD_GRAYSCALE).astype(int) - disc((160, 320), 40 + 30 * number)
        assert np.abs(difference).mean() < 1.0


def test_inverted_mattes_are_noticed():
    marks = np.array([[[100.0, 80, 1], [105, 85, 1], [np.nan] * 3]])
    check_mattes(marks, [disc((160, 320), 100)], "m")
    with pytest.raises(TrackingError, match="only 0 % of the keypoints lie on the mattes"):
        check_mattes(marks, [255 - disc((160, 320), 100)], "m")


# Options.


def test_options_that_need_each_other(tmp_path):
    video = write_video(tmp_path / "v.mp4", [np.zeros((64, 64, 3), np.uint8)] * 3, steady(3))
    keypoints = write(tmp_path, "csv", points())
    with pytest.raises(TrackingError, match="--keypoints needs --mattes"):
        track(video, tmp_path / "s", TrackConfig(keypoints=keypoints), silent=True)
    with pytest.raises(TrackingError, match="give the --keypoints too"):
        track(video, tmp_path / "s", TrackConfig(keypoint_map=tmp_path / "m.json"), silent=True)
    with pytest.raises(TrackingError, match="no such keypoint file"):
        track(video, tmp_path / "s", TrackConfig(keypoints=tmp_path / "none.csv", mattes=tmp_path), silent=True)
    with pytest.raises(TrackingError, match="--min-likelihood"):
        track(video, tmp_path / "s", TrackConfig(min_likelihood=60), silent=True)
