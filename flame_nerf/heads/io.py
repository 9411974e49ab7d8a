"""Reading and writing head models as one .npz of plain arrays (no pickles), and finding the one that ships here.

Fields, with V vertices, F faces, S shape components, E expressions, J joints, L landmarks:

    format_version ()            1
    name, licence, provenance () text
    template (V,3), faces (F,3), shapedirs (V,3,S), exprdirs (V,3,E), expression_names (E)
    joint_template (J,3), joint_shapedirs (J,3,S), joint_names (J), parents (J), skinning_weights (V,J)
    posedirs (9(J-1),V,3)        optional
    joint_exprdirs (J,3,E)       optional: how joints follow the expression
    expression_range ()          optional text: unit (the default) or gaussian
    region (F), region_names (R)
    landmark_index, landmark_face, landmark_weight (L), landmark_barycentric (L,3)     optional, together
    landmark_names (L)           with those, where the head has named keypoints instead of mediapipe's numbers

Metres, head frame (see flame_nerf.heads.model). Floats may be stored as float16; they are float32 in memory.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flame_nerf.heads.model import HeadModel, LandmarkEmbedding
from flame_nerf.heads.registry import remembered_heads
from flame_nerf.runtime.door import read_npz
from flame_nerf.runtime.errors import OneLine
from flame_nerf.runtime.files import whole

FORMAT_VERSION = 1
SHIPPED = {"anny": "open_head.npz"}
EXPRESSION_RANGES = ("unit", "gaussian")

_TEXT = ("name", "licence", "provenance")
_NAMES = ("expression_names", "joint_names", "region_names")
_FLOATS = {
    "template": "V3", "shapedirs": "V3S", "exprdirs": "V3E", "joint_template": "J3", "joint_shapedirs": "J3S",
    "skinning_weights": "VJ",
}  # fmt: skip
_OPTIONAL_FLOATS = {"posedirs": "PV3", "joint_exprdirs": "J3E"}
_INTEGERS = {"faces": "F3", "parents": "J", "region": "F"}
_LANDMARKS = {"landmark_index": "L", "landmark_face": "L", "landmark_barycentric": "L3", "landmark_weight": "L"}
# The large linear bases: float16 keeps them to micrometres at half the size.
_HALF = ("shapedirs", "exprdirs", "posedirs")


class HeadModelError(OneLine, ValueError):
    """A head model file that cannot be used; the message names the file, the field and the remedy."""


def load_head(name_or_path: str | Path = "anny") -> HeadModel:
    """Reads a head model.

    Args:
        name_or_path: a shipped model's name ("anny"), the path of a .npz in this module's layout, or the name of one
            that `flame-nerf-data convert-head --remember` noted ("flame").

    Returns:
        The model on the CPU, float32 and int64.

    Raises:
        HeadModelError: no such file, not a .npz, or a field that is missing, misshapen, not finite or contradictory.
    """
    if str(name_or_path) in SHIPPED:
        resource = resources.files("flame_nerf.heads") / SHIPPED[str(name_or_path)]
        if not resource.is_file():
            raise HeadModelError(
                f"the shipped head model '{name_or_path}' is missing from the installation ({resource}): reinstall "
                "flame-nerf, or rebuild it with `python -m data_tools.open_head`"
            )
        with resources.as_file(resource) as shipped:
            return _read(shipped)
    path = Path(name_or_path)
    if not path.is_file():
        known = remembered_heads()
        if str(name_or_path) not in known:
            raise HeadModelError(
                f"no head model at {path}: give the path of a head model .npz, or one of the names "
                f"{[*SHIPPED, *known]}. Another model's own file becomes one by `flame-nerf-data convert-head FILE "
                "HEAD.npz`, which also remembers it under a name"
            )
        path = known[str(name_or_path)]
        if not path.is_file():
            raise HeadModelError(
                f"the head model remembered as '{name_or_path}' is no longer at {path}: convert it again with "
                "`flame-nerf-data convert-head … --remember`"
            )
    return _read(path)


def save_head(head: HeadModel, path: str | Path, half_bases: bool = True) -> None:
    """Writes a head model atomically. The same model gives the same bytes.

    Args:
        half_bases: the large bases as float16, right to about a hundredth of a millimetre; as float32 otherwise.

    Raises:
        HeadModelError: the model contradicts itself (checked as on reading).
    """
    arrays = _to_arrays(head, half_bases)
    _check(arrays, str(path))
    with whole(Path(path)) as spare, spare.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def _to_arrays(head: HeadModel, half_bases: bool) -> dict[str, Any]:
    arrays: dict[str, np.ndarray] = {"format_version": np.array(FORMAT_VERSION)}
    for field in _TEXT:
        arrays[field] = np.array(getattr(head, field))
    for field in _NAMES:
        # Without a type an empty list would become one of floats.
        arrays[field] = np.array(getattr(head, field), dtype=str)
    if head.expression_range != EXPRESSION_RANGES[0]:
        arrays["expression_range"] = np.array(head.expression_range)
    for field in (*_FLOATS, *_OPTIONAL_FLOATS):
        value = getattr(head, field)
        if value is not None:
            arrays[field] = (
                value.detach().cpu().numpy().astype(np.float16 if half_bases and field in _HALF else np.float32)
            )
    arrays["faces"] = head.faces.cpu().numpy().astype(np.int32)
    arrays["region"] = head.region.cpu().numpy().astype(np.int16)
    arrays["parents"] = np.array(head.parents, dtype=np.int16)
    if head.landmarks is not None:
        arrays["landmark_index"] = head.landmarks.index.cpu().numpy().astype(np.int32)
        arrays["landmark_face"] = head.landmarks.face.cpu().numpy().astype(np.int32)
        arrays["landmark_barycentric"] = head.landmarks.barycentric.detach().cpu().numpy().astype(np.float32)
        arrays["landmark_weight"] = head.landmarks.weight.detach().cpu().numpy().astype(np.float32)
        if head.landmarks.names:
            arrays["landmark_names"] = np.array(head.landmarks.names)
    return arrays


def _read(path: Path) -> HeadModel:
    arrays = read_npz(path, HeadModelError, remedy="Copy the head model again, or convert it anew.")
    _check(arrays, str(path))
    return _to_model(arrays)


def _check(arrays: dict[str, np.ndarray], where: str) -> None:
    """Raises HeadModelError at the first field that the model's layout does not allow."""

    def fail(field: str, problem: str) -> None:
        raise HeadModelError(f"{where}: field '{field}' {problem}")

    required = ("format_version", *_TEXT, *_NAMES, *_FLOATS, *_INTEGERS)
    present = [f for f in (*_LANDMARKS, "landmark_names") if f in arrays]
    names = (*_NAMES, *(["landmark_names"] if "landmark_names" in arrays else []))
    for field in (*required, *(_LANDMARKS if present else ())):
        if field not in arrays:
            fail(field, "is missing; see flame_nerf.heads.io for the layout, or convert the model anew")
    version = arrays["format_version"]
    if version.shape != () or version.dtype.kind not in "iu" or int(version) != FORMAT_VERSION:
        found = str(version.tolist())[:40]
        fail("format_version", f"is {found}, this flame-nerf reads {FORMAT_VERSION}; convert the model anew")
    for field in (*_TEXT, *names):
        if arrays[field].dtype.kind != "U":
            fail(field, f"is of type {arrays[field].dtype}, expected numpy unicode text")
    for field in (*_TEXT, *(["expression_range"] if "expression_range" in arrays else [])):
        if arrays[field].shape != ():
            fail(field, f"has shape {arrays[field].shape}, expected one text")
    for field in names:
        if arrays[field].ndim != 1 or len(set(arrays[field].tolist())) != arrays[field].size:
            fail(field, f"must be a list of distinct names, got shape {arrays[field].shape}")

    if "expression_range" in arrays and str(arrays["expression_range"]) not in EXPRESSION_RANGES:
        fail("expression_range", f"is {str(arrays['expression_range'])[:40]!r}, expected one of {EXPRESSION_RANGES}")

    shapes = dict(_FLOATS) | dict(_INTEGERS) | (dict(_LANDMARKS) if present else {})
    shapes |= {field: letters for field, letters in _OPTIONAL_FLOATS.items() if field in arrays}
    sizes = {"3": 3, "E": arrays["expression_names"].size, "J": arrays["joint_names"].size}
    sizes["P"] = 9 * (sizes["J"] - 1)
    integers = {*_INTEGERS, "landmark_index", "landmark_face"}
    for field, letters in shapes.items():
        array = arrays[field]
        expected = tuple(sizes.get(letter, letter) for letter in letters)
        if array.ndim != len(letters):
            fail(field, f"has shape {array.shape}, expected {expected}")
        for letter, size in zip(letters, array.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                fail(field, f"has shape {array.shape}, expected {expected} where {letter} = {sizes[letter]}")
        if array.dtype.kind not in ("iu" if field in integers else "f"):
            fail(field, f"is of type {array.dtype}, expected {'integers' if field in integers else 'floats'}")
        if field not in integers and not np.isfinite(array).all():
            fail(field, f"has {np.count_nonzero(~np.isfinite(array))} values not finite; convert the model anew")

    if "landmark_names" in arrays and arrays["landmark_names"].size != sizes["L"]:
        fail("landmark_names", f"has {arrays['landmark_names'].size} names, expected {sizes['L']}, one a landmark")
    for field, limit in (("faces", sizes["V"]), ("region", arrays["region_names"].size), ("landmark_face", sizes["F"])):
        if field in arrays and arrays[field].size and not 0 <= arrays[field].min() <= arrays[field].max() < limit:
            fail(field, f"has rows outside 0..{limit - 1}")
    parents = arrays["parents"]
    if sizes["J"] == 0 or parents[0] != -1 or any(not 0 <= p < j for j, p in enumerate(parents) if j):
        fail("parents", f"is {parents.tolist()}: the first joint must be the root (-1), parents before their children")
    joints = arrays["joint_names"].tolist()
    if not {"head", "neck"} & set(joints):
        fail("joint_names", f"is {joints}: one of them must be 'head' (or 'neck') to hold the skull")
    for field in ("skinning_weights", *(["landmark_barycentric"] if present else [])):
        sums = arrays[field].astype(np.float64).sum(1)
        if sums.size and np.abs(sums - 1).max() > 1e-2:
            fail(field, f"row {np.abs(sums - 1).argmax()} sums to {sums[np.abs(sums - 1).argmax()]:.4f}, expected 1")


def _to_model(arrays: dict[str, np.ndarray]) -> HeadModel:
    def floats(field: str) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(arrays[field], dtype=np.float32))

    def integers(field: str) -> torch.Tensor:
        return torch.from_numpy(arrays[field].astype(np.int64))

    landmarks = None
    if "landmark_index" in arrays:
        landmarks = LandmarkEmbedding(
            index=integers("landmark_index"),
            face=integers("landmark_face"),
            barycentric=_rows_to_one(floats("landmark_barycentric")),
            weight=floats("landmark_weight"),
            names=tuple(arrays["landmark_names"].tolist()) if "landmark_names" in arrays else (),
        )
    return HeadModel(
        name=str(arrays["name"]),
        template=floats("template"),
        faces=integers("faces"),
        shapedirs=floats("shapedirs"),
        exprdirs=floats("exprdirs"),
        expression_names=tuple(arrays["expression_names"].tolist()),
        joint_template=floats("joint_template"),
        joint_shapedirs=floats("joint_shapedirs"),
        joint_names=tuple(arrays["joint_names"].tolist()),
        parents=tuple(arrays["parents"].tolist()),
        skinning_weights=_rows_to_one(floats("skinning_weights")),
        **{field: floats(field) if field in arrays else None for field in _OPTIONAL_FLOATS},
        region=integers("region"),
        region_names=tuple(arrays["region_names"].tolist()),
        landmarks=landmarks,
        licence=str(arrays["licence"]),
        provenance=str(arrays["provenance"]),
        expression_range=str(arrays.get("expression_range", EXPRESSION_RANGES[0])),
    )


def _rows_to_one(weights: torch.Tensor) -> torch.Tensor:
    """Undoes what coarse storage did to the sums; what is exact already stays as it is, bit for bit."""
    sums = weights.sum(1, keepdim=True)
    return torch.where((sums - 1).abs() > 1e-5, weights / sums, weights)
