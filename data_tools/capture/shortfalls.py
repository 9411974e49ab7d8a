"""What falls short in a subject's footage, what it will cost in the avatar, and what to film instead."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from data_tools.capture.measured import Measured
from data_tools.capture.picture_shortfalls import blur, doubtful, edge, exposure, flicker
from data_tools.capture.shortfall import GRAVE, WEAK, Shortfall

FEW_FRAMES = 100
SHORT_SECONDS, GOOD_SECONDS = 10.0, 30.0
"""A clip below the first shows next to nothing; from the second on there is enough."""
NARROW_YAW, SIDE_YAW = 15.0, 30.0
"""Turns to one side, degrees: below the first that side is unknown, below the second half known."""
NOD = 8.0
"""Nods up or down that should be reached, degrees."""
NOD_COSTS = {"up": "underside of chin and nose", "down": "top of the head"}
NOD_SHOTS = {
    "up": "Lift the chin slowly until you see the ceiling, hold it for a second, come back.",
    "down": "Lower the chin slowly to the chest, hold it for a second, come back.",
}
FEW_PX, SOME_PX, GOOD_PX = 40.0, 70.0, 110.0
"""Heights of a face from brow line to chin, pixels: beneath the first it has no detail, from the last enough."""
WANTED_PX = 180.0
"""That height after filming closer."""
MORE_OF_IT = "More of it than was filmed will look guessed."
"""What an expression costs that was seen a little."""


def shortfalls_of(measured: Measured) -> tuple[Shortfall, ...]:
    """Everything that falls short, the gravest first."""
    judges: tuple[Callable[[Measured], list[Shortfall]], ...] = (
        _length, _size, _turns, _nods, _expressions, blur, exposure, flicker, edge, doubtful
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
    found, clear = [], measured.clear
    yaw = measured.yaw[clear]
    # Adding zero makes -0 a 0.
    low, high = (round(float(value)) + 0.0 for value in (yaw.min(), yaw.max()))
    if high - low < NARROW_YAW or (-low < NARROW_YAW and high < NARROW_YAW):
        return [
            Shortfall(
                "turns of the head",
                0.9,
                f"The head turns from {low:.0f}° to {high:+.0f}° only, {high - low:.0f}° in all.",
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
        furthest = int(clear[yaw.argmin() if side == "right" else yaw.argmax()])
        turned = f"turns only {reach:.0f} degrees to its {side}" if reach >= 1 else f"never turns to its {side}"
        found.append(
            Shortfall(
                "turns of the head",
                gravity,
                f"The head {turned}; {SIDE_YAW:.0f} degrees or more are wanted.",
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
    pitch = measured.pitch[measured.clear]
    usual = float(np.median(pitch))
    reach = {"up": float(pitch.max()) - usual, "down": usual - float(pitch.min())}
    lacking = [way for way, degrees in reach.items() if degrees < NOD]
    if not lacking:
        return []
    # Rounded up it would be what is wanted.
    said = " and ".join(f"{math.floor(reach[way])}° {way}" for way in lacking)
    both = len(lacking) == 2
    return [
        Shortfall(
            "nods of the head",
            0.35 + 0.1 * len(lacking),
            f"The head nods only {said} from where it usually is; {NOD:.0f}° or more are wanted.",
            f"The {' and the '.join(NOD_COSTS[way] for way in lacking)} will be guessed when the avatar nods.",
            f"{' '.join(NOD_SHOTS[way] for way in lacking)} Twice, ten seconds each{' way' if both else ''}.",
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
                group.cost if never else MORE_OF_IT,
                group.shot,
                "perform",
                () if never else (measured.row_of(done.row),),
            )
        )
    return found
