"""A head as glTF 2.0: skin on joints, morph targets by name, a texture, and what the head did as an animation.

In the file: metres, y up, z out of the face, as glTF has it and the head frame is. Above the joints stands one node,
`head_frame`, which holds the skull where the head frame has it; an animation moves it as the head moved.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy.spatial.transform import Rotation

from flame_nerf.avatar.export.atlas import Atlas
from flame_nerf.avatar.export.glb import INDICES, VERTICES, Glb
from flame_nerf.avatar.export.skeleton import Performance, Skeleton
from flame_nerf.geometry import vertex_normals

_CLAMP, _LINEAR, _MIPMAPS = 33071, 9729, 9987
_UNLIT = "KHR_materials_unlit"


@dataclass(frozen=True, eq=False)
class Take:
    """A performance with the way of `head_frame` in it."""

    performance: Performance
    head_frame: Float[np.ndarray, "T 4 4"]
    name: str = "performance"


def write_gltf(
    path: Path,
    skeleton: Skeleton,
    atlas: Atlas,
    texture: UInt8[np.ndarray, "size size 3"],
    head_frame: Float[np.ndarray, "4 4"],
    take: Take | None = None,
    *,
    lit: bool = False,
    asset: dict[str, Any] | None = None,
) -> None:
    """Writes a head as one .glb, whole or not at all.

    Args:
        atlas: of the skeleton's vertices and triangles.
        texture: its colours.
        head_frame: places the joints at rest so that the skull is where the head frame has it.
        take: becomes an animation; None: there is none.
        lit: the scene's lights fall on the head; otherwise its colours are shown as they are, which have the light of
            the video in them.
        asset: more about the file, such as "copyright".

    Raises:
        UserError: it cannot be written.
    """
    from flame_nerf import __version__

    glb = Glb({"generator": f"flame-nerf {__version__}"} | (asset or {}))
    joints = _add_joints(glb, skeleton)
    roots = [node for node, parent in zip(joints, skeleton.parents, strict=True) if parent < 0]
    frame = glb.add("nodes", _without_defaults({"name": "head_frame", "children": roots} | _placed(head_frame)))
    mesh = _add_mesh(glb, skeleton, atlas, _add_material(glb, texture, lit))
    bind = np.tile(np.eye(4, dtype=np.float32), (len(joints), 1, 1))
    bind[:, 3, :3] = -skeleton.joints
    skin = glb.add("skins", {"joints": joints, "skeleton": frame, "inverseBindMatrices": glb.accessor(bind)})
    skinned = glb.add("nodes", {"name": "head", "mesh": mesh, "skin": skin})
    glb.add("scenes", {"nodes": [frame, skinned]})
    glb.document["scene"] = 0
    if take is not None:
        _add_animation(glb, skeleton, take, joints, frame, skinned)
    glb.write(path)


def _add_joints(glb: Glb, skeleton: Skeleton) -> list[int]:
    """One node a joint, turned as the person carries it; returns their numbers."""
    first, nodes = len(glb.document.get("nodes", [])), []
    for row, (name, parent) in enumerate(zip(skeleton.joint_names, skeleton.parents, strict=True)):
        place = skeleton.joints[row] - (skeleton.joints[parent] if parent >= 0 else 0.0)
        node: dict[str, Any] = {"name": name, "translation": place.tolist()}
        node["rotation"] = _quaternions(skeleton.resting[row][None])[0].tolist()
        children = [first + child for child, above in enumerate(skeleton.parents) if above == row]
        if children:
            node["children"] = children
        nodes.append(glb.add("nodes", _without_defaults(node)))
    return nodes


def _add_mesh(glb: Glb, skeleton: Skeleton, atlas: Atlas, material: int) -> int:
    source = atlas.source
    normals = vertex_normals(skeleton.vertices.astype(np.float64), skeleton.triangles)[source]
    # A vertex that no triangle uses has none; glTF wants one of every vertex.
    normals[np.linalg.norm(normals, axis=1) < 0.5] = (0.0, 0.0, 1.0)
    joints = skeleton.carried_by[source].astype(np.uint8 if len(skeleton.joints) <= 256 else np.uint16)
    attributes = {
        "POSITION": glb.accessor(skeleton.vertices[source], VERTICES, bounds=True),
        "NORMAL": glb.accessor(normals.astype(np.float32), VERTICES),
        "TEXCOORD_0": glb.accessor(atlas.uv, VERTICES),
        "JOINTS_0": glb.accessor(joints, VERTICES),
        "WEIGHTS_0": glb.accessor(skeleton.shares[source], VERTICES),
    }
    index = atlas.triangles.reshape(-1).astype(np.uint16 if len(source) < 1 << 16 else np.uint32)
    primitive: dict[str, Any] = {
        "attributes": attributes,
        "indices": glb.accessor(index, INDICES),
        "material": material,
    }
    mesh: dict[str, Any] = {"name": "head", "primitives": [primitive]}
    if skeleton.names:
        primitive["targets"] = [{"POSITION": glb.offsets(offset[source])} for offset in skeleton.offsets]
        # Where every program looks for the names.
        mesh |= {"weights": [0.0] * len(skeleton.names), "extras": {"targetNames": list(skeleton.names)}}
    return glb.add("meshes", mesh)


def _add_material(glb: Glb, texture: UInt8[np.ndarray, "size size 3"], lit: bool) -> int:
    png = io.BytesIO()
    Image.fromarray(texture).save(png, format="PNG", optimize=True)
    image = glb.add("images", {"name": "skin", "mimeType": "image/png", "bufferView": glb.view(png.getvalue())})
    sampler = glb.add("samplers", {"magFilter": _LINEAR, "minFilter": _MIPMAPS, "wrapS": _CLAMP, "wrapT": _CLAMP})
    colour = {"index": glb.add("textures", {"source": image, "sampler": sampler})}
    surface = {"baseColorTexture": colour, "metallicFactor": 0.0, "roughnessFactor": 0.9}
    material: dict[str, Any] = {"name": "skin", "pbrMetallicRoughness": surface, "doubleSided": True}
    if not lit:
        material["extensions"] = {_UNLIT: {}}
        glb.document["extensionsUsed"] = [_UNLIT]
    return glb.add("materials", material)


def _add_animation(glb: Glb, skeleton: Skeleton, take: Take, joints: list[int], frame: int, skinned: int) -> None:
    """Channels of what moves; joints that stand still keep the node's own turn."""
    performance, channels, samplers = take.performance, [], []
    times = (np.arange(len(performance.weights)) / performance.fps).astype(np.float32)
    clock = glb.accessor(times, bounds=True)

    def channel(node: int, path: str, values: np.ndarray) -> None:
        output = glb.accessor(values.astype(np.float32))
        samplers.append({"input": clock, "output": output, "interpolation": "LINEAR"})
        channels.append({"sampler": len(samplers) - 1, "target": {"node": node, "path": path}})

    if skeleton.names:
        channel(skinned, "weights", performance.weights.reshape(-1))
    for row, node in enumerate(joints):
        if np.abs(performance.turns[:, row] - skeleton.resting[row]).max() > 1e-6:
            channel(node, "rotation", _quaternions(performance.turns[:, row]))
    channel(frame, "translation", take.head_frame[:, :3, 3])
    channel(frame, "rotation", _continuous(Rotation.from_matrix(take.head_frame[:, :3, :3]).as_quat()))
    glb.add("animations", {"name": take.name, "channels": channels, "samplers": samplers})


def _quaternions(turns: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "T 4"]:
    """x y z w of axis-angles, without jumps between moments."""
    return _continuous(Rotation.from_rotvec(turns).as_quat())


def _continuous(quaternions: Float[np.ndarray, "T 4"]) -> Float[np.ndarray, "T 4"]:
    """The same rotations, each in the one of its two signs that is nearer to the moment before."""
    flips = (quaternions[1:] * quaternions[:-1]).sum(axis=1) < 0
    return quaternions * np.concatenate([[1.0], np.where(np.cumsum(flips) % 2, -1.0, 1.0)])[:, None]


def _placed(matrix: Float[np.ndarray, "4 4"]) -> dict[str, list[float]]:
    rotation = Rotation.from_matrix(matrix[:3, :3]).as_quat()
    return {"translation": matrix[:3, 3].tolist(), "rotation": rotation.tolist()}


def _without_defaults(node: dict[str, Any]) -> dict[str, Any]:
    """A node without what glTF takes for granted."""
    defaults = {"translation": [0.0, 0.0, 0.0], "rotation": [0.0, 0.0, 0.0, 1.0]}
    return {name: value for name, value in node.items() if value != defaults.get(name)}
