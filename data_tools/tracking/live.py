"""Pictures as they come: a video's frames, and the expression of the face in them by the open head's landmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from scipy.optimize import nnls
from scipy.spatial.transform import Rotation

from data_tools.tracking.config import TrackingError
from data_tools.tracking.fit.face.face_points import UNSEEN_EXPRESSIONS
from data_tools.tracking.observe.landmarks import face_mesh, load_models
from data_tools.tracking.observe.video_colour import Colours
from data_tools.tracking.observe.video_decode import Tally, Turn, decoded, survey, turn_of, upright

WIDEST = 640
"""Pixels: larger pictures are made smaller; the mesh is found from 192 anyway."""
CALIBRATION = 2.0
"""Seconds at the beginning whose median is how the person's face rests."""
LEAST_PICTURES = 5
"""Of these, with a face in them."""
DEPTH_TRUST = 0.3
"""Of a landmark's depth, which the detector guesses, against its place in the picture."""
RIGID = 0.002
"""Metres that any expression moves a landmark by, at which it has lost half its say in where the head is."""
RIDGE = 2e-6
"""Square metres that a coefficient of 1 costs: what no landmark shows stays at zero."""

SWEEPS = 3
"""Between where the head is and what the face does."""


@dataclass(frozen=True, eq=False)
class SeenFace:
    """One picture's face."""

    expression: Mapping[str, float]
    """Coefficients by ARKit's names, 0 to 1; all zero while the rest is still being learnt."""
    head_turn: Float[np.ndarray, "3 3"]
    """Rotation of the head frame in the camera's (x right, y up, z towards the camera)."""
    calibrating: bool


def played(video: Path) -> Iterator[tuple[float, Callable[[], UInt8[np.ndarray, "H W 3"]]]]:
    """Seconds from the beginning of each frame of a video file, rising, and what makes its upright RGB picture: made
    for those alone that are looked at. Damaged frames are passed over.

    Raises:
        TrackingError: it cannot be read; while it plays: it breaks off.
    """
    colours = survey(video)
    return _frames(video, colours)


def _frames(video: Path, colours: Colours) -> Iterator[tuple[float, Callable[[], UInt8[np.ndarray, "H W 3"]]]]:
    tally, turn = Tally(), None
    for _, seconds, frame, pixel_aspect in decoded(video, tally):
        if frame.is_corrupt:
            continue
        turn = turn or turn_of(frame)
        yield seconds, partial(_picture, frame, pixel_aspect, colours, turn)
    if tally.broken:
        raise TrackingError(f"{video}: {tally.broken}")


def _picture(frame: Any, pixel_aspect: Fraction | None, colours: Colours, turn: Turn) -> UInt8[np.ndarray, "H W 3"]:
    picture = upright(frame, pixel_aspect, colours.deep, turn)
    return colours.standard(picture) if colours.deep else picture


class LiveFace:
    """One person in front of a camera. Used from one thread."""

    def __init__(self) -> None:
        """
        Raises:
            TrackingError: mediapipe is not installed.
        """
        from flame_nerf.heads import load_head

        load_models()
        self._mesh = face_mesh()
        head = load_head()
        assert head.landmarks is not None, "the open head has landmarks"
        corners, blend = head.faces[head.landmarks.face].numpy(), head.landmarks.barycentric.double().numpy()

        self._index = head.landmarks.index.numpy()
        self._template = np.einsum("lc,lcx->lx", blend, head.template.double().numpy()[corners])
        rows = [row for row, name in enumerate(head.expression_names) if name not in UNSEEN_EXPRESSIONS]
        self._names = tuple(head.expression_names[row] for row in rows)
        moves = np.einsum("lc,lcxe->lxe", blend, head.exprdirs.double().numpy()[corners][..., rows])
        trust = head.landmarks.weight.double().numpy()
        self._moves = moves
        most = np.linalg.norm(moves, axis=1).max(axis=1)
        self._rigid = trust / (1 + (most / RIGID) ** 2)
        self._rigid /= self._rigid.sum()
        self._weight = np.sqrt(trust / trust.mean())[:, None] * [1.0, 1.0, DEPTH_TRUST]
        basis = (moves * self._weight[..., None]).reshape(-1, len(rows))
        # Rows that say as much as all landmarks: few enough for a solution within a millisecond.
        q, self._reduced = np.linalg.qr(np.concatenate([basis, np.sqrt(RIDGE) * np.eye(len(rows))]))
        self._project = q[: len(basis)].T
        self._early: list[Float[np.ndarray, "L 3"]] = []
        self._rest: Float[np.ndarray, "L 3"] | None = None
        self._began: float | None = None

    def seen(self, picture: UInt8[np.ndarray, "H W 3"], time: float) -> SeenFace | None:
        """The face in the next picture, RGB, taken at `time` seconds; None where there is none."""
        points = self.landmarks(picture)
        return None if points is None else self.of_landmarks(points, time)

    def landmarks(self, picture: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "478 3"] | None:
        """The face mesh's points in one unit: x right, y up, z towards the camera."""
        import cv2

        height, width = picture.shape[:2]
        if width > WIDEST:
            size = (WIDEST, round(height * WIDEST / width))
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        faces = self._mesh.process(np.ascontiguousarray(picture)).multi_face_landmarks
        if not faces:
            return None
        points = np.array([(point.x, point.y, point.z) for point in faces[0].landmark])
        return points * [1.0, -height / width, -1.0]

    def of_landmarks(self, points: Float[np.ndarray, "478 3"], time: float) -> SeenFace:
        """The expression of points as `landmarks` gives them, at `time` seconds, which never goes back."""
        shape = self._template if self._rest is None else self._rest
        turn, placed = self._aligned(points[self._index], shape)
        self._began = time if self._began is None else self._began
        if self._rest is None:
            self._early.append(placed)
            if time - self._began < CALIBRATION or len(self._early) < LEAST_PICTURES:
                return SeenFace(dict.fromkeys(self._names, 0.0), turn, True)
            self._rest, self._early = np.median(self._early, axis=0), []
        values = np.zeros(len(self._names))
        for _ in range(SWEEPS):
            # No point of a face is quite still: where the head is follows from what the expression explains.
            turn, placed = self._aligned(points[self._index], self._rest + self._moves @ values)
            moved = ((placed - self._rest) * self._weight).ravel()
            values = np.clip(nnls(self._reduced, self._project @ moved)[0], 0.0, 1.0)
        return SeenFace(dict(zip(self._names, values.tolist(), strict=True)), turn, False)

    def close(self) -> None:
        """Let go of the detector."""
        self._mesh.close()

    def _aligned(
        self, points: Float[np.ndarray, "L 3"], shape: Float[np.ndarray, "L 3"]
    ) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "L 3"]]:
        """Rotation from the head frame to the points', and the points laid onto `shape`, metres."""
        weight = self._rigid
        centre, shape_centre = weight @ points, weight @ shape
        here, there = points - centre, shape - shape_centre
        rotation, _ = Rotation.align_vectors(here, there, weights=weight)
        back = rotation.inv().apply(here)
        scale = (weight @ (back * there).sum(axis=1)) / (weight @ (back**2).sum(axis=1))
        return rotation.as_matrix(), scale * back + shape_centre
