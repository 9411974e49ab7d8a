"""From a video to a subject, stage by stage. A stage that an earlier run finished is not run again."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.runs.blocks import blocks_of, run_blocks
from data_tools.runs.errors import disk_errors
from data_tools.runs.one_at_a_time import alone_in
from data_tools.runs.pictures import load_grey
from data_tools.runs.progress import StageBars
from data_tools.runs.replacing import clear_away, just_replaced, replacing
from data_tools.runs.subject_folder import holds_pictures, kept_work, leave, owns, would_go
from data_tools.runs.workspace import Workspace, begin_parts, path_key, stage_key, tidy, video_key
from data_tools.tracking.advice import seen_warnings
from data_tools.tracking.config import TrackConfig, TrackingError, TrackSummary, UnusableVideo, check
from data_tools.tracking.finish import finish, give_depth
from data_tools.tracking.fit.face.face_points import FACE_MESH, KEYPOINTS
from data_tools.tracking.fit.offsets import with_bumps
from data_tools.tracking.fit.stages import Observations
from data_tools.tracking.fitting import fit
from data_tools.tracking.observe.eyes.stage import gaze_notes, locate_irises
from data_tools.tracking.observe.framing import Framing, head_framing
from data_tools.tracking.observe.given_mattes import check_mattes, copy_mattes
from data_tools.tracking.observe.keypoint_extent import head_extent
from data_tools.tracking.observe.keypoints import FEWEST_POINTS, head_and_keypoints, on_video
from data_tools.tracking.observe.landmarks import (
    DETECTION_STRIDE,
    FaceBoxes,
    FoundFace,
    find_face,
    find_landmarks,
    load_models,
    no_face,
)
from data_tools.tracking.observe.matte import UNSURE, find_mattes
from data_tools.tracking.observe.takes import longest_take, mixed_pictures, take_words
from data_tools.tracking.observe.video import Sampled, VideoInfo, glimpses, probe, sample
from data_tools.tracking.result import summary_of
from data_tools.tracking.run import Run, quiet_threads
from flame_nerf.subject import SubjectError, load_subject
from flame_nerf.subject.types import TRANSFORMS_FILE

FEWEST_FRAMES = 10
"""Below this nothing can be learned from a video."""
READER = 5
"""Raised when videos are read in another way, so that an interrupted run does not go on with older pictures."""
CHECKED_MATTES = 20
"""Given mattes that are compared with the keypoints, evenly spread."""


def track(
    video: str | Path, subject_dir: str | Path, config: TrackConfig | None = None, silent: bool = False
) -> TrackSummary:
    """Track the head in a video and write it as a subject, with its capture report.

    An interrupted run goes on where it stopped when it is called again with the same video and options; a finished one
    answers with its summary.

    Args:
        video: a video in which one person talks to the camera, or a folder with its frames as pictures.
        subject_dir: folder to write; made if it is not there.
        silent: show no progress bars.

    Raises:
        TrackingError: if the video cannot be tracked, the folder holds something else, or the disk is full. No folder
            that loads as a subject is left behind then; one that was to be replaced stays as it was.
    """
    video, subject_dir = Path(video), Path(subject_dir)
    config = config or TrackConfig()
    check(config)
    with disk_errors(subject_dir, TrackingError), ExitStack() as alone:
        info = probe(video, config.fps)
        options = dataclasses.asdict(config) | {"overwrite": None, "keep_work": None}
        given = [path_key(path) for path in (config.keypoints, config.keypoint_map, config.mattes, Path(config.head))]
        final_key = stage_key(video_key(video), options | {"given": given})
        alone.enter_context(alone_in(subject_dir, TrackingError))
        summary = _finished(video, subject_dir, final_key, config.overwrite)
        if summary is None:
            if config.keypoints is None:
                load_models()
            old = (subject_dir / TRANSFORMS_FILE).exists() or holds_pictures(subject_dir)
            with replacing(subject_dir, old, owns, TrackingError, kept_work(subject_dir)) as place:
                summary = _track_in(place, video, config, info, final_key, silent)
            summary = dataclasses.replace(summary, subject=subject_dir, report=subject_dir / summary.report.name)
        else:
            # It may have been stopped while it did.
            clear_away(subject_dir, owns)
            give_depth(subject_dir, silent)
        if not config.keep_work:
            tidy(subject_dir, summary.dropped)
    return summary


def _track_in(
    place: Path, video: Path, config: TrackConfig, info: VideoInfo, final_key: str, silent: bool
) -> TrackSummary:
    """Track into a folder that holds no finished subject."""
    workspace = Workspace(place)
    try:
        with StageBars(silent) as bars, quiet_threads():
            summary = _run_stages(Run(video, place, config, workspace, bars), info, final_key)
        give_depth(place, silent)
    except TrackingError as refusal:
        # Where a face is takes seconds to find; what comes after it minutes.
        helps = not isinstance(refusal, UnusableVideo) and bool(set(workspace.stages()) - {"face"})
        raise TrackingError(f"{refusal}{leave(place, helps)}") from refusal
    return summary


def _finished(video: Path, subject: Path, key: str, overwrite: bool) -> TrackSummary | None:
    """The summary of a subject that is there already and was made by this very run."""
    if subject.exists() and not subject.is_dir():
        raise TrackingError(f"{subject}: is a file. Name a folder for the subject.")
    if would_go(video, subject):
        raise TrackingError(f"{subject}: the subject would be written over the video. Name another folder.")
    if (subject / TRANSFORMS_FILE).exists() and (not overwrite or just_replaced(subject)):
        try:
            made = load_subject(subject)
        except SubjectError as error:
            if overwrite:
                return None
            raise TrackingError(
                f"{subject}: holds a damaged subject ({error}). Use --overwrite to replace it."
            ) from error
        if made.extra.get("tracking", {}).get("key") == key:
            return summary_of(made)
        if overwrite:
            return None
        raise TrackingError(
            f"{subject}: already holds a subject, of {made.source or 'another video'} or made with other options. Use "
            "--overwrite to replace it, or name another folder."
        )
    if holds_pictures(subject) and not overwrite:
        raise TrackingError(
            f"{subject}: holds images or masks that no tracking run left there. Name another folder, or use "
            "--overwrite to replace them."
        )
    return None


def _run_stages(run: Run, info: VideoInfo, final_key: str) -> TrackSummary:
    config = run.config
    model, given = head_and_keypoints(config)
    # The clock starts after loading, which takes the same time for a second of video as for an hour.
    head = with_bumps(model)
    started = time.perf_counter()
    total = min(info.frames or config.max_frames or 0, config.max_frames or info.frames or 0) or None
    options = {"fps": config.fps, "max_frames": config.max_frames, "reader": READER}
    key = stage_key(video_key(run.video), options)
    face = None
    if given is None:
        key, face = _find_face(run, key, total)
        film, extent = (int(face.film[0]), int(face.film[1])), face.surroundings()
    else:
        film = info.width, info.height
        extent = head_extent(given, model, film, config.keypoint_units, config.min_likelihood)
    # Who wants the body wants what is beside it, too.
    cropped = config.crop and config.torso == "cut" and extent is not None
    framing = head_framing(film, *extent, config.resolution) if cropped else None
    key, sampled = _sample(run, key, framing if framing is not None and framing.cropped else None, total)
    pictures = [run.subject / "images" / f"{i:05d}.{config.picture_format}" for i in range(len(sampled.slots))]
    others, notes, boxes = 0, (), None
    if face is not None:
        boxes, others = face.boxes(sampled.sources, sampled.framing), face.others
        key, landmarks = _find_landmarks(run, key, pictures, boxes, sampled.takes)
        kept = np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2)))
    else:
        landmarks, notes = on_video(given, sampled, config.keypoint_units, config.first_frame, config.min_likelihood)
        key = stage_key(key, {"keypoints": hashlib.sha256(landmarks.tobytes()).hexdigest(), "names": given.names})
        kept = np.flatnonzero(np.isfinite(landmarks[..., 0]).sum(axis=1) >= FEWEST_POINTS)
        notes = given.notes + notes
    _check_enough(run, len(kept), len(pictures))
    if sampled.dissolves or (sampled.takes and config.cuts == "split"):
        sampled, kept = _one_take(sampled, kept, config)
        key = stage_key(key, {"take": kept.tolist()})
        _check_enough(run, len(kept), len(pictures), sampled.warnings[0])
    if run.config.mattes is None:
        key, mattes = _find_mattes(run, key, pictures, boxes, kept)
    else:
        key, mattes, kept = _given_mattes(run, key, sampled, kept, landmarks)
        _check_enough(run, len(kept), len(pictures))
    shown, marks, irises = [pictures[i] for i in kept], landmarks[kept], None
    if given is None:
        key, marks, irises = locate_irises(run, key, shown, marks)
        notes += gaze_notes(irises)
    _say_so_far(run, sampled, kept, others, notes)
    seen = Observations.of(sampled, run.config, kept, marks, [mattes[i] for i in kept], irises)
    key, state, registration = fit(run, key, head, seen, shown)
    components = model.shapedirs.shape[-1]
    return finish(
        run, key, head, components, seen, state, registration, sampled, others, notes, pictures, final_key, started
    )


def _say_so_far(run: Run, sampled: Sampled, kept: np.ndarray, others: int, notes: tuple[str, ...]) -> None:
    """Print what is known of the video: whoever reads it need not wait for the fit, which takes most of the time."""
    noun = (FACE_MESH if run.config.keypoints is None else KEYPOINTS).noun
    unseen = np.setdiff1d(np.arange(len(sampled.slots)), kept).tolist()
    for note in sampled.notes + notes:
        run.bars.say(f"Note: {note}")
    for warning in seen_warnings(sampled, others, run.config.person, unseen, noun):
        run.bars.say(f"Warning: {warning}")


def _one_take(sampled: Sampled, kept: np.ndarray, config: TrackConfig) -> tuple[Sampled, np.ndarray]:
    """The take with most of the frames that can be used, and what is said of the others; where all are wanted, what no
    dissolve shows."""
    seconds, every = np.array(sampled.slots) / config.fps, np.arange(len(sampled.takes))
    if config.cuts == "keep":
        elsewhere = mixed_pictures(sampled.dissolves)
        used, words = np.setdiff1d(every, elsewhere), f"Left out: {len(elsewhere)} frames that show two scenes at once."
    else:
        used = longest_take(sampled.takes, kept, sampled.dissolves)
        elsewhere = np.setdiff1d(every, used)
        words = take_words(sampled.takes, used, len(elsewhere), seconds, sampled.dissolves)
    said = dataclasses.replace(sampled, elsewhere=tuple(elsewhere.tolist()), warnings=(words, *sampled.warnings))
    return said, np.intersect1d(kept, used)


def _check_enough(run: Run, shown: int, total: int, cut: str = "") -> None:
    if shown >= FEWEST_FRAMES:
        return
    if shown == 0 and run.config.keypoints is None:
        raise UnusableVideo(f"{run.video}: {no_face(f'{total} sampled frames')}")
    what, advice = "show a face", "Give a longer video of one person's face."
    if run.config.keypoints is not None:
        what, advice = f"have {FEWEST_POINTS} keypoints and a matte", "Give a longer video, or more complete keypoints."
    # Other takes and other keypoints can still be asked for.
    error = TrackingError if cut or run.config.keypoints is not None else UnusableVideo
    raise error(
        f"{run.video}: only {shown} of {total} sampled frames {what}; at least {FEWEST_FRAMES} are needed to learn a "
        f"head, and a few hundred to learn it well. {cut or advice}"
    )


def _find_face(run: Run, key: str, total: int | None) -> tuple[str, FoundFace]:
    key = stage_key(key, {"stage": "face", "person": run.config.person})

    def work(advance: Callable[..., None]) -> dict[str, Any]:
        try:
            looked_at = glimpses(run.video, run.config.fps, run.config.max_frames, DETECTION_STRIDE, advance)
            face = find_face(looked_at, run.config.person)
        except TrackingError as error:
            where = "" if str(error).startswith(str(run.video)) else f"{run.video}: "
            raise TrackingError(f"{where}{error}") from None
        run.workspace.save("face", "found", film=face.film, number=face.number, centre=face.centre, size=face.size)
        return {"others": face.others}

    note = run.workspace.run(run.bars, "face", "Finding the face", key, total, work)
    return key, FoundFace(**run.workspace.load("face", "found"), others=note["others"])


def _sample(run: Run, key: str, framing: Framing | None, total: int | None) -> tuple[str, Sampled]:
    config = run.config
    options = {name: getattr(config, name) for name in ("resolution", "picture_format")}
    part = None if framing is None else dataclasses.asdict(framing)
    key = stage_key(key, options | {"stage": "frames", "framing": part})

    def work(advance: Callable[..., None]) -> dict[str, Any]:
        images = run.subject / "images"
        begin_parts(images, key)
        suffix = f".{config.picture_format}"
        sampled = sample(
            run.video,
            images,
            config.fps,
            config.resolution,
            config.max_frames,
            suffix,
            config.workers,
            advance,
            framing,
        )
        return dataclasses.asdict(sampled)

    note = run.workspace.run(run.bars, "frames", "Reading frames", key, total, work)
    return key, Sampled.of_note(note)


def _find_landmarks(
    run: Run, key: str, pictures: list[Path], boxes: FaceBoxes, takes: tuple[int, ...]
) -> tuple[str, np.ndarray]:
    key = stage_key(key, {"stage": "landmarks", "workers": run.config.workers, "cuts": True})
    cuts = set((np.flatnonzero(np.diff(takes)) + 1).tolist())
    blocks = blocks_of(len(pictures), run.config.workers)

    def work(advance: Callable[..., None]) -> dict[str, Any]:
        def one(block: range) -> None:
            if run.workspace.load("landmarks", f"{block.start:06d}") is not None:
                advance(len(block))
                return
            points = find_landmarks(pictures, boxes, block, advance, cuts)
            run.workspace.save("landmarks", f"{block.start:06d}", points=points)

        run_blocks(blocks, one, run.config.workers)
        return {}

    run.workspace.run(run.bars, "landmarks", "Face landmarks", key, len(pictures), work)
    parts = [run.workspace.load("landmarks", f"{block.start:06d}")["points"] for block in blocks]
    return key, np.concatenate(parts)


def _find_mattes(
    run: Run, key: str, pictures: list[Path], boxes: FaceBoxes, kept: np.ndarray
) -> tuple[str, list[Path]]:
    whole = run.config.torso == "keep"
    key = stage_key(key, {"stage": "matte", "whole": whole, "unsure": UNSURE})
    targets = [run.workspace.folder / "matte" / f"{i:05d}.png" for i in range(len(pictures))]

    def work(advance: Callable[..., None]) -> dict[str, Any]:
        def one(block: range) -> None:
            find_mattes(pictures, targets, boxes.centre, boxes.size, kept[block.start : block.stop], whole, advance)

        run_blocks(blocks_of(len(kept), run.config.workers), one, run.config.workers)
        return {}

    run.workspace.run(run.bars, "matte", "Cutting out the person", key, len(kept), work)
    return key, targets


def _given_mattes(
    run: Run, key: str, sampled: Sampled, kept: np.ndarray, landmarks: np.ndarray
) -> tuple[str, list[Path], np.ndarray]:
    """Mattes by another program at the stored pictures' size, and the frames that have one."""
    key = stage_key(key, {"stage": "matte", "given": path_key(run.config.mattes), "first": run.config.first_frame})
    targets = [run.workspace.folder / "matte" / f"{i:05d}.png" for i in range(len(sampled.slots))]

    def work(advance: Callable[..., None]) -> dict[str, Any]:
        missing = copy_mattes(run.config.mattes, targets, sampled, kept, run.config.first_frame, advance)
        return {"missing": missing}

    note = run.workspace.run(run.bars, "matte", "Reading the mattes", key, len(kept), work)
    kept = np.setdiff1d(kept, note["missing"])
    checked = kept[:: max(1, len(kept) // CHECKED_MATTES)]
    check_mattes(landmarks[checked], [load_grey(targets[i]) for i in checked], str(run.config.mattes))
    return key, targets, kept
