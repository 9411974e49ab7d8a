"""From somebody's data to a subject: read, compare with the pictures, convert, write."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from data_tools.importers.capture import Capture, Scratch, Shot
from data_tools.importers.config import ImportConfig, ImportingError, ImportSummary
from data_tools.importers.conversion import Run, camera_for, convert_meshes, convert_pictures
from data_tools.importers.formats import Reader, read_capture, recognise
from data_tools.importers.inputs.cameras import reading_of
from data_tools.importers.inputs.mattes import matte_of
from data_tools.importers.inputs.places import why_missing
from data_tools.importers.matching import settle
from data_tools.importers.overlay import ENOUGH, Judged, OutlineTest, Verdict
from data_tools.importers.report import write_report
from data_tools.importers.result import facts_of, subject_of, summary_from, warnings_of
from data_tools.importers.skull import find_skull
from data_tools.runs.errors import disk_errors
from data_tools.runs.one_at_a_time import alone_in
from data_tools.runs.picture_files import read_picture
from data_tools.runs.progress import StageBars
from data_tools.runs.replacing import clear_away, just_replaced, replacing
from data_tools.runs.subject_folder import PICTURES, holds_pictures, leave, owns
from data_tools.runs.workspace import Workspace, stage_key, tidy
from flame_nerf.subject import SubjectError, load_subject, write_subject
from flame_nerf.subject.types import TRANSFORMS_FILE

JUDGED = 16
"""Pictures, evenly spread, that are compared with the mesh."""
FEWEST = 2
"""Below this there is nothing to learn from."""


def import_data(
    format_name: str,
    source: str | Path,
    subject_dir: str | Path,
    config: ImportConfig | None = None,
    silent: bool = False,
) -> ImportSummary:
    """Read data of another tool and write them as a subject, with a report.

    An interrupted import goes on where it stopped when it is called again; a finished one answers with its summary.
    Pictures pass one at a time and vertices through a file on disk: memory does not grow with the recording.

    Args:
        format_name: one of `formats.READERS`, or auto.
        source: the folder (or file) with the data; it is only read.
        subject_dir: folder to write; made if it is not there.
        silent: show no progress bars.

    Raises:
        ImportingError: the data cannot be read, the mesh does not lie on the pictures, the folder holds something
            else, or the disk is full. No folder that loads as a subject is left behind then; one that was to be
            replaced stays as it was.
    """
    source, subject_dir = Path(source).expanduser().absolute(), Path(subject_dir).expanduser().absolute()
    config = config or ImportConfig()
    _check(source, subject_dir, config)
    reader, why = recognise(format_name, source)
    key = _key(reader.name, source, config)
    with disk_errors(subject_dir, ImportingError), ExitStack() as alone:
        alone.enter_context(alone_in(subject_dir, ImportingError))
        summary = _finished(subject_dir, key, config.overwrite)
        if summary is None:
            old = (subject_dir / TRANSFORMS_FILE).exists() or holds_pictures(subject_dir)
            with replacing(subject_dir, old, owns, ImportingError) as place:
                workspace = Workspace(place)
                try:
                    capture = _read(reader, source, config, Scratch(workspace.folder / reader.name, silent))
                    with StageBars(silent) as bars:
                        summary = _run_stages(Run(source, place, config, workspace, bars, key, why), capture)
                except (ImportingError, OSError) as error:
                    # What took long helps when the data are mended.
                    left = leave(place, reader.tracks or any((place / name).exists() for name in PICTURES))
                    if isinstance(error, OSError):
                        raise
                    raise ImportingError(f"{error}{left}") from error
            summary = dataclasses.replace(summary, subject=subject_dir, report=subject_dir / summary.report.name)
        else:
            # It may have been stopped while it did.
            clear_away(subject_dir, owns)
        if not config.keep_work:
            tidy(subject_dir)
    return summary


def _read(reader: Reader, source: Path, config: ImportConfig, scratch: Scratch) -> Capture:
    if reader.tracks:
        return _usable(read_capture(reader, source, config, scratch), config)
    with StageBars(scratch.silent) as bars, bars.stage("Reading the data", 1) as advance:
        capture = _usable(read_capture(reader, source, config, scratch), config)
        advance(1)
    return capture


def _check(source: Path, subject: Path, config: ImportConfig) -> None:
    if not source.exists():
        raise ImportingError(f"{source} does not exist. Give the folder with the data.")
    if source.resolve().is_relative_to(subject.resolve()):
        raise ImportingError(f"{subject}: the subject would be written over the data. Name another folder.")
    if config.workers < 1:
        raise ImportingError(f"--workers is {config.workers}; expected at least 1.")
    if not 1.0 <= config.fps <= 240.0:
        raise ImportingError(f"--fps is {config.fps}; expected 1 to 240.")
    if config.max_frames is not None and config.max_frames < FEWEST:
        raise ImportingError(f"--max-frames is {config.max_frames}; expected at least {FEWEST}.")
    if config.focal_px is not None and not config.focal_px > 0:
        raise ImportingError(f"--focal-px is {config.focal_px}; expected a positive number of pixels.")
    if config.flame is not None and not config.flame.expanduser().is_file():
        raise ImportingError(f"--flame {config.flame}: no such file.")
    if config.camera_fix is not None:
        reading_of(config.camera_fix)


def _key(format_name: str, source: Path, config: ImportConfig) -> str:
    """Of the data and the options that matter: changes when a file beside the index, or the index, is replaced."""
    entries = [source, *source.iterdir()] if source.is_dir() else [source]
    newest = max(entry.stat().st_mtime_ns for entry in entries)
    options = dataclasses.asdict(config) | {"overwrite": None, "keep_work": None, "workers": None}
    options["flame"] = str(config.flame)
    return stage_key("", {"source": str(source.resolve()), "format": format_name, "newest": newest} | options)


def _finished(subject: Path, key: str, overwrite: bool) -> ImportSummary | None:
    """The summary of a subject that this very import made already."""
    if subject.exists() and not subject.is_dir():
        raise ImportingError(f"{subject}: is a file. Name a folder for the subject.")
    if (subject / TRANSFORMS_FILE).exists() and (not overwrite or just_replaced(subject)):
        try:
            made = load_subject(subject)
        except SubjectError as error:
            if overwrite:
                return None
            raise ImportingError(f"{subject}: holds a damaged subject ({error}). Use --overwrite.") from error
        if made.extra.get("import", {}).get("key") == key:
            return summary_from(made)
        if overwrite:
            return None
        raise ImportingError(
            f"{subject}: already holds a subject of other data or options. Use --overwrite to replace it, or name "
            "another folder."
        )
    if holds_pictures(subject) and not overwrite:
        raise ImportingError(
            f"{subject}: holds images or masks that no import left there. Name another folder, or use --overwrite."
        )
    return None


def _usable(capture: Capture, config: ImportConfig) -> Capture:
    """The capture without shots whose picture is missing, at most `max_frames` moments, cameras fixed as asked for."""
    capture = settle(capture)
    left_out, shots = list(capture.left_out), []
    for shot in capture.shots:
        if shot.picture.is_file():
            shots.append(shot)
        else:
            left_out.append((shot.name, f"its picture {shot.picture.name} does not exist"))
    moments = sorted({shot.timestep for shot in shots})
    if config.max_frames is not None and len(moments) > config.max_frames:
        last = moments[config.max_frames - 1]
        left_out.append(("the rest", f"{len(moments) - config.max_frames} moments beyond --max-frames"))
        shots = [shot for shot in shots if shot.timestep <= last]
    if len(shots) < FEWEST:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out[:3])
        lost = next((shot.picture for shot in capture.shots if not shot.picture.is_file()), None)
        why = "" if lost is None else f" Of {lost.name}: {why_missing(lost)}."
        raise ImportingError(f"{len(shots)} of {len(capture.shots)} frames can be used ({reasons}).{why}")
    if config.camera_fix is not None:
        fix = reading_of(config.camera_fix)
        shots = [dataclasses.replace(shot, camera=fix.apply(shot.camera)) for shot in shots]
    shots.sort(key=lambda shot: shot.timestep)
    return dataclasses.replace(capture, shots=tuple(shots), left_out=tuple(left_out))


def _run_stages(run: Run, capture: Capture) -> ImportSummary:
    rows = np.array(sorted({shot.timestep for shot in capture.shots}))
    chosen = [capture.shots[i] for i in np.unique(np.linspace(0, len(capture.shots) - 1, JUDGED).round().astype(int))]
    with run.bars.stage("Comparing with pictures", len(chosen)) as advance:
        judged = _judged(capture, chosen, advance)
        test = OutlineTest(np.asarray(capture.meshes.faces), capture.canonical)
        verdict = None if judged is None else test.verdict(judged)
        if verdict is not None and not run.config.unchecked:
            _stop_if_off(run, capture, verdict)
        skull = find_skull(capture, rows)
    size = Counter((shot.camera.width, shot.camera.height) for shot in capture.shots).most_common(1)[0][0]
    images, masks = convert_pictures(run, capture.shots, size)
    vertices, head_from_world = convert_meshes(run, capture, rows, skull)
    with run.bars.stage("Report and subject", 2) as advance:
        summary = ImportSummary(
            subject=run.subject,
            report=run.subject / "report.html",
            format=capture.format,
            why=run.why,
            pictures=len(capture.shots),
            timesteps=len(rows),
            outline_iou=None if verdict is None else verdict.iou,
            facts=facts_of(capture, size, skull),
            left_out=capture.left_out,
            warnings=warnings_of(capture, verdict, size, masks),
        )
        write_report(summary, capture, chosen, verdict)
        advance()
        subject = subject_of(run, capture, rows, size, images, masks, vertices, head_from_world, skull, summary)
        try:
            write_subject(subject, run.subject)
        except SubjectError as error:
            raise ImportingError(f"The imported data make no subject: {error}") from error
        advance()
    return summary


def _judged(capture: Capture, chosen: list[Shot], advance: Callable[[], None]) -> list[Judged] | None:
    """The chosen pictures' mattes with mesh and camera; None if there are no mattes."""
    judged = []
    for shot in chosen:
        decoded = read_picture(shot.picture, ImportingError)
        camera = camera_for(shot, decoded.rgb.shape[1::-1])
        matte = matte_of(decoded, shot.matte, shot.segmentation)
        advance()
        if matte is not None and matte.any():
            judged.append(Judged(capture.meshes.vertices([shot.timestep])[0], camera, matte))
    return judged or None


def _stop_if_off(run: Run, capture: Capture, verdict: Verdict) -> None:
    """Raises ImportingError with the likely cause if the mesh does not lie on the pictures."""
    facts = "; ".join(f"{name}: {value}" for name, value in capture.facts.items())
    head = (
        f"{run.source}: read as {capture.format}, the mesh does not lie on the pictures (outline IoU with the matte "
        f"{verdict.iou:.2f}). Read as {facts}."
    )
    if verdict.better is not None:
        remedy = (
            f"Give --camera-fix {verdict.better.name} to read them that way."
            if verdict.better.usable
            else "Correct the sign in the data, or mirror the pictures."
        )
        raise ImportingError(
            f"{head} Likely cause: {verdict.better.words}; read like that the overlay fits (IoU "
            f"{verdict.better_iou:.2f}). {remedy}"
        )
    if verdict.iou < ENOUGH:
        raise ImportingError(
            f"{head} None of the usual other readings (axes, signs, inverse, scale, centre) fits. Check that pictures, "
            "mattes and cameras belong together; --unchecked writes the subject all the same."
        )
