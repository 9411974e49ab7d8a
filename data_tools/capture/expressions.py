"""What the face did: groups of expressions that a person can name, measured from coefficients, joints or landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from flame_nerf.data.face_boxes import MEDIAPIPE_POINTS
from flame_nerf.subject import HeadTrack

JAW_RADIANS = 0.4
"""Turn of a jaw joint that opens the mouth wide."""
GAPE = 0.4
"""Gap between the lips over the face's height that is a mouth wide open."""
EYE_POINTS = ((386, 374, 263, 362), (159, 145, 33, 133))
"""Upper lid, lower lid and both corners of the left and the right eye, in mediapipe's numbering."""
LIP_POINTS, FACE_POINTS = (13, 14), (9, 152)
"""Inner lips above and below, and brow line and chin."""
FULL_GAZE_DEG = 40.0
"""Way of the eyes from side to side, or up and down, that is all they need."""


@dataclass(frozen=True)
class Group:
    """One thing that a face can do."""

    key: str
    title: str
    missing: str
    """What is said where it never happens."""
    some: float
    """Below this it never happened, and below"""
    much: float
    """this hardly."""
    gravity: float
    """How much an avatar lacks without it, 0 to 1; 0: it is listed only."""
    cost: str
    shot: str
    names: tuple[tuple[str, ...], ...] = ()
    """Expressions whose mean counts; of several such, the largest."""


GROUPS = (
    Group(
        "blink", "Eyes closed", "The eyes never close.", 0.35, 0.6, 0.6,
        "The avatar's closed lids will be guessed from what is around them, and it will blink badly.",
        "Look into the camera and close both eyes slowly, keep them shut for a second, open them. Three times.",
        (("eyeBlinkLeft", "eyeBlinkRight"),),
    ),
    Group(
        "mouth", "Mouth wide open", "The mouth never opens wide.", 0.15, 0.45, 0.7,
        "Teeth, tongue and the inside of the mouth cannot be learned: an open mouth will be a smear.",
        "Open your mouth as wide as you can, as at the dentist's, hold it for a second, close it. Three times, once "
        "with the head turned a little to either side.",
        (("jawOpen",),),
    ),
    Group(
        "smile", "Smile", "The face never smiles.", 0.12, 0.35, 0.5,
        "Folds beside the mouth and raised cheeks are missing: the avatar's smile will look painted on.",
        "Smile with closed lips, then broadly so that your teeth show, then go back to a neutral face. Three times.",
        (("mouthSmileLeft", "mouthSmileRight"),),
    ),
    Group(
        "gaze_sideways", "Eyes to the sides", "The eyes never look aside.", 0.25, 0.5, 0.45,
        "The avatar will stare: eyes turned aside will be smeared, with the white of the eye in the wrong place.",
        "Keep the head still and look as far to your left as you can, then to your right, with the eyes alone. "
        "Three times.",
        (("eyeLookOutLeft", "eyeLookInRight"), ("eyeLookInLeft", "eyeLookOutRight")),
    ),
    Group(
        "gaze_up_down", "Eyes up and down", "The eyes never look up or down.", 0.2, 0.4, 0.3,
        "Lids follow the eyes when they look up and down; without it they will not.",
        "Keep the head still and look up to the ceiling, then down to the floor, with the eyes alone. Three times.",
        (("eyeLookUpLeft", "eyeLookUpRight"), ("eyeLookDownLeft", "eyeLookDownRight")),
    ),
    Group(
        "brows_up", "Brows raised", "The brows are never raised.", 0.15, 0.4, 0.35,
        "The forehead stays smooth: a surprised avatar will not wrinkle.",
        "Raise your brows as if surprised, hold it for a second, relax. Three times.",
        (("browInnerUp",), ("browOuterUpLeft", "browOuterUpRight")),
    ),
    Group(
        "brows_down", "Brows drawn together", "The brows are never drawn together.", 0.12, 0.3, 0.3,
        "The fold between the brows is missing: an angry or thinking avatar will look blank.",
        "Frown as if the sun were in your eyes, hold it for a second, relax. Three times.",
        (("browDownLeft", "browDownRight"),),
    ),
    Group(
        "lips_forward", "Lips pushed forward", "The lips are never pushed forward.", 0.12, 0.3, 0.35,
        "Sounds such as 'oo' and a kiss will be flat.",
        "Say 'oo - ee - oo - ee' slowly with large movements of the lips, for ten seconds.",
        (("mouthPucker",), ("mouthFunnel",)),
    ),
    Group(
        "teeth", "Teeth bared", "The lips never draw back from the teeth.", 0.12, 0.3, 0.3,
        "Teeth will be blurred when the avatar speaks.",
        "Clench your teeth and draw the lips back so that both rows show, hold it for a second. Three times.",
        (("mouthUpperUpLeft", "mouthUpperUpRight"), ("mouthLowerDownLeft", "mouthLowerDownRight"),
         ("mouthStretchLeft", "mouthStretchRight")),
    ),
    Group(
        "jaw_aside", "Jaw or mouth to a side", "The mouth never goes to a side.", 0.12, 0.3, 0.0, "",
        "Move the mouth to your left and to your right.",
        (("jawLeft",), ("jawRight",), ("mouthLeft",), ("mouthRight",)),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Done:
    """How much of one group a clip shows."""

    group: Group
    values: Float[np.ndarray, " T"]
    """Of each timestep, 0 to 1; NaN where unknown."""
    most: float
    row: int
    """Timestep that shows most."""
    times: int
    """How often it happened: runs of timesteps above `some`."""
    share: float
    """Part of the timesteps above `some`."""

    @property
    def state(self) -> str:
        """never, a little, or well."""
        return "never" if self.most < self.group.some else "a little" if self.most < self.group.much else "well"

    def words(self) -> str:
        """What a person is told."""
        if self.state == "never":
            return self.group.missing
        often = "once" if self.times == 1 else f"{self.times} times"
        # A share of the frames would sound like much.
        return f"Seen, {often}, in {100 * self.share:.0f} % of frames" if self.state == "well" else "Only a little"


def expressions_done(track: HeadTrack, timesteps: np.ndarray) -> tuple[Done, ...]:
    """Each group that can be measured on this head, over the timesteps that frames show.

    Coefficients go by ARKit's names. Jaw and eye joints, and mediapipe's landmarks, tell of heads whose expressions are
    statistical; where two tell, the larger counts, since each of them misses some.
    """
    found = []
    for group in GROUPS:
        known = [values for values in (_named(track, group), _measured(track, group.key)) if values is not None]
        if not known:
            continue
        values = np.full(track.num_timesteps, np.nan)
        seen = np.stack(known)[:, timesteps]
        values[timesteps] = np.where(np.isnan(seen).all(axis=0), np.nan, np.nan_to_num(seen, nan=-1.0).max(axis=0))
        if np.isfinite(values).any():
            found.append(_done(group, values, timesteps))
    return tuple(found)


def _done(group: Group, values: Float[np.ndarray, " T"], timesteps: np.ndarray) -> Done:
    above = np.nan_to_num(values[timesteps], nan=0.0) >= group.some
    runs = int(above[0]) + int((above[1:] & ~above[:-1]).sum())
    return Done(group, values, float(np.nanmax(values)), int(np.nanargmax(values)), runs, float(above.mean()))


def _named(track: HeadTrack, group: Group) -> Float[np.ndarray, " T"] | None:
    column = {name: index for index, name in enumerate(track.expression_names)}
    sets = [names for names in group.names if all(name in column for name in names)]
    if not sets:
        return None
    values = np.stack([track.expression[:, [column[name] for name in names]].mean(axis=1) for names in sets])
    if group.key.startswith("gaze") and not values.any():
        # Eyes that turn by their joints leave these at zero.
        return None
    return values.max(axis=0).astype(float)


def _measured(track: HeadTrack, key: str) -> Float[np.ndarray, " T"] | None:
    points = track.landmarks2d
    landmarks = points if points is not None and points.shape[1] == MEDIAPIPE_POINTS else None
    if key == "blink" and landmarks is not None:
        return _closed(landmarks)
    if key == "mouth":
        known: list[np.ndarray] = []
        if "jaw" in track.joint_names:
            known.append(np.abs(track.pose[:, track.joint_names.index("jaw")]).max(axis=1) / JAW_RADIANS)
        if landmarks is not None:
            known.append(
                _distance(landmarks, *LIP_POINTS) / np.maximum(_distance(landmarks, *FACE_POINTS), 1e-6) / GAPE
            )
        return np.fmax.reduce(known) if known else None
    if key.startswith("gaze"):
        return _gaze(track, axis=1 if key == "gaze_sideways" else 0)
    return None


def _gaze(track: HeadTrack, axis: int) -> Float[np.ndarray, " T"] | None:
    """How far the eyes stand from their usual place, as twice that over a full way; None of eyes that cannot turn."""
    eyes = [index for index, name in enumerate(track.joint_names) if name in ("left_eye", "right_eye")]
    if not eyes:
        return None
    turned = np.degrees(track.pose[:, eyes, axis]).mean(axis=1)
    if not turned.any():
        return None
    # A tracker's single slip is no look aside.
    return _steady(2 * np.abs(turned - np.median(turned)) / FULL_GAZE_DEG)


def _steady(values: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """The smaller of each value and the larger of its neighbours: what shows in one frame alone goes."""
    if len(values) < 3:
        return values
    padded = np.pad(values, 1, mode="edge")
    return np.minimum(values, np.maximum(padded[:-2], padded[2:]))


def _closed(landmarks: Float[np.ndarray, "T 478 2"]) -> Float[np.ndarray, " T"]:
    """How far both eyes are closed against the subject's usual opening."""
    values = []
    for upper, lower, outer, inner in EYE_POINTS:
        opening = _distance(landmarks, upper, lower) / np.maximum(_distance(landmarks, outer, inner), 1e-6)
        usual = np.nanmedian(opening) if np.isfinite(opening).any() else np.nan
        values.append(np.clip(1 - opening / max(usual, 1e-6), 0, 1))
    return np.minimum(*values)


def _distance(landmarks: Float[np.ndarray, "T 478 2"], first: int, second: int) -> Float[np.ndarray, " T"]:
    return np.linalg.norm(landmarks[:, first] - landmarks[:, second], axis=1).astype(float)
