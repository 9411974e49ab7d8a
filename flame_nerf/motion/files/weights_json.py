"""LAM's motion files: names, and the weights of each frame, in JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from flame_nerf.motion.arkit import ARKIT_NAMES, arkit_name
from flame_nerf.motion.performance import MAX_FRAMES, Motion, Provenance
from flame_nerf.runtime.door import read_json
from flame_nerf.runtime.errors import MotionError
from flame_nerf.runtime.files import complete_file

LAM_FPS = 30.0
"""Frames a second of LAM's files, which do not say so."""


def read_weights(path: Path, fps: float | None = None) -> Motion:
    """Reads `{"names": […], "frames": [{"weights": […]}, …]}`.

    Args:
        fps: frames a second; None: what the file says under "fps", else `LAM_FPS`.

    Raises:
        MotionError: naming the file, the frame, and what is wrong with it.
    """
    document = _document(path)
    names, frames = document.get("names"), document.get("frames")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not isinstance(frames, list):
        raise MotionError(f'{path}: no motion: expected {{"names": […], "frames": [{{"weights": […]}}, …]}}')
    if not 1 <= len(frames) <= MAX_FRAMES:
        raise MotionError(f"{path}: {len(frames)} frames; a motion has 1 to {MAX_FRAMES}")
    values = np.zeros((len(frames), len(names)))
    for index, frame in enumerate(frames):
        weights = frame.get("weights") if isinstance(frame, dict) else None
        if not isinstance(weights, list) or len(weights) != len(names):
            found = len(weights) if isinstance(weights, list) else "no"
            raise MotionError(f"{path}: frame {index} has {found} weights for {len(names)} names")
        try:
            values[index] = weights
        except (ValueError, TypeError, OverflowError):
            raise MotionError(f"{path}: a weight of frame {index} is not a number") from None
    said = document.get("fps")
    said = float(said) if isinstance(said, int | float) and not isinstance(said, bool) and 0 < said <= 1000 else None
    assumed = () if fps or said else (f"{LAM_FPS:g} frames a second, as LAM's files have (--fps says otherwise)",)
    return Motion(
        expression=values,
        expression_names=tuple(arkit_name(name) or name for name in names),
        fps=fps or said or LAM_FPS,
        provenance=Provenance(source=path.name, assumed=assumed),
    )


def write_weights(motion: Motion, path: Path) -> tuple[str, ...]:
    """Writes a motion as LAM's JSON, at LAM's rate; ARKit's names in full, others as they are.

    Returns:
        what that format has no place for, one sentence each.

    Raises:
        MotionError: it cannot be written there.
    """
    lost = []
    if motion.fps != LAM_FPS:
        lost.append(f"{motion.fps:g} moments a second became {LAM_FPS:g}")
        motion = motion.resampled(LAM_FPS)
    if motion.head_to_world is not None:
        lost.append("the head's movement")
    if motion.joint_names and np.abs(motion.joints).max() > 1e-6:
        lost.append(f"turns of {', '.join(motion.joint_names)}")
    names = [*ARKIT_NAMES] if set(motion.expression_names) <= set(ARKIT_NAMES) else [*motion.expression_names]
    values = np.zeros((len(motion), len(names)), np.float32)
    for index, name in enumerate(names):
        if name in motion.expression_names:
            values[:, index] = motion.column(name)
    frames = [{"weights": [float(f"{value:.7g}") for value in row]} for row in values]
    with complete_file(path, "motion", MotionError) as spare:
        spare.write_text(json.dumps({"names": names, "frames": frames}), encoding="utf-8")
    return tuple(lost)


def _document(path: Path) -> dict[str, Any]:
    document = read_json(path, MotionError)
    if not isinstance(document, dict):
        raise MotionError(f'{path}: no motion: expected {{"names": […], "frames": [{{"weights": […]}}, …]}}')
    return document
