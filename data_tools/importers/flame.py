"""FLAME's parameters turned into meshes, for the formats that store no meshes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from data_tools.importers.config import ImportConfig, ImportingError
from flame_nerf.heads import HeadModel, HeadModelError, load_head
from flame_nerf.heads.array_files import read_arrays
from flame_nerf.heads.flame_smpl import read_statistical_head
from flame_nerf.heads.registry import remembered_heads

FLAME_JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")
LIPS_APART = 0.2
"""Jaw angle of the canonical head, radians: with closed lips the nearest triangle between them is a matter of luck."""
BATCH = 32


@dataclass(frozen=True)
class Flame:
    """The user's FLAME."""

    head: HeadModel
    path: Path
    """The file it was read from."""
    regressor: Float[np.ndarray, "5 V"] | None
    """Joints from vertices; converted heads no longer have it."""

    def with_offset(self, offset: Float[np.ndarray, "V 3"]) -> Flame:
        """The same head with a person's own vertex offsets, metres; joints are regressed from the offset head."""
        head = dataclasses.replace(self.head, template=self.head.template + torch.from_numpy(offset).float())
        if self.regressor is not None:
            joints = self.head.joint_template + torch.from_numpy(self.regressor @ offset).float()
            head = dataclasses.replace(head, joint_template=joints)
        return dataclasses.replace(self, head=head)


def open_flame(config: ImportConfig, format_name: str) -> Flame:
    """Read the user's FLAME file, or the one that was remembered.

    Raises:
        ImportingError: there is none, or it is no FLAME.
    """
    try:
        if config.flame is None:
            try:
                return _checked(Flame(load_head("flame"), Path("flame"), None))
            except HeadModelError as error:
                if "flame" in remembered_heads():
                    raise ImportingError(f"{error}. Or give your FLAME file with --flame PATH.") from error
                raise ImportingError(
                    f"{format_name} data hold FLAME's parameters, not meshes, so the mesh cannot be made without "
                    "FLAME itself. Give your FLAME file with --flame PATH (generic_model.pkl, FLAME2020 or flame2023, "
                    "from flame.is.tue.mpg.de, or the npz that `flame-nerf-data convert-head` made of it). Pictures, "
                    "masks and cameras alone make no subject."
                ) from error
        path = config.flame.expanduser()
        arrays = read_arrays(path)
        if "format_version" in arrays:
            return _checked(Flame(load_head(path), path, None))
        return _checked(Flame(read_statistical_head(path).head, path, np.asarray(arrays["J_regressor"], np.float64)))
    except HeadModelError as error:
        raise ImportingError(f"--flame: {error}") from error


def _checked(flame: Flame) -> Flame:
    if flame.head.joint_names != FLAME_JOINTS:
        raise ImportingError(
            f"--flame {flame.path}: its joints are {', '.join(flame.head.joint_names)}; FLAME's are "
            f"{', '.join(FLAME_JOINTS)}. Give a FLAME file."
        )
    return flame


@dataclass(frozen=True)
class FlameParameters:
    """A recording in FLAME's parameters, T moments, radians and metres."""

    shape: Float[np.ndarray, " S"]
    expression: Float[np.ndarray, "T E"]
    pose: Float[np.ndarray, "T 5 3"]
    """Axis-angle of root, neck, jaw and the two eyes, in FLAME's order."""
    translation: Float[np.ndarray, "T 3"]
    """Of the model in the world, added last."""
    centred: bool = False
    """Whether the root joint is moved to the origin before the translation."""


class FlameMeshes:
    """Meshes of a recording in the head frame, made when asked for."""

    def __init__(self, flame: Flame, parameters: FlameParameters, where: str) -> None:
        """
        Args:
            where: file to name in errors.

        Raises:
            ImportingError: more components than the model has, or unequal lengths.
        """
        self.head = flame.head
        self.faces = flame.head.faces.numpy().astype(np.int32)
        counts = {name: len(getattr(parameters, name)) for name in ("expression", "pose", "translation")}
        if len(set(counts.values())) != 1:
            said = ", ".join(f"{count} of {name}" for name, count in counts.items())
            raise ImportingError(f"{where}: unequal lengths: {said}. One row a frame is expected of each.")
        self.identity = _padded(parameters.shape, self.head.shapedirs.shape[-1], f"{where}: shape")
        self.expression = _padded(parameters.expression, len(self.head.expression_names), f"{where}: expression")
        self.pose = parameters.pose.astype(np.float32)
        self._translation, self._centred = parameters.translation, parameters.centred

    def __len__(self) -> int:
        return len(self.pose)

    def vertices(self, rows: Sequence[int]) -> Float[np.ndarray, "B V 3"]:
        """Posed heads in the head frame, metres."""
        identity = torch.from_numpy(self.identity)
        parts = []
        for some in np.array_split(np.asarray(rows), max(1, -(-len(rows) // BATCH))):
            expression, pose = torch.from_numpy(self.expression[some]), torch.from_numpy(self.pose[some])
            with torch.no_grad():
                parts.append(self.head.vertices(identity, expression, pose))
        return torch.cat(parts).numpy()

    def canonical(self) -> Float[np.ndarray, "V 3"]:
        """The neutral head with the lips apart."""
        pose = torch.zeros(1, len(FLAME_JOINTS), 3)
        pose[:, FLAME_JOINTS.index("jaw"), 0] = LIPS_APART
        with torch.no_grad():
            return self.head.vertices(torch.from_numpy(self.identity), torch.zeros(1, self.expression.shape[1]), pose)[
                0
            ].numpy()

    def world_from_head(self) -> Float[np.ndarray, "T 4 4"]:
        """Where the head frame is in the recording's world, rigid, float64."""
        identity = torch.from_numpy(self.identity).double()
        expression = torch.from_numpy(self.expression).double()
        head = _double_joints(self.head)
        with torch.no_grad():
            placement = head.placement(identity, torch.from_numpy(self.pose).double(), expression).numpy().copy()
        placement[:, :3, 3] += self._translation
        if self._centred:
            root = (head.joint_template[0] + head.joint_shapedirs[0] @ identity).numpy()
            follows = head.joint_exprdirs
            moved = 0.0 if follows is None else (expression @ follows[0].T).numpy()
            placement[:, :3, 3] -= root + moved
        return placement


def _double_joints(head: HeadModel) -> HeadModel:
    """The model with its joints in float64; the large arrays, which placing a head does not need, are left out."""
    doubled = {
        name: None if getattr(head, name) is None else getattr(head, name).double()
        for name in ("joint_template", "joint_shapedirs", "joint_exprdirs")
    }
    empty = {"template": head.template[:0].double(), "shapedirs": head.shapedirs[:0].double()}
    return dataclasses.replace(head, **doubled, **empty)


def _padded(values: Float[np.ndarray, "*T K"], length: int, where: str) -> Float[np.ndarray, "*T L"]:
    """Coefficients filled up with zeros to the model's number."""
    if values.shape[-1] > length and np.any(values[..., length:]):
        raise ImportingError(
            f"{where} has {values.shape[-1]} coefficients, your FLAME file only {length}. Give the FLAME file that the "
            "data were tracked with."
        )
    values = values[..., :length]
    result = np.zeros((*values.shape[:-1], length), dtype=np.float32)
    result[..., : values.shape[-1]] = values
    return result
