"""What falls short in a subject's footage, what it will cost in the avatar, and what to film instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from data_tools.capture.measured import Measured

GRAVE, WEAK = 0.75, 0.4
"""Gravity from which footage should be filmed again, and from which what falls short will show."""
FEW_FRAMES = 100
SHORT_SECONDS, GOOD_SECONDS = 10.0, 30.0
"""A clip below the first shows next to nothing; from the second on there is enough."""
NARROW_YAW, SIDE_YAW = 15.0, 30.0
"""Turns to one side, degrees: below the first that side is unknown, below the second half known."""
NOD = 8.0
"""Nods up or down that should be reached, degrees."""
FEW_PX, SOME_PX, GOOD_PX = 40.0, 70.0, 110.0
"""Heights of a face from brow line to chin, pixels: beneath the first it has no detail, from the last enough."""
WANTED_PX = 180.0
"""That height after filming closer."""
SOFT, BLURRED = 0.52, 0.68
"""Blur (`looks.blur_of`) of pictures that are a little, and that are badly, out of focus."""
BLURRED_OF_USUAL = 0.18
"""A single picture is blurred when its blur exceeds the clip's usual by so much."""
DIM, DARK = 75.0, 55.0
BRIGHT = 205.0
"""Mean grey levels of a face between which it is well exposed."""
LOST_SHARE = 0.08
"""Share of a face that may be white or black before detail is lost."""
FLICKER, STRONG_FLICKER = 0.008, 0.03
DRIFT = 0.3
"""Change of a frontal face's brightness through the clip, as a share of it, from which the light was not steady."""
FRONTAL = 15.0
"""Yaw within which a face counts as frontal, degrees."""

Stage = Literal["set up", "perform"]


@dataclass(frozen=True)
class Shortfall:
    """One thing that footage lacks."""

    topic: str
    gravity: float
    """0 a trifle, 1 ruins the avatar."""
    found: str
    """What was measured."""
    cost: str
    """What it will do to the avatar."""
    shot: str
    """What to film, or to change before filming; empty where nothing can be filmed."""
    stage: Stage
    frames: tuple[int, ...] = ()
    """Rows of the subject's frames it shows in; empty: all of them."""


def shortfalls_of(measured: Measured) -> tuple[Shortfall, ...]:
    """Everything that falls short, the gravest first."""
    judges: tuple[Callable[[Measured], list[Shortfall]], ...] = (
        _length, _size, _turns, _nods, _expressions, _blur, _exposure, _flicker, _edge
    )  # fmt: skip
    found = [shortfall for judge in judges for shortfall in judge(measured)]
    return tuple(sorted(found, key=lambda shortfall: -shortfall.gravity))


def verdict(shortfalls: tuple[Shortfall, ...]) -> Literal["good", "usable", "film again"]:
    """One word for a script: nothing weighs, it will show, or it should be filmed again before training."""
    gravest = max((shortfall.gravity for shortfall in shortfalls), default=0.0)
    return "film again" if gravest >= GRAVE else "usable" if gravest >= WEAK else "good"


def shots_of(shortfalls: tuple[Shortfall, ...]) -> tuple[str, ...]:
    """What to do in front of the camera next time, in the order of doing it."""
    chosen = [
        s.shot for stage in ("set up", "perform") for s in shortfalls if s.stage == stage and s.shot
    ]  # the gravest first within each
    if not chosen:
        return ()
    return (*dict.fromkeys(chosen), KEEP)


KEEP = (
    "Film all of it as one video: same place, same light, same clothes and hair, the camera locked, the whole head in "
    "the picture all the time. Two sessions do not go together. Then track the new video instead of this one."
)


def _length(measured: Measured) -> list[Shortfall]:
    used = sum(frame.split == "train" for frame in measured.subject.frames)
    seconds = measured.seconds
    if used >= FEW_FRAMES and seconds >= GOOD_SECONDS:
        return []
    gravity = 0.9 if used < FEW_FRAMES or seconds < SHORT_SECONDS else 0.35
    found = f"Only {used} frames for training, {seconds:.0f} seconds of video."
    if gravity < GRAVE:
        found = f"{seconds:.0f} seconds of video, {used} frames for training: short."
    return [
        Shortfall(
            "length",
            gravity,
            found,
            "Expect little beyond what these frames show; new poses and expressions will look guessed.",
            "Film for a minute or more. Half of it talk freely, the other half do what is listed here.",
            "set up",
        )
    ]


def _size(measured: Measured) -> list[Shortfall]:
    face, noun = measured.face_px, measured.noun
    if not np.isfinite(face) or face >= GOOD_PX:
        return []
    gravity = 0.85 if face < FEW_PX else 0.75 if face < SOME_PX else 0.45
    # A mesh without any extent is an error of its own.
    closer = WANTED_PX / max(face, 1.0)
    return [
        Shortfall(
            "size of the face",
            gravity,
            f"The {noun} is only {face:.0f} pixels high from brows to chin; {GOOD_PX:.0f} are wanted.",
            "Skin, teeth and single hairs are not in the pictures: the avatar will be as soft as they are, however "
            "long it trains.",
            f"Go {closer:.1f} times closer, zoom in, or film with more pixels (1080p or 4K). Head and shoulders should "
            "fill the picture.",
            "set up",
        )
    ]


def _turns(measured: Measured) -> list[Shortfall]:
    found = []
    # Adding zero makes -0 a 0.
    low, high = (round(float(value)) + 0.0 for value in (measured.yaw.min(), measured.yaw.max()))
    if high - low < NARROW_YAW or (-low < NARROW_YAW and high < NARROW_YAW):
        return [
            Shortfall(
                "turns of the head",
                0.9,
                f"The head turns from {low:.0f} to {high:+.0f} degrees only, {high - low:.0f} degrees in all.",
                "Cheeks, ears and temples on both sides will be guessed, and come apart when the avatar turns.",
                "Look into the camera, then turn the head slowly to your right until the camera sees your ear (60 "
                "degrees), hold it for a second, and as slowly to your left. Twice; ten seconds for one way.",
                "perform",
            )
        ]
    for side, reach in (("right", -low), ("left", high)):
        if reach >= SIDE_YAW:
            continue
        gravity = 0.7 if reach < NARROW_YAW else 0.45
        furthest = int(measured.yaw.argmin() if side == "right" else measured.yaw.argmax())
        found.append(
            Shortfall(
                "turns of the head",
                gravity,
                f"The head turns only {max(0.0, reach):.0f} degrees to its {side}; {SIDE_YAW:.0f} or more are wanted.",
                f"The far side, the {'left' if side == 'right' else 'right'} cheek and ear, will be guessed in such "
                "views.",
                f"Look into the camera, turn the head slowly to your {side} until the camera sees your ear (60 "
                "degrees), hold it for a second, come back. Twice; ten seconds for one way.",
                "perform",
                (furthest,),
            )
        )
    return found


def _nods(measured: Measured) -> list[Shortfall]:
    usual = float(np.median(measured.pitch))
    reach = {"up": float(measured.pitch.max()) - usual, "down": usual - float(measured.pitch.min())}
    lacking = [way for way, degrees in reach.items() if degrees < NOD]
    if not lacking:
        return []
    said = " and ".join(f"{reach[way]:.0f}° {way}" for way in lacking)
    return [
        Shortfall(
            "nods of the head",
            0.35 + 0.1 * len(lacking),
            f"The head nods only {said} from where it usually is; {NOD:.0f}° or more are wanted.",
            "Chin, nostrils and the top of the head will be guessed when the avatar nods.",
            "Lift the chin slowly until you see the ceiling, hold it for a second, then lower it to the chest. Twice, "
            "ten seconds each.",
            "perform",
        )
    ]


def _expressions(measured: Measured) -> list[Shortfall]:
    found = []
    for done in measured.done:
        group, never = done.group, done.state == "never"
        if done.state == "well" or group.gravity == 0:
            continue
        found.append(
            Shortfall(
                "expression",
                group.gravity if never else 0.4 * group.gravity,
                group.missing if never else f"{group.title}: only a little.",
                group.cost if never else "More of it than was filmed will look guessed.",
                group.shot,
                "perform",
                () if never else (measured.row_of(done.row),),
            )
        )
    return found


def _blur(measured: Measured) -> list[Shortfall]:
    if not measured.looks:
        return []
    blur = np.array([look.blur for look in measured.looks])
    usual = float(np.median(blur))
    if usual >= SOFT:
        bad = usual >= BLURRED
        return [
            Shortfall(
                "sharpness",
                0.85 if bad else 0.5,
                f"The pictures are {'blurred' if bad else 'soft'} throughout: out of focus, hazed, enlarged or hard "
                "compressed.",
                "The avatar cannot be sharper than what it learns from.",
                "Clean the lens, tap on the face to focus and lock the focus, use more light, and send the camera's "
                "own file: no messenger, no filter, no digital zoom.",
                "set up",
            )
        ]
    rows = tuple(look.row for look in measured.looks if look.blur > usual + BLURRED_OF_USUAL)
    if not rows:
        return []
    share = len(rows) / len(measured.looks)
    return [
        Shortfall(
            "sharpness",
            0.6 if share > 0.2 else 0.4 if share > 0.02 else 0.2,
            f"{len(rows)} of {len(measured.looks)} pictures looked at are blurred against the others.",
            "Movement that is too fast for the shutter smears what is learned at those poses; if they are few, "
            "leave them out.",
            "Move slower, and set a shutter of 1/100 s or faster (more light, no night mode).",
            "set up",
            rows,
        )
    ]


def _exposure(measured: Measured) -> list[Shortfall]:
    if not measured.looks:
        return []
    found, noun = [], measured.noun
    level = np.array([look.brightness for look in measured.looks])
    usual = float(np.median(level))
    burnt, black = (float(np.median([getattr(look, name) for look in measured.looks])) for name in ("burnt", "black"))
    if usual < DIM or black > 4 * LOST_SHARE:
        found.append(
            Shortfall(
                "exposure",
                0.75 if usual < DARK else 0.5,
                f"The {noun} is dark: {usual:.0f} of 255 grey levels on average.",
                "Noise and compression eat the detail of dark skin and hair; the avatar will look muddy.",
                "Sit facing a window or a large lamp, nothing bright behind you, and set the exposure on the face.",
                "set up",
            )
        )
    if usual > BRIGHT or burnt > LOST_SHARE:
        found.append(
            Shortfall(
                "exposure",
                0.6,
                f"The {noun} is overexposed: {100 * burnt:.0f} % of it is white.",
                "Where the picture is white no skin can be learned: the avatar will shine there from every side.",
                "Lower the exposure until no part of the face is white, and avoid a bare lamp or direct sun.",
                "set up",
            )
        )
    frontal = np.abs(measured.yaw[[look.row for look in measured.looks]]) < FRONTAL
    if frontal.sum() >= 8:
        dim, bright = np.quantile(level[frontal], [0.05, 0.95])
        if bright - dim > DRIFT * usual:
            found.append(
                Shortfall(
                    "light",
                    0.5,
                    f"The {noun}'s brightness changes from {dim:.0f} to {bright:.0f} grey levels while it looks ahead.",
                    "One face cannot be learned in two lights: colours will blur and flicker.",
                    "Lock exposure and white balance, and film away from windows with passing clouds and from screens.",
                    "set up",
                )
            )
    return found


def _flicker(measured: Measured) -> list[Shortfall]:
    if measured.flicker < FLICKER:
        return []
    return [
        Shortfall(
            "flicker",
            0.6 if measured.flicker > STRONG_FLICKER else 0.4,
            f"The light flickers: brightness jumps by {100 * measured.flicker:.1f} % from picture to picture.",
            "The avatar's skin will shimmer as it moves.",
            "Film in daylight or under lamps that do not beat with the camera: set the shutter to 1/50 s (1/60 s where "
            "the mains has 60 Hz) or a multiple, or change the lamps.",
            "set up",
        )
    ]


def _edge(measured: Measured) -> list[Shortfall]:
    rows = tuple(look.row for look in measured.looks if look.at_edge)
    if not rows:
        return []
    share = len(rows) / len(measured.looks)
    return [
        Shortfall(
            "framing",
            0.7 if share > 0.5 else 0.5 if share > 0.1 else 0.25,
            f"The head touches the picture's edge in {len(rows)} of {len(measured.looks)} pictures looked at.",
            "What is outside cannot be learned: hair or a side will be cut off.",
            "Leave a hand's breadth of room above the hair and on both sides, also when you turn.",
            "set up",
            rows,
        )
    ]
