"""A watch over losses and weights: training stops where one is no number, and never saves such weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flame_nerf.training.checkpoints import checkpoints_in, not_finite

LOOK_EVERY = 100
"""Steps after which a GPU is asked for what it noted: to ask at every step would be to wait for every step."""


class Finite:
    """Notes in each step whether the loss is finite."""

    def __init__(self, folder: Path):
        """
        Args:
            folder: of the run's checkpoints, which the message names.
        """
        self._folder = folder
        self._spoiled: Tensor | None = None

    def note(self, loss: Float[Tensor, ""], terms: Mapping[str, Float[Tensor, ""]], step: int) -> None:
        """Take note of a step; on a CPU it is judged at once, on a GPU every `LOOK_EVERY` steps.

        Raises:
            SystemExit: the loss is, or has been, no finite number. The text names the terms.
        """
        # 0, or no number from the first such loss on: two launches, where to ask what is finite takes five.
        spoiled = loss.detach() * 0
        self._spoiled = spoiled if self._spoiled is None else self._spoiled + spoiled
        if (loss.is_cuda and step % LOOK_EVERY) or float(self._spoiled) == 0:
            return
        bad = [name for name, value in terms.items() if not bool(torch.as_tensor(value).isfinite())]
        self._stop(f"the loss is no finite number ({', '.join(bad) or 'one of its terms'})", step)

    def check(self, model: nn.Module, step: int) -> None:
        """Look at all that is learned, before it is saved.

        Raises:
            SystemExit: a weight is no number; it is named.
        """
        bad = not_finite((name, value.detach()) for name, value in model.named_parameters())
        if bad is not None:
            self._stop(f"{bad} holds what is no number", step)

    def _stop(self, what: str, step: int) -> None:
        kept = checkpoints_in(self._folder)
        last = f"the last good checkpoint is {kept[-1]}" if kept else "no checkpoint was saved yet"
        raise SystemExit(
            f"Training stopped at step {step}: {what}; {last}. Look the subject over with flame-nerf-data check, or "
            "give a smaller learning rate (--optimizers.encoding.optimizer.lr)."
        )
