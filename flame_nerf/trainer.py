"""Nerfstudio's trainer with what a machine without a GPU needs, and a schedule as long as the run."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace

import torch
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.schedulers import Scheduler, SchedulerConfig
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils.rich_utils import CONSOLE
from torch.optim.lr_scheduler import LambdaLR

from flame_nerf.subject import SubjectError


@dataclass
class FlameNerfTrainerConfig(TrainerConfig):
    """Configuration of a training run."""

    _target: type = field(default_factory=lambda: FlameNerfTrainer)
    """target class to instantiate"""


class FlameNerfTrainer(Trainer):
    """Nerfstudio's trainer.

    Falls back to the CPU where CUDA was asked for and there is none, and ends with the message alone where the data
    are at fault.
    """

    def __init__(self, config: TrainerConfig, local_rank: int = 0, world_size: int = 1):
        if config.machine.device_type == "cuda" and not torch.cuda.is_available():
            CONSOLE.log("[yellow]No CUDA device: training on the CPU. `ns-train flame-nerf-cpu` is set up for that.")
            config.machine.device_type = "cpu"
        if config.machine.device_type == "cpu":
            _use_threads()
        super().__init__(config, local_rank, world_size)

    def setup(self, test_mode: str = "val") -> None:
        try:
            super().setup(test_mode)
        except SubjectError as error:
            CONSOLE.rule("Error", style="red")
            raise SystemExit(str(error)) from error

    def setup_optimizers(self) -> Optimizers:
        groups = {name: dict(group) for name, group in self.config.optimizers.items()}
        for group in groups.values():
            scheduler = group.get("scheduler")
            if isinstance(scheduler, DecaySchedulerConfig) and scheduler.max_steps is None:
                group["scheduler"] = replace(scheduler, max_steps=self.config.max_num_iterations)
        return Optimizers(groups, self.pipeline.get_param_groups())


def _use_threads() -> None:
    """As many threads as cores, at most four: small steps gain nothing from more. OMP_NUM_THREADS has the last word."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(4, os.cpu_count() or 1))


@dataclass
class DecaySchedulerConfig(SchedulerConfig):
    """Exponential decay of the learning rate over the run, after an optional delay."""

    _target: type = field(default_factory=lambda: DecayScheduler)
    """target class to instantiate"""
    final_factor: float = 0.05
    """The learning rate ends at this part of where it began."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from zero, linearly."""
    max_steps: int | None = None
    """Step at which the end is reached; the run's length if not given."""


class DecayScheduler(Scheduler):
    """Its factors are Python floats: Nerfstudio's own leave numpy numbers in the checkpoint, which torch won't load."""

    config: DecaySchedulerConfig

    def get_scheduler(self, optimizer: torch.optim.Optimizer, lr_init: float) -> LambdaLR:
        config = self.config

        def factor(step: int) -> float:
            progress = min(1.0, step / max(1, config.max_steps or 1))
            rise = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
            return rise * math.exp(progress * math.log(config.final_factor))

        return LambdaLR(optimizer, factor)
