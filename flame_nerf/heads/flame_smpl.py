"""Other people's statistical heads read into a HeadModel: FLAME, the SMPL family (SMAL's animals) and GNM.

All of them are a template, linear bases and skinning; they differ in names, in the order of axes, and in where they are
kept. What each file calls its arrays (V vertices, S shape components, E expressions, J joints):

    here              FLAME, SMPL, SMAL (.pkl, .npz)         GNM (.npz)
    template          v_template (V,3)                       template_vertex_positions (V,3)
    faces             f (F,3)                                triangles (F,3)
    shapedirs         shapedirs (V,3,S); FLAME's first 300   vertex_identity_basis (S,V,3)
    exprdirs          FLAME: the last 100; others have none  expression_basis (E,V,3)
    joint_template    J_regressor (J,V) @ v_template         template_joint_positions (J,3)
    joint_shapedirs   J_regressor @ shapedirs                joint_identity_basis (S,J,3)
    parents           kintree_table (2,J), first row         joint_parent_indices (J)
    skinning_weights  weights (V,J)                          skinning_weights (J,V)
    posedirs          posedirs (V,3,9(J-1))                  pose_correctives_regressor (9J,3V)
    vertex groups     a file of masks                        vertex_groups (G,V), vertex_group_names

Readers are lenient about the order of a basis's axes, about flattened bases, and about further arrays, which they
ignore. Files are read by flame_nerf.heads.array_files, which runs nothing in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from flame_nerf.heads.array_files import ArraySource, read_arrays
from flame_nerf.heads.io import HeadModelError
from flame_nerf.heads.model import HeadModel
from flame_nerf.runtime.door import open_file

FLAME_VERTICES, FLAME_FACES, FLAME_SHAPES = 5023, 9976, 300
FLAME_JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")
KNOWN_JOINTS = {
    24: {12: "neck", 15: "head"},
    33: {15: "neck", 16: "head", 32: "jaw"},
    35: {15: "neck", 16: "head", 32: "jaw", 33: "left_ear", 34: "right_ear"},
}
"""What a head needs of the usual skeletons, by their number of joints: SMPL's human body has 24, SMAL's quadruped 33,
its later versions with ears 35."""
FLAME_LICENCE = (
    "FLAME model data of the Max Planck Institute for Intelligent Systems: use it under the licence accepted at "
    "flame.is.tue.mpg.de (FLAME 2023 Open: CC BY 4.0). This file is derived from it: keep it to yourself where that "
    "licence forbids passing it on."
)
OWN_LICENCE = "As the file that it was converted from; see that file's own terms before passing it on."
GNM_ALIASES = {
    "template": ("template_vertex_positions", "template_vertices", "template", "v_template"),
    "faces": ("triangles", "faces", "f"),
    "shapedirs": ("vertex_identity_basis", "identity_basis", "shapedirs"),
    "exprdirs": ("expression_basis", "vertex_expression_basis", "exprdirs"),
    "joint_template": ("template_joint_positions", "joint_template"),
    "joint_shapedirs": ("joint_identity_basis", "joint_shapedirs"),
    "regressor": ("joint_regressor", "J_regressor"),
    "parents": ("joint_parent_indices", "parents"),
    "weights": ("skinning_weights", "weights", "lbs_weights"),
    "posedirs": ("pose_correctives_regressor", "posedirs"),
    "joint_names": ("joint_names",),
    "expression_names": ("expression_names",),
}

Kind = Literal["flame", "smpl", "gnm"]


@dataclass(frozen=True)
class HeadFile:
    """A head read from somebody's file, whole: no landmarks yet, and one region only."""

    head: HeadModel
    kind: Kind
    seen: str
    """One line: which file and version, and its dimensions."""
    groups: Mapping[str, Int[np.ndarray, " N"]] = field(default_factory=dict)
    """Named sets of vertices that came with the model."""


def read_statistical_head(
    path: Path | str, kind: Kind | Literal["auto"] = "auto", joint_names: Mapping[int, str] | None = None
) -> HeadFile:
    """Reads a statistical head from its own pickle or npz.

    Args:
        kind: what the file is; told from its contents if "auto".
        joint_names: names of joints by row, over those known for the skeleton. One of them must be called "head" (or
            "neck") for the result to be of use as a head; the others are joint_00 and so on.

    Returns:
        The head in the file's own frame and unit, float32: posed vertices and `placement` give its own forward pass.

    Raises:
        HeadModelError: the file is missing, damaged, asks for code to be run, or holds no such model.
    """
    path = Path(path)
    arrays = read_arrays(path)
    if kind == "auto":
        kind = _kind_of(arrays, path)
    if kind == "gnm":
        return _read_gnm(arrays, path, joint_names or {})
    return _read_smpl(arrays, path, kind, joint_names or {})


def _kind_of(arrays: Mapping[str, Any], path: Path) -> Kind:
    if {"v_template", "shapedirs", "weights", "kintree_table"} <= arrays.keys():
        flame = np.shape(arrays["v_template"]) == (FLAME_VERTICES, 3) and np.shape(arrays["weights"])[-1] == 5
        return "flame" if flame else "smpl"
    if any(name in arrays for name in ("vertex_identity_basis", "template_vertex_positions", "identity_basis")):
        return "gnm"
    raise HeadModelError(
        f"{path}: its arrays are {', '.join(sorted(arrays)[:12]) or 'none'}; that is neither FLAME's or SMPL's layout "
        "(v_template, shapedirs, weights, kintree_table…) nor GNM's (template_vertex_positions, "
        "vertex_identity_basis…). See flame_nerf.heads.flame_smpl for the names, or write a file in the layout of "
        "flame_nerf.heads.io"
    )


def _read_smpl(arrays: Mapping[str, Any], path: Path, kind: Kind, named: Mapping[int, str]) -> HeadFile:
    source = ArraySource(arrays, path)
    template = source.floats("v_template", (None, 3))
    vertices = len(template)
    faces = source.integers("f", (None, 3), limit=vertices)
    weights = source.floats("weights", (vertices, None))
    joints = weights.shape[1]
    basis = source.basis("shapedirs", vertices)
    regressor = source.floats("J_regressor", (joints, vertices))
    parents = _parents(source, joints)
    posedirs = source.basis("posedirs", vertices) if "posedirs" in arrays else None
    if posedirs is not None and posedirs.shape[-1] != 9 * (joints - 1):
        raise source.error("posedirs", f"has {posedirs.shape[-1]} correctives, expected {9 * (joints - 1)}")
    shapes = basis.shape[-1]
    if kind == "flame":
        if vertices != FLAME_VERTICES or len(faces) != FLAME_FACES or joints != 5 or shapes <= FLAME_SHAPES:
            raise HeadModelError(
                f"{path}: {vertices} vertices, {len(faces)} faces, {shapes} components, {joints} joints; FLAME has "
                f"{FLAME_VERTICES}, {FLAME_FACES}, {FLAME_SHAPES} shape and up to 100 expression components, 5 joints. "
                "Say --kind smpl if it is another model"
            )
        shapes, names = FLAME_SHAPES, list(FLAME_JOINTS)
    else:
        names = _joint_names(parents, joints, named)
    expressions = basis.shape[-1] - shapes
    joint_basis = np.einsum("jv,vck->jck", regressor, basis)
    title, version = _smpl_title(kind, path, vertices, joints, _was_chumpy(path))
    head = HeadModel(
        name=title,
        template=_float(template),
        faces=torch.from_numpy(faces),
        shapedirs=_float(basis[..., :shapes]),
        exprdirs=_float(basis[..., shapes:]),
        expression_names=tuple(f"expr_{row:03d}" for row in range(expressions)),
        joint_template=_float(regressor @ template),
        joint_shapedirs=_float(joint_basis[..., :shapes]),
        joint_names=tuple(names),
        parents=parents,
        skinning_weights=_float(_normalised(source, weights)),
        posedirs=None if posedirs is None else _float(posedirs.transpose(2, 0, 1)),
        region=torch.zeros(len(faces), dtype=torch.int64),
        region_names=("skin",),
        landmarks=None,
        licence=FLAME_LICENCE if kind == "flame" else OWN_LICENCE,
        provenance=f"Converted by flame-nerf-data convert-head from {path.name}: {version}.",
        joint_exprdirs=_float(joint_basis[..., shapes:]) if expressions else None,
        expression_range="gaussian",
    )
    seen = (
        f"{version}: {vertices} vertices, {len(faces)} faces, {shapes} shape and {expressions} expression components, "
        f"{joints} joints, {0 if posedirs is None else posedirs.shape[-1]} pose correctives"
    )
    return HeadFile(head, kind, seen)


def _smpl_title(kind: Kind, path: Path, vertices: int, joints: int, chumpy: bool) -> tuple[str, str]:
    """Name of the model and which version the file looks like."""
    stem = path.stem.lower()
    if kind == "flame":
        # No array tells the sexes or the years apart for certain: the way of writing does, and the name.
        layout = "chumpy objects, as the 2020 release and those before it" if chumpy else "plain arrays, as since 2023"
        sex = next((word for word in ("female", "male") if word in stem), "generic")
        return "flame", f"FLAME, {sex} by its name, {layout}"
    family = {24: "SMPL", 33: "SMAL", 35: "SMAL"}.get(joints, "SMPL's format")
    return stem, f"{family} with {vertices} vertices" + (" (chumpy objects)" if chumpy else "")


def _was_chumpy(path: Path) -> bool:
    if path.suffix.lower() == ".npz":
        return False
    with open_file(path, HeadModelError) as stream:
        return any(b"chumpy" in block for block in iter(lambda: stream.read(1 << 24), b""))


def _read_gnm(arrays: Mapping[str, Any], path: Path, named: Mapping[int, str]) -> HeadFile:
    found = {ours: next((n for n in theirs if n in arrays), theirs[0]) for ours, theirs in GNM_ALIASES.items()}
    source = ArraySource(arrays, path)
    template = source.floats(found["template"], (None, 3))
    vertices = len(template)
    faces = source.integers(found["faces"], (None, 3), limit=vertices)
    shapedirs = source.basis(found["shapedirs"], vertices)
    exprdirs = source.basis(found["exprdirs"], vertices)
    weights = source.floats(found["weights"], (None, None))
    weights = weights.T if weights.shape[0] != vertices else weights
    joints = weights.shape[1]
    if len(weights) != vertices:
        raise source.error(
            found["weights"], f"has shape {weights.shape}, expected a row for each of {vertices} vertices"
        )
    if found["joint_template"] in arrays:
        joint_template = source.floats(found["joint_template"], (joints, 3))
        joint_shapedirs = source.basis(found["joint_shapedirs"], joints)
    else:
        regressor = source.floats(found["regressor"], (joints, vertices))
        joint_template, joint_shapedirs = regressor @ template, np.einsum("jv,vck->jck", regressor, shapedirs)
    parents = tuple(source.integers(found["parents"], (joints,)).tolist())
    names = _names(arrays, found["joint_names"], joints, "joint")
    for row, name in named.items():
        names[row] = name
    posedirs = None
    if found["posedirs"] in arrays:
        # One row an entry of each joint's rotation, the root's included: ours leave the root out.
        posedirs = source.floats(found["posedirs"], (9 * joints, 3 * vertices))[9:].reshape(-1, vertices, 3)
    head = HeadModel(
        name="gnm",
        template=_float(template),
        faces=torch.from_numpy(faces),
        shapedirs=_float(shapedirs),
        exprdirs=_float(exprdirs),
        expression_names=tuple(_names(arrays, found["expression_names"], exprdirs.shape[-1], "expr")),
        joint_template=_float(joint_template),
        joint_shapedirs=_float(joint_shapedirs),
        joint_names=tuple(names),
        parents=parents,
        skinning_weights=_float(_normalised(source, weights)),
        posedirs=None if posedirs is None else _float(posedirs),
        region=torch.zeros(len(faces), dtype=torch.int64),
        region_names=("skin",),
        landmarks=None,
        licence=OWN_LICENCE,
        provenance=f"Converted by flame-nerf-data convert-head from {path.name}: GNM's layout.",
        expression_range="gaussian",
    )
    version = " ".join(str(arrays[n]) for n in ("version", "variant") if n in arrays)
    seen = (
        f"GNM {version}".strip() + f": {vertices} vertices, {len(faces)} faces, {shapedirs.shape[-1]} identity and "
        f"{exprdirs.shape[-1]} expression components, {joints} joints ({', '.join(names)})"
    )
    return HeadFile(head, "gnm", seen, _groups(arrays, vertices))


def _groups(arrays: Mapping[str, Any], vertices: int) -> dict[str, Int[np.ndarray, " N"]]:
    weights, names = arrays.get("vertex_groups"), arrays.get("vertex_group_names")
    if not isinstance(weights, np.ndarray) or names is None or weights.shape != (len(names), vertices):
        return {}
    return {str(name): np.flatnonzero(row > 0.5) for name, row in zip(names, weights, strict=True)}


def _names(arrays: Mapping[str, Any], key: str, count: int, stem: str) -> list[str]:
    given = arrays.get(key)
    if given is not None and len(given) == count and len({str(name) for name in given}) == count:
        return [str(name) for name in given]
    return [f"{stem}_{row:03d}" for row in range(count)]


def _parents(source: ArraySource, joints: int) -> tuple[int, ...]:
    table = source.integers("kintree_table", (2, joints), signed=False)
    row_of = {int(joint): row for row, joint in enumerate(table[1])}
    # The root's parent is written as 2^32 - 1 or as -1.
    parents = tuple(-1 if row == 0 else row_of.get(int(parent), -1) for row, parent in enumerate(table[0]))
    if any(not 0 <= parent < row for row, parent in enumerate(parents) if row):
        raise source.error("kintree_table", f"gives the parents {parents}: each joint must come after its parent")
    return parents


def _joint_names(parents: tuple[int, ...], joints: int, named: Mapping[int, str]) -> list[str]:
    names = ["root"] + [f"joint_{row:02d}" for row in range(1, joints)]
    known = {row: name for row, name in KNOWN_JOINTS.get(joints, {}).items() if name not in named.values()}
    for row, name in (known | dict(named)).items():
        if not 0 <= row < joints:
            raise HeadModelError(f"there is no joint {row}: the model has joints 0 to {joints - 1}")
        names[row] = name
    return names


def _normalised(source: ArraySource, weights: Float[np.ndarray, "V J"]) -> Float[np.ndarray, "V J"]:
    sums = weights.sum(1, keepdims=True)
    if np.abs(sums - 1).max() > 1e-2:
        raise source.error(
            "weights", f"has a row that sums to {float(sums.flat[np.abs(sums - 1).argmax()]):.3f}, not 1"
        )
    return weights / sums


def _float(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
