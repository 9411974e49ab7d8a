"""A trained avatar as one file: what is needed to view, drive and film it, and one picture of its video."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flame_nerf.avatar import archive
from flame_nerf.avatar.head_model import licence_text, may_be_passed_on
from flame_nerf.avatar.loading import Avatar, open_avatar
from flame_nerf.avatar.plain_config import plain_settings
from flame_nerf.runtime.errors import AvatarError
from flame_nerf.runtime.files import whole
from flame_nerf.runtime.scratch import scratch_folder
from flame_nerf.training.checkpoints import read_checkpoint
from flame_nerf.training.records import read_record

if TYPE_CHECKING:
    from flame_nerf.subject import Subject


@dataclasses.dataclass(frozen=True)
class Packed:
    """What came of packing."""

    path: Path
    size: int
    """Bytes."""
    head: str
    """Name of the head model."""
    head_included: bool
    head_licence: str
    picture: str
    """The one picture that is inside."""


def pack(config_path: Path, target: Path, data: Path | None = None) -> Packed:
    """Write an avatar to one file, which appears under its name only when it is whole.

    Args:
        config_path: the config.yml of a training run.
        target: the .zip to write.
        data: the subject's folder, where it is not to be found from the config.

    Raises:
        AvatarError, SubjectError: nothing to pack, or it cannot be written; what was there before stays.
    """
    from flame_nerf.subject import load_subject

    if target.suffix.lower() != ".zip":
        raise AvatarError(f"{target}: name a .zip to write, as in `flame-nerf pack {config_path} avatar.zip`")
    with open_avatar(config_path, data) as avatar, tempfile.TemporaryDirectory(dir=scratch_folder()) as folder:
        if avatar.packed:
            raise AvatarError(f"{config_path}: is packed already; copy it")
        subject = load_subject(avatar.data)
        try:
            packed = _write_files(avatar, subject, Path(folder))
        except OSError as error:
            # What the check found may have gone since.
            where, why = error.filename or folder, error.strerror or error
            raise AvatarError(f"{where}: cannot be packed ({why}); give the command again") from error
        try:
            with whole(target.absolute()) as spare, _zip(spare) as file:
                for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
                    file.write(path, path.relative_to(folder).as_posix())
        except OSError as error:
            raise AvatarError(f"{target}: the avatar cannot be written ({error.strerror or error})") from error
        return dataclasses.replace(packed, path=target, size=target.stat().st_size)


def _zip(path: Path) -> zipfile.ZipFile:
    """A zip to write; where the clock stands before 1980, which no zip can say, its files are of 1980."""
    return zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False)


def _write_files(avatar: Avatar, subject: Subject, folder: Path) -> Packed:
    """Writes everything that goes into the file under `folder`."""
    import torch

    from flame_nerf import __version__
    from flame_nerf.heads import save_head
    from flame_nerf.motion import head_of

    step, state = read_checkpoint(avatar.checkpoint)
    torch.save({"step": step, "pipeline": state}, folder / archive.CHECKPOINT)
    head = head_of(subject)
    included = head is not None and may_be_passed_on(head.licence)
    head_name = head.name if head is not None else Path(subject.head_model).stem
    picture = _write_subject(subject, folder / "subject", head_name if not included else "head_model.npz", avatar)
    if head is not None and included:
        save_head(head, folder / archive.HEAD_MODEL)
    manifest: dict[str, Any] = {
        "format": archive.FORMAT,
        "version": archive.VERSION,
        "made_with": f"flame-nerf {__version__}",
        "name": subject.root.name,
        "step": step,
        "timesteps": subject.track.num_timesteps,
        "fps": subject.fps,
        "licence": subject.licence,
        "head": {
            "name": head_name,
            "licence": head.licence if head is not None else "unknown: the head model was not found when packing",
            "included": included,
        },
        "settings": plain_settings(avatar.config),
        # Without the paths that a whole config holds.
        "record": {name: value for name, value in read_record(avatar.checkpoint).items() if name != "config"},
    }
    (folder / archive.MANIFEST).write_text(json.dumps(manifest, indent=1, allow_nan=False), encoding="utf-8")
    words = licence_text(head, head_name, included, subject.licence)
    (folder / archive.LICENCE).write_text(words, encoding="utf-8")
    return Packed(folder, 0, head_name, included, manifest["head"]["licence"], picture)


def _write_subject(subject: Subject, root: Path, head_model: str, avatar: Avatar) -> str:
    """Writes cameras, track and one picture; returns that picture's name in the subject it comes from."""
    from flame_nerf.subject import write_subject

    # The calmest face stands for all.
    shown = int(np.argmin([np.linalg.norm(subject.track.expression[frame.timestep]) for frame in subject.frames]))
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)

    def copied(path: Path | None, name: str) -> Path | None:
        if path is None:
            return None
        target = root / f"{name}{path.suffix.lower()}"
        shutil.copyfile(subject.root / path, target)
        return target

    frames = []
    for index, frame in enumerate(subject.frames):
        image = Path("images") / f"{index:06d}{frame.file_path.suffix.lower()}"
        mask = frame.mask_path and Path("masks") / f"{index:06d}{frame.mask_path.suffix.lower()}"
        if index == shown:
            copied(frame.file_path, f"images/{index:06d}")
            copied(frame.mask_path, f"masks/{index:06d}")
        frames.append(dataclasses.replace(frame, file_path=image, mask_path=mask, depth_path=None))
    shows_plate = avatar.config.pipeline.datamanager.dataparser.background_color.startswith("plate")
    write_subject(
        dataclasses.replace(
            subject,
            root=root,
            frames=tuple(frames),
            # Landmarks and errors tell how it was tracked, not how it looks.
            track=dataclasses.replace(subject.track, landmarks2d=None, reprojection_error=None),
            background=copied(subject.background, "background") if shows_plate else None,
            head_model=head_model,
            # Where the video lay is its owner's business.
            source=Path(subject.source).name,
            pictures_left_out=True,
            extra={},
        )
    )
    return subject.frames[shown].file_path.name
