"""A depth map for every frame of a subject, written beside its pictures and named in its transforms.json."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float
from rich.console import Console

from data_tools.depth.config import MESH, DepthConfig, DepthError, DepthSummary, EstimatorUnavailable
from data_tools.depth.mesh import face_depth, ordering_agreement
from data_tools.depth.monocular import MonocularEstimator
from data_tools.runs.errors import disk_errors
from data_tools.runs.one_at_a_time import alone_in
from data_tools.runs.pictures import load_grey, load_picture, save_picture
from data_tools.runs.progress import StageBars
from data_tools.runs.workspace import begin_parts, end_parts, stage_key
from flame_nerf.data.depth_maps import spread
from flame_nerf.runtime.door import read_json
from flame_nerf.runtime.files import take_place, whole
from flame_nerf.runtime.words import escape
from flame_nerf.subject import Frame, Subject, SubjectError, load_subject
from flame_nerf.subject.types import TRACK_FILE, TRANSFORMS_FILE

FOLDER, UNFINISHED = "depths", "depths.part"
CHECKED_FRAMES = 8
"""Frames on which an estimator's order is compared with the mesh's."""
DOUBTFUL_AGREEMENT = 0.65
"""Below this share of pairs ordered alike, estimator and mesh contradict each other."""
SPREAD_SHARE, SPREAD_MARGIN = 1.0, 0.1
"""An estimator's depth is spread over the 16 bits from this percentile of the head to its counterpart, with this part
of the range more at both ends: the room behind the head gets one value."""
RIM_SHARE = 0.015
"""Part of the picture's longer side that is kept away from the matte's edge: estimators blend head and room there."""


def write_depth(root: Path, config: DepthConfig, silent: bool = False) -> DepthSummary:
    """Write depths/ and name it in transforms.json; goes on where an interrupted run with the same options stopped.

    Maps are 16-bit grey PNG, relative, larger = nearer, 0 = unknown.

    Args:
        silent: show no progress bars.

    Raises:
        DepthError: naming the option or file, and what to do.
    """
    try:
        subject = load_subject(root)
    except SubjectError as error:
        raise DepthError(str(error)) from error
    estimator = _estimator(config)
    prior = MESH if estimator is None else estimator.name
    with disk_errors(subject.root, DepthError):
        key = _key(subject, config, prior)
    names = _names(subject.frames)
    record = subject.extra.get("depth")
    if not config.overwrite and isinstance(record, dict) and record.get("key") == key:
        if all((subject.root / FOLDER / name).is_file() for name in names):
            agreement = record.get("agreement")
            return DepthSummary(subject.root, prior, len(names), 0, float("nan"), agreement, ())
    with disk_errors(subject.root, DepthError), alone_in(subject.root, DepthError):
        part = _begin(subject.root, key, config.overwrite)
        with StageBars(silent) as bars:
            sign, agreement = (1, None) if estimator is None else _direction(subject, estimator, config, bars)
            waiting = [index for index, name in enumerate(names) if not (part / name).is_file()]
            known = _write(subject, names, waiting, part, estimator, sign, config, bars)
        warnings = []
        if agreement is not None and agreement < DOUBTFUL_AGREEMENT:
            warnings.append(
                f"{prior} orders only {100 * agreement:.0f} % of the face's pixel pairs as the tracked mesh does: "
                "it may not see this face well. Compare with --prior mesh before you trust it."
            )
        _finish(subject.root, part, names, {"prior": prior, "key": key, "larger": "nearer", "agreement": agreement})
    return DepthSummary(subject.root, prior, len(names), len(waiting), known, agreement, tuple(warnings))


def _estimator(config: DepthConfig) -> MonocularEstimator | None:
    """The estimator, or None for the mesh, with a line where that is not what was asked for."""
    if config.prior == MESH:
        return None
    try:
        return MonocularEstimator(config.prior)
    except EstimatorUnavailable as error:
        if config.fallback == "none":
            raise DepthError(f"{error}; or use --prior mesh, which needs neither.") from error
        message = f"[yellow]Warning:[/] {escape(error)}. Until then the tracked mesh's own depth is written instead."
        Console(stderr=True).print(message, highlight=False, soft_wrap=True)
        return None


def _key(subject: Subject, config: DepthConfig, prior: str) -> str:
    """Changes with everything the maps depend on."""
    track = (subject.root / TRACK_FILE).stat()
    options: dict[str, Any] = {
        "prior": prior,
        "pictures": [
            # By its place in the subject, which may be moved.
            [os.path.relpath(frame.file_path, subject.root), frame.file_path.stat().st_mtime_ns]
            for frame in subject.frames
        ],
        "track": [track.st_size, track.st_mtime_ns],
    }
    if prior == MESH:
        options["without"] = list(config.without)
    return stage_key("depth", options)


def _names(frames: Sequence[Frame]) -> list[str]:
    """File name of each frame's map: its picture's where those differ."""
    stems = [frame.file_path.stem for frame in frames]
    if len(set(stems)) < len(stems):
        stems = [f"{index:06d}" for index in range(len(frames))]
    return [f"{stem}.png" for stem in stems]


def _begin(root: Path, key: str, afresh: bool) -> Path:
    """Folder for the maps until all are there; those of an interrupted run with the same key are kept."""
    part = root / UNFINISHED
    if afresh:
        shutil.rmtree(part, ignore_errors=True)
    begin_parts(part, key)
    return part


def _direction(
    subject: Subject, estimator: MonocularEstimator, config: DepthConfig, bars: StageBars
) -> tuple[int, float]:
    """Whether the estimator's larger is nearer (1) or farther (-1), and how far its order agrees with the mesh's.

    Some models give inverse depth, others metres, and no field of theirs says which. The tracked face knows.
    """
    count = min(CHECKED_FRAMES, len(subject.frames))
    frames = [subject.frames[i] for i in np.linspace(0, len(subject.frames) - 1, count).astype(int)]
    random = np.random.default_rng(0)
    shares = []
    with bars.stage("Compare with the mesh", len(frames)) as advance:
        for frame in frames:
            (values,) = estimator.estimate([load_picture(frame.file_path)])
            depth = face_depth(subject, frame, config.without)
            shares.append(ordering_agreement(values, depth, _head(frame, depth.shape), random))
            advance(1)
    known = [share for share in shares if np.isfinite(share)]
    if not known:
        raise DepthError(
            f"{subject.root}: the tracked face is in none of the frames looked at, so the direction of "
            f"{estimator.name}'s depth cannot be told. Track the video again."
        )
    share = float(np.median(known))
    return (1, share) if share >= 0.5 else (-1, 1.0 - share)


def _head(frame: Frame, shape: tuple[int, ...]) -> Bool[np.ndarray, "H W"]:
    return np.ones(shape, dtype=bool) if frame.mask_path is None else load_grey(frame.mask_path) > 127


def _write(
    subject: Subject,
    names: list[str],
    waiting: list[int],
    part: Path,
    estimator: MonocularEstimator | None,
    sign: int,
    config: DepthConfig,
    bars: StageBars,
) -> float:
    """Write the maps still waiting; returns the mean share of the head's pixels that have a depth."""

    def write(index: int, nearness: Float[np.ndarray, "H W"]) -> float:
        head = _head(subject.frames[index], nearness.shape)
        if estimator is None:
            nearness = np.where(head, nearness, np.nan)
        limits = (None, None) if estimator is None else _limits(nearness, head)
        save_picture(part / names[index], spread(nearness, *limits))
        return float(np.isfinite(nearness[head]).mean()) if head.any() else 0.0

    def write_mesh(index: int) -> float:
        return write(index, -face_depth(subject, subject.frames[index], config.without))

    shares = []
    with bars.stage("Depth maps", len(waiting)) as advance:
        if estimator is None:
            # Each thread writes what it made: finished maps that waited for one writer would fill the memory.
            with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
                for share in pool.map(write_mesh, waiting):
                    shares.append(share)
                    advance(1)
            waiting = []
        for start in range(0, len(waiting), config.batch):
            chosen = waiting[start : start + config.batch]
            maps = estimator.estimate([load_picture(subject.frames[index].file_path) for index in chosen])
            shares += [write(index, sign * values) for index, values in zip(chosen, maps, strict=True)]
            advance(len(chosen))
    return float(np.mean(shares)) if shares else float("nan")


def _limits(nearness: Float[np.ndarray, "H W"], head: Bool[np.ndarray, "H W"]) -> tuple[float | None, float | None]:
    """The range of an estimator's depth that gets the 16 bits, from its values well inside the head."""
    radius = math.ceil(RIM_SHARE * max(head.shape))
    inside = cv2.erode(head.astype(np.uint8), np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)).astype(bool)
    values = nearness[inside if inside.any() else head]
    if len(values) == 0:
        return None, None
    low, high = np.percentile(values, [SPREAD_SHARE, 100 - SPREAD_SHARE])
    return float(low - SPREAD_MARGIN * (high - low)), float(high + SPREAD_MARGIN * (high - low))


def _finish(root: Path, part: Path, names: list[str], record: dict[str, Any]) -> None:
    """Put the finished folder in place and name it in transforms.json."""
    path = root / TRANSFORMS_FILE
    # Edited, not written anew: other tools may have left fields there that mean something to them.
    meta = read_json(path, DepthError)

    def write() -> None:
        with whole(path, alone=True) as spare:
            spare.write_text(json.dumps(meta, indent=1), encoding="utf-8")

    if meta["flame_nerf"].pop("depth", None) is not None:
        # Between here and the end, maps of one kind would stand under the name of another.
        write()
    end_parts(part)
    take_place(part, root / FOLDER)
    for entry, name in zip(meta["frames"], names, strict=True):
        entry["depth_file_path"] = f"{FOLDER}/{name}"
    meta["flame_nerf"]["depth"] = record
    write()


def report(summary: DepthSummary) -> None:
    """Print what was made."""
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    made = "all there already" if summary.made == 0 else f"{summary.made} made"
    console.print(f"Depth maps    {summary.frames} ({made}), from {escape(summary.prior)}")
    if summary.made:
        console.print(f"Known         {100 * summary.known:.0f} % of the head's pixels")
    if summary.agreement is not None:
        console.print(f"Agreement     {100 * summary.agreement:.0f} % of the face's pixel pairs ordered as by the mesh")
    for warning in summary.warnings:
        console.print(f"[yellow]Warning:[/] {escape(warning)}")
