"""Which animal, and which frame, a keypoint is of: by what the file says of it, else two that clash are named."""

import hashlib
import json

import numpy as np
import pytest
from keypoint_writers import (
    NAMES,
    coco,
    mmpose,
    mmpose_instance,
    points,
    sleap_rows,
    two_animals_rows,
    write_csv,
    write_h5,
    write_json,
    write_sleap_h5,
)

from data_tools.tracking import TrackingError
from data_tools.tracking.observe.keypoint_files import read_keypoint_file


def shuffled(values: np.ndarray, order: list[int]) -> dict:
    """COCO with images and annotations in another order than the frames."""
    document = coco(values)
    document["images"] = [document["images"][row] for row in order]
    document["annotations"] = [document["annotations"][row] for row in reversed(order)]
    return document


# Several animals.


def dog_and(values: np.ndarray, second: dict, names=NAMES) -> dict:
    """COCO annotations of two animals in every image, 10 pixels apart; each annotation of the other has `second`."""
    document = coco(values, names)
    other = [
        one | {"id": 50 + row, "keypoints": [v + 10 * (at % 3 < 2) for at, v in enumerate(one["keypoints"])]} | second
        for row, one in enumerate(document["annotations"])
    ]
    document["annotations"] += other
    return document


def deeplabcut(folder, values):
    return write_csv(folder / "k.csv", two_animals_rows(values)), ("rex", "fido"), "fido", values


def deeplabcut_h5(folder, values):
    path = write_h5(folder / "k.h5", values, "table", individuals=("rex", "fido"))
    return path, ("rex", "fido"), "rex", values


def sleap(folder, values):
    rows = sleap_rows(values, track="a") + sleap_rows(values * [1, 1, 0.5], track="b")[1:]
    return write_csv(folder / "k.csv", rows), ("a", "b"), "b", values * [1, 1, 0.5]


def sleap_h5(folder, values):
    return write_sleap_h5(folder / "k.h5", values, tracks=("a", "b")), ("a", "b"), "a", values


def coco_tracks(folder, values):
    document = dog_and(values, {"track_id": 2})
    for one in document["annotations"][: len(values)]:
        one["track_id"] = 1
    return write_json(folder / "k.json", document), ("1", "2"), "1", values


def coco_attributes(folder, values):
    document = dog_and(values, {"attributes": {"occluded": False, "track_id": 8}})
    for one in document["annotations"][: len(values)]:
        one["attributes"] = {"occluded": False, "track_id": 3}
    return write_json(folder / "k.json", document), ("3", "8"), "8", values + [10, 10, 0]


def coco_categories(folder, values):
    document = dog_and(values, {"category_id": 7})
    document["categories"][1]["keypoints"] = list(reversed(NAMES))
    return write_json(folder / "k.json", document), ("dog", "cat"), "dog", values


def mmpose_tracks(folder, values):
    document = mmpose(values)
    for entry, frame in zip(document["instance_info"], values, strict=True):
        entry["instances"] = [mmpose_instance(frame + [10, 10, 0], track_id=4), mmpose_instance(frame, track_id=5)]
    return write_json(folder / "k.json", document), ("4", "5"), "5", values


TWO = [deeplabcut, deeplabcut_h5, sleap, sleap_h5, coco_tracks, coco_attributes, coco_categories, mmpose_tracks]


@pytest.mark.parametrize("write", TWO)
def test_of_two_animals_the_one_asked_for_is_followed(tmp_path, write):
    path, (one, other), asked, expected = write(tmp_path, points())
    with pytest.raises(TrackingError, match=f"{path.name}: shows .*{one}.*{other}.*--individual"):
        read_keypoint_file(path)
    file = read_keypoint_file(path, asked)
    assert file.names == NAMES
    upto = 2 if write.__name__.startswith("coco") else 3
    np.testing.assert_allclose(file.points[..., :upto], expected[..., :upto])
    with pytest.raises(TrackingError, match="rexx"):
        read_keypoint_file(path, "rexx")


@pytest.mark.parametrize("write", [deeplabcut, sleap, mmpose_tracks])
def test_the_surest_of_each_frame_on_request(tmp_path, write):
    path, *_ = write(tmp_path, points())
    file = read_keypoint_file(path, "surest")
    assert np.isfinite(file.points).all() and "8 frames" in file.notes[0] and "surest" in file.notes[0]
    if write is deeplabcut:
        np.testing.assert_allclose(file.points, points())


def test_two_without_names_in_one_frame_are_named_by_their_places(tmp_path):
    document = coco(points())
    document["annotations"].append(document["annotations"][3] | {"id": 99})
    path = write_json(tmp_path / "k.json", document)
    with pytest.raises(TrackingError, match=r"annotation 3 \(image .*000003\.jpg\) and annotation 99 .*two animals"):
        read_keypoint_file(path)
    rows = sleap_rows(points(), track="")
    path = write_csv(tmp_path / "k.csv", [*rows, rows[3]])
    with pytest.raises(TrackingError, match=r"line 4 \(frame 2\) and line 10 \(frame 2\)"):
        read_keypoint_file(path)


def test_one_animal_needs_no_name(tmp_path):
    """Nobody's body parts, individuals that are never seen and ids of annotations are no second animal."""
    values = points()
    rows = two_animals_rows(values)
    for row in rows[4:]:
        row[1:16] = [""] * 15
    file = read_keypoint_file(write_csv(tmp_path / "k.csv", rows))
    np.testing.assert_allclose(file.points, values)
    assert file.names == NAMES
    document = coco(values)
    for row, one in enumerate(document["annotations"]):
        one["instance_id"] = 1000 + row
    np.testing.assert_allclose(
        read_keypoint_file(write_json(tmp_path / "k.json", document)).points[..., :2], values[..., :2]
    )


# COCO's ids and names.


def test_points_are_named_by_their_annotations_category(tmp_path):
    """The categories' list begins with one without keypoints and another animal's."""
    file = read_keypoint_file(write_json(tmp_path / "k.json", coco(points())))
    assert file.names == NAMES
    document = coco(points())
    document["annotations"][2]["category_id"] = 5
    with pytest.raises(TrackingError, match=r"annotation 2 .*is of category 5, but \"categories\" has 0, 7, 1"):
        read_keypoint_file(write_json(tmp_path / "k.json", document))


@pytest.mark.parametrize(
    "namer",
    [
        lambda row: f"animal_mp4-{row:04d}_jpg.rf.{hashlib.md5(str(row).encode()).hexdigest()}.jpg",
        lambda row: f"frame_{row:05d}_v2.jpg",
        lambda row: f"images/{hashlib.md5(str(row).encode()).hexdigest()[:8]}-frame_{row:06d}.jpg",
        lambda row: f"{row:05d}_00.png",
        lambda row: f"2024-05-01_{row}.png",
    ],
)
def test_images_are_the_frames_that_their_names_say(tmp_path, namer):
    values, order = points(), [5, 2, 7, 0, 1, 6, 4, 3]
    document = shuffled(values, order)
    for image in document["images"]:
        image["file_name"] = namer(image["id"] - 100)
    file = read_keypoint_file(write_json(tmp_path / "k.json", document))
    assert file.frames == tuple(order)
    np.testing.assert_allclose(file.points[..., :2], values[order][..., :2])


def test_a_frames_number_in_the_file_goes_before_its_name(tmp_path):
    document = coco(points(), namer=lambda row: f"{7 - row}.png")
    for row, image in enumerate(document["images"]):
        image["frame_id"] = row
    assert read_keypoint_file(write_json(tmp_path / "k.json", document)).frames == tuple(range(8))
    del document["images"][4]["frame_id"]
    with pytest.raises(TrackingError, match="image 100 has frame_id, image 104 has none"):
        read_keypoint_file(write_json(tmp_path / "k.json", document))


COCO_CLASHES = {
    "image id twice": (lambda d: d["images"][1].update(id=100), "frame_000000.jpg and clip/frame_000001.jpg have the"),
    "image that is not there": (lambda d: d["annotations"][1].update(image_id=5), "annotation 1 is of image 5, but"),
    "augmented copies": (
        lambda d: (
            [d["images"][k].update(file_name=f"x-0012_jpg.rf.{k}510abcdef.jpg") for k in (0, 1)]
            + [d["images"][k].update(file_name=f"x-00{k}3_jpg.rf.{k}510abcdef.jpg") for k in range(2, 8)]
        ),
        r"0510abcdef\.jpg and .*1510abcdef\.jpg are both of frame 12",
    ),
    "two cameras": (
        lambda d: [one.update(file_name=f"cam{k % 2}/{k // 2:04d}.png") for k, one in enumerate(d["images"])],
        r"cam0/0000\.png.*(cam1/0000|cam0/0001)\.png",
    ),
    "two sizes": (lambda d: d["images"][2].update(width=320), "frame_000000.jpg is 640 x 320.*000002.jpg 320 x 320"),
}


@pytest.mark.parametrize("change, message", COCO_CLASHES.values(), ids=COCO_CLASHES.keys())
def test_ids_and_names_that_clash_are_named(tmp_path, change, message):
    document = coco(points())
    change(document)
    with pytest.raises(TrackingError, match=message):
        read_keypoint_file(write_json(tmp_path / "k.json", document))


def test_results_by_picture_name(tmp_path):
    """As AlphaPose writes them: the picture's name for an id, and a number for each person."""
    results = [
        {"image_id": f"frame_{row:04d}.jpg", "category_id": 1, "idx": 1, "keypoints": frame.tolist(), "score": 2.0}
        for row, frame in enumerate(points().reshape(8, -1))
    ]
    (tmp_path / "r.json").write_text(json.dumps(results))
    file = read_keypoint_file(tmp_path / "r.json")
    assert file.frames == tuple(range(8))
    np.testing.assert_allclose(file.points, points())
