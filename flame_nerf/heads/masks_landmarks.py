"""Files that come beside a statistical head: vertex masks and landmark embeddings.

Masks: FLAME_masks.pkl (name -> vertex rows), the same as .npz, or a .json / .txt / .npy of rows or of flags.

Landmark embeddings, each point a face and barycentric weights:
    mediapipe_landmark_embedding.npz   lmk_face_idx (L), lmk_b_coords (L,3), landmark_indices (L): mediapipe's numbers
    flame_static_embedding.pkl         lmk_face_idx (51), lmk_b_coords (51,3): points 17 to 67 of the 68-point scheme
    landmark_embedding.npy             static_lmk_faces_idx (51), static_lmk_bary_coords (51,3): the same points
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from flame_nerf.heads.array_files import read_arrays
from flame_nerf.heads.io import HeadModelError
from flame_nerf.heads.model import LandmarkEmbedding
from flame_nerf.runtime.door import check_numbers, read_array, read_json, read_text

SIXTY_EIGHT = (
    # Brows, nose ridge and base, eyes, outer and inner lips: points 17 to 67.
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
_TRANSLATED_WEIGHT = 0.5
"""The two schemes place their points by different rules: a translated one is off by a few millimetres."""
LARGEST_NUMBER = 2**31
"""Larger ones are no row of anything."""
_FACE_NAMES = ("lmk_face_idx", "static_lmk_faces_idx", "lmk_faces_idx")
_WEIGHT_NAMES = ("lmk_b_coords", "static_lmk_bary_coords", "lmk_bary_coords")


def read_vertex_groups(path: Path | str, vertices: int) -> dict[str, Int[np.ndarray, " N"]]:
    """Named sets of vertex rows; a file with one list only gives the single group "mask".

    Raises:
        HeadModelError: the file cannot be read, or names vertices that the model does not have.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    missing = f"no masks at {path}: check the path"
    if suffix == ".json":
        found = read_json(path, HeadModelError, missing=missing)
    elif suffix in (".txt", ".csv"):
        found = read_text(path, HeadModelError, missing=missing).replace(",", " ").split()
    elif suffix == ".npy":
        found = read_array(path, HeadModelError)
    else:
        found = read_arrays(path)
    groups = found if isinstance(found, dict) else {"mask": found}
    return {str(name): _rows(path, str(name), rows, vertices) for name, rows in groups.items()}


def _rows(path: Path, name: str, rows: object, vertices: int) -> Int[np.ndarray, " N"]:
    flagged = isinstance(rows, np.ndarray) and rows.dtype == bool
    array = np.asarray(rows) if flagged else _numbers(path, name, rows)
    array = array.reshape(-1)
    flags = array.dtype == bool or (len(array) == vertices and array.size and set(np.unique(array)) <= {0, 1})
    if flags:
        return np.flatnonzero(array)
    array = array.astype(np.int64)
    if array.size and not 0 <= array.min() <= array.max() < vertices:
        raise HeadModelError(
            f"{path}: mask '{name}' names vertex {array.max() if array.min() >= 0 else array.min()}, but the model has "
            f"{vertices}: it belongs to another model"
        )
    return np.unique(array)


def _numbers(path: Path, name: str, values: object) -> Float[np.ndarray, "..."]:
    """Whole numbers and weights, as large as they can be."""
    return check_numbers(values, HeadModelError, f"{path}: '{name:.80}'", least=-LARGEST_NUMBER, most=LARGEST_NUMBER)


def read_landmarks(path: Path | str, faces: int) -> LandmarkEmbedding:
    """A landmark embedding in mediapipe's numbering.

    Raises:
        HeadModelError: the file cannot be read, is in no known layout, or belongs to another mesh.
    """
    path = Path(path)
    arrays = read_arrays(path)
    face_name = next((name for name in _FACE_NAMES if name in arrays), None)
    weight_name = next((name for name in _WEIGHT_NAMES if name in arrays), None)
    if face_name is None or weight_name is None:
        raise HeadModelError(
            f"{path}: its arrays are {', '.join(sorted(arrays)[:12])}; expected lmk_face_idx and lmk_b_coords (FLAME's "
            "mediapipe or static embedding), or static_lmk_faces_idx and static_lmk_bary_coords"
        )
    face = _numbers(path, face_name, arrays[face_name]).reshape(-1).astype(np.int64)
    weights = _numbers(path, weight_name, arrays[weight_name])
    if weights.size % 3:
        raise HeadModelError(f"{path}: '{weight_name}' has shape {weights.shape}, expected three weights a point")
    weights = weights.reshape(-1, 3)
    if len(face) != len(weights) or not face.size or not 0 <= face.min() <= face.max() < faces:
        raise HeadModelError(
            f"{path}: '{face_name}' has {len(face)} faces up to {face.max(initial=-1)}, '{weight_name}' "
            f"{len(weights)} rows, the model {faces} faces: the embedding belongs to another model"
        )
    if "landmark_indices" in arrays:
        index = _numbers(path, "landmark_indices", arrays["landmark_indices"]).reshape(-1).astype(np.int64)
        trust = 1.0
    elif len(face) == len(SIXTY_EIGHT):
        index, trust = np.array(SIXTY_EIGHT), _TRANSLATED_WEIGHT
    elif len(face) == 68:
        # The first 17 slide along the jaw's outline.
        face, weights = face[17:], weights[17:]
        index, trust = np.array(SIXTY_EIGHT), _TRANSLATED_WEIGHT
    else:
        raise HeadModelError(
            f"{path}: {len(face)} points and no 'landmark_indices' that say which; expected mediapipe's numbers, or "
            "the 51 or 68 points of the 68-point scheme"
        )
    if len(index) != len(face):
        raise HeadModelError(f"{path}: {len(index)} landmark_indices for {len(face)} points")
    order = np.argsort(index)
    total = weights.sum(1, keepdims=True)
    if np.abs(total - 1).max() > 0.05:
        raise HeadModelError(f"{path}: '{weight_name}' has rows that do not sum to 1")
    return LandmarkEmbedding(
        index=torch.from_numpy(index[order]),
        face=torch.from_numpy(face[order]),
        barycentric=torch.from_numpy((weights / total)[order].astype(np.float32)),
        weight=torch.full((len(index),), trust),
    )
