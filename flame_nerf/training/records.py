"""What a checkpoint was made of and with, written beside its folder: enough to make it again, and to know it later.

Not inside the folder: Nerfstudio takes every name in there for a checkpoint's.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import platform
import sys
from collections.abc import Collection, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flame_nerf.runtime.files import whole
from flame_nerf.subject.types import TRACK_FILE, TRANSFORMS_FILE

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig

    from flame_nerf.subject import Subject

FOLDER = "checkpoint_records"
VERSION = 1
PACKAGES = ("flame-nerf", "nerfstudio", "torch", "numpy", "numba", "warp-lang", "tinycudann")
LARGEST = 1 << 20
"""Bytes beyond which a record is none."""
BLOCK = 1 << 20


def record_path(checkpoint: Path) -> Path:
    """Where the record of a checkpoint lies."""
    return checkpoint.parent.parent / FOLDER / f"{checkpoint.stem}.json"


def write_record(
    checkpoint: Path, config: TrainerConfig, subject: Subject, sha256: str, device: str, views: Collection[str]
) -> None:
    """Write a checkpoint's record.

    Args:
        sha256: of the subject, by `subject_hash`.
        device: what it was trained on, in words.
        views: the terms on whole views that it was trained with: where an encoder was missing, not all that were asked.

    Raises:
        OSError: the disk refuses.
    """
    path = record_path(checkpoint)
    path.parent.mkdir(exist_ok=True)
    record = {
        "version": VERSION,
        "checkpoint": checkpoint.name,
        "method": config.method_name,
        "seed": config.machine.seed,
        "device": device,
        "versions": versions(),
        "subject": {"name": subject.root.resolve().name, "sha256": sha256},
        "priors": _priors(config, subject, views),
        "config": plain(config),
    }
    with whole(path, alone=True) as spare:
        # Names that are no UTF-8 stand there as escapes.
        spare.write_bytes(f"{json.dumps(record, indent=1)}\n".encode())


def read_record(checkpoint: Path) -> dict[str, Any]:
    """The record of a checkpoint; empty where there is none that can be read."""
    try:
        with record_path(checkpoint).open("rb") as file:
            record = json.loads(file.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def forget_records(folder: Path, kept: set[str]) -> None:
    """Remove the records of checkpoints that are gone.

    Args:
        folder: of the checkpoints.
        kept: names of those that are there, without their endings.
    """
    for path in (folder.parent / FOLDER).glob("step-*.json"):
        if path.stem not in kept:
            path.unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """Versions of what a training depends on."""
    found = {"python": sys.version.split()[0], "system": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def subject_hash(subject: Subject) -> str:
    """SHA-256 over a subject's cameras and track, and the names and sizes of its pictures and masks.

    The same for a copy elsewhere; another for a subject that was tracked again.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    for name in (TRANSFORMS_FILE, TRACK_FILE):
        with (subject.root / name).open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    for frame in subject.frames:
        for path in (frame.file_path, frame.mask_path):
            if path is not None and (subject.root / path).is_file():
                digest.update(f"{path.name} {(subject.root / path).stat().st_size}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def plain(value: Any) -> Any:
    """A config as JSON-compatible values: classes and functions by their names, paths as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return getattr(value, "__qualname__", None) or str(value)


def _priors(config: TrainerConfig, subject: Subject, views: Collection[str]) -> dict[str, Any]:
    """What the losses ask beside the pictures, by the term that does: depth maps' origin, pretrained networks."""
    model: Any = config.pipeline.model
    found: dict[str, Any] = {}
    asked = model.loss_coefficients.depth_loss and model.depth.kind in ("ranking", "hinge")
    if asked and any(frame.depth_path for frame in subject.frames):
        found["depth"] = _without_folder(str(subject.extra.get("depth", {}).get("prior", "unknown")))
    if "semantic_loss" in views:
        encoder = plain(model.semantic.encoder)
        found["semantic"] = encoder | {"weights": _without_folder(encoder["weights"])}
    return found


def _without_folder(name: str) -> str:
    """A network's name on a hub as it is; of one that lies on this machine, its file or folder alone."""
    return Path(name).name if Path(name).expanduser().exists() else name
