"""ARKit's names of what a face does, which the open head, phones and game engines share."""

from __future__ import annotations

import re


def _sided(*stems: str) -> tuple[str, ...]:
    return tuple(f"{stem}{side}" for stem in stems for side in ("Left", "Right"))


_EYE = ("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide")
ARKIT_NAMES: tuple[str, ...] = (
    *(f"{stem}Left" for stem in _EYE),
    *(f"{stem}Right" for stem in _EYE),
    "jawForward",
    "jawRight",
    "jawLeft",
    "jawOpen",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthRight",
    "mouthLeft",
    *_sided("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch"),
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    *_sided("mouthPress", "mouthLowerDown", "mouthUpperUp", "browDown"),
    "browInnerUp",
    *_sided("browOuterUp"),
    "cheekPuff",
    *_sided("cheekSquint", "noseSneer"),
    "tongueOut",
)
"""All 52, in the order in which Live Link Face writes its columns."""

BLINKS = ("eyeBlinkLeft", "eyeBlinkRight")


def plain(name: str) -> str:
    """A name without case, spaces and underscores, its side written out: what two spellings of one name share."""
    name = re.sub(
        r"[_.\s-]([LR])$", lambda side: {"L": "Left", "R": "Right"}[side[1].upper()], name.strip(), flags=re.IGNORECASE
    )
    return re.sub(r"[\s_-]", "", name).lower()


_BY_PLAIN = {plain(name): name for name in ARKIT_NAMES}


def arkit_name(name: str) -> str | None:
    """ARKit's own spelling of a name, as `jawOpen` of `JawOpen` or `eyeBlinkLeft` of `eyeBlink_L`; else None."""
    return _BY_PLAIN.get(plain(name))
