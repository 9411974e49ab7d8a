"""VHAP and GaussianAvatars: transforms_*.json, one flame_param npz a moment, OpenGL cameras, the head moves.

One camera or several; unions of sequences, whose frames point into the sequences' own folders beside the union's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.importers.capture import Capture, Scratch, Shot, capture_of
from data_tools.importers.config import ImportConfig, ImportingError
from data_tools.importers.flame import Flame, FlameMeshes, FlameParameters, open_flame
from data_tools.importers.inputs.cameras import AXES_WORDS, Camera, camera_of
from data_tools.importers.inputs.files import array, field, flat, number, read_npz
from data_tools.importers.inputs.places import Places, why_missing
from data_tools.importers.inputs.transforms import Listed, listed_frames, why_transforms
from data_tools.runs.frame_names import natural
from flame_nerf.runtime.door import picture_size, read_text

POSE_KEYS = {"rotation": 1, "neck_pose": 1, "jaw_pose": 1, "eyes_pose": 2}
"""Names and numbers of joints, in FLAME's order."""


def recognise(source: Path) -> str | None:
    """Why this folder is VHAP's export; None if it is not."""
    return why_transforms(source, "flame_param_path", "names FLAME's parameters for each frame (flame_param_path)")


def read(source: Path, config: ImportConfig, scratch: Scratch) -> Capture:
    """Read VHAP's export or GaussianAvatars' dataset.

    Raises:
        ImportingError: naming file and frame.
    """
    flame = open_flame(config, "VHAP")
    also = _sequences(source)
    frames, places = listed_frames(source, also)
    entries = [_Entry(places, frame) for frame in frames]
    found, missing = [], []
    for entry in entries:
        if not entry.parameters.is_file():
            missing.append((entry.picture.stem, f"its {entry.parameters.name} does not exist"))
        elif not (entry.sized or entry.picture.is_file()):
            missing.append((entry.picture.stem, f"its picture {entry.picture.name} does not exist"))
        else:
            found.append(entry)
    if not found:
        lost = entries[0].picture if entries[0].parameters.is_file() else entries[0].parameters
        raise ImportingError(f"{source}: none of its {len(entries)} frames can be used: {why_missing(lost)}.")
    paths = _moments(found)
    meshes = _PeopleMeshes(flame, paths)
    row_of = {path: row for row, path in enumerate(paths)}
    head_from_world = np.linalg.inv(meshes.world_from_head())
    shots, signs = [], set()
    for entry in found:
        row = row_of[entry.parameters]
        camera, turned = entry.camera()
        signs.update(turned)
        shots.append(Shot(entry.picture.stem, entry.picture, camera.in_world(head_from_world[row]), row, entry.split,
                          matte=entry.matte))  # fmt: skip
    cameras = len({entry.camera_name for entry in found})
    return capture_of(
        meshes.first,
        flame,
        format="VHAP",
        shots=tuple(shots),
        meshes=meshes,
        expression=meshes.gather(lambda group: group.expression),
        pose=meshes.gather(lambda group: group.pose),
        facts={
            "axes": f"camera-to-world, {AXES_WORDS['opengl']}",
            "signs": ", ".join(sorted(signs)) or "focal lengths positive",
            "scale": "metres",
            "cameras": f"{cameras}, {len(paths)} moments" + (f", sequences {len(also)}" if also else ""),
            "offsets": meshes.offsets_found,
        },
        left_out=tuple(missing),
        warnings=meshes.warnings,
    )


class _Entry:
    """One frame of a transforms file."""

    def __init__(self, places: Places, listed: Listed) -> None:
        frame, where = listed.frame, listed.where
        self.picture, self.split, self.where = listed.picture, listed.split, where
        self.parameters = places.path(field(frame, "flame_param_path", where), f"{where}: flame_param_path")
        named = frame.get("fg_mask_path")
        self.matte = None if named is None else places.picture(named, f"{where}: fg_mask_path")
        self.timestep = number(frame, "timestep_index", where) if "timestep_index" in frame else None
        self.camera_name = next((str(frame[name]) for name in ("camera_index", "camera_id") if name in frame), None)
        self.sized = "w" in listed.content and "h" in listed.content
        self._content = listed.content

    def camera(self) -> tuple[Camera, tuple[str, ...]]:
        """The camera in the data's world."""
        content, where = self._content, self.where
        if self.sized:
            width, height = (int(number(content, name, where)) for name in ("w", "h"))
        else:
            width, height = picture_size(self.picture, ImportingError)
        # The field of view alone is what the older files have.
        fl_x, fl_y = (
            number(content, name, where) if name in content else side / 2 / math.tan(number(content, angle, where) / 2)
            for name, angle, side in (("fl_x", "camera_angle_x", width), ("fl_y", "camera_angle_y", height))
        )
        cx, cy = (
            number(content, name, where) if name in content else side / 2
            for name, side in (("cx", width), ("cy", height))
        )
        c2w = array(field(content, "transform_matrix", where), (4, 4), f"{where}: transform_matrix")
        if abs(np.linalg.det(c2w)) < 1e-9:
            raise ImportingError(f"{where}: transform_matrix is singular.")
        return camera_of((fl_x, fl_y, cx, cy), (width, height), np.linalg.inv(c2w), "opengl", where)


def _sequences(source: Path) -> list[Path]:
    """Folders of the sequences that a union is made of: those beside it that it lists."""
    listed = []
    for path in sorted(source.glob("sequences_*.txt")):
        listed += [line.strip() for line in read_text(path, ImportingError).splitlines() if line.strip()]
    return [source.parent / name for name in listed if "/" not in name and "\\" not in name and name not in ("..", ".")]


def _moments(entries: list[_Entry]) -> list[Path]:
    """The parameter files of all moments in order: by the data's own clock where it has one, each sequence by itself.

    Raises:
        ImportingError: one moment has two parameter files, or one camera two pictures of it.
    """
    of_clock: dict[tuple[Path, float], _Entry] = {}
    seen: dict[tuple[Path, float, str], _Entry] = {}
    for entry in entries:
        if entry.timestep is None:
            continue
        moment = (entry.parameters.parent, entry.timestep)
        other = of_clock.setdefault(moment, entry)
        if other.parameters != entry.parameters:
            raise ImportingError(
                f"{other.where} and {entry.where} are both of timestep_index {entry.timestep:g}, but name "
                f"{other.parameters.name} and {entry.parameters.name}. One moment has one file: correct either."
            )
        if entry.camera_name is not None:
            other = seen.setdefault((*moment, entry.camera_name), entry)
            if other is not entry:
                raise ImportingError(
                    f"{other.where} and {entry.where} are both of timestep_index {entry.timestep:g} and camera "
                    f"{entry.camera_name}, but name {other.picture.name} and {entry.picture.name}. Take one of them "
                    "out, or correct it."
                )
    clock = {entry.parameters: entry.timestep for entry in entries}
    paths = sorted(clock, key=natural)
    if any(time is None for time in clock.values()):
        return paths
    # The sequences of a union may each count from 0: one after the other then, else by the one clock.
    several = len({*clock.values()}) < len(paths)
    return sorted(paths, key=lambda path: (natural(path.parent) if several else [], clock[path]))


def _read_parameters(path: Path) -> dict[str, np.ndarray]:
    """One moment's parameters, checked; `pose` [5, 3] and `offset` [V, 3] or an empty array."""
    found = read_npz(path)
    where = str(path)
    pose = [flat(found, name, where, 3 * joints).reshape(joints, 3) for name, joints in POSE_KEYS.items()]
    values = {
        name: flat(found, name, where, size) for name, size in (("shape", None), ("expr", None), ("translation", 3))
    }
    given = {"static_offset": (), "dynamic_offset": ()} | found
    offset = flat(given, "static_offset", where)
    if len(offset) % 3:
        raise ImportingError(f"{where}: static_offset has {len(offset)} numbers, expected three a vertex.")
    return values | {
        "pose": np.concatenate(pose),
        "offset": offset.reshape(-1, 3),
        "dynamic": np.array(bool(flat(given, "dynamic_offset", where).any())),
    }


class _PeopleMeshes:
    """Meshes of one or several identities: each sequence of a union was fitted by itself."""

    def __init__(self, flame: Flame, paths: Sequence[Path]) -> None:
        read, groups, offsets = [], {}, {}
        for row, path in enumerate(paths):
            one = _read_parameters(path)
            # Every file repeats the person's offsets: of ten thousand copies one is kept.
            offset = one.pop("offset")
            key = hashlib.sha1(one["shape"].tobytes() + offset.tobytes()).digest()
            groups.setdefault(key, []).append(row)
            offsets.setdefault(key, offset)
            read.append(one)
        vertices = len(flame.head.template)
        self._group_of = np.zeros(len(paths), dtype=int)
        self._place = np.zeros(len(paths), dtype=int)
        self._groups: list[FlameMeshes] = []
        offset_sizes = {len(offset) for offset in offsets.values()}
        for number_, (key, rows) in enumerate(groups.items()):
            where, offset = str(paths[rows[0]]), offsets[key]
            _same_lengths(read, rows, paths)
            if 0 < len(offset) < vertices:
                raise ImportingError(
                    f"{where}: static_offset has {len(offset)} vertices, your FLAME file {vertices}. Give the FLAME "
                    "file that the data were tracked with."
                )
            person = flame.with_offset(offset[:vertices]) if len(offset) else flame
            parameters = FlameParameters(
                read[rows[0]]["shape"],
                np.stack([read[row]["expr"] for row in rows]),
                np.stack([read[row]["pose"] for row in rows]),
                np.stack([read[row]["translation"] for row in rows]),
            )
            self._groups.append(FlameMeshes(person, parameters, where))
            self._group_of[rows], self._place[rows] = number_, np.arange(len(rows))
        self.first = self._groups[0]
        self.faces = self.first.faces
        self.offsets_found = _offsets_in_words(offset_sizes, vertices, len(groups))
        said = []
        if any(one["dynamic"] for one in read):
            said.append("The data hold dynamic offsets of vertices, which are left away.")
        if len(groups) > 1:
            said.append(f"{len(groups)} sequences have identities of their own; the first one's is the canonical head.")
        if any(offset_sizes - {0}) and flame.regressor is None:
            said.append(
                "Joints do not follow the vertex offsets: a converted head has lost FLAME's joint regressor. Give the "
                "original FLAME file for the last tenths of a millimetre."
            )
        self.warnings = tuple(said)

    def __len__(self) -> int:
        return len(self._group_of)

    def gather(self, of_group) -> np.ndarray:
        """Rows of something that each group has, in the order of the moments."""
        parts = [of_group(group) for group in self._groups]
        result = np.empty((len(self), *parts[0].shape[1:]), dtype=parts[0].dtype)
        for number_, part in enumerate(parts):
            rows = self._group_of == number_
            result[rows] = part[self._place[rows]]
        return result

    def world_from_head(self) -> np.ndarray:
        """Where the head frame is, moment by moment [T, 4, 4]."""
        return self.gather(lambda group: group.world_from_head())

    def vertices(self, rows: Sequence[int]) -> np.ndarray:
        """Posed heads in the head frame, metres."""
        rows = np.asarray(rows)
        result = np.empty((len(rows), len(self.first.head.template), 3), np.float32)
        for number_ in np.unique(self._group_of[rows]):
            chosen = self._group_of[rows] == number_
            result[chosen] = self._groups[number_].vertices(self._place[rows[chosen]].tolist())
        return result


def _same_lengths(read: list[dict[str, Any]], rows: list[int], paths: Sequence[Path]) -> None:
    for row in rows:
        for name in ("expr", "translation"):
            if len(read[row][name]) != len(read[rows[0]][name]):
                raise ImportingError(
                    f"{paths[row]}: {name} has {len(read[row][name])} values, {paths[rows[0]].name} has "
                    f"{len(read[rows[0]][name])}. One row a moment is expected."
                )


def _offsets_in_words(sizes: set[int], vertices: int, people: int) -> str:
    largest = max(sizes)
    if largest == 0:
        return "none"
    teeth = f", {largest - vertices} of teeth left away" if largest > vertices else ""
    return f"static, {min(largest, vertices)} vertices{teeth}" + (f", {people} identities" if people > 1 else "")
