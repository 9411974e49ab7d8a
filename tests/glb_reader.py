"""A reader of glTF of its own: the file's numbers, and where its skin is at a moment of its animation."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation, Slerp

TYPES = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
SHAPES = {"SCALAR": (), "VEC2": (2,), "VEC3": (3,), "VEC4": (4,), "MAT4": (4, 4)}


class Head:
    """The one skinned mesh of a .glb."""

    def __init__(self, path: Path):
        content = path.read_bytes()
        magic, version, length = struct.unpack_from("<4sII", content)
        assert (magic, version, length) == (b"glTF", 2, len(content))
        size, kind = struct.unpack_from("<I4s", content, 12)
        assert kind == b"JSON"
        self.json = json.loads(content[20 : 20 + size])
        block, kind = struct.unpack_from("<I4s", content, 20 + size)
        assert kind == b"BIN\0" and 28 + size + block == length
        self.binary = content[28 + size :]
        (self.mesh,), (self.skin,) = self.json["meshes"], self.json["skins"]
        (self.primitive,) = self.mesh["primitives"]
        self.names = self.mesh.get("extras", {}).get("targetNames", [])
        self.positions = self._attribute("POSITION")
        self.triangles = self.array(self.primitive["indices"]).reshape(-1, 3)
        self.targets = np.array([self.array(target["POSITION"]) for target in self.primitive.get("targets", [])])
        self.uv = self._attribute("TEXCOORD_0")
        self.node_of = {node["name"]: row for row, node in enumerate(self.json["nodes"])}

    def _attribute(self, name: str) -> np.ndarray:
        return self.array(self.primitive["attributes"][name])

    def _view(self, number: int, kind: int, count: int, shape: tuple[int, ...]) -> np.ndarray:
        view = self.json["bufferViews"][number]
        values = np.frombuffer(self.binary, TYPES[kind], count * int(np.prod(shape)), view["byteOffset"])
        assert values.nbytes == view["byteLength"]
        return values.reshape(count, *shape)

    def array(self, number: int) -> np.ndarray:
        accessor = self.json["accessors"][number]
        shape, count, kind = SHAPES[accessor["type"]], accessor["count"], accessor["componentType"]
        if "bufferView" in accessor:
            return self._view(accessor["bufferView"], kind, count, shape)
        sparse, values = accessor["sparse"], np.zeros((count, *shape), TYPES[kind])
        rows = self._view(sparse["indices"]["bufferView"], sparse["indices"]["componentType"], sparse["count"], ())
        values[rows] = self._view(sparse["values"]["bufferView"], kind, sparse["count"], shape)
        return values

    @property
    def texture(self) -> np.ndarray:
        (image,) = self.json["images"]
        view = self.json["bufferViews"][image["bufferView"]]
        data = self.binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        return np.asarray(Image.open(io.BytesIO(data)))

    @property
    def times(self) -> np.ndarray:
        return self.array(self.json["animations"][0]["samplers"][0]["input"])

    def at(self, time: float | None = None) -> np.ndarray:
        """Skinned vertices [W, 3] at a time of the animation, or at rest."""
        weights, pose = np.array(self.mesh.get("weights", [])), {}
        if time is not None:
            for channel in self.json["animations"][0]["channels"]:
                sampler = self.json["animations"][0]["samplers"][channel["sampler"]]
                assert sampler["interpolation"] == "LINEAR"
                keys, values = self.array(sampler["input"]), self.array(sampler["output"])
                path = channel["target"]["path"]
                values = values.reshape(len(keys), -1).astype(np.float64)
                if path == "rotation" and len(keys) > 1:
                    value = Slerp(keys, Rotation.from_quat(values))(time).as_quat()
                else:
                    value = np.array([np.interp(time, keys, column) for column in values.T])
                if path == "weights":
                    weights = value
                else:
                    pose[channel["target"]["node"], path] = value
        world: dict[int, np.ndarray] = {}

        def place(number: int, above: np.ndarray) -> None:
            node, own = self.json["nodes"][number], np.eye(4)
            turn = pose.get((number, "rotation"), node.get("rotation", [0, 0, 0, 1]))
            own[:3, :3] = Rotation.from_quat(turn).as_matrix()
            own[:3, 3] = pose.get((number, "translation"), node.get("translation", [0, 0, 0]))
            world[number] = above @ own
            for child in node.get("children", []):
                place(child, world[number])

        for root in self.json["scenes"][0]["nodes"]:
            place(root, np.eye(4))
        bind = self.array(self.skin["inverseBindMatrices"]).transpose(0, 2, 1)
        joints = np.stack([world[joint] @ inverse for joint, inverse in zip(self.skin["joints"], bind, strict=True)])
        shown = self.positions.astype(np.float64)
        if len(weights):
            shown = shown + np.tensordot(weights, self.targets, 1)
        shares = self._attribute("WEIGHTS_0").astype(np.float64)
        blended = np.einsum("vk,vkij->vij", shares, joints[self._attribute("JOINTS_0")])
        return np.einsum("vij,vj->vi", blended[:, :3, :3], shown) + blended[:, :3, 3]
