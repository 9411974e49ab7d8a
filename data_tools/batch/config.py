"""What a batch is asked to do, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flame_nerf.runtime.errors import OneLine


class BatchError(OneLine, RuntimeError):
    """A batch that cannot be started. The text names what is wrong and what to do."""


@dataclass(frozen=True)
class BatchConfig:
    """Options of a batch."""

    train: str | None = None
    """Method of `ns-train` to train on each subject, such as flame-nerf or flame-nerf-cpu. Not given: only track."""
    track_options: str = ""
    """Further options of `flame-nerf-data track`, after an equals sign: --track-options="--resolution 512 --fps 12"."""
    train_options: str = ""
    """Further options of `ns-train METHOD`, after an equals sign: --train-options="--max-num-iterations 3000"."""
    workers: int = 1
    """Jobs at a time. Tracking keeps about two processor cores busy, training on the processor up to four."""
    gpus: int = 0
    """GPUs of this machine, dealt out to the workers in turn; on a cluster any number asks for one a job. 0: jobs
    choose."""
    retries: int = 1
    """How often a step that failed is tried again; it goes on where it stopped. On Ray also how often a job is given to
    another machine after its own is lost."""
    engine: Literal["local", "ray", "slurm"] = "local"
    """local: processes on this machine; ray: jobs of the Ray cluster this machine belongs to (or of one that is
    started here), needs `pip install ray`; slurm: a job array, from a machine that has `sbatch`. All machines of a
    cluster must see the folders under the same names."""
    slurm_options: str = ""
    """Further options of `sbatch`, after an equals sign: --slurm-options="--partition gpu --time 4:00:00 --mem 16G"."""
    outputs: Path | None = None
    """Where trainings are written. Not given: SUBJECTS/outputs."""
