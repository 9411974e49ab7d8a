"""What to say when a machine is too small for a run: which settings to lower, and where the run can go on from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig

_TEXTS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")

_ON_GPU = (
    "pipeline.datamanager.train-num-rays-per-batch",
    "pipeline.model.field.log2-hashmap-size",
    "pipeline.model.sampling.mesh-memory",
    "pipeline.model.eval-num-rays-per-chunk",
)
_IN_MAIN_MEMORY = (
    "pipeline.datamanager.image-memory",
    "pipeline.model.sampling.mesh-memory",
    "pipeline.datamanager.train-num-rays-per-batch",
    "pipeline.model.field.log2-hashmap-size",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the GPU or of the machine: numpy, torch and CUDA differ in form."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _TEXTS)


def advice(config: TrainerConfig, on_gpu: bool, checkpoints: Path) -> str:
    """One message: what to lower, most helpful first, with the values it has now; and what is saved.

    Args:
        config: of the run.
        on_gpu: whether the GPU's memory ran out, or the machine's.
        checkpoints: the run's folder of checkpoints.
    """
    settings = [(name, _value(config, name)) for name in (_ON_GPU if on_gpu else _IN_MAIN_MEMORY)]
    lower = ", ".join(f"--{name} (now {value})" for name, value in settings if value is not None)
    saved = sorted(checkpoints.glob("step-*.ckpt"))
    if saved:
        after = f"{saved[-1]} is whole: --load-dir {checkpoints} goes on from it."
    else:
        after = "Nothing was saved yet."
    where = "The GPU's memory" if on_gpu else "This machine's memory"
    shrink = "--pipeline.datamanager.dataparser.downscale-factor 2 shrinks the pictures"
    return f"{where} is full. Lower {lower}; {shrink}. {after}"


def _value(config: Any, name: str) -> Any:
    """A setting by its name on the command line; None where this method has no such setting."""
    for part in name.split("."):
        config = getattr(config, part.replace("-", "_"), None)
    return config
