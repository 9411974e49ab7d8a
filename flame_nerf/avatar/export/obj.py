"""One mesh file a moment of a performance: Wavefront OBJ, or binary PLY."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from flame_nerf.film.rendering import progress_bar
from flame_nerf.runtime.errors import UserError
from flame_nerf.runtime.files import whole

MeshFormat = Literal["obj", "ply"]


def write_meshes(
    folder: Path,
    count: int,
    vertices: Callable[[int], Float[np.ndarray, "V 3"]],
    triangles: Int[np.ndarray, "F 3"],
    format: MeshFormat = "obj",
) -> list[Path]:
    """Writes meshes of one topology as 000000.obj, 000001.obj, …, each whole or not at all; says how far it is.

    Args:
        folder: made where it is missing; files of the same names are written over.
        count: how many.
        vertices: of each, metres.
        triangles: of all.

    Raises:
        UserError: they cannot be written.
    """
    encode = {"obj": obj_bytes, "ply": ply_bytes}[format]
    paths = [folder / f"{index:06d}.{format}" for index in range(count)]
    try:
        with progress_bar() as progress:
            for index in progress.track(range(count), description=f"{format.upper()} meshes"):
                with whole(paths[index], synced=False) as spare:
                    spare.write_bytes(encode(vertices(index), triangles))
    except OSError as error:
        raise UserError(f"{folder}: the meshes cannot be written ({error.strerror or error})") from error
    return paths


def obj_bytes(vertices: Float[np.ndarray, "V 3"], triangles: Int[np.ndarray, "F 3"]) -> bytes:
    """An OBJ file; its numbers are read back as the same float32."""
    text = io.StringIO()
    text.write("# metres\n")
    np.savetxt(text, np.asarray(vertices, np.float32), "v %.9g %.9g %.9g")
    np.savetxt(text, np.asarray(triangles) + 1, "f %d %d %d")
    return text.getvalue().encode("ascii")


def ply_bytes(vertices: Float[np.ndarray, "V 3"], triangles: Int[np.ndarray, "F 3"]) -> bytes:
    """A binary little-endian PLY file."""
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment metres\n"
        f"element vertex {len(vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(triangles)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    faces = np.empty(len(triangles), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, triangles
    return header.encode("ascii") + np.asarray(vertices, "<f4").tobytes() + faces.tobytes()
