"""Names for the open head's faces, from MakeHuman's texture masks, the rig and a hairline."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from data_tools.open_head.source import Source

REGION_NAMES = (
    "skin", "lips", "mouth", "teeth", "tongue", "eyes", "eyelids", "sockets", "scalp", "ears", "neck"
)  # fmt: skip
_GROUP_REGION = {
    "helper-l-eye": "eyes",
    "helper-r-eye": "eyes",
    "helper-tongue": "tongue",
    "helper-upper-teeth": "teeth",
    "helper-lower-teeth": "teeth",
}
# Later entries win: the lids' mask reaches into the sockets, the lips' into the mouth.
_MASK_REGION = (
    ("ears", "ears"),
    ("eyelids", "eyelids"),
    ("lips", "lips"),
    ("socket-l", "sockets"),
    ("socket-r", "sockets"),
    ("inside-mouth", "mouth"),
)
# The hairline on the mean head seen from the side, (z, y) in metres from front to back in the head frame, origin level
# with the eyes: forehead, temple, in front of the ear, behind the ear, nape.
_HAIRLINE = ((0.2, 0.072), (0.085, 0.072), (0.06, 0.035), (0.035, 0.015), (0.0, 0.005), (-0.03, -0.03), (-0.2, -0.085))


def quad_regions(group: str, source: Source) -> Int[np.ndarray, " Q"]:
    """Region of each quad of a mesh group that the texture masks or the group itself decide; skin elsewhere."""
    uv = source.uv[group]
    region = np.full(len(uv), REGION_NAMES.index(_GROUP_REGION.get(group, "skin")))
    if group != "body":
        return region
    for mask_name, region_name in _MASK_REGION:
        mask = source.uv_masks[mask_name]
        column = np.clip((uv[:, 0] * mask.shape[1]).astype(int), 0, mask.shape[1] - 1)
        row = np.clip(((1 - uv[:, 1]) * mask.shape[0]).astype(int), 0, mask.shape[0] - 1)
        region[mask[row, column]] = REGION_NAMES.index(region_name)
    return region


def split_skin(
    region: Int[np.ndarray, " F"], centres: Float[np.ndarray, "F 3"], on_skull: Float[np.ndarray, " F"]
) -> Int[np.ndarray, " F"]:
    """Divides what is still skin into scalp, neck and face.

    Args:
        centres: the faces' centres on the mean head, head frame.
        on_skull: skinning weight of head and jaw on each face.
    """
    line = np.array(_HAIRLINE)[::-1]
    skin = region == REGION_NAMES.index("skin")
    above = centres[:, 1] > np.interp(centres[:, 2], line[:, 0], line[:, 1])
    region = region.copy()
    region[skin & (on_skull < 0.5)] = REGION_NAMES.index("neck")
    region[skin & above & (on_skull >= 0.5)] = REGION_NAMES.index("scalp")
    return region
