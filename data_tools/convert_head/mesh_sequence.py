"""A folder of meshes of one topology as a head that is replayed: no model, so no new expressions, but it trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from data_tools.importers.config import ImportingError
from data_tools.importers.inputs.mesh_files import MeshFiles
from data_tools.runs.frame_names import natural
from flame_nerf.heads import HeadModelError
from flame_nerf.subject import HeadTrack

ENDINGS = (".obj", ".ply")


def read_mesh_sequence(
    folder: Path | str, scale: float = 1.0
) -> tuple[Float[np.ndarray, "T V 3"], Int[np.ndarray, "F 3"]]:
    """Meshes of a folder in the order of their names, numbers in names counted as numbers.

    Args:
        folder: of .obj or .ply files, one a moment.
        scale: metres in the files' unit.

    Returns:
        Vertices in the files' own frame, metres, float32, and triangles, int32.

    Raises:
        HeadModelError: the folder holds no meshes or both kinds, or a file is damaged or of another topology than the
            first; it is named.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise HeadModelError(f"{folder} is no folder of meshes: give one with .obj or .ply files")
    paths = [path for path in folder.iterdir() if path.suffix.lower() in ENDINGS]
    paths.sort(key=lambda path: natural(path.stem.lower()))
    if not paths:
        raise HeadModelError(f"{folder} holds no .obj or .ply files: check the path")
    kinds = {path.suffix.lower() for path in paths}
    if len(kinds) > 1:
        raise HeadModelError(f"{folder} holds both .obj and .ply files: leave only those of one sequence in it")
    try:
        files = MeshFiles(paths, scale)
        return files.vertices(range(len(paths))), files.faces
    except ImportingError as error:
        raise HeadModelError(str(error)) from error


def track_of_meshes(vertices: Float[np.ndarray, "T V 3"], faces: Int[np.ndarray, "F 3"]) -> HeadTrack:
    """A track that shows the meshes as they are: the first is the rest head, nothing is known but the surface."""
    frames = len(vertices)
    return HeadTrack(
        faces=faces.astype(np.int32),
        canonical_vertices=vertices[0].astype(np.float32),
        vertices=vertices.astype(np.float32),
        expression=np.zeros((frames, 0), dtype=np.float32),
        expression_names=(),
        pose=np.zeros((frames, 0, 3), dtype=np.float32),
        joint_names=(),
        identity=np.zeros(0, dtype=np.float32),
        region=np.zeros(len(faces), dtype=np.int8),
        region_names=("skin",),
    )
