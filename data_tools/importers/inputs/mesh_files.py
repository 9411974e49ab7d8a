"""Meshes in OBJ and PLY files, one a moment, all of one topology, read when asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from data_tools.importers.config import ImportingError
from flame_nerf.runtime.door import check_kind, read_bytes

_PLY_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip


LARGEST_MESH = 24 << 20
"""Bytes of one moment's mesh: two hundred thousand vertices as text, fifty times as much once they are read."""


@dataclass(frozen=True)
class Topology:
    """The triangles of a mesh file."""

    faces: Int[np.ndarray, "F 3"]
    fingerprint: str
    """Of the triangles."""
    text: bytes = b""
    """The lines of an OBJ file that they were read from: a file with the same lines need not be read again."""


def read_mesh(path: Path, known: Topology | None = None) -> tuple[Float[np.ndarray, "V 3"], Topology]:
    """A triangle mesh from an OBJ or PLY file.

    Args:
        known: triangles that it probably has, of a file read before: reading is ten times faster then.

    Returns:
        Vertices as written, and triangles (polygons are cut into fans).

    Raises:
        ImportingError: it is missing, damaged, or of another kind.
    """
    check_kind(path, ImportingError, "an OBJ or PLY file")
    data = read_bytes(path, ImportingError, "an OBJ or PLY file", largest=LARGEST_MESH)
    try:
        if data[:3] == b"ply":
            vertices, faces = _ply(data)
            topology = Topology(faces, _fingerprint(faces))
        else:
            vertices, text = _obj(data)
            same = known is not None and known.text == text
            topology = known if same else _obj_topology(text, len(vertices))
    except (ValueError, LookupError, OverflowError, TypeError, MemoryError) as error:
        raise ImportingError(f"{path}: no readable mesh ({error}). Copy it again, it may be cut short.") from error
    faces = topology.faces
    if len(vertices) == 0 or len(faces) == 0:
        raise ImportingError(f"{path} holds no mesh: {len(vertices)} vertices, {len(faces)} faces.")
    if not np.isfinite(vertices).all():
        raise ImportingError(f"{path} holds NaN or infinite vertices.")
    outside = faces[(faces < 0) | (faces >= len(vertices))]
    if len(outside):
        raise ImportingError(
            f"{path}: a face names vertex {int(outside[0])} (counted from 0), but there are {len(vertices)}. Copy it "
            "again, it may be cut short."
        )
    return vertices, topology


def _fingerprint(faces: Int[np.ndarray, "F 3"]) -> str:
    return hashlib.sha1(np.ascontiguousarray(faces, np.int64).tobytes()).hexdigest()


def _obj(data: bytes) -> tuple[np.ndarray, bytes]:
    """Vertices, and the lines of the faces."""
    lines = data.replace(b"\t", b" ").splitlines()
    rows = [line[2:] for line in lines if line.startswith(b"v ")]
    numbers = np.array(b" ".join(rows).split(), dtype=np.float64)
    if rows and len(numbers) == len(rows) * (len(numbers) // len(rows)):
        # Colours may follow the places.
        vertices = numbers.reshape(len(rows), -1)[:, :3]
    else:
        vertices = np.array([row.split()[:3] for row in rows], dtype=np.float64).reshape(-1, 3)
    return vertices, b"\n".join(line for line in lines if line.startswith(b"f "))


def _obj_topology(text: bytes, vertices: int) -> Topology:
    corners = [line.split()[1:] for line in text.splitlines()]
    if not all(len(row) == 3 for row in corners):
        corners = [[row[0], row[i], row[i + 1]] for row in corners for i in range(1, len(row) - 1)]
    first = [[corner.partition(b"/")[0] for corner in row] for row in corners]
    faces = np.array(first, dtype=np.int64).reshape(-1, 3)
    faces = np.where(faces < 0, faces + vertices, faces - 1)
    return Topology(faces, _fingerprint(faces), text)


def _ply(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    header, _, body = data.partition(b"end_header")
    # The line that `end_header` stands on ends in either way.
    body = body[2:] if body.startswith(b"\r\n") else body[1:]
    layout, elements = "", []
    for line in header.decode("ascii").splitlines():
        word = line.split()
        if word[:1] == ["format"]:
            layout = word[1]
        elif word[:1] == ["element"]:
            elements.append((word[1], int(word[2]), []))
        elif word[:1] == ["property"]:
            elements[-1][2].append(word[1:])
    if layout == "ascii":
        return _ply_text(body, elements)
    order = {"binary_little_endian": "<", "binary_big_endian": ">"}[layout]
    return _ply_binary(body, elements, order)


def _ply_text(body: bytes, elements: list) -> tuple[np.ndarray, np.ndarray]:
    lines = [line for line in body.splitlines() if line.strip()]
    vertices, faces, at = np.zeros((0, 3)), np.zeros((0, 3), np.int64), 0
    for name, count, properties in elements:
        rows = [line.split() for line in lines[at : at + count]]
        if len(rows) != count:
            raise ValueError(f"{len(rows)} of {count} {name} lines")
        at += count
        if name == "vertex":
            names = [one[-1] for one in properties]
            vertices = np.array(rows, dtype=np.float64)[:, [names.index(axis) for axis in "xyz"]]
        elif name == "face":
            polygons = [[int(corner) for corner in row[1 : 1 + int(row[0])]] for row in rows]
            faces = np.array([[p[0], p[i], p[i + 1]] for p in polygons for i in range(1, len(p) - 1)], np.int64)
    return vertices, faces


def _ply_binary(body: bytes, elements: list, order: str) -> tuple[np.ndarray, np.ndarray]:
    vertices, faces, at = np.zeros((0, 3)), np.zeros((0, 3), np.int64), 0
    for name, count, properties in elements:
        lists = [one for one in properties if one[0] == "list"]
        if not lists:
            kind = np.dtype([(one[1], order + _PLY_TYPES[one[0]]) for one in properties])
            rows = np.frombuffer(body, kind, count, at)
            at += kind.itemsize * count
            if name == "vertex":
                vertices = np.stack([rows[axis].astype(np.float64) for axis in "xyz"], axis=1)
        elif name == "face":
            fields = []
            for one in properties:
                # Triangles throughout: anything else has another length and does not fit the file.
                listed = one[0] == "list"
                fields += [(f"n{one[-1]}", order + _PLY_TYPES[one[1]])] if listed else []
                fields += [(one[-1], order + _PLY_TYPES[one[2 if listed else 0]], *([(3,)] if listed else []))]
            kind = np.dtype(fields)
            rows = np.frombuffer(body, kind, count, at)
            key = lists[0][-1]
            if (rows[f"n{key}"] != 3).any():
                raise ValueError("faces that are no triangles; triangulate the meshes")
            faces, at = rows[key].astype(np.int64), at + kind.itemsize * count
        else:
            raise ValueError(f"lists in element {name}")
    return vertices, faces


class MeshFiles:
    """One mesh file a moment."""

    def __init__(self, paths: Sequence[Path], scale: float = 1.0, workers: int = 1) -> None:
        """
        Args:
            scale: metres in the files' unit.

        Raises:
            ImportingError: the first file cannot be read.
        """
        self._paths, self._scale, self._workers = tuple(paths), scale, workers
        first, self._topology = read_mesh(self._paths[0])
        self.faces = self._topology.faces.astype(np.int32)
        self._count = len(first)

    def __len__(self) -> int:
        return len(self._paths)

    def vertices(self, rows: Sequence[int]) -> Float[np.ndarray, "B V 3"]:
        """Meshes of some moments.

        Raises:
            ImportingError: a file is missing, damaged, or of another topology than the first.
        """
        if self._workers == 1 or len(rows) == 1:
            return np.stack([self._one(row) for row in rows]).astype(np.float32)
        with ThreadPoolExecutor(self._workers) as pool:
            return np.stack(list(pool.map(self._one, rows))).astype(np.float32)

    def canonical(self, path: Path) -> Float[np.ndarray, "V 3"] | None:
        """The mesh of a further file, None if it is not of the same topology."""
        vertices, topology = read_mesh(path, self._topology)
        return vertices * self._scale if self._fits(vertices, topology) else None

    def _fits(self, vertices: Float[np.ndarray, "V 3"], topology: Topology) -> bool:
        return topology.fingerprint == self._topology.fingerprint and len(vertices) == self._count

    def _one(self, row: int) -> Float[np.ndarray, "V 3"]:
        path = self._paths[row]
        vertices, topology = read_mesh(path, self._topology)
        if not self._fits(vertices, topology):
            raise ImportingError(
                f"{path} has {len(vertices)} vertices and {len(topology.faces)} faces, {self._paths[0].name} has "
                f"{self._count} and {len(self.faces)}, or they are wired differently: mixed topologies. All frames "
                "need one mesh topology; make the simplified or the full meshes of all frames."
            )
        return vertices * self._scale
