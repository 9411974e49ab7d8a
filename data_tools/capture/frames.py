"""A frame's picture, and where the head's vertices are seen in it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8

from data_tools.runs.pictures import load_picture
from flame_nerf.data.face_boxes import project
from flame_nerf.subject import HeadTrack, Subject


def skull_vertices(track: HeadTrack) -> Int[np.ndarray, " K"]:
    """Vertices of the head without its neck; all of them where there is nothing else."""
    skull = np.unique(track.faces[~track.region_faces("neck")])
    return skull if len(skull) else np.arange(len(track.canonical_vertices))


def seen_in_frame(
    subject: Subject, row: int, vertices: Int[np.ndarray, " K"] | slice = slice(None)
) -> tuple[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "K 2"]] | None:
    """A frame's picture as it is stored, and the pixels at which it shows posed vertices; None if it cannot be read.

    Args:
        row: of the subject's frames.
        vertices: which are asked for.

    Returns:
        RGB picture, and x right, y down of each vertex, NaN behind the camera.
    """
    frame = subject.frames[row]
    try:
        picture = load_picture(frame.file_path)
    except OSError:
        return None
    size = np.array([picture.shape[1] / subject.width, picture.shape[0] / subject.height])
    posed = subject.track.vertices[frame.timestep][vertices].astype(np.float64)
    return picture, project(subject, frame, posed) * size
