"""Names for the faces of a human head: from the user's vertex masks, from its proportions, or from landmarks on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from data_tools.open_head.regions import REGION_NAMES, split_skin
from flame_nerf.data.face_boxes import MEDIAPIPE_FEATURES
from flame_nerf.heads import HeadModel, LandmarkEmbedding

EYE_JOINTS = ("left_eye", "right_eye")
_GROUPS = (
    ("neck", "neck"), ("boundary", "neck"), ("scalp", "scalp"), ("ears", "ears"), ("left_ear", "ears"),
    ("right_ear", "ears"), ("skin", "skin"), ("eyelids", "eyelids"), ("lips", "lips"), ("mouth", "mouth"),
    ("sockets", "sockets"), ("tongue", "tongue"), ("teeth", "teeth"), ("upper_teeth_and_gums", "teeth"),
    ("lower_teeth_and_gums", "teeth"), ("upper_teeth", "teeth"), ("lower_teeth", "teeth"), ("eyes", "eyes"),
    ("left_eyeball", "eyes"), ("right_eyeball", "eyes"),
)  # fmt: skip
"""Vertex groups of FLAME, GNM and this project, and the region of each; later ones win."""
_LID_GROUPS = ("left_eye_region", "right_eye_region")
_LID_REACH = 1.3
"""Lids end about this many eyeball radii from the eyeball's centre: FLAME's masks around the eyes reach farther."""
_EYE_LEVEL_FORWARD = 0.0713
"""Where the eyes lie in front of the origin in the head that the hairline was drawn for, metres."""
_EYE_DISTANCE = 0.0593
"""Distance between that head's eyes."""
_MOUTH = ((-0.45, 0.45), (-1.38, -0.88))
"""Lips between these, across and up from the middle between the eyes, in distances between the eyes."""
_MOUTH_DEPTH = 0.012
"""Faces within the lips' outline that lie deeper behind it than this are the inside of the mouth, metres."""


def has_eyes(head: HeadModel) -> bool:
    """Whether a head has the joints that tell its scale and where its face is."""
    return all(name in head.joint_names for name in EYE_JOINTS)


def regions_from_groups(head: HeadModel, groups: Mapping[str, Int[np.ndarray, " N"]]) -> HeadModel:
    """Regions from named vertex groups; what no group covers is skin.

    Names that are not known become regions of their own, so that an animal's may be called `muzzle` or `horns`.
    """
    known = {name for name, _ in _GROUPS} | {*_LID_GROUPS, "face", "forehead", "nose", "eye_region"}
    own = () if any(name in known for name in groups) else tuple(sorted(groups))
    names = (*REGION_NAMES, *own)
    region = np.full(len(head.faces), REGION_NAMES.index("skin"))
    faces = head.faces.numpy()
    for group, target in (*((name, name) for name in own), *_GROUPS):
        if group in groups:
            region[_covered(faces, groups[group], len(head.template))] = names.index(target)
    lids = [groups[name] for name in _LID_GROUPS if name in groups]
    if lids and has_eyes(head):
        around = _covered(faces, np.concatenate(lids), len(head.template)) & _near_eyeballs(head)
        region[around & (region == REGION_NAMES.index("skin"))] = REGION_NAMES.index("eyelids")
    return replace(head, region=torch.from_numpy(region.astype(np.int64)), region_names=names)


def _covered(faces: Int[np.ndarray, "F 3"], rows: Int[np.ndarray, " N"], vertices: int) -> Bool[np.ndarray, " F"]:
    inside = np.zeros(vertices, dtype=bool)
    inside[rows] = True
    return inside[faces].sum(1) >= 2


def regions_from_shape(head: HeadModel) -> HeadModel:
    """Regions of a human head by skinning and proportions, measured from its eyes; roughly right.

    Eyes are what the eye joints carry, the neck what neither head nor jaw carry; lips, lids, ears and scalp lie where
    they do on most heads. Heads without eye joints become skin and neck.
    """
    faces, template = head.faces.numpy(), head.template.numpy()
    centre = template[faces].mean(1)
    weights = head.skinning_weights.numpy()[faces].mean(1)
    above = [head.head_joint]
    above += [row for row, parent in enumerate(head.parents) if parent in above]
    on_skull = weights[:, above].sum(1)
    region = np.full(len(faces), REGION_NAMES.index("skin"))
    if not has_eyes(head):
        region[on_skull < 0.5] = REGION_NAMES.index("neck")
        return replace(head, region=torch.from_numpy(region), region_names=REGION_NAMES)
    rows = [head.joint_names.index(name) for name in EYE_JOINTS]
    eyes = head.joint_template.numpy()[rows]
    size = np.linalg.norm(eyes[0] - eyes[1])
    middle = eyes.mean(0)
    at = (centre - middle) / size
    # In the frame and size of the head that the hairline was drawn for.
    drawn = at * _EYE_DISTANCE + [0.0, 0.0, _EYE_LEVEL_FORWARD]
    region = split_skin(region, drawn, on_skull)
    skin = region != REGION_NAMES.index("neck")
    ears = (np.abs(at[:, 0]) > 1.13) & (np.abs(at[:, 1] + 0.25) < 0.85) & (drawn[:, 2] < 0.03)
    region[skin & ears] = REGION_NAMES.index("ears")
    (left, right), (low, high) = _MOUTH
    across = (at[:, 0] - (left + right) / 2) / ((right - left) / 2)
    along = (at[:, 1] - (low + high) / 2) / ((high - low) / 2)
    region[skin & (across**2 + along**2 < 1) & (at[:, 2] > -0.3)] = REGION_NAMES.index("lips")
    region[skin & _near_eyeballs(head)] = REGION_NAMES.index("eyelids")
    region[weights[:, rows].max(1) > 0.5] = REGION_NAMES.index("eyes")
    return replace(head, region=torch.from_numpy(region.astype(np.int64)), region_names=REGION_NAMES)


def _near_eyeballs(head: HeadModel) -> Bool[np.ndarray, " F"]:
    """Faces around the eyeballs, in front of their centres."""
    centre = head.template.numpy()[head.faces.numpy()].mean(1)
    result = np.zeros(len(centre), dtype=bool)
    for name in EYE_JOINTS:
        joint = head.joint_names.index(name)
        ball = head.template[head.skinning_weights[:, joint] > 0.5].numpy()
        if len(ball) == 0:
            continue
        place = ball.mean(0)
        reach = _LID_REACH * np.linalg.norm(ball - place, axis=1).max()
        away = centre - place
        result |= (np.linalg.norm(away, axis=1) < reach) & (away[:, 2] > -0.2 * reach)
    return result


def regions_from_landmarks(head: HeadModel, landmarks: LandmarkEmbedding) -> HeadModel:
    """The head with lips and inside of the mouth told apart by where its own lip landmarks lie.

    The outer ring of lip points is a closed curve on the template: faces within it, seen from ahead, are lips; those
    far behind it the inside of the mouth. Without the ring the head stays as it is.
    """
    # Listed from corner to corner below the mouth, then likewise above it.
    lower, upper = MEDIAPIPE_FEATURES["mouth"][:11], MEDIAPIPE_FEATURES["mouth"][11:]
    ring = (*lower, *reversed(upper))
    row_of = {int(number): row for row, number in enumerate(landmarks.index)}
    if not all(number in row_of for number in ring):
        return head
    chosen = torch.tensor([row_of[number] for number in ring])
    corners = head.template[head.faces[landmarks.face[chosen]]]
    curve = (corners * landmarks.barycentric[chosen][:, :, None]).sum(1).numpy().astype(np.float64)
    centre = head.template.numpy()[head.faces.numpy()].mean(1).astype(np.float64)
    within = _inside(centre[:, :2], curve[:, :2])
    # How far ahead the curve is at each height, near enough: lips bulge little.
    depth = curve[:, 2].mean() - centre[:, 2]
    region = head.region.numpy().copy()
    free = np.isin(region, [REGION_NAMES.index(name) for name in ("skin", "lips", "mouth")])
    region[free & (region == REGION_NAMES.index("lips"))] = REGION_NAMES.index("skin")
    region[free & within & (depth < _MOUTH_DEPTH + np.ptp(curve[:, 2]))] = REGION_NAMES.index("lips")
    region[free & within & (depth >= _MOUTH_DEPTH + np.ptp(curve[:, 2]))] = REGION_NAMES.index("mouth")
    # The back of the head lies within the curve too.
    region[(region == REGION_NAMES.index("mouth")) & (depth > 0.08)] = REGION_NAMES.index("skin")
    return replace(head, region=torch.from_numpy(region))


def _inside(points: Float[np.ndarray, "N 2"], ring: Float[np.ndarray, "K 2"]) -> Bool[np.ndarray, " N"]:
    """Which points lie in a polygon: an upward ray crosses its edges an odd number of times."""
    start, end = ring, np.roll(ring, -1, axis=0)
    x, y = points[:, :1], points[:, 1:]
    spans = (start[:, 0] > x) != (end[:, 0] > x)
    run = np.where(end[:, 0] == start[:, 0], 1e-12, end[:, 0] - start[:, 0])
    crossing = start[:, 1] + (x - start[:, 0]) * (end[:, 1] - start[:, 1]) / run
    return (spans & (crossing > y)).sum(1) % 2 == 1
