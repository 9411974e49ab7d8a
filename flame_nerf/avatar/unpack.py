"""A packed avatar as files again: for one command in a temporary folder, or to stay, for Nerfstudio's own commands."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerfstudio.utils.rich_utils import CONSOLE

from flame_nerf.avatar import archive
from flame_nerf.avatar.config_file import CONFIG_FILE, write_config
from flame_nerf.avatar.head_model import own_copy
from flame_nerf.avatar.plain_config import config_of
from flame_nerf.runtime.errors import AvatarError
from flame_nerf.runtime.files import whole_folder
from flame_nerf.runtime.scratch import scratch_folder
from flame_nerf.runtime.words import escape
from flame_nerf.subject.types import TRANSFORMS_FILE
from flame_nerf.training.checkpoints import read_checkpoint
from flame_nerf.training.relocation import follow

if TYPE_CHECKING:
    from flame_nerf.training.trainer import FlameNerfTrainerConfig

CHECKPOINTS = "nerfstudio_models"
SUBJECT = "subject"


@contextmanager
def unpacked(path: Path) -> Iterator[FlameNerfTrainerConfig]:
    """A packed avatar's config, its files in a temporary folder until the block ends.

    Raises:
        AvatarError: it is no packed avatar, damaged, or asks for what none needs.
    """
    with tempfile.TemporaryDirectory(dir=scratch_folder(), ignore_cleanup_errors=True) as folder:
        config = _unpack_into(path, Path(folder))
        follow(config, Path(folder) / CONFIG_FILE, Path(folder) / SUBJECT)
        yield config


def unpack(path: Path, folder: Path) -> Path:
    """Write a packed avatar as a folder with a config.yml that ns-viewer, ns-render and the rest load.

    Args:
        path: what `flame-nerf pack` wrote.
        folder: made; it appears under its name only when it is whole.

    Returns:
        the config.yml.

    Raises:
        AvatarError: the folder is not empty, or as for `unpacked`.
    """
    folder = Path(os.path.abspath(folder.expanduser()))
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise AvatarError(f"{folder}: exists already and is not empty; name a new folder, nothing is overwritten")
    try:
        with whole_folder(folder) as spare:
            config = _unpack_into(path, spare)
            follow(config, folder / CONFIG_FILE, folder / SUBJECT)
            write_config(config, spare / CONFIG_FILE)
    except OSError as error:
        raise AvatarError(f"{folder}: cannot be written ({error.strerror or error})") from None
    return folder / CONFIG_FILE


def _unpack_into(path: Path, folder: Path) -> FlameNerfTrainerConfig:
    """Everything but config.yml, laid out as Nerfstudio expects; the config, its paths still to be set."""
    import torch

    manifest = archive.extract(path, folder)
    settings = manifest.get("settings")
    config = config_of(settings if isinstance(settings, dict) else {}, f"{path}: {archive.MANIFEST}")
    _check_subject(path, folder / SUBJECT, manifest["head"])
    # Read here, where only tensors are let in, and written anew: Nerfstudio's commands have their own way of loading.
    step, state = read_checkpoint(folder / archive.CHECKPOINT)
    (folder / CHECKPOINTS).mkdir()
    if not 0 <= step < 10**9:
        raise AvatarError(f"{path}: its checkpoint is of step {step}; pack it again")
    torch.save({"step": step, "pipeline": state}, folder / CHECKPOINTS / f"step-{step:09d}.ckpt")
    (folder / archive.CHECKPOINT).unlink()
    (folder / archive.MANIFEST).unlink()
    return config


def _check_subject(path: Path, root: Path, head: dict[str, Any]) -> None:
    """Sees that the subject names its own files alone, and which head model is to pose it.

    Raises:
        AvatarError: it names files elsewhere.
        SubjectError: it is damaged.
    """
    from flame_nerf.subject import load_subject

    transforms = root / TRANSFORMS_FILE
    meta = archive.read_object(transforms.read_bytes(), f"{path}: {archive.TRANSFORMS}")
    ours, frames = meta.get("flame_nerf"), meta.get("frames")
    if not isinstance(ours, dict) or not isinstance(frames, list):
        raise AvatarError(f"{path}: {archive.TRANSFORMS} describes no subject; pack it again")
    named = [ours.get("background")]
    for frame in frames:
        if not isinstance(frame, dict) or frame.get("depth_file_path") is not None:
            raise AvatarError(f"{path}: {archive.TRANSFORMS} has a frame that no packed avatar has; pack it again")
        named += [frame.get("file_path"), frame.get("mask_path")]
    for name in named:
        if name is not None and not (isinstance(name, str) and archive.PICTURE.fullmatch(name)):
            raise AvatarError(f"{path}: {archive.TRANSFORMS} names the file {name!r:.100}, which is not its own")
    inside = (root / "head_model.npz").is_file()
    ours |= {"pictures_left_out": True, "head_model": "head_model.npz"}
    transforms.write_text(json.dumps(meta), encoding="utf-8")
    subject = load_subject(root)
    if inside:
        return
    found, name = own_copy(subject.track), str(head.get("name"))[:80]
    if found is None:
        CONSOLE.print(
            f"[yellow]The head model {escape(repr(name))} was left out of this avatar for its licence. The avatar "
            "plays what its video showed; to sweep expressions and drive it, convert your own copy once: "
            "flame-nerf-data convert-head FILE HEAD.npz --remember",
        )
        return
    ours["head_model"] = str(found)
    transforms.write_text(json.dumps(meta), encoding="utf-8")
