"""What a command wrote, in a form that can be compared with what an uninterrupted run of it wrote."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from flame_nerf.subject import SubjectError, load_subject

LOGS = re.compile(r"(^|/)(events\.out\.tfevents\.|log$)|dataparser_transforms")
"""Files of which each run writes its own."""
TIMES = {"frames_per_second", "seconds", "config", "sha256", "key"}
"""Fields that say how long something took, when files were written, or how it was called; and what is counted over
such."""
SAME = 1e-9
"""Relative difference of numbers in JSON that counts as none: threads add up in any order. Arrays must be equal."""
TIMED = re.compile(rb"[\d.]+( frames)? (a second|/s)")


def contents(place: Path) -> dict[str, object]:
    """Every file below a folder, by its name there; arrays, JSON and checkpoints as what they hold."""
    files = [path for path in sorted(place.rglob("*")) if path.is_file() or path.is_symlink()]
    folders = [path for path in sorted(place.rglob("*")) if path.is_dir() and not any(path.iterdir())]
    found: dict[str, object] = {f"{path.relative_to(place)}/": b"" for path in folders}
    for path in files:
        name = path.relative_to(place).as_posix()
        if not LOGS.search(name):
            found[name] = _content(path)
    return found


def _content(path: Path) -> object:
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}
    if path.suffix == ".json":
        return _plain(json.loads(path.read_bytes()))
    if path.name == "config.yml" and "out" in path.parts:
        # ns-train notes where it goes on from.
        return [line.split(":")[0] for line in path.read_text().splitlines() if re.match(r"\w+:", line)]
    if path.suffix == ".ckpt":
        return _shape(torch.load(path, map_location="cpu", weights_only=True))
    if "films" in path.parts and path.suffix in (".mp4", ".png"):
        # Of an avatar that has seen other rays.
        with av.open(str(path)) as film:
            return [(frame.width, frame.height) for frame in film.decode(video=0)]
    data = path.read_bytes()
    return TIMED.sub(b"", data) if path.suffix == ".html" else data


def _shape(value: Any) -> Any:
    """Of a checkpoint: its steps, rates and moments' names as they are; of its tensors, what they are and if finite.

    Training that goes on draws other rays than training that was never interrupted: the numbers are others.
    """
    if isinstance(value, dict):
        return {name: _shape(one) for name, one in value.items()}
    if isinstance(value, torch.Tensor):
        return str(value.dtype), list(value.shape), bool(value.isnan().any())
    return [_shape(one) for one in value] if isinstance(value, (list, tuple)) else value


def _plain(value: Any) -> Any:
    """Without the times that it says."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items() if name not in TIMES}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def differences(found: dict[str, object], whole: dict[str, object]) -> tuple[str, str]:
    """In words: which files are missing or hold something else, and which are there beyond those of the whole."""
    missing = [f"{name} is missing" for name in whole if name not in found]
    other = [f"{name} differs{why}" for name in whole if name in found and (why := _differs(found[name], whole[name]))]
    return ", ".join(missing + other), ", ".join(name for name in found if name not in whole)


def _differs(found: object, whole: object, at: str = "") -> str:
    """Where two contents differ; empty: nowhere."""
    if type(found) is not type(whole):
        return f" at {at}: {type(found).__name__} for {type(whole).__name__}"
    if isinstance(whole, dict):
        if found.keys() != whole.keys():
            return f" at {at}: {sorted(map(str, found.keys() ^ whole.keys()))[:3]}"
        return next((why for name in whole if (why := _differs(found[name], whole[name], f"{at}/{name}"))), "")
    if isinstance(whole, (list, tuple)):
        if len(found) != len(whole):
            return f" at {at}: {len(found)} for {len(whole)}"
        return next((why for i, one in enumerate(whole) if (why := _differs(found[i], one, f"{at}/{i}"))), "")
    if isinstance(whole, torch.Tensor):
        found, whole = found.numpy(), whole.numpy()
    if isinstance(whole, np.ndarray):
        if found.shape != whole.shape or found.dtype != whole.dtype:
            return f" at {at}: {found.dtype} {found.shape} for {whole.dtype} {whole.shape}"
        if np.array_equal(found, whole, equal_nan=whole.dtype.kind == "f"):
            return ""
        most = np.abs(found.astype(float) - whole.astype(float)).max() if whole.dtype.kind in "fiu" else "?"
        return f" at {at}: by up to {most}"
    if isinstance(whole, float) and math.isclose(found, whole, rel_tol=SAME):
        return ""
    return "" if found == whole else f" at {at or 'the bytes'}: {str(found)[:40]!r} for {str(whole)[:40]!r}"


def half_written(place: Path, whole: dict[str, object], before: dict[str, object] | None = None) -> str:
    """What loads as whole after a kill and is not; empty: nothing does.

    Args:
        before: a result that the command was to replace. That, or the whole new one, must be there.
    """
    if before is not None:
        found = contents(place)
        if any(_differs(found.get(name), before[name]) for name in before) and differences(found, whole)[0]:
            return "neither the old result nor the new one is whole"
        return ""
    for transforms in place.rglob("transforms.json"):
        if any(part.startswith(".") for part in transforms.relative_to(place).parts):
            continue
        try:
            made = load_subject(transforms.parent)
        except SubjectError as error:
            return f"{transforms.parent.name} is there and does not load: {error}"
        expected = whole.get(f"{transforms.parent.relative_to(place).as_posix()}/head.npz")
        if expected is not None and not np.array_equal(made.track.vertices, expected["vertices"]):
            return f"{transforms.parent.name} loads with another track"
    for checkpoint in place.rglob("nerfstudio_models/*"):
        try:
            torch.load(io.BytesIO(checkpoint.read_bytes()), map_location="cpu", weights_only=True)["step"]
        except Exception as error:  # noqa: BLE001 -- torch raises many kinds
            return f"{checkpoint.name}: {error!r:.100}"
    return ""
