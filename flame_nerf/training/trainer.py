"""Nerfstudio's trainer with what a machine without a GPU needs, whole checkpoints, and errors that say what to do."""

from __future__ import annotations

import errno
import math
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.schedulers import Scheduler, SchedulerConfig
from nerfstudio.engine.trainer import TRAIN_INTERATION_OUTPUT, Trainer, TrainerConfig
from nerfstudio.utils import comms
from nerfstudio.utils.rich_utils import CONSOLE
from torch.optim.lr_scheduler import LambdaLR
from tyro.conf import Fixed

from flame_nerf.kernels.cpu.threads import threads_for_kernels
from flame_nerf.runtime.errors import AvatarError
from flame_nerf.runtime.files import NO_ROOM, DiskFull, refusal_at, whole
from flame_nerf.runtime.old_runs import StoredConfig
from flame_nerf.runtime.scratch import ScratchError
from flame_nerf.runtime.words import escape
from flame_nerf.subject import SubjectError
from flame_nerf.training.checkpoints import KEPT, checkpoints_in, first_line, newest_usable, read_checkpoint, step_of
from flame_nerf.training.finite import Finite
from flame_nerf.training.out_of_memory import advice, is_out_of_memory
from flame_nerf.training.records import forget_records, subject_hash, write_record
from flame_nerf.training.relocation import follow_command_line
from flame_nerf.training.viewer_address import keep_local

TORCH_ON_FULL_DISKS = ("PytorchStreamWriter", "unexpected pos", "iostream error")
"""What torch says where it finds no room for a checkpoint."""
REMEDY = "Make room there, or name another folder with --output-dir."


@dataclass
class FlameNerfTrainerConfig(StoredConfig, TrainerConfig):
    """Configuration of a training run."""

    _target: type = field(default_factory=lambda: FlameNerfTrainer)
    """target class to instantiate"""
    cpu_rays_per_batch: int | None = None
    """Limit on the rays of a step, and of an evaluation batch, when training on a CPU; None: as many as on CUDA. More
    rays give steadier gradients and a step takes longer in proportion."""
    total_steps: int | None = None
    """Steps of the whole run, those before --load-dir included: training ends there, and learning rates decay over
    them. More give a sharper head and take longer in proportion. None: max-num-iterations steps, and as many again
    after --load-dir."""

    def __setattr__(self, name: str, value: Any) -> None:
        # `ns-viewer` puts its own viewer settings here, which listen on every address, once the run is loaded.
        super().__setattr__(name, keep_local(value) if name == "viewer" else value)

    def save_config(self) -> None:
        """As Nerfstudio's; but the file is whole or not there.

        Raises:
            SystemExit: the disk refuses.
        """
        path = self.get_base_dir() / "config.yml"
        CONSOLE.log(f"Saving config to: {escape(path)}")
        try:
            with whole(path) as spare:
                spare.write_text(yaml.dump(self), encoding="utf-8")
        except OSError as error:
            raise SystemExit(f"{path}: {error.strerror or error}. {REMEDY}") from None

    def __setstate__(self, state: dict[str, Any]) -> None:
        # How Nerfstudio's commands bring a config.yml back. Its paths are those of the day it was written; run and
        # subject may have been moved since.
        self.__dict__.update(state)
        follow_command_line(self)


class FlameNerfTrainer(Trainer):
    """Nerfstudio's trainer.

    Falls back to the CPU where CUDA was asked for and cannot be used, and ends with the message alone where the data
    are at fault or the machine is full. A checkpoint appears in its folder only when it is whole.
    """

    def __init__(self, config: FlameNerfTrainerConfig, local_rank: int = 0, world_size: int = 1):
        problem = cuda_problem(local_rank) if config.machine.device_type == "cuda" else None
        if problem is not None and world_size > 1:
            raise SystemExit(f"{problem}. Give --machine.num-devices as many as there are usable GPUs.")
        if problem is not None:
            CONSOLE.log(
                f"[yellow]{escape(problem)}: training on the CPU. `ns-train flame-nerf-cpu` is set up for that."
            )
            config.machine.device_type = "cpu"
        if config.machine.device_type == "cpu":
            _use_threads()
            if config.cpu_rays_per_batch is not None:
                data = config.pipeline.datamanager
                data.train_num_rays_per_batch = min(data.train_num_rays_per_batch, config.cpu_rays_per_batch)
                data.eval_num_rays_per_batch = min(data.eval_num_rays_per_batch, config.cpu_rays_per_batch)
        super().__init__(config, local_rank, world_size)
        self.checkpoint_dir: Path
        self._finite = Finite(self.checkpoint_dir)
        self._subject_hash = ""

    def setup(self, test_mode: str = "val") -> None:
        with self._plain_errors():
            super().setup(test_mode)

    def train(self) -> None:
        if self.config.total_steps is not None and self._start_step >= self.config.total_steps:
            CONSOLE.log(f"All {self.config.total_steps} steps are done already; give a higher --total-steps for more.")
            return
        if self.pipeline.model.trains_in_kernels:
            CONSOLE.log(
                "The first step loads the kernels, and in a new installation compiles them: up to a minute, once."
            )
        with self._plain_errors():
            super().train()

    def train_iteration(self, step: int) -> TRAIN_INTERATION_OUTPUT:
        with threads_for_kernels() if self.pipeline.model.trains_in_kernels else nullcontext():
            loss, terms, metrics = super().train_iteration(step)
        self._finite.note(loss, terms, step)
        return loss, terms, metrics

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except (SubjectError, MemoryError, RuntimeError, OSError) as error:
            if is_out_of_memory(error):
                on_gpu = self.device != "cpu" and not isinstance(error, MemoryError)
                text = advice(self.config, on_gpu, self.checkpoint_dir)
            elif isinstance(error, (SubjectError, ScratchError)):
                text = str(error)
            elif isinstance(error, OSError) and (error.filename is not None or error.errno in NO_ROOM):
                where, why = error.filename or self.base_dir, error.strerror or error
                text = f"{where}: {why}. {REMEDY} Checkpoints that are there are whole: --load-dir goes on from them."
            else:
                raise
            CONSOLE.rule("Error", style="red")
            if self.viewer_state is not None:
                self.shutdown()
            raise SystemExit(text) from error

    def _load_checkpoint(self) -> None:
        """As Nerfstudio's; but of a folder the last checkpoint that can be used is taken.

        Raises:
            SystemExit: there is none, or it is not of this config.
        """
        config, named = self.config, self.config.load_step
        try:
            if config.load_dir is not None and named is None:
                config.load_step = step_of(newest_usable(config.load_dir))
            elif config.load_dir is not None:
                read_checkpoint(config.load_dir / f"step-{named:09d}.ckpt")
            elif config.load_checkpoint is not None:
                read_checkpoint(config.load_checkpoint)
            super()._load_checkpoint()
        except AvatarError as error:
            raise SystemExit(str(error)) from None
        finally:
            config.load_step = named
        if self.config.total_steps is not None:
            self.config.max_num_iterations = max(0, self.config.total_steps - self._start_step)

    def save_checkpoint(self, step: int) -> None:
        """As Nerfstudio's; but an interruption or a full disk never leaves a cut one among the checkpoints.

        Raises:
            SystemExit: it could not be written; those written before are as they were.
        """
        if not comms.is_main_process():
            return
        self._finite.check(self.pipeline.model, step)
        folder, name = self.checkpoint_dir, f"step-{step:09d}.ckpt"
        # Beside the folder: whoever resumes takes every name inside for a checkpoint.
        part = self.checkpoint_dir = folder.with_name(f".{folder.name}.part")
        try:
            super().save_checkpoint(step)
            folder.mkdir(parents=True, exist_ok=True)
            # First, so that a checkpoint that is there always has its record; one without a checkpoint is forgotten.
            self._record(folder / name)
            os.replace(part / name, folder / name)
        except (OSError, RuntimeError) as error:
            path = folder / name
            why = _refusal(error, part / name, path)
            raise SystemExit(f"{path} could not be written ({why}). {REMEDY} Earlier checkpoints are whole.") from error
        finally:
            self.checkpoint_dir = folder
            shutil.rmtree(part, ignore_errors=True)
        if self.config.save_only_latest_checkpoint:
            for other in checkpoints_in(folder)[:-KEPT]:
                other.unlink()
        forget_records(folder, {path.stem for path in checkpoints_in(folder)})

    def _record(self, checkpoint: Path) -> None:
        """Write down what a checkpoint was made of and with."""
        subject = self.pipeline.datamanager.train_dataset.subject
        device = torch.cuda.get_device_name() if str(self.device).startswith("cuda") else f"{platform.machine()} CPU"
        try:
            self._subject_hash = self._subject_hash or subject_hash(subject)
            views = self.pipeline.model.losses.views
            write_record(checkpoint, self.config, subject, self._subject_hash, device, views)
        except OSError as error:
            # The checkpoint is whole without it.
            CONSOLE.log(
                f"[yellow]{checkpoint.name}: what it was made with could not be written down ({escape(error)})."
            )

    def setup_optimizers(self) -> Optimizers:
        groups = {name: dict(group) for name, group in self.config.optimizers.items()}
        for group in groups.values():
            scheduler = group.get("scheduler")
            if isinstance(scheduler, DecaySchedulerConfig) and scheduler.max_steps is None:
                steps = self.config.total_steps or self.config.max_num_iterations
                group["scheduler"] = replace(scheduler, max_steps=steps)
        return Optimizers(groups, self.pipeline.get_param_groups())


def _refusal(error: OSError | RuntimeError, part: Path, path: Path) -> str:
    """Why a checkpoint could not be written."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, RuntimeError) and any(words in str(error) for words in TORCH_ON_FULL_DISKS):
        # It does not say why.
        number = refusal_at(part) or errno.ENOSPC
    if number in NO_ROOM and not isinstance(error, DiskFull):
        error = DiskFull(number, path, None, part.stat().st_size if part.is_file() else 0)
    return getattr(error, "strerror", None) or first_line(error)


def cuda_problem(device_index: int = 0) -> str | None:
    """Why this machine's GPU cannot be used; None where it can."""
    if not torch.cuda.is_available():
        return "No CUDA device"
    try:
        # A GPU that this build of PyTorch has no kernels for is there, and fails at the first of them.
        torch.ones(2, device=f"cuda:{device_index}").sum().item()
    except RuntimeError as error:
        if is_out_of_memory(error):
            return None
        return f"The GPU cannot be used with this PyTorch ({str(error).splitlines()[0]})"
    return None


def _use_threads() -> None:
    """As many threads as cores, at most four: small steps gain nothing from more. OMP_NUM_THREADS has the last word."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(4, os.cpu_count() or 1))


@dataclass
class DecaySchedulerConfig(StoredConfig, SchedulerConfig):
    """Exponential decay of the learning rate over the run."""

    _target: type = field(default_factory=lambda: DecayScheduler)
    """target class to instantiate"""
    final_factor: Fixed[float] = 0.05
    """The learning rate at the end, as a part of that at the start. Larger keeps learning until the end and leaves the
    result noisier; smaller settles earlier."""
    max_steps: Fixed[int | None] = None
    """Step at which the end is reached; the run's length if not given."""


class DecayScheduler(Scheduler):
    """Its factors are Python floats: Nerfstudio's own leave numpy numbers in the checkpoint, which torch won't load."""

    config: DecaySchedulerConfig

    def get_scheduler(self, optimizer: torch.optim.Optimizer, lr_init: float) -> LambdaLR:
        config = self.config

        def factor(step: int) -> float:
            progress = min(1.0, step / max(1, config.max_steps or 1))
            return math.exp(progress * math.log(config.final_factor))

        return LambdaLR(optimizer, factor)
