"""Where a run and its subject are now, when they are no longer where config.yml says.

config.yml holds absolute paths. The run is where config.yml lies. The subject is looked for at the place that it had
relative to the run, then where it was, then beside and above the run; a checkpoint tells whether it is the one.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flame_nerf.runtime.door import read_npz
from flame_nerf.runtime.errors import AvatarError
from flame_nerf.subject.types import TRACK_FILE, TRANSFORMS_FILE
from flame_nerf.training.checkpoints import checkpoints_in, newest_usable, step_of

if TYPE_CHECKING:
    import torch
    from nerfstudio.engine.trainer import TrainerConfig

LEVELS_UP = 6
"""Folders above config.yml whose content is looked through for the subject."""
FOLDERS_LOOKED_AT = 500
"""Entries of one such folder that are looked at, at most."""
CENTRE = "_model.refinement.pose.centre"
"""A checkpoint's mean of the canonical head: by it a run knows its subject."""
SAME_CENTRE = 1e-5
"""Metres that two such means may differ by and be the same."""


def follow(config: TrainerConfig, config_path: Path, data: Path | None = None) -> None:
    """Set a config's paths to where its run and its subject are now.

    Args:
        config: as read from `config_path`; changed in place.
        config_path: its config.yml, beside the folder of checkpoints.
        data: the subject's folder, where the user names it; taken as it is.

    Raises:
        AvatarError: no such subject can be found; the text says what to give.
    """
    home = config_path.expanduser().absolute().parent
    recorded_run, recorded_data = config.get_base_dir(), _recorded_data(config)
    _settle(config, home)
    if data is not None:
        # load_subject's own message, where it is no subject, says what makes one.
        found: Path | None = data.expanduser().absolute()
    else:
        found = find_subject(home, recorded_run, recorded_data, _centre(config))
    if found is None:
        raise AvatarError(
            f"{config_path}: its subject is no longer at {recorded_data}, nor beside or above the run; give the "
            f"subject's folder: --data SUBJECT with flame-nerf's commands, or once `flame-nerf move {config_path} "
            "--data SUBJECT` for ns-viewer, ns-render and the rest"
        )
    config.data = config.pipeline.datamanager.data = config.pipeline.datamanager.dataparser.data = found


def follow_command_line(config: TrainerConfig) -> None:
    """Set a config's paths, where this process was told to load it with ``--load-config``, as ``ns-*`` commands are.

    Raises:
        SystemExit: with the message alone, which is what a user of such a command should see.
    """
    path = _loaded_by_name(sys.argv[1:])
    # The methods' own configs, which are copied before one is loaded, have no data.
    if path is None or not path.is_file() or _recorded_data(config) is None:
        return
    try:
        follow(config, path)
        folder = config.get_checkpoint_dir()
        # The stock commands take the highest number for the newest checkpoint, usable or not; ns-train starts anew.
        if config.load_step is None and Path(sys.argv[0]).stem != "ns-train" and checkpoints_in(folder):
            config.load_step = step_of(newest_usable(folder))
    except AvatarError as error:
        raise SystemExit(str(error)) from None
    if Path(sys.argv[0]).stem == "ns-viewer":
        # It writes its log into the run's folder, which it makes without those above it.
        with contextlib.suppress(OSError):
            config.get_base_dir().mkdir(parents=True, exist_ok=True)


def _loaded_by_name(arguments: list[str]) -> Path | None:
    """The config.yml that a command line names, None without one."""
    for index, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option.replace("_", "-") == "--load-config":
            value = value if equals else "".join(arguments[index + 1 : index + 2])
            return Path(value) if value else None
    return None


def find_subject(home: Path, run: Path, data: Path | None, centre: np.ndarray | None) -> Path | None:
    """The subject that a run was trained on; None where it is not to be found.

    Args:
        home: folder of the run's config.yml.
        run, data: where run and subject were when the config was written.
        centre: mean of the canonical head of the run's subject; None: any subject with the right name is taken.
    """
    seen: set[Path] = set()
    for folder in _places(home, run, data):
        folder = Path(os.path.normpath(folder))
        if folder in seen:
            continue
        seen.add(folder)
        if (folder / TRANSFORMS_FILE).is_file() and _is_subject(folder, data, centre):
            return folder
    return None


def _places(home: Path, run: Path, data: Path | None) -> Iterator[Path]:
    """Folders that may be the subject, the likeliest first."""
    if data is not None:
        if run.is_absolute():
            yield home / os.path.relpath(data, run)
        elif len(home.parents) >= len(run.parts):
            # Trained from an unknown folder, which held outputs/ and perhaps the subject: what stood there is here now.
            started = home.parents[len(run.parts) - 1]
            for above in data.parents:
                yield started / data.relative_to(above)
        yield data
    for above in [home, *home.parents][: LEVELS_UP + 1]:
        yield above
        named = above / data.name if data is not None else above
        yield named
        try:
            entries = sorted(entry.path for entry in os.scandir(above) if entry.is_dir())[:FOLDERS_LOOKED_AT]
        except OSError:
            continue
        yield from map(Path, entries)


def _is_subject(folder: Path, data: Path | None, centre: np.ndarray | None) -> bool:
    if centre is None:
        return data is None or folder.name == data.name
    try:
        return has_centre(folder, centre)
    except (OSError, ValueError, KeyError, AttributeError):
        # Damaged, or not ours. Where config.yml names it, loading says what is wrong with it.
        return folder == data


def has_centre(subject: Path, centre: np.ndarray) -> bool:
    """Whether a subject's canonical head has this mean; ValueError or KeyError where the track cannot be read."""
    track = read_npz(subject / TRACK_FILE, ValueError, only=("canonical_vertices",))
    mean = track["canonical_vertices"].mean(axis=0, dtype=np.float64)
    return mean.shape == centre.shape and bool(np.abs(mean - centre).max() < SAME_CENTRE)


def centre_of(state: dict[str, torch.Tensor]) -> np.ndarray | None:
    """Mean of the canonical head that a checkpoint's state was trained on; None where the method does not keep it."""
    return state[CENTRE].double().numpy() if CENTRE in state else None


def _centre(config: TrainerConfig) -> np.ndarray | None:
    import torch

    for path in reversed(checkpoints_in(config.get_checkpoint_dir())):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["pipeline"]
            return centre_of(state)
        except Exception:  # noqa: BLE001 -- whoever loads it says what is wrong with it
            continue
    return None


def _recorded_data(config: TrainerConfig) -> Path | None:
    manager = config.pipeline.datamanager
    data = manager.data or manager.dataparser.data
    return None if data is None or data == Path() else Path(data)


def _settle(config: TrainerConfig, home: Path) -> None:
    """Let the config's run be the folder `home`: get_base_dir() where the folders' names allow it, and always
    get_checkpoint_dir()."""
    checkpoint_folder = config.relative_model_dir.name
    if len(home.parents) > 2 and home.parent.name == config.method_name:
        config.output_dir, config.experiment_name = home.parents[2], home.parents[1].name
        config.timestamp, config.relative_model_dir = home.name, Path(checkpoint_folder)
    else:
        config.output_dir, config.relative_model_dir = home, home / checkpoint_folder
        config.experiment_name, config.timestamp = home.name, "here"
