"""VHAP's and GaussianAvatars' layout: FLAME's parameters of each moment, an OpenGL camera for each picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from data_tools.exporters.config import ExportConfig, ExportError
from data_tools.exporters.files import write_json, write_once, write_picture
from data_tools.importers.config import ImportConfig, ImportingError
from data_tools.importers.flame import FLAME_JOINTS, Flame, FlameMeshes, FlameParameters, open_flame
from data_tools.runs.blocks import blocks_of, run_blocks
from flame_nerf.data.dataset import read_rgba
from flame_nerf.heads import HeadModel, HeadModelError, load_head
from flame_nerf.motion.live_head import LiveHead
from flame_nerf.subject import Frame, Subject

SHAPES, EXPRESSIONS = 300, 100
VERTICES_WITH_TEETH = 5143
"""What VHAP's offsets count: FLAME's 5023 vertices and its own teeth."""
JAW_OPEN = 0.3
"""Radians, of the canonical head."""
OFFSET_SEEN = 1e-5
"""Offsets smaller than this, metres, are the arithmetic's."""
SAME_PX, SAME_CAMERA = 0.1, 0.1
"""What a pixel of focal length or centre counts against a radian of direction, and how far two pictures of one camera
may be apart in both."""


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
    c2w = np.stack([world_from_head[frame.timestep] @ frame.c2w for frame in subject.frames])
    cameras, notes = _cameras(subject, c2w)
    names = [f"{frame.timestep:05d}_{camera:02d}" for frame, camera in zip(subject.frames, cameras, strict=True)]

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
        _entry(subject, frame, camera, name, pose)
        for frame, camera, name, pose in zip(subject.frames, cameras, names, c2w, strict=True)
    ]
    parts = {part: [entry for entry, frame in zip(entries, subject.frames, strict=True) if frame.split == part]
             for part in ("train", "val", "test")}  # fmt: skip
    parts["test"] = parts["test"] or parts["val"]
    for part, chosen in parts.items():
        write_json(folder / f"transforms_{part}.json", _top(subject, chosen or parts["test"]))
    write_json(folder / "transforms.json", _top(subject, entries))
    return notes if static is None else (*notes, "The head's own offsets from FLAME were written as static_offset.")


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


def _cameras(subject: Subject, c2w: Float[np.ndarray, "N 4 4"]) -> tuple[list[int], tuple[str, ...]]:
    """Which of the rig's cameras took each picture, and what to say if that cannot be told.

    Pictures may be missing, so their order within a moment says nothing: cameras are known by their intrinsics and by
    how they stand in the world.

    Args:
        c2w: each frame's camera in the exported world, where a camera of a rig keeps its direction.
    """
    moments: dict[int, list[int]] = {}
    for row, frame in enumerate(subject.frames):
        moments.setdefault(frame.timestep, []).append(row)
    rig = max(moments.values(), key=len)
    if len(rig) == 1:
        return [0] * len(subject.frames), ()
    intrinsics = np.array([subject.intrinsics_of(frame) for frame in subject.frames])
    cameras, unsure = [0] * len(subject.frames), False
    for rows in moments.values():
        apart = np.abs(intrinsics[rows][:, None] - intrinsics[rig][None]).max(axis=-1)
        turned = np.linalg.norm(c2w[rows][:, None, :3, :3] - c2w[rig][None, :, :3, :3], axis=(-2, -1))
        cost = turned + SAME_PX * apart
        chosen, of_rig = linear_sum_assignment(cost)
        for at, camera in zip(chosen, of_rig, strict=True):
            cameras[rows[at]] = int(camera)
        unsure |= bool((cost[chosen, of_rig] > SAME_CAMERA).any())
    said = "Cameras could not all be told apart by intrinsics and direction: camera_index may not be one camera's."
    return cameras, (said,) if unsure else ()


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


def _entry(subject: Subject, frame: Frame, camera: int, name: str, c2w: Float[np.ndarray, "4 4"]) -> dict[str, Any]:
    fl_x, fl_y, cx, cy = subject.intrinsics_of(frame)
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
        "transform_matrix": c2w.tolist(),
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
