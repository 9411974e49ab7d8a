"""Neural Head Avatars and video-head-tracker: tracked_flame_params.npz and a folder a frame; PyTorch3D's axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_tools.importers.cameras import AXES_WORDS, Camera, camera_of
from data_tools.importers.capture import Capture, Scratch, Shot
from data_tools.importers.config import ImportConfig, ImportingError
from data_tools.importers.files import array, field, natural, read_npz
from data_tools.importers.flame import FlameMeshes, FlameParameters, capture_of, open_flame
from data_tools.importers.pictures import Segmentation, picture_size

INDEX = "tracked_flame_params*.npz"
CLOTH = 16
"""Class of clothes in the parsing pictures."""
LIMITS_DEG = {
    "neck_pose": ((-90, 90), (-60, 60), (-80, 80)),
    "jaw_pose": ((-5, 60), (-0.1, 0.1), (-0.1, 0.1)),
    "eyes_pose": ((-50, 50), (-50, 50), (-0.1, 0.1)),
}
"""Ranges of the joints' axis-angles. The files hold numbers without bounds, which tanh squeezes into these."""


def recognise(source: Path) -> str | None:
    """Why this is video-head-tracker's; None if it is not."""
    found = _index_file(source)
    return None if found is None else f"{found.name} is there"


def _index_file(source: Path) -> Path | None:
    if source.is_file():
        return source if source.match(INDEX) else None
    found = [*source.glob(INDEX), *source.glob(f"*/{INDEX}")]
    # Several are stages of one fit; the last is the finished one.
    return max(found, key=lambda path: natural(path.name)) if found else None


def read(source: Path, config: ImportConfig, scratch: Scratch) -> Capture:
    """Read the tracked parameters and the frames' folders.

    Raises:
        ImportingError: naming file and field.
    """
    path = _index_file(source)
    if path is None:
        raise ImportingError(f"{source}: it holds no {INDEX}.")
    flame = open_flame(config, "NHA")
    found, where = read_npz(path), str(path)
    folder = path.parent if source.is_file() else source
    expression = array(field(found, "expr", where), (None, None), f"{where}: expr")
    counts = {name: len(field(found, name, where)) for name in
              ("rotation", "translation", "neck_pose", "jaw_pose", "eyes_pose", "expr")}  # fmt: skip
    if len(set(counts.values())) != 1:
        raise ImportingError(f"{where}: unequal lengths: {counts}. One row a frame is expected of each.")
    pose = np.concatenate(
        [array(found["rotation"], (None, 3), f"{where}: rotation")]
        + [_bounded(array(found[name], (None, width), f"{where}: {name}"), name)
           for name, width in (("neck_pose", 3), ("jaw_pose", 3), ("eyes_pose", 6))],
        axis=1,
    )  # fmt: skip
    parameters = FlameParameters(
        shape=array(np.ravel(field(found, "shape", where)), (None,), f"{where}: shape"),
        expression=expression,
        pose=pose.reshape(-1, 5, 3),
        translation=array(found["translation"], (None, 3), f"{where}: translation"),
        centred=True,
    )
    meshes = FlameMeshes(flame, parameters, where)
    frames = array(found.get("frame", np.arange(len(pose))), (None,), f"{where}: frame").astype(int)
    if len(frames) < len(pose):
        raise ImportingError(f"{where}: frame names {len(frames)} frames, there are parameters of {len(pose)}.")
    # A run that was stopped has only guesses for the frames behind `n_processed`.
    processed = int(found["n_processed"]) if "n_processed" in found else len(pose)
    head_from_world = np.linalg.inv(meshes.world_from_head())
    shots, left_out, signs = [], [], set()
    for row in range(len(pose)):
        place = folder / f"frame_{frames[row]:04d}"
        picture = place / "image_0000.png"
        if row >= processed > 0:
            left_out.append((place.name, "the tracker was stopped before it"))
            continue
        if not picture.is_file():
            left_out.append((place.name, "it has no image_0000.png"))
            continue
        camera, turned = _camera(found, where, picture_size(picture))
        signs.update(turned)
        shots.append(_shot(place, picture, camera.in_world(head_from_world[row]), row))
    if not shots:
        raise ImportingError(f"{folder}: none of the {len(pose)} tracked frames has a folder frame_*/image_0000.png.")
    return capture_of(
        meshes,
        flame,
        format="NHA",
        shots=tuple(shots),
        facts={
            "axes": f"world-to-camera for row vectors, {AXES_WORDS['pytorch3d']}, cy from below",
            "signs": ", ".join(sorted(signs)) or "focal lengths positive",
            "scale": "metres, FLAME's root joint at the origin",
            "parameters": path.name,
        },
        left_out=tuple(left_out),
    )


def _bounded(values: np.ndarray, name: str) -> np.ndarray:
    """Axis-angles in radians from the unbounded numbers that the tracker optimises."""
    low, high = np.radians(np.tile(np.array(LIMITS_DEG[name], dtype=float), (values.shape[1] // 3, 1))).T
    return low + (np.tanh(values) + 1) / 2 * (high - low)


def _camera(found: dict[str, np.ndarray], where: str, size: tuple[int, int]) -> tuple[Camera, tuple[str, ...]]:
    width, height = size
    matrix = np.asarray(field(found, "K", where), dtype=np.float64)
    if matrix.ndim == 1:
        # K is for the pictures as they were tracked, which may have been larger or smaller.
        tracked = array(np.ravel(found.get("image_size", [height, width])), (2,), f"{where}: image_size")
        focal, cx, cy = array(matrix, (3,), f"{where}: K")
        scale = tracked.max() * np.array([width / tracked[1], height / tracked[0]])
        focal_x, focal_y, cx, cy = focal * scale[0], focal * scale[1], cx * width, cy * height
    else:
        matrix = array(matrix, (3, 3), f"{where}: K")
        focal_x, focal_y, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    given = array(np.asarray(field(found, "RT", where))[:3], (3, 4), f"{where}: RT")
    w2c = np.eye(4)
    # PyTorch3D multiplies points from the left.
    w2c[:3, :3], w2c[:3, 3] = given[:, :3].T, given[:, 3]
    return camera_of((focal_x, focal_y, cx, height - cy), size, w2c, "pytorch3d", where)


def _shot(place: Path, picture: Path, camera: Camera, row: int) -> Shot:
    matte, parsing = place / "seg_0000.png", place / "parsing_0000.png"
    return Shot(
        name=place.name,
        picture=picture,
        camera=camera,
        timestep=row,
        matte=matte if matte.is_file() else None,
        segmentation=Segmentation(parsing, frozenset({CLOTH})) if parsing.is_file() else None,
    )
