"""A motion on disk: one .npz of plain arrays and a JSON header. Nothing in it is ever run."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from flame_nerf.motion.performance import CameraTrack, Motion, Provenance
from flame_nerf.runtime.door import parse_json, read_npz
from flame_nerf.runtime.errors import MotionError
from flame_nerf.runtime.files import complete_file

FORMAT, FORMAT_VERSION = "flame-nerf motion", 1
_FLOATS = ("expression", "joints", "head_to_world", "camera_c2w", "camera_intrinsics")
_ARRAYS = ("header", "held", *_FLOATS)


def write_motion(motion: Motion, path: Path | str) -> Path:
    """Writes a motion; the file appears under its name only when complete.

    Raises:
        MotionError: it cannot be written there.
    """
    path = Path(path)
    header: dict[str, Any] = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "fps": motion.fps,
        "expression_names": motion.expression_names,
        "joint_names": motion.joint_names,
        "provenance": asdict(motion.provenance),
    }
    arrays: dict[str, Any] = {"expression": motion.expression, "joints": motion.joints, "held": motion.held}
    if motion.head_to_world is not None:
        arrays["head_to_world"] = motion.head_to_world
    if motion.camera is not None:
        header["camera_size"] = motion.camera.size
        arrays["camera_c2w"] = np.asarray(motion.camera.c2w, np.float64)
        arrays["camera_intrinsics"] = np.asarray(motion.camera.intrinsics, np.float64)
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    with complete_file(path, "motion", MotionError) as spare, spare.open("wb") as file:
        np.savez_compressed(file, header=text, **arrays)
    return path


def read_motion(path: Path | str) -> Motion:
    """Reads what `write_motion` wrote. The sizes that a file claims are checked before anything of it is unpacked.

    Raises:
        MotionError: no such file, damaged, too large, of a newer release, or its contents do not go together.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    header = _header(path, arrays.pop("header"))
    missing = [name for name in ("expression", "joints", "held") if name not in arrays]
    if missing:
        raise MotionError(f"{path}: it lacks {missing[0]!r}; write the motion again")
    try:
        camera = None
        if "camera_c2w" in arrays:
            width, height = header["camera_size"]
            camera = CameraTrack(arrays["camera_c2w"], arrays["camera_intrinsics"], (int(width), int(height)))
        return Motion(
            expression=arrays["expression"],
            expression_names=_names(header, "expression_names"),
            fps=float(header["fps"]),
            joints=arrays["joints"],
            joint_names=_names(header, "joint_names"),
            head_to_world=arrays.get("head_to_world"),
            camera=camera,
            held=arrays["held"],
            provenance=_provenance(header.get("provenance")),
        )
    except MotionError as error:
        raise MotionError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise MotionError(
            f"{path}: the header does not say what it should ({error!r}); write the motion again"
        ) from None


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays that a motion has, and no others; none of them an object."""
    arrays = read_npz(
        path, MotionError, wanted="a motion", remedy="Copy or write it again.", missing=f"{path}: no such file",
        number_bytes=4, only=_ARRAYS,
    )  # fmt: skip
    if "header" not in arrays:
        raise MotionError(f"{path}: no motion: it has no header. `flame-nerf motion SOURCE MOTION.npz` writes one")
    for name, array in arrays.items():
        if array.dtype.kind != {"header": "u", "held": "b"}.get(name, "f"):
            raise MotionError(f"{path}: its {name!r} is of type {array.dtype}; write the motion again")
    return arrays


def _header(path: Path, stored: np.ndarray) -> dict[str, Any]:
    header = parse_json(stored.tobytes(), f"{path}: its header", MotionError, remedy="Write the motion again.")
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise MotionError(f"{path}: no motion: its header does not call itself one")
    if header.get("version") != FORMAT_VERSION:
        raise MotionError(
            f"{path}: motion of version {header.get('version')!r}, this release reads version {FORMAT_VERSION}; "
            "update flame-nerf, or write the motion again"
        )
    return header


def _names(header: dict[str, Any], key: str) -> tuple[str, ...]:
    names = header[key]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{key} is no list of names")
    return tuple(names)


def _provenance(stored: Any) -> Provenance:
    """What is there of it, each entry of its own type; a file by hand may have none."""
    stored = stored if isinstance(stored, dict) else {}
    plain = Provenance()
    kept: dict[str, Any] = {}
    for entry in fields(Provenance):
        value, default = stored.get(entry.name), getattr(plain, entry.name)
        if isinstance(default, tuple) and isinstance(value, list):
            kept[entry.name] = tuple(map(str, value))
        elif isinstance(default, float) and isinstance(value, int | float) and not isinstance(value, bool):
            kept[entry.name] = float(value)
        elif type(value) is type(default):
            kept[entry.name] = value
    return Provenance(**kept)
