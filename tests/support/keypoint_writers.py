"""Keypoint files as DeepLabCut, SLEAP, mmpose, COCO's tools and people write them, for tests."""

import json
import pickle
from pathlib import Path

import h5py
import numpy as np

from data_tools.tracking.observe.framing import Framing
from data_tools.tracking.observe.video import Sampled

NAMES = ("nose_tip", "left_ear_tip", "right_ear_tip", "chin", "brow")
SAMPLED = Sampled(
    slots=(0, 1, 2, 3),
    sources=(0, 2, 4, 6),
    framing=Framing((640, 320), 0, 0, 640, 320, (320, 160)),
    still=0.0,
    total=8,
)


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


def two_animals_rows(values: np.ndarray) -> list[list]:
    """A multi-animal table: rex half as sure as fido, and a cage's corner that is nobody's."""
    rows = deeplabcut_rows(np.concatenate([values * [1, 1, 0.4], values], axis=1), NAMES + NAMES)
    rows.insert(1, ["individuals"] + ["rex"] * 15 + ["fido"] * 15)
    for row, cells in zip(rows, [rows[0][1:4], ["single"] * 3, ["corner"] * 3, rows[3][1:4]], strict=False):
        row += cells
    for row in rows[4:]:
        row += [1.0, 2.0, 0.9]
    return rows


def write_csv(path: Path, rows: list[list], end: str = "\n", encoding: str = "utf-8") -> Path:
    text = end.join(",".join(str(cell) for cell in row) for row in rows) + end
    path.write_bytes(text.encode(encoding))
    return path


def write_h5(path: Path, values: np.ndarray, layout: str, names=NAMES, individuals=(), labelled="") -> Path:
    """As pandas stores DeepLabCut's table: "table" through PyTables with pickled attributes, or "fixed".

    Args:
        individuals: with more than one, each has the same values.
        labelled: folder of labelled pictures, in place of frame numbers; "fixed" only.
    """
    outer = [("DLC_resnet50_dogs", one) for one in individuals] or [("DLC_resnet50_dogs",)]
    columns = [(*first, name, axis) for first in outer for name in names for axis in ("x", "y", "likelihood")]
    flat = np.tile(values.reshape(len(values), -1), (1, len(outer)))
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
        axes = {"axis0": columns, "block0_items": columns}
        if labelled:
            axes["axis1"] = [("labeled-data", labelled, f"img{row:04d}.png") for row in range(len(flat))]
        else:
            group["axis1"] = np.arange(len(flat))
        for axis, rows in axes.items():
            group.attrs[f"{axis}_nlevels"] = len(rows[0])
            for level in range(len(rows[0])):
                known = sorted({row[level] for row in rows})
                group[f"{axis}_level{level}"] = np.array(known, dtype="S")
                group[f"{axis}_label{level}"] = np.array([known.index(row[level]) for row in rows], dtype=np.int8)
        group["block0_values"] = flat
    return path


def coco(values: np.ndarray, names=NAMES, namer=lambda row: f"clip/frame_{row:06d}.jpg") -> dict:
    """Every frame an image; the points with COCO's flags for a third number."""
    flags = np.where(np.isnan(values[..., 0]), 0, 2)
    marked = np.concatenate([np.nan_to_num(values[..., :2]), flags[..., None]], axis=-1)
    return {
        "info": {"description": "export"},
        "images": [
            {"id": 100 + row, "file_name": namer(row), "width": 640, "height": 320} for row in range(len(values))
        ],
        "annotations": [
            {"id": row, "image_id": 100 + row, "category_id": 1, "keypoints": marked[row].ravel().tolist(),
             "num_keypoints": int((flags[row] > 0).sum()), "iscrowd": 0}
            for row in range(len(values))
        ],
        "categories": [
            {"id": 0, "name": "animals", "supercategory": "none"},
            {"id": 7, "name": "cat", "keypoints": ["whisker"]},
            {"id": 1, "name": "dog", "keypoints": list(names), "skeleton": [[1, 2]]},
        ],
    }  # fmt: skip


def mmpose_instance(values: np.ndarray, **more) -> dict:
    """One animal, K x 3."""
    return {
        "keypoints": values[:, :2].tolist(), "keypoint_scores": values[:, 2].tolist(),
        "bbox": [[1.0, 2.0, 300.0, 200.0]], "bbox_score": 0.9, **more,
    }  # fmt: skip


def mmpose(values: np.ndarray, names=NAMES) -> dict:
    """As the demo scripts save the predictions of a video: frames from 1."""
    return {
        "meta_info": {
            "dataset_name": "animalpose", "num_keypoints": len(names),
            "keypoint_id2name": {str(number): name for number, name in enumerate(names)},
            "keypoint_name2id": {name: number for number, name in enumerate(names)},
            "skeleton_links": [[0, 1]],
        },
        "instance_info": [
            {"frame_id": row + 1, "instances": [mmpose_instance(frame)]} for row, frame in enumerate(values)
        ],
    }  # fmt: skip


def mmpose_folder(folder: Path, values: np.ndarray) -> Path:
    """As the inferencer saves the predictions of pictures: a list of animals each."""
    folder.mkdir()
    for row, frame in enumerate(values):
        (folder / f"frame_{row:05d}_v2.json").write_text(json.dumps([mmpose_instance(frame)]))
    return folder


def sleap_rows(values: np.ndarray, names=NAMES, track: str = "track_0") -> list[list]:
    header = [
        "track",
        "frame_idx",
        "instance.score",
        *(f"{name}.{part}" for name in names for part in "x y score".split()),
    ]
    return [header] + [[track, row, 0.9, *values[row].ravel()] for row in range(len(values))]


def write_sleap_h5(path: Path, values: np.ndarray, names=NAMES, tracks=("fido",), preset: str = "matlab") -> Path:
    """Analysis arrays, each track with the same values: column-major as for MATLAB, or frames first."""
    stacked = np.stack([values] * max(1, len(tracks)), axis=1)
    with h5py.File(path, "w") as file:
        file["node_names"], file["track_names"] = np.array(names, dtype="S"), np.array(tracks, dtype="S")
        xy, scores = stacked[..., :2], stacked[..., 2]
        file["tracks"] = xy.transpose(1, 3, 2, 0) if preset == "matlab" else xy
        file["point_scores"] = scores.transpose(1, 2, 0) if preset == "matlab" else scores
        file["track_occupancy"] = np.ones((len(values), stacked.shape[1]), np.uint8)
        file["video_path"] = "fox.mp4"
        if preset == "dims":
            file["tracks"].attrs["dims"] = json.dumps(["frame", "track", "node", "xy"])
    return path


def plain(values: np.ndarray, names=NAMES) -> dict:
    frames = {str(row): {name: values[row, k].tolist() for k, name in enumerate(names)} for row in range(len(values))}
    return {"units": "pixels", "frames": frames}


def write_json(path: Path, document) -> Path:
    path.write_text(json.dumps(document))
    return path


KINDS = {
    "deeplabcut csv": lambda folder, values: write_csv(folder / "k.csv", deeplabcut_rows(values)),
    "deeplabcut table": lambda folder, values: write_h5(folder / "k.h5", values, "table"),
    "deeplabcut fixed": lambda folder, values: write_h5(folder / "k.h5", values, "fixed"),
    "deeplabcut labelled": lambda folder, values: write_h5(folder / "k.h5", values, "fixed", labelled="clip2"),
    "sleap csv": lambda folder, values: write_csv(folder / "k.csv", sleap_rows(values)),
    "sleap h5": lambda folder, values: write_sleap_h5(folder / "k.h5", values),
    "sleap h5, frames first": lambda folder, values: write_sleap_h5(folder / "k.h5", values, preset="plain"),
    "sleap h5, named axes": lambda folder, values: write_sleap_h5(folder / "k.h5", values, preset="dims"),
    "sleap h5, no tracks": lambda folder, values: write_sleap_h5(folder / "k.h5", values, tracks=()),
    "coco": lambda folder, values: write_json(folder / "k.json", coco(values)),
    "mmpose demo": lambda folder, values: write_json(folder / "k.json", mmpose(values)),
    "mmpose inferencer": lambda folder, values: write_json(
        folder / "k.json",
        [{"frame_id": row, "instances": [mmpose_instance(frame)]} for row, frame in enumerate(values)],
    ),
    "mmpose folder": lambda folder, values: mmpose_folder(folder / "predictions", values),
    "plain": lambda folder, values: write_json(folder / "k.json", plain(values)),
}
"""Each kind of file with its writer: a folder, and frames x points x (x, y, likelihood)."""
