"""The end of an import: what was found in words, and the subject's record."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from data_tools.importers.capture import Capture
from data_tools.importers.config import ImportingError, ImportSummary
from data_tools.importers.conversion import Run
from data_tools.importers.inputs.mattes import resized
from data_tools.importers.overlay import Verdict
from data_tools.importers.skull import Skull, regions_by_motion
from data_tools.runs.picture_files import read_picture
from data_tools.runs.pictures import save_picture
from data_tools.tracking.result import MOST_TEST, TEST_SHARE
from flame_nerf.heads import save_head
from flame_nerf.subject import Frame, HeadTrack, Subject

LOW_IOU = 0.85
"""An outline that agrees less than this is worth a look at the report."""


def facts_of(capture: Capture, size: tuple[int, int], skull: Skull) -> dict[str, str]:
    """What was found, one line each, the reader's own findings first."""
    cameras = {shot.camera.intrinsics for shot in capture.shots}
    focal = sorted(shot.camera.fl_x for shot in capture.shots)
    spread = f"{focal[0]:.1f}" if focal[-1] - focal[0] < 0.05 else f"{focal[0]:.1f} to {focal[-1]:.1f}"
    splits = [shot.split for shot in capture.shots]
    counted = ", ".join(f"{splits.count(name)} {name}" for name in ("train", "val", "test") if name in splits)
    return {
        **capture.facts,
        "topology": f"{len(capture.canonical)} vertices, {len(capture.meshes.faces)} faces",
        "pictures": f"{size[0]} x {size[1]}, focal length {spread} px, {len(cameras)} different intrinsics",
        "expression": f"{len(capture.expression_names)} coefficients, {len(capture.joint_names)} joints, "
        f"{len(capture.identity)} identity coefficients",
        "head": "moves in the world; carried into the head frame" if skull.moves else "stands still",
        "split": counted if "" not in splits else "not in the data: the last part is held out",
    }


def warnings_of(
    capture: Capture, verdict: Verdict | None, size: tuple[int, int], masks: list[Path | None]
) -> tuple[str, ...]:
    """What the person should know before training."""
    said = list(capture.warnings)
    if verdict is None:
        said.append(
            "There are no mattes: whether the mesh lies on the pictures could not be measured; look at the report. "
            "Training will learn the background as part of the head."
        )
    elif verdict.iou < LOW_IOU:
        said.append(
            f"The outline agrees with the matte by {verdict.iou:.2f} only; below {LOW_IOU} look at the report's "
            "pictures. Long hair beside the face does this too."
        )
    if any(mask is None for mask in masks) and any(mask is not None for mask in masks):
        said.append("Some pictures have no matte; masks were left away altogether.")
    odd = sum((shot.camera.width, shot.camera.height) != size for shot in capture.shots)
    if odd:
        said.append(f"{odd} pictures of another size were resized to {size[0]} x {size[1]}.")
    if capture.region is None:
        said.append(
            "Lips and eyes are not known for this mesh, so training gives them no extra weight. Give --flame if it has "
            "FLAME's topology."
        )
    if capture.flame is not None and capture.flame.regressor is not None:
        said.append(
            "The subject holds head_model.npz, made of your FLAME file, so that new expressions can be shown. FLAME's "
            "licence counts for it: do not pass it on with the subject."
        )
    return tuple(said)


def subject_of(
    run: Run,
    capture: Capture,
    rows: Int[np.ndarray, " T"],
    size: tuple[int, int],
    images: list[Path],
    masks: list[Path | None],
    vertices: Float[np.ndarray, "T V 3"],
    head_from_world: Float[np.ndarray, "T 4 4"],
    skull: Skull,
    summary: ImportSummary,
) -> Subject:
    """Put the subject's record together."""
    row_of = {int(old): new for new, old in enumerate(rows)}
    faces = np.asarray(capture.meshes.faces, dtype=np.int32)
    region, region_names = capture.region, capture.region_names
    if region is None:
        region, region_names = regions_by_motion(skull, faces, capture.canonical)
    cameras = [shot.camera.resized(size) for shot in capture.shots]
    first = cameras[0].intrinsics
    several = any(not np.allclose(camera.intrinsics, first, rtol=0, atol=1e-4) for camera in cameras)
    masked = all(mask is not None for mask in masks)
    tested = len(rows) - min(MOST_TEST, round(TEST_SHARE * len(rows)))
    background = None
    if capture.background is not None:
        background = run.subject / "background.png"
        save_picture(background, resized(read_picture(capture.background, ImportingError).rgb, size))
    frames = []
    for shot, camera, image, mask in zip(capture.shots, cameras, images, masks, strict=True):
        row = row_of[shot.timestep]
        frames.append(
            Frame(
                file_path=image,
                mask_path=mask if masked else None,
                depth_path=None,
                c2w=head_from_world[row] @ camera.c2w,
                timestep=row,
                split=shot.split or ("train" if row < tested else "test"),
                intrinsics=camera.intrinsics if several else None,
            )
        )
    fl_x, fl_y, cx, cy = first
    return Subject(
        root=run.subject,
        fl_x=fl_x,
        fl_y=fl_y,
        cx=cx,
        cy=cy,
        width=size[0],
        height=size[1],
        frames=tuple(frames),
        track=HeadTrack(
            faces=faces,
            canonical_vertices=capture.canonical.astype(np.float32),
            vertices=vertices,
            expression=capture.expression[rows].astype(np.float32),
            expression_names=capture.expression_names,
            pose=capture.pose[rows].astype(np.float32),
            joint_names=capture.joint_names,
            identity=capture.identity.astype(np.float32),
            region=region.astype(np.int8),
            region_names=region_names,
        ),
        background=background,
        fps=run.config.fps,
        head_model=_head_model(run, capture),
        source=f"{capture.format}: {run.source.name}",
        licence=run.config.licence,
        extra={"import": {"key": run.key, "summary": _note(summary)}},
    )


def _head_model(run: Run, capture: Capture) -> str:
    """How the subject names its head model: a converted file by its path; one made here lies in the subject."""
    if capture.flame is None:
        return "none"
    if capture.flame.regressor is None:
        return str(capture.flame.path.resolve()) if capture.flame.path.is_file() else str(capture.flame.path)
    save_head(capture.flame.head, run.subject / "head_model.npz")
    return "head_model.npz"


def _note(summary: ImportSummary) -> dict[str, Any]:
    """A summary as plain values, to be stored with the subject."""
    note = dataclasses.asdict(summary)
    del note["subject"], note["report"]
    return note


def summary_from(subject: Subject) -> ImportSummary:
    """The summary stored with a subject."""
    note = dict(subject.extra["import"]["summary"])
    note["left_out"] = tuple((str(name), str(reason)) for name, reason in note["left_out"])
    note["warnings"] = tuple(note["warnings"])
    return ImportSummary(subject=subject.root, report=subject.root / "report.html", **note)
