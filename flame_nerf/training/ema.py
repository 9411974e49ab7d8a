"""A running average of the weights, for evaluation: the last steps' jitter averages out, training does not notice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from torch import Tensor, nn


class WeightAverage(nn.Module):
    """Exponential moving average of parameters, kept beside them and in the checkpoint.

    After n updates it is Σᵢ dⁿ⁻ⁱ wᵢ / Σᵢ dⁿ⁻ⁱ over the weights wᵢ that it was shown (Polyak averaging with Adam's
    correction of the start, Kingma and Ba 2015, section 3), so that it is right from the first step on.
    """

    updates: Tensor

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float):
        """
        Args:
            parameters: what is averaged. They stay their owner's: neither moved nor saved from here.
            decay: d, 0 < d < 1; about 1 / (1 - d) steps are averaged.

        Raises:
            ValueError: a decay outside of that.
        """
        super().__init__()
        if not 0.0 < decay < 1.0:
            raise ValueError(f"ema_decay must lie between 0 and 1, both excluded, not {decay}; 0 turns averaging off.")
        self.decay = decay
        self._is_applied = False
        # A tuple is invisible to torch: the same parameter must not be listed twice in one model.
        self._parameters_of_owner = tuple(parameters)
        self.averages = nn.ParameterList(
            nn.Parameter(parameter.detach().clone(), requires_grad=False) for parameter in self._parameters_of_owner
        )
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        # The same on the host: to ask a GPU for it would be to wait for the step. None: not known.
        self._count: int | None = 0
        self.register_load_state_dict_post_hook(WeightAverage._forget_count)

    def callbacks(self) -> list[TrainingCallback]:
        """What takes the weights in after each step of a training."""
        return [TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], lambda step: self.update())]

    @classmethod
    def of_groups(cls, groups: Mapping[str, Iterable[nn.Parameter]], decay: float) -> WeightAverage | None:
        """The average of all parameters of the optimisers' groups; None for a decay of 0.

        Raises:
            ValueError: a decay outside of 0 to 1.
        """
        learned = [parameter for group in groups.values() for parameter in group]
        return cls(learned, decay) if decay else None

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters as they are now into the average: once after each optimiser step."""
        self.updates += 1
        self._count = int(self.updates) if self._count is None else self._count + 1
        share = (1.0 - self.decay) / (1.0 - self.decay**self._count)
        torch._foreach_lerp_(list(self.averages), [p.detach() for p in self._parameters_of_owner], share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The owner computes with the averages inside of this block, with its own weights again after it.

        Storage is exchanged, nothing is copied. No optimiser step, and no saving, inside. Blocks may be nested.
        """
        if self._is_applied:
            yield
            return
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for average, parameter in zip(self.averages, self._parameters_of_owner, strict=True):
            average.data, parameter.data = parameter.data, average.data
        self._is_applied = not self._is_applied

    def _forget_count(self, _: object) -> None:
        self._count = None
