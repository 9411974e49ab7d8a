"""The last stages: cut the masks, judge the fit, write report and subject."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from data_tools.runs.blocks import blocks_of, run_blocks
from data_tools.runs.pictures import load_grey, load_picture, save_picture
from data_tools.tracking.camera import camera_to_head, yaw_pitch_roll
from data_tools.tracking.config import TrackConfig, TrackSummary
from data_tools.tracking.fit.closures import LidCurves, lid_curves
from data_tools.tracking.fit.energy import face_height_px, mean_distance
from data_tools.tracking.fit.face.face_points import FacePoints
from data_tools.tracking.fit.fit_result import Fitted
from data_tools.tracking.fit.neck import joints_in_head, torso_in_head
from data_tools.tracking.fit.outline import brow_and_chin, head_part
from data_tools.tracking.fit.residuals import FaceState
from data_tools.tracking.fit.stages import Observations
from data_tools.tracking.masks.collar import cut_lines, find_collar, head_mask, near
from data_tools.tracking.masks.edges import REACH, without_background
from data_tools.tracking.masks.hull import NearPoints, Poll, choose_voters, points_around
from data_tools.tracking.masks.silhouette import band_between, outline_iou
from data_tools.tracking.observe.video_stream import printable_name
from flame_nerf.data.overlap import cover
from flame_nerf.geometry import in_front, perspective
from flame_nerf.heads import HeadModel
from flame_nerf.runtime.scratch import scratch_array
from flame_nerf.subject import UNUSED, Frame, HeadTrack, Registration, Subject

JUDGED = 24
"""Frames, evenly spread, on which the outline's agreement with the matte is measured."""
NEAR_HEAD = 0.2
"""How far from the mesh of the head the matte is looked at for that, face heights: one camera does not tell metres."""
MOST_UNUSED = 0.5
"""Share of frames up to which those whose track is doubted are left out of training."""
TEST_SHARE, MOST_TEST = 0.1, 350
"""The stored split holds out the tail: this share of the frames, at most so many."""

POSED_MEMORY = 64 * 1024**2
"""Bytes of posed vertices held in memory until they are written; beyond that, about a thousand frames', they lie in a
mapped temporary file."""


@dataclass(frozen=True)
class Quality:
    """How good the fit is."""

    error_px: Float[np.ndarray, " T"]
    """Mean landmark distance of each frame."""
    error: Float[np.ndarray, " T"]
    """The same over the face's height."""
    face_px: Float[np.ndarray, " T"]
    """The face's height in each picture, were it turned to the camera."""
    angles_deg: Float[np.ndarray, "T 3"]
    """Yaw, pitch, roll of the head."""
    judged: tuple[int, ...]
    """Rows on which the outline was measured, and"""
    iou: Float[np.ndarray, " J"]
    """its agreement with the matte there."""
    lids: LidCurves | None = None
    """How far the eyes are open, seen and fitted; None where lids are not followed."""

    def frames(self, kept: np.ndarray) -> Quality:
        """The same with some of the frames; `kept` holds rows, increasing."""
        row_of = {int(old): new for new, old in enumerate(kept)}
        still = [position for position, old in enumerate(self.judged) if old in row_of]
        return Quality(
            self.error_px[kept],
            self.error[kept],
            self.face_px[kept],
            self.angles_deg[kept],
            tuple(row_of[self.judged[position]] for position in still),
            self.iou[still],
            None if self.lids is None else self.lids.frames(kept),
        )


def judge(head: HeadModel, points: FacePoints, state: FaceState, seen: Observations, fitted: Fitted) -> Quality:
    """Measure a fit against landmarks and mattes."""
    landmarks = seen.of_points(points)
    distance = mean_distance(points, state, landmarks).numpy()
    height = face_height_px(points, state).numpy()
    judged = np.unique(np.linspace(0, len(seen.slots) - 1, JUDGED).astype(int))
    faces = head.faces.numpy()
    iou = []
    of_head = head_part(head)
    for row in judged:
        matte, pixels = load_grey(seen.mattes[row]), fitted.in_picture(row)
        # Shoulders stand between brow and chin when the head bows; they are no part of its outline.
        band = near(matte.shape, pixels[of_head], NEAR_HEAD * height[row])
        ends = brow_and_chin(points, landmarks.pixels[row].numpy())
        if ends is not None:
            band &= band_between(*ends, matte.shape)
        iou.append(outline_iou(cover(pixels, faces, matte.shape), matte, band))
    angles = np.degrees(yaw_pitch_roll(fitted.rotation))
    lids = lid_curves(points, state, landmarks)
    return Quality(distance, distance / height, height, angles, tuple(map(int, judged)), np.array(iou), lids)


def write_masks(
    head: HeadModel,
    fitted: Fitted,
    seen: Observations,
    targets: list[Path],
    keep_torso: bool,
    pictures: list[Path] | None,
    workers: int,
    on_frame: Callable[[], None],
) -> None:
    """Write the mask of each kept frame: the matte above the collar, within reach of what most mattes agree on.

    Args:
        targets: where each frame's mask goes.
        pictures: where the background's colour along the mattes' edges is looked for; None: the mattes are exact.
    """
    frames = len(seen.slots)
    collar = find_collar(head)
    keep_torso = keep_torso or len(collar.edge) == 0
    if not keep_torso:
        camera = np.stack([collar.points(fitted.in_camera(row)) for row in range(frames)])
        pixels = perspective(camera, fitted.focal, fitted.centre)
        lines = cut_lines(camera, pixels, _towards_feet(head, fitted), seen.seconds)
        hull = _Hull.of(head, fitted, seen.mattes, collar.above, workers)

    def one(block: range) -> None:
        for row in block:
            mask = load_grey(seen.mattes[row])
            if pictures is not None:
                mask = without_background(mask, load_picture(pictures[row]), REACH * fitted.pixels_per_metre(row))
            if not keep_torso:
                reach = hull.points.reach * fitted.pixels_per_metre(row)
                mask = head_mask(mask, lines[row], hull.in_picture(row), reach)
            save_picture(targets[row], mask)
            on_frame()

    run_blocks(blocks_of(frames, workers), one, workers)


@dataclass(frozen=True)
class _Hull:
    """The space that belongs to the head, in every frame of a fit."""

    fitted: Fitted
    turns: Float[np.ndarray, "T J 3 3"]
    points: NearPoints

    @staticmethod
    def of(head: HeadModel, fitted: Fitted, mattes: list[Path], above: Bool[np.ndarray, " V"], workers: int) -> _Hull:
        """What most of the mattes take for the head, however it is turned."""
        turns = joints_in_head(head, torch.from_numpy(fitted.pose).double()).numpy()
        skinning = head.skinning_weights.numpy()
        around = _Hull(
            fitted, turns, points_around(fitted.canonical, head.faces.numpy(), skinning, above, _scalp(head))
        )
        rows, votes = choose_voters(fitted.rotation)
        poll, lock = Poll(len(around.points.anchor)), Lock()

        def one(block: range) -> None:
            own = Poll(len(around.points.anchor))
            for k in block:
                own.ask(around.in_picture(rows[k]), load_grey(mattes[rows[k]]), votes[k])
            with lock:
                poll.add(own)

        run_blocks(blocks_of(len(rows), workers), one, workers)
        return _Hull(fitted, turns, around.points.some(poll.elected()))

    def in_picture(self, frame: int) -> Float[np.ndarray, "N 2"]:
        """The points in a frame's pixels; NaN for those behind the camera."""
        fitted = self.fitted
        posed = self.points.posed(fitted.vertices[frame], self.turns[frame])
        camera = posed @ fitted.rotation[frame].T.astype(np.float32) + fitted.translation[frame].astype(np.float32)
        return perspective(in_front(camera), fitted.focal, fitted.centre.astype(np.float32))


def _scalp(head: HeadModel) -> Bool[np.ndarray, " V"]:
    """Vertices that bear hair; all of the head's where a model does not tell."""
    if "scalp" not in head.region_names:
        return head_part(head)
    result = np.zeros(len(head.template), dtype=bool)
    result[head.faces[head.region_mask("scalp")].flatten().numpy()] = True
    return result


def _towards_feet(head: HeadModel, fitted: Fitted) -> Float[np.ndarray, "T 2"]:
    """Unit vector in each picture from the neck down along the torso."""
    torso = torso_in_head(head, torch.from_numpy(fitted.pose).double()).numpy()
    down = -(fitted.rotation @ torso)[:, :, 1]
    flat = down[:, :2]
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def subject_of(
    root: Path,
    video: Path,
    config: TrackConfig,
    head: HeadModel,
    fitted: Fitted,
    seen: Observations,
    quality: Quality,
    kept: np.ndarray,
    pictures: list[Path],
    masks: list[Path],
    components: int,
    registration: Registration | None = None,
    doubted: Bool[np.ndarray, " T"] | None = None,
) -> Subject:
    """Put the subject's record together from rows `kept` of the fit.

    Args:
        pictures, masks: of all rows of the fit.
        components: number of identity components of the head model itself; those behind them belong to this fit only.
        registration: how the poses were laid against the pictures, if they were.
        doubted: rows of the fit that are probably wrong: they are not used.
    """
    frames = len(kept)
    tested = min(MOST_TEST, round(TEST_SHARE * frames))
    cameras = camera_to_head(fitted.rotation[kept], fitted.translation[kept])
    unused = np.zeros(frames, dtype=bool) if doubted is None else doubted[kept]
    # Of most frames it is not the frames that are wrong.
    unused &= unused.mean() <= MOST_UNUSED
    # The last of those that are used.
    held_out = np.flatnonzero(~unused)[-tested:] if tested else np.zeros(0, int)
    split = np.where(unused, UNUSED, np.where(np.isin(np.arange(frames), held_out), "test", "train"))
    return Subject(
        root=root,
        fl_x=fitted.focal,
        fl_y=fitted.focal,
        cx=float(fitted.centre[0]),
        cy=float(fitted.centre[1]),
        width=seen.framing.stored[0],
        height=seen.framing.stored[1],
        frames=tuple(
            Frame(
                file_path=pictures[row].relative_to(root),
                mask_path=masks[row].relative_to(root),
                depth_path=None,
                c2w=cameras[new],
                timestep=new,
                split=str(split[new]),
            )
            for new, row in enumerate(kept)
        ),
        track=HeadTrack(
            faces=head.faces.numpy().astype(np.int32),
            canonical_vertices=fitted.canonical.astype(np.float32),
            vertices=_posed_of(fitted, kept),
            expression=fitted.expression[kept].astype(np.float32),
            expression_names=tuple(head.expression_names),
            pose=fitted.pose[kept].astype(np.float32),
            joint_names=tuple(head.joint_names),
            identity=fitted.identity[:components].astype(np.float32),
            region=head.region.numpy().astype(np.int8),
            region_names=tuple(head.region_names),
            landmarks2d=seen.landmarks[kept, :, :2].astype(np.float32),
            reprojection_error=quality.error_px[kept].astype(np.float32),
        ),
        fps=seen.fps,
        # A path must hold wherever the subject is read from.
        head_model=str(Path(config.head).absolute()) if Path(config.head).is_file() else config.head,
        source=printable_name(video),
        licence=config.licence,
        registration=registration,
    )


def _posed_of(fitted: Fitted, kept: Int[np.ndarray, " T"]) -> Float[np.ndarray, "T V 3"]:
    """Posed vertices of some frames; of a long video on disk."""
    result = scratch_array((len(kept), *fitted.canonical.shape), np.float32, POSED_MEMORY)
    for new, row in enumerate(kept.tolist()):
        result[new] = fitted.vertices[row]
    return result


def summary_note(summary: TrackSummary) -> dict[str, Any]:
    """A summary as plain values, to be stored with the subject."""
    note = dataclasses.asdict(summary)
    del note["subject"], note["report"]
    return note


def summary_of(subject: Subject) -> TrackSummary:
    """The summary stored with a subject."""
    note = dict(subject.extra["tracking"]["summary"])
    frames, ranges = ("dropped", "by_landmarks", "covered", "off_course"), ("yaw_range_deg", "pitch_range_deg")
    for name in (*frames, *ranges, "warnings", "notes", "shortfalls"):
        note[name] = tuple(note.get(name, ()))
    return TrackSummary(subject=subject.root, report=subject.root / "report.html", **note)
