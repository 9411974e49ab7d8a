"""How well training saw a face from a side: what was never filmed is invented, and is to be marked as such."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.motion import PosedFrame, SubjectMotion, face_moves
from flame_nerf.render.observed.trust_words import HAS_PART, FilmedRange

HALF_ANGLE_DEG = 12.0
"""Degrees beside the nearest filmed view at which trust is a half."""
HALF_MOVE = 0.06
"""How far a spot of the face lies from where it was filmed when trust is a half, as a share of the head's height: 15 mm
of a grown person's."""
HALF_EFFECT = 2.0
"""The same for what conditions do to the field, in means of how far the filmed ones act from their mean."""
GOOD, MARK = 0.7, 0.4
"""From `GOOD` on a picture is as those that were filmed; below `MARK` most of its detail is invented."""
MOST = 2000
"""Training frames that are kept, drawn evenly from all: a video's neighbouring frames hardly differ."""


@dataclass(frozen=True)
class Trust:
    """How far a picture of an avatar is to be trusted."""

    value: float
    """From 1, as filmed, to 0: nothing like it was filmed. 2^-(d * d), d the distance to the nearest training frame in
    view and expression together."""
    view: float
    """The same for the view alone, with whatever face it was filmed."""
    expression: float
    """The same for the expression alone, from whatever side it was filmed."""
    yaw_deg: float
    """Where the camera stands about the head: degrees to the person's left."""
    pitch_deg: float
    """Degrees above the head's middle."""
    missing: str
    """What was not filmed, in words; empty from `GOOD` on."""

    @property
    def marked(self) -> bool:
        """Whether most of it is invented."""
        return self.value < MARK


class TrustMap:
    """Distance of any face and view from what training frames showed.

    Three distances are added as squares, for each training frame, and the least counts: the angle between the cameras
    as seen from the head; how far any spot of the face lies from where that frame had it; and how differently the two
    conditions act on the field. The second is there because the third alone is blind to what was never filmed at all:
    an expression that training never moved has learned to do nothing.

    Each distance is one at a half: on a synthetic person, whose every view is known, that costs about 3 dB.
    """

    def __init__(
        self,
        conditions: Float[np.ndarray, "N C"],
        c2w: Float[np.ndarray, "N rows 4"],
        centre: Float[np.ndarray, " 3"],
        names: Sequence[str],
        *,
        effect: Float[np.ndarray, "E C"] | None = None,
        moves: Float[np.ndarray, "C S 3"] | None = None,
    ):
        """
        Args:
            conditions: of the training frames.
            c2w: their cameras in the head's frame, metres, OpenGL axes.
            centre: of the head, metres.
            names: of a condition's entries, as `condition_names` has them.
            effect: what the field makes of a condition, a linear map; None: each entry counts as it is.
            moves: of `face_moves`; None: meshes say nothing.

        Raises:
            ValueError: there is no training camera.
        """
        if not len(c2w):
            raise ValueError("no training camera is known")
        away = _unit(np.asarray(c2w, np.float64)[:, :3, 3] - centre)
        conditions = np.asarray(conditions, np.float64)
        self._centre = np.asarray(centre, np.float64)
        self._filmed = FilmedRange(names, conditions, *_angles_deg(away), moves)
        if len(conditions) > MOST:
            kept = np.sort(np.random.default_rng(0).choice(len(conditions), MOST, replace=False))
            conditions, away = conditions[kept], away[kept]
        self._away, self._conditions = away.astype(np.float32), conditions
        linear = np.eye(conditions.shape[1]) if effect is None else np.asarray(effect, np.float64)
        acts = conditions @ linear.T
        reach = float(np.linalg.norm(acts - acts.mean(axis=0), axis=1).mean())
        # Before training conditions do nothing, and a still subject shows one alone.
        self._linear = linear / (HALF_EFFECT * reach) if reach > 1e-9 else np.zeros_like(linear)
        self._acts = (conditions @ self._linear.T).astype(np.float32)
        self._moves = None if moves is None else np.moveaxis(np.asarray(moves, np.float64) / HALF_MOVE, 2, 0)
        self._spots = None if self._moves is None else self._spots_of(conditions).astype(np.float32)

    @classmethod
    def of_training(
        cls,
        motion: SubjectMotion,
        timesteps: Int[Tensor, " N"],
        c2w: Float[Tensor, "N rows 4"],
        effect: Float[Tensor, "E C+L"] | None,
    ) -> TrustMap:
        """The map of frames that were trained on.

        Args:
            motion: who was filmed.
            timesteps: timestep of the track that each frame shows.
            c2w: their cameras in the head's frame, metres, OpenGL axes.
            effect: what the field makes of a condition and the latent code behind it; None: nothing is known of it.

        Raises:
            ValueError: there is no training camera.
        """
        conditions = motion.conditions[timesteps.to(motion.conditions.device)]
        # Latent codes are no part of what one asks for.
        seen = None if effect is None else effect[:, : motion.condition_dim].cpu().numpy()
        return cls(
            conditions.cpu().numpy(), c2w.cpu().numpy(), motion.centre.cpu().numpy(), motion.condition_names,
            effect=seen, moves=face_moves(motion),
        )  # fmt: skip

    def at(self, frame: PosedFrame, place: Float[np.ndarray, " 3"]) -> Trust:
        """How well a face from a place was seen; less than a millisecond.

        Args:
            frame: the face.
            place: of the camera in the frame in which the head rests, metres.
        """
        condition = frame.condition.detach().cpu().double().numpy()
        if frame.movement is not None:
            place = np.linalg.solve(frame.movement.numpy(), np.append(place, 1.0))[:3]
        away = _unit(np.asarray(place, np.float64) - self._centre)
        angles = np.degrees(np.arccos(np.clip(self._away @ away, -1.0, 1.0)))
        by_view = (angles / HALF_ANGLE_DEG) ** 2
        by_face = self._by_face(condition)
        together = by_view + by_face
        nearest, view, face = int(together.argmin()), float(by_view.min()), float(by_face.min())
        least = float(together[nearest])
        yaw, pitch = (float(angle[0]) for angle in _angles_deg(away[None]))
        value, missing = 2.0**-least, []
        if value < GOOD:
            if view > HAS_PART * least:
                missing.append((view, self._filmed.view_words(yaw, pitch, float(angles.min()))))
            if face > HAS_PART * least:
                like = self._conditions[int(by_face.argmin())]
                missing.append((face, self._filmed.face_words(condition, like)))
            if not missing:
                missing.append((0.0, "this face was not filmed from this side"))
        words = "; ".join(text for _, text in sorted(missing, key=lambda part: -part[0]))
        return Trust(value, 2.0**-view, 2.0**-face, yaw, pitch, words)

    def _by_face(self, condition: Float[np.ndarray, " C"]) -> Float[np.ndarray, " N"]:
        """Squared distances of a condition from those of the training frames."""
        acts = self._acts - (self._linear @ condition).astype(np.float32)
        found = np.einsum("ne,ne->n", acts, acts)
        if self._spots is not None:
            apart = self._spots - self._spots_of(condition[None]).astype(np.float32)
            np.square(apart, out=apart)
            found += (apart[0] + apart[1] + apart[2]).max(axis=1)
        return found

    def _spots_of(self, conditions: Float[np.ndarray, "N C"]) -> Float[np.ndarray, "3 N S"]:
        return conditions @ self._moves


def _unit(vectors: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _angles_deg(away: Float[np.ndarray, "N 3"]) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Yaw and pitch of unit vectors from the head: to the person's left, and up."""
    yaw, pitch = np.arctan2(away[:, 0], away[:, 2]), np.arcsin(np.clip(away[:, 1], -1.0, 1.0))
    return np.degrees(yaw), np.degrees(pitch)
