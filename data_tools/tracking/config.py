"""What a tracking run is asked to do, what it answers, and how it fails."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flame_nerf.runtime.errors import OneLine


class TrackingError(OneLine, RuntimeError):
    """A video that cannot be tracked. The text names the file, what is wrong with it and what to do."""


class UnusableVideo(TrackingError):
    """A video that no other options make usable: nothing of the run is kept."""


@dataclass(frozen=True)
class TrackConfig:
    """Options of a tracking run. The defaults suit one person talking to the camera."""

    fps: float = 25.0
    """Frames taken from each second of video. Sources with fewer keep what they have. Of a folder of pictures, which
    has no clock, all are taken, as filmed at this rate."""
    head: str = "anny"
    """Head model: `anny`, the open one that is shipped, the path of a head model file (FLAME and others become one by
    `flame-nerf-data convert-head`), or the name of one that was remembered, such as `flame`."""
    resolution: int | None = None
    """Longest side of the stored pictures in pixels; larger ones are scaled down, smaller ones left as they are. Not
    given: 512 for a head that is cut out of larger frames, 1024 for whole frames."""
    crop: bool = True
    """Cut the head with hair, neck and shoulders out of frames of more than 512 pixels, one square for the whole video,
    unless it fills them. `--no-crop` keeps whole frames, and so does `--torso keep`."""
    focal_px: float | None = None
    """Focal length in pixels of the original video. Not given: estimated, held near 1.35 times the longer side."""
    person: int = 1
    """Which person to follow where several are seen: 1 is the largest and most central, 2 the next."""
    cuts: Literal["split", "keep"] = "split"
    """`split` uses the longest take of a video that cuts to other scenes, and leaves the others out; `keep` uses
    all, as fits one person filmed in one light with other things cut in between."""
    keypoints: Path | None = None
    """Keypoints found by another program, instead of looking for a human face: DeepLabCut's or SLEAP's .csv or .h5,
    COCO's or mmpose's .json, or a plain .json (see data_tools/animal/README.md). For animals, and for heads with
    points of their own."""
    individual: str | None = None
    """Which animal of the keypoint file to follow, as the file calls it: DeepLabCut's individual, SLEAP's track, COCO's
    category or track id; `surest` takes the surest of each frame. Not given: the only one there is."""
    keypoint_map: Path | None = None
    """JSON that gives each keypoint its place on the head model. Not given: the head model's own names are used."""
    keypoint_units: Literal["auto", "pixels", "normalised"] = "auto"
    """What keypoint coordinates are in: pixels of the video, or fractions of its width and height."""
    min_likelihood: float = 0.6
    """Keypoints that their program was less sure of than this are left out."""
    first_frame: int | None = None
    """Number that keypoints and mattes give to the video's first frame. Not given: what their format says, else 0, or 1
    if only that fits the last."""
    mattes: Path | None = None
    """Mattes made by another program: a folder with one picture a frame, numbered as the frames are, or a video.
    Needed with --keypoints; not given: the person is cut out."""
    photometric: bool = True
    """Lay every frame against the person's own look, learned from the video: poses, face shape and expressions come out
    several times truer than by landmarks alone, and avatars sharper. Frames that do not show it (overexposed, covered)
    keep to their landmarks. `--no-photometric` leaves it out, and saves about a third of the time."""
    flow: bool = False
    """Follow the head from frame to frame by optical flow, too. Movement comes out truer, and avatars far better within
    the poses that the video shows; beyond them they come out worse."""
    torso: Literal["cut", "keep"] = "cut"
    """`cut` ends the mask at the collar, so that the head alone is learned; `keep` leaves the body in."""
    max_frames: int | None = None
    """Stop after this many sampled frames. Not given: the whole video."""
    picture_format: Literal["jpg", "png"] = "jpg"
    """`jpg` at quality 97 with full colour, or `png` without any loss, three times larger and ten times slower."""
    licence: str = ""
    """Licence or terms of the video, kept with the subject."""
    workers: int = 2
    """Threads that read, detect and cut out pictures side by side."""
    overwrite: bool = False
    """Replace a subject that is already in the folder."""
    keep_work: bool = False
    """Keep the intermediate results, so that a later run with other options need not redo all stages."""


@dataclass(frozen=True)
class TrackSummary:
    """How a tracking run went."""

    subject: Path
    """The folder to train on."""
    report: Path
    """The capture report, one HTML page."""
    frames: int
    """Frames in the subject."""
    dropped: tuple[int, ...]
    """Sampled frames that were left out: no face or keypoints, or none that could be fitted."""
    reprojection_px: float
    """Mean distance between detected landmarks and the fitted head's, pixels of the stored pictures."""
    reprojection_fraction: float
    """The same as a fraction of the face's height in the pictures (brow line to chin, turned to the camera)."""
    outline_iou: float
    """Agreement of the head's outline with the matte from brow to chin, intersection over union."""
    yaw_range_deg: tuple[float, float]
    """How far the head turns; negative is to the subject's right."""
    pitch_range_deg: tuple[float, float]
    """How far the head nods; negative is downwards."""
    frames_per_second: float
    """Video frames tracked per second of wall time, all stages that were run."""
    registered: int | None = None
    """Frames laid against the person's own look; None: not asked for, or not possible."""
    by_landmarks: tuple[int, ...] = ()
    """Sampled frames that do not show that look, and so follow their landmarks alone."""
    covered: tuple[int, ...] = ()
    """Others that show a part of the face as none does: something lies before it."""
    off_course: tuple[int, ...] = ()
    """Those of both, and others that are blurred or cut off, in which the head is not where the frames around have it:
    tracking is wrong there."""
    look_before: float | None = None
    """Median difference between pictures and look by landmarks alone, grey levels of 255,"""
    look_after: float | None = None
    """and once registered."""
    closures: int | None = None
    """Times that an eye closes, each eye by itself; None: lids are not followed on this head,"""
    closures_followed: int | None = None
    """and those that the mesh's lids follow."""
    warnings: tuple[str, ...] = ()
    """What was left out or did not go well."""
    shortfalls: tuple[str, ...] = ()
    """What the footage lacks and what that will cost, the gravest first."""
    verdict: str = "good"
    """The footage in a word: good, usable, or film again."""
    notes: tuple[str, ...] = ()
    """How the video and given keypoints were understood."""
    lost: int = 0
    """Frames of the video that could not even be sampled: damaged, of another size, or missing at its end."""
    noun: str = "face"
    """What heights are measured of, in words,"""
    band: str = "brow to chin"
    """and where the outline is."""


def check(config: TrackConfig) -> None:
    """Refuse options that cannot be meant.

    Raises:
        TrackingError: naming the option.
    """
    if not 1.0 <= config.fps <= 240.0:
        raise TrackingError(f"--fps is {config.fps}; expected 1 to 240.")
    if config.resolution is not None and config.resolution < 64:
        raise TrackingError(f"--resolution is {config.resolution}; expected at least 64 pixels.")
    if config.focal_px is not None and not config.focal_px > 0:
        raise TrackingError(f"--focal-px is {config.focal_px}; expected a positive number of pixels.")
    if config.person < 1:
        raise TrackingError(f"--person is {config.person}; expected 1 for the largest face, 2 for the next, and so on.")
    if config.workers < 1:
        raise TrackingError(f"--workers is {config.workers}; expected at least 1.")
    if config.first_frame is not None and config.first_frame < 0:
        raise TrackingError(f"--first-frame is {config.first_frame}; expected 0 or more.")
    if not 0 <= config.min_likelihood <= 1:
        raise TrackingError(f"--min-likelihood is {config.min_likelihood}; expected 0 to 1.")
    if config.keypoints is None and config.keypoint_map is not None:
        raise TrackingError("--keypoint-map says where keypoints lie on the head; give the --keypoints too.")
    if config.keypoints is None and config.individual is not None:
        raise TrackingError("--individual says which animal of the keypoints to follow; give the --keypoints too.")
    given = (
        (config.keypoints, "keypoint file", "--keypoints"),
        (config.keypoint_map, "keypoint map", "--keypoint-map"),
        (config.mattes, "folder or video", "--mattes"),
    )
    for path, what, option in given:
        # Found out later, it would cost the stages before, and with --overwrite the subject that is there.
        if path is not None and not os.path.lexists(path):
            raise TrackingError(f"{path}: no such {what}. Check {option}.")
    if config.keypoints is not None and config.mattes is None:
        raise TrackingError(
            "--keypoints needs --mattes, a folder with one mask a frame: the segmentation that is built in knows "
            "people only. Any segmentation program's pictures will do, white where the head and body are."
        )
