"""The binary form of glTF 2.0 (.glb): a JSON document and one block of numbers, in one file.

Written by hand because none of the common writers knows morph targets and skins; this is all of the format that a head
needs. Names in the document are glTF's own.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from flame_nerf.runtime.errors import UserError
from flame_nerf.runtime.files import complete_file

VERTICES, INDICES = 34962, 34963
"""What a buffer view is for, as OpenGL numbers it."""
_COMPONENTS = {np.dtype(kind): code for kind, code in (("u1", 5121), ("u2", 5123), ("u4", 5125), ("f4", 5126))}
_SHAPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
_MAGIC, _VERSION, _JSON, _BINARY = 0x46546C67, 2, 0x4E4F534A, 0x004E4942


class Glb:
    """A document that grows; `document` may be added to by hand."""

    def __init__(self, asset: dict[str, Any]) -> None:
        """
        Args:
            asset: who made it, under what terms; glTF's version is filled in.
        """
        self.document: dict[str, Any] = {"asset": {"version": "2.0"} | asset}
        self._binary = bytearray()

    def add(self, kind: str, item: dict[str, Any]) -> int:
        """Appends to one of the document's lists ("nodes", "meshes", …) and returns the item's number."""
        items = self.document.setdefault(kind, [])
        items.append(item)
        return len(items) - 1

    def view(self, data: bytes, target: int | None = None) -> int:
        """Appends bytes to the block of numbers; returns the number of their buffer view."""
        self._binary += b"\0" * (-len(self._binary) % 4)
        view = {"buffer": 0, "byteOffset": len(self._binary), "byteLength": len(data)}
        self._binary += data
        return self.add("bufferViews", view if target is None else view | {"target": target})

    def accessor(self, values: np.ndarray, target: int | None = None, bounds: bool = False) -> int:
        """Appends an array, [N] or [N, k] or [N, 4, 4] (matrices by columns), in its own precision.

        Args:
            target: `VERTICES` or `INDICES`; None for what a program reads by itself.
            bounds: note the smallest and largest, which positions and times need.
        """
        values = np.ascontiguousarray(values)
        accessor: dict[str, Any] = {
            "bufferView": self.view(values.tobytes(), target),
            "componentType": _COMPONENTS[values.dtype],
            "count": len(values),
            "type": _SHAPES[values.shape[1:]],
        }
        return self.add("accessors", accessor | (_bounds(values) if bounds else {}))

    def offsets(self, values: Float[np.ndarray, "N 3"]) -> int:
        """Appends float32 vectors most of which are zero: those that are not are listed."""
        rows = np.flatnonzero(values.any(axis=1))
        # An empty list is none.
        rows = rows if len(rows) else np.zeros(1, np.int64)
        index = rows.astype(np.uint16 if len(values) <= 1 << 16 else np.uint32)
        listed = {
            "count": len(rows),
            "indices": {"bufferView": self.view(index.tobytes()), "componentType": _COMPONENTS[index.dtype]},
            "values": {"bufferView": self.view(np.ascontiguousarray(values[rows]).tobytes())},
        }
        accessor = {"componentType": 5126, "count": len(values), "type": "VEC3", "sparse": listed}
        return self.add("accessors", accessor | _bounds(values))

    def write(self, path: Path) -> None:
        """Writes the file, which appears under its name only when it is whole.

        Raises:
            UserError: it cannot be written.
        """
        binary = bytes(self._binary) + b"\0" * (-len(self._binary) % 4)
        document = self.document | {"buffers": [{"byteLength": len(binary)}]}
        text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        length = 12 + 8 + len(text) + 8 + len(binary)
        with complete_file(path, "glTF file", UserError) as spare, spare.open("wb") as file:
            file.write(struct.pack("<III", _MAGIC, _VERSION, length))
            file.write(struct.pack("<II", len(text), _JSON) + text)
            file.write(struct.pack("<II", len(binary), _BINARY) + binary)


def _bounds(values: np.ndarray) -> dict[str, list[float]]:
    """Smallest and largest of each component, as exact as the values are."""
    table = values.reshape(len(values), -1)
    return {"min": table.min(axis=0).tolist(), "max": table.max(axis=0).tolist()}
