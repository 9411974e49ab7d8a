"""NeRFace: transforms_*.json with cameras in the head frame and 76 expressions, but no mesh: the frames are re-tracked.

The tracker sees the pictures through a camera of its own. Its meshes are carried frame by frame into NeRFace's camera,
so that they cover the same pixels, and from there by NeRFace's own poses into its head frame, with one scale for all.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data_tools.importers.capture import Capture, Scratch, Shot
from data_tools.importers.config import ImportConfig, ImportingError
from data_tools.importers.inputs.cameras import AXES_WORDS, Camera, camera_of
from data_tools.importers.inputs.files import array, field, number
from data_tools.importers.inputs.places import pictures_in, why_missing
from data_tools.importers.inputs.transforms import SPLIT_FILES, Listed, listed_frames, why_transforms
from data_tools.importers.matching import refuse_shifted
from data_tools.importers.skull import ROUNDS, SHARE
from data_tools.runs.frame_names import natural, stem_of
from data_tools.runs.picture_files import read_picture
from flame_nerf.runtime.door import picture_size
from flame_nerf.runtime.files import whole
from flame_nerf.subject import Subject, SubjectError, load_subject
from flame_nerf.subject.rigid import rigid_fit

FPS = 25
BACKGROUND = "bg/00050.png"


def recognise(source: Path) -> str | None:
    """Why this folder is NeRFace's; None if it is not."""
    return why_transforms(source, "expression", "has an expression for each frame and no mesh")


def read(source: Path, config: ImportConfig, scratch: Scratch) -> Capture:
    """Read the cameras and track the pictures.

    Args:
        scratch: where the tracking goes.

    Raises:
        ImportingError: naming file and frame, or saying why the pictures could not be tracked.
    """
    entries = _entries(source)
    lost = [entry for entry in entries if not entry.picture.is_file()]
    entries = [entry for entry in entries if entry.picture.is_file()]
    if not entries:
        raise ImportingError(
            f"{source}: none of its {len(lost)} frames has its picture: {why_missing(lost[0].picture)}."
        )
    for entry in entries:
        if len(entry.expression) != len(entries[0].expression):
            raise ImportingError(f"{entry.where}: {len(entry.expression)} expression coefficients, the first frame has "
                                 f"{len(entries[0].expression)}.")  # fmt: skip
    cameras = [entry.camera() for entry in entries]
    signs = sorted({sign for _, turned in cameras for sign in turned})
    tracked = _tracked(entries, cameras[0][0], config, scratch)
    rows = {int(frame.file_path.stem): frame for frame in tracked.frames}
    left_out = tuple((entry.picture.stem, f"its picture {entry.picture.name} does not exist") for entry in lost)
    left_out += tuple((entry.picture.stem, "the tracker found no face in it") for index, entry in enumerate(entries)
                      if index not in rows)  # fmt: skip
    used = sorted(rows)
    meshes, shots_cameras, scale = _carried(tracked, [rows[i] for i in used], [cameras[i][0] for i in used])
    shots = tuple(
        Shot(entries[i].picture.stem, entries[i].picture, camera, row, entries[i].split, matte=rows[i].mask_path)
        for row, (i, camera) in enumerate(zip(used, shots_cameras, strict=True))
    )
    expression = np.stack([entries[i].expression for i in used]).astype(np.float32)
    track = tracked.track
    background = source / BACKGROUND
    return Capture(
        format="NeRFace",
        shots=shots,
        meshes=meshes,
        canonical=track.canonical_vertices.astype(np.float64),
        stabilised=False,
        expression=expression,
        expression_names=tuple(f"nerface_{column:02d}" for column in range(expression.shape[1])),
        pose=np.stack([track.pose[rows[i].timestep] for i in used]),
        joint_names=track.joint_names,
        identity=track.identity,
        region=track.region,
        region_names=track.region_names,
        background=background if background.is_file() else None,
        facts={
            "axes": f"camera-to-world in the head frame, {AXES_WORDS['opengl']}",
            "signs": ", ".join(signs) or "focal lengths positive",
            "scale": f"{scale:.4g} units a metre: divided by it",
            "mesh": "re-tracked with the open head, carried into NeRFace's cameras",
        },
        left_out=left_out,
        warnings=(
            "Expressions are NeRFace's own coefficients. They are what the head learns to follow; the open head's "
            "sliders do not know them, so stored frames are replayed and driven, not new expressions made.",
        ),
    )


class _Entry:
    """One frame of a transforms file."""

    def __init__(self, listed: Listed) -> None:
        self.picture, self.where, self.split = listed.picture, listed.where, listed.split
        self.expression = array(
            np.ravel(field(listed.frame, "expression", self.where)), (None,), f"{self.where}: expression"
        )
        self._content, self._matrix = listed.content, field(listed.frame, "transform_matrix", self.where)

    def camera(self) -> tuple[Camera, tuple[str, ...]]:
        """The camera in NeRFace's head frame and unit."""
        width, height = picture_size(self.picture, ImportingError)
        if self._content.get("intrinsics"):
            focal_x, focal_y, cx, cy = array(self._content["intrinsics"], (4,), f"{self.where}: intrinsics")
        else:
            angle = number(self._content, "camera_angle_x", self.where)
            focal_x = focal_y = width / 2 / math.tan(angle / 2)
            cx = cy = 0.5
        c2w = array(self._matrix, (4, 4), f"{self.where}: transform_matrix")
        if abs(np.linalg.det(c2w)) < 1e-9:
            raise ImportingError(f"{self.where}: transform_matrix is singular.")
        intrinsics = focal_x, focal_y, cx * width, cy * height
        return camera_of(intrinsics, (width, height), np.linalg.inv(c2w), "opengl", self.where)


def _entries(source: Path) -> list[_Entry]:
    """All frames, each once, in the order of their pictures' names; folder by folder where names come again.

    Raises:
        ImportingError: pictures are numbered from another start than the data, so whose they are cannot be told.
    """
    entries = [_Entry(listed) for listed in listed_frames(source)[0]]
    for folder in {entry.picture.parent for entry in entries}:
        named = [entry.picture.name for entry in entries if entry.picture.parent == folder]
        listed = pictures_in(folder)
        if set(named) - set(listed) and len(named) > 1 and listed:
            refuse_shifted(named, listed, str(source), f"picture in {folder.name}/")
    stems = [stem_of(entry.picture.name) for entry in entries]
    if len(set(stems)) == len(stems):
        return sorted(entries, key=lambda entry: natural(entry.picture.stem))
    parts = ["", *SPLIT_FILES]
    return sorted(entries, key=lambda entry: (parts.index(entry.split), natural(entry.picture)))


def _tracked(entries: list[_Entry], camera: Camera, config: ImportConfig, scratch: Scratch) -> Subject:
    """The frames tracked as a video; a tracking that an earlier run finished is used again."""
    from data_tools.tracking import TrackConfig, TrackingError, track

    scratch.folder.mkdir(parents=True, exist_ok=True)
    video = scratch.folder / "frames.mkv"
    if not video.is_file():
        _write_video(video, [entry.picture for entry in entries])
    options = TrackConfig(fps=FPS, resolution=max(camera.width, camera.height), crop=False, picture_format="jpg",
                          focal_px=(camera.fl_x + camera.fl_y) / 2, workers=config.workers)  # fmt: skip
    try:
        track(video, scratch.folder / "tracked", options, silent=scratch.silent)
        return load_subject(scratch.folder / "tracked")
    except (TrackingError, SubjectError) as error:
        raise ImportingError(f"NeRFace data hold no mesh, and the frames could not be tracked: {error}") from error


def _write_video(path: Path, pictures: list[Path]) -> None:
    """The pictures as a lossless video, one after the other."""
    import av

    width, height = picture_size(pictures[0], ImportingError)
    with whole(path, alone=True) as spare, av.open(str(spare), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        stream.codec_context.time_base = Fraction(1, FPS)
        for index, picture in enumerate(pictures):
            rgb = read_picture(picture, ImportingError).rgb
            if rgb.shape[1::-1] != (width, height):
                raise ImportingError(f"{picture} is {rgb.shape[1]}x{rgb.shape[0]}, the first {width}x{height}.")
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


class _CarriedMeshes:
    """The tracker's meshes in NeRFace's head frame."""

    def __init__(self, faces: np.ndarray, posed: np.ndarray, rows: list[int], carry: Float[np.ndarray, "T 3 4"]):
        self.faces, self._posed, self._rows, self._carry = faces, posed, rows, carry

    def __len__(self) -> int:
        return len(self._rows)

    def vertices(self, rows: list[int]) -> Float[np.ndarray, "B V 3"]:
        """Posed heads, metres."""
        posed = self._posed[[self._rows[row] for row in rows]].astype(np.float64)
        carry = self._carry[rows]
        return (np.einsum("tij,tvj->tvi", carry[:, :, :3], posed) + carry[:, None, :, 3]).astype(np.float32)


def _carried(tracked: Subject, frames: list, cameras: list[Camera]) -> tuple[_CarriedMeshes, list[Camera], float]:
    """Meshes and cameras in NeRFace's head frame, turned to where the canonical head is, in metres.

    A tracked point x in camera axes is seen at f x / z + c. The map that leaves depth and pixel alone and exchanges the
    intrinsics is linear. NeRFace's pose R_t, p_t carries it into its head frame once metres are known in its unit s:
    s R_t x + p_t. The mesh's middle must stand still there, which gives s by least squares.
    """
    vertices = tracked.track.vertices
    affine, middles = [], []
    for frame, camera in zip(frames, cameras, strict=True):
        own = tracked.intrinsics_of(frame)
        scale = np.array([camera.width / tracked.width, camera.height / tracked.height])
        focal, centre = np.array(own[:2]) * scale, np.array(own[2:]) * scale
        to_camera = np.linalg.inv(frame.c2w)
        change = np.eye(3)
        change[[0, 1], [0, 1]] = focal / [camera.fl_x, camera.fl_y]
        # OpenGL axes: depth is -z and y runs up.
        change[:2, 2] = (centre - [camera.cx, camera.cy]) / [camera.fl_x, camera.fl_y] * [-1, 1]
        affine.append(change @ to_camera[:3])
        middles.append(affine[-1][:, :3] @ vertices[frame.timestep].mean(axis=0) + affine[-1][:, 3])
    rotation = np.stack([camera.c2w[:3, :3] for camera in cameras])
    place = np.stack([camera.c2w[:3, 3] for camera in cameras])
    # Unknown s and middle m: s R_t x_t - m = -p_t.
    turned = np.einsum("tij,tj->ti", rotation, np.stack(middles))
    matrix = np.concatenate([turned.reshape(-1, 1), -np.tile(np.eye(3), (len(cameras), 1))], axis=1)
    unit = float(np.linalg.lstsq(matrix, -place.reshape(-1), rcond=None)[0][0])
    if not unit > 0:
        raise ImportingError(
            "NeRFace's cameras and the tracked head do not move together (the scale between them came out as "
            f"{unit:.3g}). A focal length or axis in transforms_*.json has the wrong sign, or the frames are mixed up."
        )
    carry = rotation @ np.stack(affine)
    carry[:, :, 3] += place / unit
    rows = [frame.timestep for frame in frames]
    some = np.unique(np.linspace(0, len(rows) - 1, 32).round().astype(int))
    carried = _CarriedMeshes(tracked.track.faces, vertices, rows, carry).vertices(some.tolist())
    upright = _upright(np.median(carried, axis=0), tracked.track.canonical_vertices)
    metric = []
    for camera in cameras:
        c2w = camera.c2w.copy()
        c2w[:3, 3] /= unit
        metric.append(Camera(*camera.intrinsics, camera.width, camera.height, upright @ c2w))
    carry = np.concatenate([carry, np.tile([[[0.0, 0.0, 0.0, 1.0]]], (len(carry), 1, 1))], axis=1)
    return _CarriedMeshes(tracked.track.faces, vertices, rows, (upright @ carry)[:, :3]), metric, unit


def _upright(middle: Float[np.ndarray, "V 3"], canonical: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "4 4"]:
    """The rigid motion to the canonical head, by those vertices that come closest to it: a mouth that is open in most
    frames does not pull."""
    fit = rigid_fit(middle[None], canonical)[0]
    for _ in range(ROUNDS):
        off = np.linalg.norm(middle @ fit[:3, :3].T + fit[:3, 3] - canonical, axis=1)
        steady = np.argsort(off, kind="stable")[: max(4, int(SHARE * len(off)))]
        fit = rigid_fit(middle[None, steady], canonical[steady])[0]
    return fit
