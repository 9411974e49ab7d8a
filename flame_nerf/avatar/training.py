"""Training on a subject without Nerfstudio's command line, going on where an earlier call was interrupted."""

from __future__ import annotations

import copy
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from flame_nerf.avatar.config_file import CONFIG_FILE, parse_config, read_config, write_config
from flame_nerf.avatar.loading import load_pipeline
from flame_nerf.runtime.errors import AvatarError
from flame_nerf.training.checkpoints import checkpoints_in, read_checkpoint
from flame_nerf.training.relocation import centre_of, has_centre

if TYPE_CHECKING:
    from nerfstudio.pipelines.base_pipeline import Pipeline

    from flame_nerf.training.trainer import FlameNerfTrainerConfig

SAVES = 12
"""Checkpoints of a run, about; of a long one more."""
STEPS_PER_SAVE = 500
"""Steps between them at most: half a minute on two cores, which is what an interruption costs."""


def training_config(method: FlameNerfTrainerConfig, subject: Path, output: Path, steps: int) -> FlameNerfTrainerConfig:
    """A method's config for a run of `steps` steps on a subject, without a viewer."""
    config = copy.deepcopy(method)
    config.max_num_iterations = steps
    config.data = subject.resolve()
    config.pipeline.datamanager.data = config.data
    config.output_dir, config.experiment_name, config.timestamp = output.resolve(), "avatar", f"{steps}-steps"
    config.total_steps = steps
    config.steps_per_save = max(1, min(STEPS_PER_SAVE, steps // SAVES))
    config.vis = "tensorboard"
    config.viewer.quit_on_train_completion = True
    return config


def train(config: FlameNerfTrainerConfig) -> Pipeline:
    """Train, go on from the last checkpoint of an interrupted call with the same config, or load what one finished.

    Returns:
        the pipeline in evaluation mode.
    """
    config_path = config.get_base_dir() / CONFIG_FILE
    last = last_checkpoint(config)
    if last is not None and last[0] >= config.max_num_iterations - 1:
        print(f"already trained: {last[1]}")
        return load_pipeline(config_path)
    if last is not None:
        print(f"going on from step {last[0] + 1} of {config.max_num_iterations}: {last[1]}")
    checkpoint_folder = config.get_checkpoint_dir()
    aside = checkpoint_folder.with_name(f"{checkpoint_folder.name}_before")
    if last is None and checkpoints_in(checkpoint_folder):
        # Of other settings, or of another track: not this run's, and not to be lost before this one is done.
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint_folder.replace(aside)
        print(f"starting anew; what was trained with other settings is kept in {aside} until this is done")
    # Written without where it goes on from: that is this call's business, and the next one compares.
    write_config(config, config_path)
    # Setting up leaves traces in a config, and the caller's is to name the run.
    config = copy.deepcopy(config)
    if last is not None:
        config.load_dir, config.load_step = last[1].parent, last[0]
    seed_all(config.machine.seed)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    shutil.rmtree(aside, ignore_errors=True)
    return trainer.pipeline.eval()


def seed_all(seed: int) -> None:
    """Seed every source of chance, as `ns-train` does: on a CPU one seed is one result."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 -- libraries draw from it
    torch.manual_seed(seed)


def last_checkpoint(config: FlameNerfTrainerConfig) -> tuple[int, Path] | None:
    """Step and file of the last usable checkpoint of an earlier call with this config on this subject; None without.

    A finished run counts whatever it was configured with: its folder is named after its steps.
    """
    for path in reversed(checkpoints_in(config.get_checkpoint_dir())):
        try:
            step, state = read_checkpoint(path)
        except AvatarError:
            continue
        centre = centre_of(state)
        try:
            if centre is not None and not has_centre(config.data, centre):
                # Its track was made anew since.
                return None
        except (OSError, ValueError, KeyError, AttributeError):
            # No such track, or a damaged one: training says so.
            return None
        finished = step >= config.max_num_iterations - 1
        return (step, path) if finished or _was_configured_alike(config) else None
    return None


def _was_configured_alike(config: FlameNerfTrainerConfig) -> bool:
    """Whether the config.yml of an earlier call says the same as this config, wherever the folders were then."""
    try:
        earlier = read_config(config.get_base_dir() / CONFIG_FILE)
    except AvatarError:
        return False
    earlier.output_dir = config.output_dir
    earlier.data = earlier.pipeline.datamanager.data = earlier.pipeline.datamanager.dataparser.data = config.data
    now = copy.deepcopy(config)
    now.pipeline.datamanager.dataparser.data = config.data
    return parse_config(yaml.dump(earlier)) == parse_config(yaml.dump(now))
