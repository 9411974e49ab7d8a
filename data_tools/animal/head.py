"""The made-up animal as a head model: what to imitate for an animal of one's own."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

from data_tools.animal.surface import EXPRESSIONS, PROPORTIONS, Shape, Skin, jaw_share, skin
from flame_nerf.heads import HeadModel, LandmarkEmbedding

JOINTS = {"root": -1, "neck": 0, "head": 1, "jaw": 2, "left_eye": 2, "right_eye": 2}
"""Each joint's parent."""
REGIONS = ("fur", "muzzle", "nose", "ears", "eyes", "eyelids", "mouth", "neck")
HIDDEN_IN_FUR = 0.6
"""Trust in points that sit on nothing sharp: cheeks and crown are told less well than a nose."""


def animal_head() -> HeadModel:
    """The mean animal with its proportions, expressions, joints, regions and named keypoints."""
    rest = skin(Shape())
    changed = {name: skin(Shape(proportions={name: 1.0})) for name in PROPORTIONS}
    moved = {name: skin(Shape(expressions={name: 1.0})) for name in EXPRESSIONS}

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32)

    joints = np.stack([rest.joints[name] for name in JOINTS])
    return HeadModel(
        name="made-up animal",
        template=tensor(rest.vertices),
        faces=torch.as_tensor(rest.faces.copy()),
        shapedirs=tensor(np.stack([changed[name].vertices - rest.vertices for name in PROPORTIONS], axis=-1)),
        exprdirs=tensor(np.stack([moved[name].vertices - rest.vertices for name in EXPRESSIONS], axis=-1)),
        expression_names=EXPRESSIONS,
        joint_template=tensor(joints),
        joint_shapedirs=tensor(
            np.stack([np.stack(list(changed[name].joints.values())) - joints for name in PROPORTIONS], axis=-1)
        ),
        joint_names=tuple(JOINTS),
        parents=tuple(JOINTS.values()),
        skinning_weights=tensor(_weights(rest)),
        posedirs=None,
        region=torch.as_tensor(_regions(rest)),
        region_names=REGIONS,
        landmarks=_keypoints(rest),
        licence="Apache-2.0",
        provenance="data_tools/animal, made from formulas",
    )


def _weights(rest: Skin) -> Float[np.ndarray, "V J"]:
    part, names = np.array(rest.part), list(JOINTS)
    weights = np.zeros((len(part), len(names)))
    # Neck and head meet where the skull begins, not at a height: the throat hangs lower than the nape.
    along = rest.along
    neck = np.clip((along - 0.04) / 0.12, 0, 1)
    head = np.clip((along - 0.17) / 0.13, 0, 1)
    body = part == "body"
    weights[:, names.index("head")] = 1.0
    weights[body, :3] = np.stack([1 - neck, neck * (1 - head), neck * head], axis=1)[body]
    jaw = part == "jaw"
    weights[jaw, names.index("jaw")] = jaw_share(rest.vertices[jaw])
    weights[jaw, names.index("head")] -= weights[jaw, names.index("jaw")]
    for eye in ("left_eye", "right_eye"):
        weights[part == eye] = np.eye(len(names))[names.index(eye)]
    return weights


def _regions(rest: Skin) -> Int[np.ndarray, " F"]:
    corner = rest.faces
    part = np.array(rest.part)[corner[:, 0]]
    above, along = rest.above[corner].mean(axis=1), rest.along[corner].mean(axis=1)
    centre = rest.vertices[corner].mean(axis=1)
    region = np.full(len(corner), REGIONS.index("fur"))
    for name, where in {
        "ears": np.char.endswith(part, "_ear"),
        "eyes": np.char.endswith(part, "_eye"),
        "eyelids": np.char.endswith(part, "_lid"),
        "neck": (part == "body") & (along < 0.2),
        "muzzle": (part == "jaw") | ((part == "body") & (centre[:, 2] > 0.07)),
        "nose": (part == "body") & (centre[:, 2] > 0.155) & (above > -0.5),
        "mouth": ((part == "jaw") & (above > 0.35)) | ((part == "body") & (centre[:, 2] > 0.05) & (above < -0.75)),
    }.items():
        region[where] = REGIONS.index(name)
    return region


def _keypoints(rest: Skin) -> LandmarkEmbedding:
    """Each named vertex as a point of a triangle that has it."""
    names = tuple(rest.keypoints)
    vertex = np.array([rest.keypoints[name] for name in names])
    face = np.array([np.flatnonzero((rest.faces == v).any(axis=1))[0] for v in vertex])
    blurred = np.array([name.endswith(("cheek", "crown", "whiskers", "jaw")) for name in names])
    return LandmarkEmbedding(
        index=torch.arange(len(names)),
        face=torch.as_tensor(face),
        barycentric=torch.as_tensor(rest.faces[face] == vertex[:, None], dtype=torch.float32),
        weight=torch.where(torch.as_tensor(blurred), HIDDEN_IN_FUR, 1.0),
        names=names,
    )
