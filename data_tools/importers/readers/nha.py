"""Neural Head Avatars and video-head-tracker: tracked_flame_params.npz and a folder a frame; PyTorch3D's axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_tools.importers.capture import Capture, Scratch, Shot, capture_of
from data_tools.importers.config import ImportConfig, ImportingError
from data_tools.importers.flame import FlameMeshes, FlameParameters, open_flame
from data_tools.importers.inputs.cameras import AXES_WORDS, Camera, camera_of
from data_tools.importers.inputs.files import array, field, first_rows, flat, read_npz
from data_tools.importers.inputs.mattes import Segmentation
from data_tools.importers.inputs.places import Places, why_missing
from data_tools.importers.matching import refuse_shifted
from data_tools.runs.frame_names import frame_numbers, natural
from flame_nerf.runtime.door import picture_size

INDEX = "tracked_flame_params*.npz"
CLOTH = 16
"""Class of clothes in the parsing pictures."""
LIMITS_DEG = {
    "neck_pose": ((-90, 90), (-60, 60), (-80, 80)),
    "jaw_pose": ((-5, 60), (-0.1, 0.1), (-0.1, 0.1)),
    "eyes_pose": ((-50, 50), (-50, 50), (-0.1, 0.1)),
}
"""Ranges of the joints' axis-angles. The files hold numbers without bounds, which tanh squeezes into these."""
WIDTHS = {"neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6}


def recognise(source: Path) -> str | None:
    """Why this is video-head-tracker's; None if it is not."""
    found = _index_file(source)
    return None if found is None else f"{found.name} is there"


def _index_file(source: Path) -> Path | None:
    if source.is_file():
        return source if source.match(INDEX) else None
    found = [*source.glob(INDEX), *source.glob(f"*/{INDEX}")]
    if not found:
        return None
    # Several are stages of one fit; the last is the finished one.
    last = max(found, key=lambda path: natural(path.name))
    twin = next((path for path in found if path.name == last.name and path != last), None)
    if twin is not None:
        raise ImportingError(f"{last} and {twin} are both there. Give the one that belongs to the frames as SRC.")
    return last


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
    columns = {name: array(field(found, name, where), (None, width), f"{where}: {name}") for name, width in
               (("rotation", 3), ("translation", 3), *WIDTHS.items(), ("expr", None))}  # fmt: skip
    counts = {name: len(column) for name, column in columns.items()}
    if len(set(counts.values())) != 1:
        raise ImportingError(f"{where}: unequal lengths: {counts}. One row a frame is expected of each.")
    pose = np.concatenate([columns["rotation"], *(_bounded(columns[name], name) for name in WIDTHS)], axis=1)
    parameters = FlameParameters(
        shape=flat(found, "shape", where),
        expression=columns["expr"],
        pose=pose.reshape(-1, 5, 3),
        translation=columns["translation"],
        centred=True,
    )
    meshes = FlameMeshes(flame, parameters, where)
    folders, places = _folders(folder), Places(folder)
    frames = _frames(found, len(pose), where, folders)
    refuse_shifted([f"frame_{frame:04d}" for frame in frames[: len(pose)]], [place.name for place in folders.values()],
                   where, "folder frame_*")  # fmt: skip
    # A run that was stopped has only guesses for the frames behind `n_processed`.
    processed = int(flat(found, "n_processed", where, 1)[0]) if "n_processed" in found else len(pose)
    head_from_world = np.linalg.inv(meshes.world_from_head())
    shots, left_out, signs = [], [], set()
    for row in range(len(pose)):
        name = f"frame_{frames[row]:04d}"
        if row >= processed > 0:
            left_out.append((name, "the tracker was stopped before it"))
            continue
        place = folders.get(frames[row])
        if place is None:
            left_out.append((name, "it has no folder"))
            continue
        picture = places.picture_in(place, "image_0000.png")
        if not picture.is_file():
            left_out.append((place.name, "it has no image_0000.png"))
            continue
        camera, turned = _camera(found, where, picture_size(picture, ImportingError))
        signs.update(turned)
        shots.append(_shot(places, place, picture, camera.in_world(head_from_world[row]), row))
    if not shots:
        lost = folders.get(frames[0], folder / f"frame_{frames[0]:04d}") / "image_0000.png"
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out[:3])
        raise ImportingError(
            f"{folder}: none of the {len(pose)} tracked frames can be used ({reasons}). Of the first: "
            f"{why_missing(lost) if not lost.is_file() else 'its picture is there, but n_processed is too small'}."
        )
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
    matrix = array(field(found, "K", where), None, f"{where}: K")
    if matrix.ndim == 1:
        # K is for the pictures as they were tracked, which may have been larger or smaller.
        tracked = flat({"image_size": [height, width]} | found, "image_size", where, 2)
        focal, cx, cy = array(matrix, (3,), f"{where}: K")
        scale = tracked.max() * np.array([width / tracked[1], height / tracked[0]])
        focal_x, focal_y, cx, cy = focal * scale[0], focal * scale[1], cx * width, cy * height
    else:
        matrix = array(matrix, (3, 3), f"{where}: K")
        focal_x, focal_y, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    given = first_rows(found, "RT", where, (3, 4))
    w2c = np.eye(4)
    # PyTorch3D multiplies points from the left.
    w2c[:3, :3], w2c[:3, 3] = given[:, :3].T, given[:, 3]
    return camera_of((focal_x, focal_y, cx, height - cy), size, w2c, "pytorch3d", where)


def _folders(folder: Path) -> dict[int, Path]:
    """The frames' folders by their numbers, however many digits they have.

    Raises:
        ImportingError: two have one number.
    """
    found = sorted((path for path in folder.glob("frame_*") if path.is_dir()), key=lambda path: natural(path.name))
    if not found:
        return {}
    numbers = frame_numbers([path.name for path in found], what=str(folder), error=ImportingError)
    return dict(zip(numbers or [], found, strict=True))


def _frames(found: dict[str, np.ndarray], count: int, where: str, folders: dict[int, Path]) -> list[int]:
    """The number of each row's frame.

    Raises:
        ImportingError: the file does not say it.
    """
    if "frame" not in found:
        if len(folders) == count:
            return sorted(folders)
        raise ImportingError(
            f"{where}: frame is missing, which says whose the {count} rows of parameters are, and there are "
            f"{len(folders)} folders frame_*. Add it: the frames' numbers, one a row."
        )
    frames = array(found["frame"], (None,), f"{where}: frame").astype(int)
    if len(frames) < count:
        raise ImportingError(f"{where}: frame names {len(frames)} frames, there are parameters of {count}.")
    return frames.tolist()


def _shot(places: Places, place: Path, picture: Path, camera: Camera, row: int) -> Shot:
    matte, parsing = (places.picture_in(place, name) for name in ("seg_0000.png", "parsing_0000.png"))
    return Shot(
        name=place.name,
        picture=picture,
        camera=camera,
        timestep=row,
        matte=matte if matte.is_file() else None,
        segmentation=Segmentation(parsing, frozenset({CLOTH})) if parsing.is_file() else None,
    )
