"""What a fit becomes: masks, judgement, report and, last of all, the subject itself."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.capture.measured import Measured, measure
from data_tools.capture.shortfalls import shortfalls_of, verdict
from data_tools.depth.config import MESH, DepthConfig, DepthError
from data_tools.depth.pipeline import write_depth
from data_tools.runs.workspace import begin_parts, stage_key
from data_tools.tracking.advice import doubt_warnings, registration_warnings, warnings_of
from data_tools.tracking.config import TrackConfig, TrackingError, TrackSummary
from data_tools.tracking.fit.closures import lid_warnings
from data_tools.tracking.fit.fit_result import lost, pose_head
from data_tools.tracking.fit.residuals import FaceState
from data_tools.tracking.fit.stages import Observations
from data_tools.tracking.observe.video import Sampled
from data_tools.tracking.photometric.stage import Registration
from data_tools.tracking.report import write_report
from data_tools.tracking.result import Quality, judge, subject_of, summary_note, write_masks
from data_tools.tracking.run import Run
from data_tools.tracking.stabilised import stabilised_pictures
from flame_nerf.heads import HeadModel
from flame_nerf.subject import Subject, load_subject, write_subject


def finish(
    run: Run,
    key: str,
    head: HeadModel,
    components: int,
    seen: Observations,
    state: FaceState,
    registration: Registration | None,
    sampled: Sampled,
    others: int,
    notes: tuple[str, ...],
    pictures: list[Path],
    final_key: str,
    started: float,
) -> TrackSummary:
    """Masks, judgement, report and, last of all, the subject itself."""
    points, framing = seen.points_of(head), sampled.framing
    fitted = pose_head(head, points, state, seen.seconds, seen.centre)
    masks = [run.subject / "masks" / f"{row:05d}.png" for row in seen.kept]

    shown = [pictures[index] for index in seen.kept]
    key = stage_key(key, {"torso": run.config.torso, "edges": True})

    def cut(advance: Callable[..., None]) -> dict[str, Any]:
        begin_parts(run.subject / "masks", key)
        # What another program cut out is taken as it is.
        looked_at = shown if run.config.mattes is None else None
        write_masks(head, fitted, seen, masks, run.config.torso == "keep", looked_at, run.config.workers, advance)
        return {}

    run.workspace.run(run.bars, "masks", "Cutting the masks", key, len(masks), cut)
    with run.bars.stage("Report and subject", 2) as advance:
        quality = judge(head, points, state, seen, fitted)
        advance()
        good = np.flatnonzero(~lost(quality.error_px, quality.face_px))
        used = set(seen.kept[good].tolist())
        dropped = [index for index in range(len(pictures)) if index not in used]
        best, detector = quality.frames(good), points.detector
        warnings = warnings_of(sampled, others, run.config.person, dropped, best, detector)
        found = {} if registration is None else registration.summary(seen.kept)
        summary = dataclasses.replace(
            _summary(run, best, dropped, warnings + registration_warnings(registration, seen.kept), started),
            notes=((framing.words(),) if framing.cropped else ()) + sampled.notes + notes,
            lost=sampled.lost,
            noun=detector.noun,
            band=detector.band,
            **found,
        )
        stabilised = None
        if registration is not None and registration.kept:
            before = pose_head(head, points, registration.old, seen.seconds, seen.centre)
            stabilised = stabilised_pictures(head, (before, fitted), shown, good, run.config.workers)
        made = {"key": final_key, "options": _options(run.config), "picture": framing.record()}
        record = subject_of(
            run.subject, run.video, run.config, head, fitted, seen, quality, good, shown, masks, components,
            None if registration is None else registration.record(),
            None if registration is None or not registration.kept else registration.off,
        )  # fmt: skip
        # What tracking doubts, the report does not count.
        told = dataclasses.replace(record, extra={"tracking": made | {"summary": summary_note(summary)}})
        measured = measure(_with_paths(told))
        summary = dataclasses.replace(summary, **_footage(measured))
        write_report(summary, head, fitted, quality, shown, masks, measured, detector.good, stabilised)
        summary = dataclasses.replace(summary, warnings=doubt_warnings(registration, seen.kept) + summary.warnings)
        record = dataclasses.replace(record, extra={"tracking": made | {"summary": summary_note(summary)}})
        write_subject(record, run.subject)
        advance()
    return summary


def give_depth(subject_dir: Path, silent: bool) -> None:
    """The depth of the mesh itself, which training compares rendered depth with; not over an estimator's."""
    if any(frame.depth_path for frame in load_subject(subject_dir).frames):
        return
    try:
        write_depth(subject_dir, DepthConfig(prior=MESH), silent)
    except DepthError as error:
        raise TrackingError(str(error)) from error


def _summary(run: Run, quality: Quality, dropped: list[int], warnings: tuple[str, ...], started: float) -> TrackSummary:
    yaw, pitch = quality.angles_deg[:, 0], quality.angles_deg[:, 1]
    closures, followed = (None, None) if quality.lids is None else quality.lids.closures()
    return TrackSummary(
        subject=run.subject,
        report=run.subject / "report.html",
        frames=len(quality.error),
        dropped=tuple(dropped),
        reprojection_px=float(quality.error_px.mean()),
        reprojection_fraction=float(quality.error.mean()),
        outline_iou=float(quality.iou.mean()),
        yaw_range_deg=(float(yaw.min()), float(yaw.max())),
        pitch_range_deg=(float(pitch.min()), float(pitch.max())),
        frames_per_second=len(quality.error) / (time.perf_counter() - started),
        closures=closures,
        closures_followed=followed,
        warnings=warnings + lid_warnings(quality.lids),
    )


def _footage(measured: Measured) -> dict[str, Any]:
    found = shortfalls_of(measured)
    return {"shortfalls": tuple(f"{one.found} {one.cost}" for one in found), "verdict": verdict(found)}


def _with_paths(record: Subject) -> Subject:
    """A record that is not written yet, with its pictures' paths as loading makes them."""

    def found(path: Path | None) -> Path | None:
        return None if path is None else record.root / path

    frames = (
        dataclasses.replace(f, file_path=record.root / f.file_path, mask_path=found(f.mask_path)) for f in record.frames
    )
    return dataclasses.replace(record, frames=tuple(frames))


def _options(config: TrackConfig) -> dict[str, Any]:
    """What was asked for beyond the defaults; of files their names."""
    usual, chosen = dataclasses.asdict(TrackConfig()), dataclasses.asdict(config)
    hows = ("overwrite", "keep_work", "workers", "licence")
    return {
        name: value.name if isinstance(value, Path) else value
        for name, value in chosen.items()
        if value != usual[name] and name not in hows
    }
