"""What falls short in the pictures themselves: focus, light, what hides the face and what they cut off."""

from __future__ import annotations

import numpy as np

from data_tools.capture.measured import Measured
from data_tools.capture.shortfall import GRAVE, Shortfall
from flame_nerf.subject import UNUSED

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
FEW_DOUBTFUL = 0.05
"""Share of frames of doubtful track up to which they are a trifle: so many are named among good ones, too."""


def blur(measured: Measured) -> list[Shortfall]:
    """Pictures without detail, all of them or some."""
    if not measured.looks:
        return []
    usual = float(np.median([look.blur for look in measured.looks]))
    if usual >= SOFT:
        gravity = _between(usual, SOFT, BLURRED, 0.5, 0.85)
        return [
            Shortfall(
                "sharpness",
                gravity,
                f"The pictures are {'blurred' if gravity >= GRAVE else 'soft'} throughout: out of focus, hazed, "
                "enlarged or hard compressed.",
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


def exposure(measured: Measured) -> list[Shortfall]:
    """Faces too dark, too bright, or in light that changes."""
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
                _between(usual, DIM, DARK, 0.5, 0.8),
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


def flicker(measured: Measured) -> list[Shortfall]:
    """Light that beats with the camera."""
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


def edge(measured: Measured) -> list[Shortfall]:
    """Heads that the pictures cut off."""
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


def doubtful(measured: Measured) -> list[Shortfall]:
    """Frames that tracking could not follow well."""
    rows = tuple(np.flatnonzero(measured.doubtful).tolist())
    if not rows:
        return []
    share = len(rows) / len(measured.doubtful)
    return [
        Shortfall(
            "hidden face",
            0.8 if share > 0.2 else 0.5 if share > FEW_DOUBTFUL else 0.2,
            f"In {len(rows)} of {len(measured.doubtful)} frames the {measured.noun} is hard to see (covered, blurred, "
            "dark or cut off), and tracking is probably wrong there.",
            _lost(measured, rows),
            "Keep hands, hair, cups and microphones away from the face, move slowly, and stay in the light.",
            "set up",
            rows,
        )
    ]


def _lost(measured: Measured, rows: tuple[int, ...]) -> str:
    unused = sum(measured.subject.frames[row].split == UNUSED for row in rows)
    smears = "what is learned there lands in the wrong place: smears, ghosts and doubled edges."
    if unused == 0:
        return f"{smears[0].upper()}{smears[1:]}"
    lost = "left out of training, and what they show is lost"
    return f"They are {lost}." if unused == len(rows) else f"{unused} of them are {lost}; of the others {smears}"


def _between(value: float, begin: float, end: float, least: float, most: float) -> float:
    """From `least` at `begin` to `most` at `end`, and no further to either side."""
    return least + (most - least) * float(np.clip((value - begin) / (end - begin), 0.0, 1.0))
