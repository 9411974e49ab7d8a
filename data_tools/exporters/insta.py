"""INSTA's layout: RGBA pictures, one OBJ a frame, depth in millimetres, classes, OpenCV camera-to-world."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.depth.mesh import rasterise
from data_tools.exporters.config import ExportConfig, ExportError
from data_tools.exporters.files import obj_faces, write_json, write_obj, write_once, write_picture
from data_tools.runs.blocks import blocks_of, run_blocks
from flame_nerf.data.dataset import read_rgba
from flame_nerf.subject import Frame, Subject

FOLDERS = ("images", "meshes", "depth", "seg_mask", "flame/exp", "background")
EXPRESSIONS = 100
"""Lines of an expression file; INSTA looks at the first ones."""
LAST_VALIDATED = 20
"""INSTA's validation frames are the last of its test frames."""
MILLIMETRE = 1e-3
CLASSES = {
    "skin": 250, "eyes": 200, "eyelids": 250, "ears": 160, "lips": 130, "mouth": 140, "teeth": 140, "tongue": 140,
    "neck": 110, "scalp": 80,
}  # fmt: skip
"""INSTA's class of each region, in the red channel."""
SKIN, HAIR = 250, 80
OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def export(subject: Subject, folder: Path, config: ExportConfig, advance: Callable[[], None]) -> tuple[str, ...]:
    """Write a subject, of any mesh, as INSTA's `transforms.py` and segmentation leave their data.

    Returns:
        What to know before using it.

    Raises:
        ExportError: several cameras with different intrinsics, or no masks.
    """
    if not subject.has_masks:
        raise ExportError(f"{subject.root}: it has no masks; INSTA trains on pictures with the head as alpha.")
    intrinsics = {subject.intrinsics_of(frame) for frame in subject.frames}
    if len(intrinsics) > 1:
        raise ExportError(
            f"{subject.root}: its pictures come from {len(intrinsics)} different cameras; INSTA's files have one for "
            "all. Export to vhap instead."
        )
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    face_lines = obj_faces(subject.track.faces)
    classes = np.array([CLASSES.get(name, SKIN) for name in subject.track.region_names], np.uint8)
    names = [f"{index:05d}" for index in range(len(subject.frames))]

    def one(block: range) -> None:
        for index in block:
            _frame(subject, subject.frames[index], folder, names[index], face_lines, classes)
            advance()

    run_blocks(blocks_of(len(names), config.workers), one, config.workers)
    write_obj(folder / "canonical.obj", subject.track.canonical_vertices, face_lines)
    frames = {name: _entry(frame, name) for frame, name in zip(subject.frames, names, strict=True)}
    split = {part: [name for frame, name in zip(subject.frames, names, strict=True) if frame.split == part]
             for part in ("train", "val", "test")}  # fmt: skip
    split["test"] = split["test"] or split["val"]
    split["val"] = split["val"] or split["test"][-LAST_VALIDATED:]
    top = _top(subject)
    for part in ("train", "val", "test"):
        write_json(folder / f"transforms_{part}.json", top | {"frames": [frames[name] for name in split[part]]})
    # Last: without it the folder is not whole.
    write_json(folder / "transforms.json", top | {"frames": list(frames.values())})
    notes = ["Classes of the segmentation come from the mesh's regions: glasses, hats and clothes are not told apart."]
    if subject.track.vertices.shape[1] != 5023:
        notes.append(
            f"The mesh has {subject.track.vertices.shape[1]} vertices, not FLAME's 5023: INSTA's lists of face "
            "triangles, which are FLAME's, do not fit it."
        )
    return tuple(notes)


def _frame(subject: Subject, frame: Frame, folder: Path, name: str, face_lines: bytes, classes: np.ndarray) -> None:
    size = subject.width, subject.height
    picture, mesh = folder / "images" / f"{name}.png", folder / "meshes" / f"{name}.obj"
    vertices = subject.track.vertices[frame.timestep]
    rgba = read_rgba(frame, *size)
    write_picture(picture, rgba)
    write_picture(folder / "background" / f"{name}.png", rgba[..., :3])
    write_obj(mesh, vertices, face_lines)
    seen = rasterise(vertices, subject.track.faces, frame.c2w, subject.intrinsics_of(frame), size)
    depth = np.nan_to_num(seen.depth / MILLIMETRE, nan=0.0)
    write_picture(folder / "depth" / f"{name}.png", np.clip(np.round(depth), 0, 65535).astype(np.uint16))
    of_mesh = classes[subject.track.region[np.maximum(seen.face, 0)]]
    red = np.where(seen.face >= 0, of_mesh, HAIR) * (rgba[..., 3] > 127)
    write_picture(folder / "seg_mask" / f"{name}.png", np.dstack([red, 0 * red, 0 * red]).astype(np.uint8))
    expression = np.zeros(max(EXPRESSIONS, subject.track.expression.shape[1]))
    expression[: subject.track.expression.shape[1]] = subject.track.expression[frame.timestep]
    text = "\n".join(f"{value:.8f}" for value in expression) + "\n"
    write_once(folder / "flame" / "exp" / f"{name}.txt", lambda file: file.write(text.encode()))


def _entry(frame: Frame, name: str) -> dict[str, Any]:
    return {
        "transform_matrix": (frame.c2w @ OPENCV).tolist(),
        "file_path": f"images/{name}.png",
        "mesh_path": f"meshes/{name}.obj",
        "exp_path": f"flame/exp/{name}.txt",
        "depth_path": f"depth/{name}.png",
        "seg_mask_path": f"seg_mask/{name}.png",
    }


def _top(subject: Subject) -> dict[str, Any]:
    fl_x, fl_y, cx, cy = subject.intrinsics_of(subject.frames[0])
    angle_x, angle_y = 2 * math.atan(subject.width / fl_x / 2), 2 * math.atan(subject.height / fl_y / 2)
    return {
        "w": float(subject.width),
        "h": float(subject.height),
        "fl_x": fl_x,
        "fl_y": fl_y,
        "cx": cx,
        "cy": cy,
        "camera_angle_x": angle_x,
        "camera_angle_y": angle_y,
        "x_fov": math.degrees(angle_x),
        "y_fov": math.degrees(angle_y),
        "integer_depth_scale": MILLIMETRE,
    }
