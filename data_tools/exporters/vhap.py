"""VHAP's and GaussianAvatars' layout: FLAME's parameters of each moment, an OpenGL camera for each picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.exporters.config import ExportConfig, ExportError
from data_tools.exporters.files import write_json, write_once, write_picture
from data_tools.importers.config import ImportConfig, ImportingError
from data_tools.importers.flame import FLAME_JOINTS, Flame, FlameMeshes, FlameParameters, open_flame
from data_tools.tracking.blocks import blocks_of, run_blocks
from flame_nerf.heads import HeadModel, HeadModelError, load_head
from flame_nerf.motion.live_head import LiveHead
from flame_nerf.pictures import read_rgba
from flame_nerf.subject import Frame, Subject

SHAPES, EXPRESSIONS = 300, 100
VERTICES_WITH_TEETH = 5143
"""What VHAP's offsets count: FLAME's 5023 vertices and its own teeth."""
JAW_OPEN = 0.3
"""Radians, of the canonical head."""
OFFSET_SEEN = 1e-5
"""Offsets smaller than this, metres, are the arithmetic's."""


def export(subject: Subject, folder: Path, config: ExportConfig, advance: Callable[[], None]) -> tuple[str, ...]:
    """Write a subject that was posed with FLAME as VHAP's exporter leaves its data.

    Returns:
        What to know before using it.

    Raises:
        ExportError: the subject's head is not FLAME, or its model cannot be read.
    """
    head = _flame(subject, config)
    track = subject.track
    try:
        offset = LiveHead(head, track).residual.numpy()
    except ValueError as error:
        raise ExportError(f"{subject.root}: {error}.") from error
    parameters = _parameters(subject, head)
    # The offsets move FLAME's joints in the other tool; ours stand where the track has them.
    meshes = FlameMeshes(Flame(head, Path(head.name), None), parameters, str(subject.root))
    world_from_head = meshes.world_from_head()
    for name in ("images", "fg_masks", "flame_param"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    static = None
    if np.abs(offset).max() > OFFSET_SEEN:
        static = np.zeros((1, VERTICES_WITH_TEETH, 3), np.float32)
        static[0, : len(offset)] = offset
    shared = {"shape": _padded(parameters.shape, SHAPES)} | ({} if static is None else {"static_offset": static})
    for timestep in range(track.num_timesteps):
        _write_parameters(folder / "flame_param" / f"{timestep:05d}.npz", parameters, timestep, shared)
    names = _names(subject)

    def one(block: range) -> None:
        for index in block:
            rgba = read_rgba(subject.frames[index], subject.width, subject.height).astype(np.float32)
            share = rgba[..., 3:] / 255.0
            white = np.rint(rgba[..., :3] * share + 255 * (1 - share)).astype(np.uint8)
            write_picture(folder / "images" / f"{names[index]}.png", white)
            write_picture(folder / "fg_masks" / f"{names[index]}.png", rgba[..., 3].astype(np.uint8))
            advance()

    run_blocks(blocks_of(len(names), config.workers), one, config.workers)
    _write_canonical(folder / "canonical_flame_param.npz", shared)
    entries = [
        _entry(subject, frame, name, world_from_head[frame.timestep])
        for frame, name in zip(subject.frames, names, strict=True)
    ]
    parts = {part: [entry for entry, frame in zip(entries, subject.frames, strict=True) if frame.split == part]
             for part in ("train", "val", "test")}  # fmt: skip
    parts["test"] = parts["test"] or parts["val"]
    for part, chosen in parts.items():
        write_json(folder / f"transforms_{part}.json", _top(subject, chosen or parts["test"]))
    write_json(folder / "transforms.json", _top(subject, entries))
    return () if static is None else ("The head's own offsets from FLAME were written as static_offset.",)


def _flame(subject: Subject, config: ExportConfig) -> HeadModel:
    try:
        if config.flame is not None:
            head = open_flame(ImportConfig(flame=config.flame), "VHAP").head
        else:
            head = load_head(subject.head_model_source)
    except (HeadModelError, ImportingError, OSError) as error:
        raise ExportError(
            f"{subject.root}: VHAP's layout holds FLAME's parameters, and the subject's head model cannot be read "
            f"({error}). Give your FLAME file with --flame."
        ) from error
    if head.joint_names != FLAME_JOINTS:
        raise ExportError(
            f"{subject.root}: its head is {head.name}, not FLAME, and VHAP's layout holds FLAME's parameters. Track "
            "the video with --head and a converted FLAME, or export to insta, which takes any mesh."
        )
    return head


def _parameters(subject: Subject, head: HeadModel) -> FlameParameters:
    """The track in FLAME's own order; what it does not name is at rest."""
    track = subject.track
    expression = np.zeros((track.num_timesteps, len(head.expression_names)))
    for column, name in enumerate(track.expression_names):
        if name not in head.expression_names:
            raise ExportError(f"{subject.root}: its expression {name} is none of {head.name}'s.")
        expression[:, head.expression_names.index(name)] = track.expression[:, column]
    pose = np.zeros((track.num_timesteps, len(FLAME_JOINTS), 3))
    for column, name in enumerate(track.joint_names):
        pose[:, FLAME_JOINTS.index(name)] = track.pose[:, column]
    return FlameParameters(track.identity.astype(float), expression, pose, np.zeros((track.num_timesteps, 3)))


def _names(subject: Subject) -> list[str]:
    """`timestep_camera` of each picture: cameras are told apart by their order within a moment."""
    seen: dict[int, int] = {}
    names = []
    for frame in subject.frames:
        camera = seen.get(frame.timestep, 0)
        seen[frame.timestep] = camera + 1
        names.append(f"{frame.timestep:05d}_{camera:02d}")
    return names


def _write_parameters(path: Path, parameters: FlameParameters, timestep: int, shared: dict[str, np.ndarray]) -> None:
    pose = parameters.pose[timestep].astype(np.float32)
    arrays = {
        "translation": np.zeros((1, 3), np.float32),
        "rotation": pose[0:1],
        "neck_pose": pose[1:2],
        "jaw_pose": pose[2:3],
        "eyes_pose": pose[3:5].reshape(1, 6),
        "expr": _padded(parameters.expression[timestep : timestep + 1], EXPRESSIONS),
    }
    write_once(path, lambda file: np.savez(file, **arrays, **shared))


def _write_canonical(path: Path, shared: dict[str, np.ndarray]) -> None:
    joints = {"translation": 3, "rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "expr": EXPRESSIONS}
    arrays = {name: np.zeros((1, width), np.float32) for name, width in joints.items()}
    arrays["jaw_pose"][0, 0] = JAW_OPEN
    write_once(path, lambda file: np.savez(file, **arrays, **shared))


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    result = np.zeros((*values.shape[:-1], length), np.float32)
    result[..., : min(length, values.shape[-1])] = values[..., :length]
    return result


def _entry(subject: Subject, frame: Frame, name: str, world_from_head: np.ndarray) -> dict[str, Any]:
    fl_x, fl_y, cx, cy = subject.intrinsics_of(frame)
    camera = int(name.partition("_")[2])
    return {
        "timestep_index": frame.timestep,
        "timestep_index_original": frame.timestep,
        "timestep_id": f"frame_{frame.timestep:05d}",
        "camera_index": camera,
        "camera_id": str(camera),
        "cx": cx,
        "cy": cy,
        "fl_x": fl_x,
        "fl_y": fl_y,
        "h": subject.height,
        "w": subject.width,
        "camera_angle_x": 2 * math.atan(subject.width / fl_x / 2),
        "camera_angle_y": 2 * math.atan(subject.height / fl_y / 2),
        "transform_matrix": (world_from_head @ frame.c2w).tolist(),
        "file_path": f"images/{name}.png",
        "fg_mask_path": f"fg_masks/{name}.png",
        "flame_param_path": f"flame_param/{frame.timestep:05d}.npz",
    }


def _top(subject: Subject, entries: list[dict[str, Any]]) -> dict[str, Any]:
    shared = {name: entries[0][name] for name in
              ("cx", "cy", "fl_x", "fl_y", "h", "w", "camera_angle_x", "camera_angle_y")}  # fmt: skip
    return shared | {
        "frames": entries,
        "timestep_indices": sorted({entry["timestep_index"] for entry in entries}),
        "camera_indices": sorted({entry["camera_index"] for entry in entries}),
    }
