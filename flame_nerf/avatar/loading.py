"""A trained avatar in memory, from a run's config.yml or from a packed file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flame_nerf.avatar.config_file import read_config
from flame_nerf.avatar.unpack import unpacked
from flame_nerf.runtime.contents import named_by_contents
from flame_nerf.runtime.door import is_zip
from flame_nerf.runtime.errors import AvatarError
from flame_nerf.subject.types import TRACK_FILE, TRANSFORMS_FILE
from flame_nerf.training.checkpoints import checkpoints_in, first_line, newest_usable, read_checkpoint
from flame_nerf.training.records import plain
from flame_nerf.training.relocation import follow

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig
    from nerfstudio.pipelines.base_pipeline import Pipeline


@dataclass
class Avatar:
    """Where an avatar is on disk, and how it is put together."""

    origin: Path
    """The config.yml or the packed file that the user named."""
    config: TrainerConfig
    """Its paths are right on this machine."""
    packed: bool
    """Whether it came out of a packed file: then it has no pictures but one."""

    @property
    def data(self) -> Path:
        """The subject's folder."""
        return self.config.pipeline.datamanager.data

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint that can be used.

        Raises:
            AvatarError: there is none.
        """
        folder = self.config.get_checkpoint_dir()
        if not checkpoints_in(folder):
            raise AvatarError(
                f"{self.origin}: no checkpoint in {folder}; train until one is saved, or copy that folder along with "
                "config.yml"
            )
        return newest_usable(folder)

    @property
    def contents(self) -> str:
        """A name for what its pictures come from, the same wherever it lies: weights, settings, cameras and track.

        Raises:
            AvatarError: there is no checkpoint.
        """
        files = [self.data / name for name in (TRANSFORMS_FILE, TRACK_FILE)]
        return named_by_contents(self.checkpoint, *files, repr(plain(self.config.pipeline.model)))

    def load(self) -> Pipeline:
        """The trained pipeline in evaluation mode.

        Raises:
            AvatarError: the checkpoint is missing, damaged or of another config.
            SubjectError: the subject cannot be read.
        """
        import torch

        from flame_nerf.subject import SubjectError

        path = self.checkpoint
        step, state = read_checkpoint(path)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            pipeline = self.config.pipeline.setup(device=device, test_mode="test")
        except SubjectError:
            raise
        except ValueError as error:
            raise AvatarError(f"{self.origin}: {first_line(error)}") from None
        pipeline.eval()
        try:
            pipeline.load_pipeline(state, step)
        except (RuntimeError, KeyError, ValueError, TypeError, SystemExit) as error:
            raise AvatarError(
                f"{path}: does not fit its config or its subject ({first_line(error)}); give the "
                "config.yml and the subject that it was trained with"
            ) from None
        return pipeline


@contextmanager
def open_avatar(path: Path, data: Path | None = None) -> Iterator[Avatar]:
    """An avatar's files, ready to be loaded; those of a packed one lie in a temporary folder until the block ends.

    Args:
        path: a run's config.yml, or a file that `flame-nerf pack` wrote.
        data: the subject's folder, where the user names it.

    Raises:
        AvatarError: no such file, not an avatar, or its subject is not to be found.
    """
    if is_zip(path):
        if data is not None:
            raise AvatarError(f"{path}: a packed avatar has its subject inside; leave --data out")
        with unpacked(path) as config:
            yield Avatar(path, config, packed=True)
        return
    if path.suffix.lower() == ".zip":
        raise AvatarError(f"{path}: {'no zip file, or cut short; copy it again' if path.exists() else 'no such file'}")
    config = read_config(path)
    follow(config, path, data)
    yield Avatar(path, config, packed=False)


def load_pipeline(path: Path, data: Path | None = None) -> Pipeline:
    """The trained pipeline behind a config.yml or a packed avatar; arguments and errors as for `open_avatar`."""
    with open_avatar(path, data) as avatar:
        return avatar.load()
