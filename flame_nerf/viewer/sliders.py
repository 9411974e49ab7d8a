"""Sliders of a head: their groups, labels, ranges, and which belong to the two sides of a face."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from flame_nerf.motion.arkit import arkit_name

PARTS = {
    "Brows": ("brow",),
    "Eyes": ("eyeBlink", "eyeSquint", "eyeWide"),
    "Gaze": ("eyeLook",),
    "Mouth": ("mouth",),
    "Jaw": ("jaw",),
    "Cheeks and nose": ("cheek", "nose"),
    "Tongue": ("tongue",),
    "Ears": ("ear",),
    "More of the eyes": ("eye",),
}
"""Folder name to the beginnings of the expression names in it, ARKit's and those made like them."""
OTHER_PART = "Expressions"
"""Folder of expressions that are not named after a part of the face."""
COMPONENTS_PART = "Components"
"""Folder of statistical components where there are other expressions too."""
HEAD_PART = "Head and neck"
COMPONENT = re.compile(r"\d$")
"""A name that ends in a number is that of a statistical component."""
NAMED_RANGE = (0.0, 1.0)
"""A named expression goes from neutral to full."""
COMPONENT_RANGE = (-3.0, 3.0)
"""A statistical component is in standard deviations."""

JAW_ANGLE, GAZE_LEFT, GAZE_UP = "jaw angle", "gaze left", "gaze up"
TURNS = ("turn", "nod", "tilt")
"""About the head's y axis (positive to its left), its x axis (positive down), its z axis (positive to its right)."""
TURNED_JOINTS = ("head", "neck")
ANGLE_RANGE_DEG = {
    JAW_ANGLE: (0.0, 30.0),
    GAZE_LEFT: (-30.0, 30.0),
    GAZE_UP: (-30.0, 30.0),
    **{f"{joint} {turn}": (-45.0, 45.0) for joint in TURNED_JOINTS for turn in TURNS},
}
"""Sliders that turn joints, and their ranges in degrees."""
LONGEST_NAME = 12
"""Letters that fit beside a slider; longer names have to break into lines."""
_SIDE = re.compile(r"(Left|Right|_L|_R|\.L|\.R)$")
_OTHER_SIDE = {"Left": "Right", "Right": "Left", "_L": "_R", "_R": "_L", ".L": ".R", ".R": ".L"}
_OTHER_LOOK = {"eyeLookIn": "eyeLookOut", "eyeLookOut": "eyeLookIn"}
"""Both eyes look to one side where one of them looks in and the other out."""
_DIRECTIONS = ("jaw", "mouth")
"""What moves to the left or the right as a whole: `jawLeft` is no side of a face."""


@dataclass(frozen=True)
class SliderGroup:
    """One folder of sliders."""

    label: str
    expressions: tuple[str, ...]
    """Names of expressions, all of one range."""
    expression_range: tuple[float, float]
    angles: tuple[str, ...]
    """Names in `ANGLE_RANGE_DEG`."""


def slider_groups(expression_names: Sequence[str], joint_names: Sequence[str]) -> list[SliderGroup]:
    """A head's sliders by part of the face, in the order of `PARTS`. Empty folders are left out, no name is lost."""
    angles: dict[str, tuple[str, ...]] = {}
    if "jaw" in joint_names:
        angles["Jaw"] = (JAW_ANGLE,)
    if "left_eye" in joint_names or "right_eye" in joint_names:
        angles["Gaze"] = (GAZE_LEFT, GAZE_UP)
    groups, left = [], list(expression_names)
    for label, beginnings in PARTS.items():
        members = _sides_together([name for name in left if name.startswith(beginnings)])
        left = [name for name in left if name not in members]
        if members or label in angles:
            groups.append(SliderGroup(label, members, NAMED_RANGE, angles.get(label, ())))
    components = tuple(name for name in left if COMPONENT.search(name))
    named = tuple(name for name in left if name not in components)
    if named:
        groups.append(SliderGroup(OTHER_PART, named, NAMED_RANGE, ()))
    if components:
        groups.append(SliderGroup(COMPONENTS_PART if named else OTHER_PART, components, COMPONENT_RANGE, ()))
    turning = tuple(f"{joint} {turn}" for joint in TURNED_JOINTS if joint in joint_names for turn in TURNS)
    if turning:
        groups.append(SliderGroup(HEAD_PART, (), NAMED_RANGE, turning))
    return groups


def _sides_together(names: list[str]) -> tuple[str, ...]:
    """The same names, the two sides of an expression one after the other."""
    place = {name: index for index, name in enumerate(names)}

    def key(name: str) -> tuple[int, int]:
        side = _SIDE.search(name)
        stem = name if side is None else name[: side.start()]
        twin = place.get(name if side is None else stem + _OTHER_SIDE[side[0]], place[name])
        return min(place[name], twin), place[name]

    return tuple(sorted(names, key=key))


def label_of(name: str, group: str = "") -> str:
    """What stands beside a slider: short words, so that the label breaks into lines where it has to.

    Args:
        name: of an expression or an angle.
        group: the folder it stands in, whose own word is left out; empty: the label stands alone.
    """
    if group in (OTHER_PART, COMPONENTS_PART):
        return name if len(name) <= LONGEST_NAME else name.replace("_", " ")
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).replace("_", " ").split()
    stems = [stem.lower() for stem in PARTS.get(group, ())]
    # A folder of one part need not say it again before every slider.
    if len(words) > 1 and any(stem.startswith(words[0].lower()) for stem in stems) and len(_parts(stems)) == 1:
        words = words[1:]
    if len(words) > 1 and _SIDE.search(name) and other_side(name) is not None:
        words[-1] = words[-1][0]
    return " ".join([words[0].capitalize(), *(word if len(word) == 1 else word.lower() for word in words[1:])])


def _parts(stems: Sequence[str]) -> set[str]:
    return {next((part for part in ("eye", "brow", "mouth", "jaw") if stem.startswith(part)), stem) for stem in stems}


def other_side(name: str, names: Collection[str] | None = None) -> str | None:
    """The expression that does on the other side of the face what this one does; None where there is none.

    Args:
        name: as `eyeBlinkLeft` or `eyeBlink_L`.
        names: those that the head has; None: any.
    """
    side = _SIDE.search(name)
    if side is None or name[: side.start()] in _DIRECTIONS:
        return None
    stem = name[: side.start()]
    other = _OTHER_LOOK.get(stem, stem) + _OTHER_SIDE[side[0]]
    return other if names is None or other in names else None


def matches(query: str, name: str, group: str) -> bool:
    """Whether every word of a search is in a slider's name, label or folder, whatever the case."""
    text = f"{name} {arkit_name(name) or ''} {label_of(name)} {label_of(name, group)} {group}".lower()
    return all(word in text for word in query.lower().split())
