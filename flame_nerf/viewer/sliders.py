"""Sliders of a head, by folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

PARTS = {
    "Jaw": ("jaw",),
    "Mouth": ("mouth",),
    "Eyes": ("eye",),
    "Brows": ("brow",),
    "Cheeks, nose, tongue": ("cheek", "nose", "tongue"),
    "Ears": ("ear",),
}
"""Folder name to the beginnings of the ARKit expression names in it."""
OTHER_PART = "Expressions"
"""Folder of expressions that are not named after a part of the face."""
COMPONENTS_PART = "Components"
"""Folder of statistical components where there are other expressions too."""
COMPONENT = re.compile(r"\d$")
"""A name that ends in a number is that of a statistical component."""
NAMED_RANGE = (0.0, 1.0)
"""A named expression goes from neutral to full."""
COMPONENT_RANGE = (-3.0, 3.0)
"""A statistical component is in standard deviations."""

JAW_ANGLE, GAZE_LEFT, GAZE_UP = "jaw angle", "gaze left", "gaze up"
"""Sliders that turn joints, in degrees."""
ANGLE_RANGE_DEG = {JAW_ANGLE: (0.0, 30.0), GAZE_LEFT: (-30.0, 30.0), GAZE_UP: (-30.0, 30.0)}


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
        angles["Eyes"] = (GAZE_LEFT, GAZE_UP)
    groups, left = [], list(expression_names)
    for label, beginnings in PARTS.items():
        members = tuple(name for name in left if name.startswith(beginnings))
        left = [name for name in left if name not in members]
        if members or label in angles:
            groups.append(SliderGroup(label, members, NAMED_RANGE, angles.get(label, ())))
    components = tuple(name for name in left if COMPONENT.search(name))
    named = tuple(name for name in left if name not in components)
    if named:
        groups.append(SliderGroup(OTHER_PART, named, NAMED_RANGE, ()))
    if components:
        groups.append(SliderGroup(COMPONENTS_PART if named else OTHER_PART, components, COMPONENT_RANGE, ()))
    return groups
