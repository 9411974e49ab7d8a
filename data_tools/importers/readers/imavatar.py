"""IMavatar and PointAvatar: flame_params.json, FLAME four times as large, OpenGL axes, the camera stands still."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_tools.importers.capture import Capture, Scratch, Shot, capture_of
from data_tools.importers.config import ImportConfig, ImportingError
from data_tools.importers.flame import FlameMeshes, FlameParameters, open_flame
from data_tools.importers.inputs.cameras import AXES_WORDS, camera_of
from data_tools.importers.inputs.files import array, field, first_rows, flat, frames_of, read_json
from data_tools.importers.inputs.mattes import Segmentation
from data_tools.importers.inputs.places import Places, pictures_in
from data_tools.runs.frame_names import natural, stem_of
from flame_nerf.runtime.door import picture_size

INDEX = "flame_params.json"
FLAME_SCALE = 4.0
"""The data's unit is a quarter of a metre: FLAME is scaled to fill the unit sphere."""
OLD_SIZE = 512
"""Pictures that intrinsics in pixels are meant for; newer data give them as fractions of the picture."""
CLOTH = 16
"""Class of clothes in the semantic pictures."""


def recognise(source: Path) -> str | None:
    """Why this is IMavatar's or PointAvatar's; None if it is not."""
    found = _index_files(source)
    return f"{found[0].relative_to(source)} is there" if found else None


def _index_files(source: Path) -> list[Path]:
    """The folder's own index, or those of the clips in it."""
    own = source / INDEX
    return [own] if own.is_file() else sorted(source.glob(f"*/{INDEX}"), key=natural)


def read(source: Path, config: ImportConfig, scratch: Scratch) -> Capture:
    """Read the clips of a person.

    Raises:
        ImportingError: naming file and frame.
    """
    paths = _index_files(source)
    if not paths:
        raise ImportingError(f"{source}: neither it nor a folder in it holds {INDEX}.")
    flame = open_flame(config, "IMavatar")
    clips = [_Clip(path) for path in paths]
    shape = clips[0].shape
    for clip in clips[1:]:
        if not np.array_equal(clip.shape, shape):
            raise ImportingError(
                f"{clip.path}: its shape_params differ from those of {clips[0].path}, so it was fitted by itself. "
                "Import each clip as a subject of its own."
            )
    columns = [np.concatenate([getattr(clip, name) for clip in clips]) for name in ("expression", "pose")]
    parameters = FlameParameters(shape, *columns, translation=np.zeros((len(columns[0]), 3)))
    meshes = FlameMeshes(flame, parameters, str(paths[0]))
    head_from_world = np.linalg.inv(meshes.world_from_head())
    shots, signs, row = [], set(), 0
    for clip in clips:
        for index in range(len(clip.frames)):
            shot, turned = clip.shot(index, row, head_from_world[row])
            shots.append(shot)
            signs.update(turned)
            row += 1
    return capture_of(
        meshes,
        flame,
        format="IMavatar",
        shots=tuple(shots),
        facts={
            "axes": f"world-to-camera, {AXES_WORDS['opengl']}",
            "signs": ", ".join(sorted(signs)) or "focal lengths positive",
            "scale": "FLAME x 4: divided by 4",
            "clips": ", ".join(str(clip.path.parent.name) for clip in clips),
        },
    )


class _Clip:
    """One flame_params.json and the pictures beside it."""

    def __init__(self, path: Path) -> None:
        self.path, self._content = path, read_json(path)
        self.frames = frames_of(self._content, path)
        self._places = Places(path.parent, names=[frame.get("file_path") for frame in self.frames])
        if not self.frames:
            raise ImportingError(f"{path} lists no frames.")
        self.shape = flat(self._content, "shape_params", str(path))
        self.expression = self._column("expression", None)
        self.pose = self._column("pose", 15).reshape(-1, 5, 3)

    def _column(self, name: str, width: int | None) -> np.ndarray:
        rows: list[np.ndarray] = []
        for index, frame in enumerate(self.frames):
            where = f"{self.path}: frame {index}"
            rows.append(array(field(frame, name, where), (len(rows[0]) if rows else width,), f"{where}: {name}"))
        return np.stack(rows)

    def shot(self, index: int, row: int, head_from_world: np.ndarray) -> tuple[Shot, tuple[str, ...]]:
        """A frame's picture and camera, in the head frame."""
        frame: dict[str, Any] = self.frames[index]
        where, folder = f"{self.path}: frame {index}", self.path.parent
        picture = self._places.picture(field(frame, "file_path", where), f"{where}: file_path")
        size = self._size(picture)
        w2c = np.eye(4)
        w2c[:3] = first_rows(frame, "world_mat", where, (3, 4))
        w2c[:3, 3] /= FLAME_SCALE
        given = array(field(self._content, "intrinsics", str(self.path)), (4,), f"{self.path}: intrinsics")
        # u = given[0] X / Z + given[2] with Z < 0 in front: OpenCV's x / depth is -X / Z.
        unit = np.array(size * 2, dtype=float) / (OLD_SIZE if given[3] > 1 else 1)
        focal_x, focal_y, cx, cy = given * unit
        camera, signs = camera_of((-focal_x, focal_y, cx, cy), size, w2c, "opengl", where)
        name = stem_of(picture.name)
        semantic = self._places.picture_in(folder / "semantic", name)
        shot = Shot(
            name=f"{folder.name}/{name}",
            picture=picture,
            camera=camera.in_world(head_from_world),
            timestep=row,
            matte=self._places.picture_in(folder / "mask", name),
            segmentation=Segmentation(semantic, frozenset({CLOTH})) if semantic.is_file() else None,
        )
        return shot, signs

    def _size(self, picture: Path) -> tuple[int, int]:
        """A picture's width and height; those of its folder's pictures if it is not there itself."""
        if not picture.is_file():
            others = pictures_in(picture.parent)
            if not others:
                return OLD_SIZE, OLD_SIZE
            picture = picture.parent / others[0]
        return picture_size(picture, ImportingError)
