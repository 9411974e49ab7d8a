"""What is the same work in every training step, as one launch of a CUDA graph instead of hundreds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor, nn

from flame_nerf.runtime.words import escape

SPARE = 0.125
"""Part by which there is room for more samples than a step has had."""
MULTIPLE = 256
"""Numbers of samples that steps are filled up to are multiples of this."""
LEAST = 0.6
"""Part of the room below which a step's samples are not filled up: more than half of the work would be for nothing."""
PATIENCE = 32
"""Steps in a row below `LEAST` after which the room is made smaller."""
SEEN = 3
"""How often a kind of step comes before it is recorded."""
MOST = 4
"""Kinds of steps that are recorded: with and without patches, each with and without corrections of the track."""
TOLERANCE = 0.02
"""Difference of a recording's results from the work's, by their norm, from which it is not used."""
BYTES_PER_SAMPLE = 4096
"""Of a recording's own memory, generously: what lies between the field's layers, forward and backward."""


def adds_up_gradients(trainer: Any | None) -> bool:
    """Whether a trainer adds gradients of several steps up: a recording's would lie where its next replay writes."""
    return trainer is not None and any(steps > 1 for steps in trainer.config.gradient_accumulation_steps.values())


Work = Callable[..., tuple[Tensor, ...]]


class StepRecorder:
    """Records work on tensors, forward and backward, and replays it where tensors of the same shapes come again.

    A recording knows the sizes that it was made with. A march finds other samples in every step; `room` says how many
    they are to be filled up to. What cannot be recorded is computed as ever, with the same results: a kind of step that
    comes for the first times, more samples than there is room for, a GPU without the memory or that refuses.

    Attributes:
        problem: why nothing is recorded any more; None while it is.
    """

    def __init__(self, work: Work, parameters: Sequence[nn.Parameter]):
        """
        Args:
            work: from tensors, the first of them with a row a sample, to tensors, always by the same operators; nothing
                in it waits for the GPU, or asks the host for what differs between steps. It is run a few times more
                where it is recorded.
            parameters: those learned that it reads.
        """
        self._work, self._parameters = work, tuple(parameters)
        self._rooms: dict[int, int] = {}
        self._below: Counter[int] = Counter()
        self._seen: Counter[Any] = Counter()
        self._recorded: dict[Any, Work] = {}
        self.problem: str | None = None

    def room(self, rays: int, samples: int) -> int:
        """How many samples to fill a step up to that has `samples` on `rays`; `samples` itself: this one not at all."""
        if self.problem is not None or samples == 0:
            return samples
        before = room = self._rooms.get(rays, 0)
        self._below[rays] = self._below[rays] + 1 if samples < LEAST * room else 0
        if samples > room or self._below[rays] > PATIENCE:
            room = self._rooms[rays] = -int(-samples * (1 + SPARE) // MULTIPLE) * MULTIPLE
            self._below[rays] = 0
            # What was recorded for the other size is of no more use, and holds memory.
            for kind in [kind for kind in self._recorded if kind[0][0][0] == before]:
                del self._recorded[kind], self._seen[kind]
        return room if LEAST * room <= samples else samples

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The work's results, differentiable in tensors and parameters. Those of a recording are overwritten when it is
        replayed."""
        kind = tuple((tuple(tensor.shape), tensor.dtype, tensor.requires_grad) for tensor in tensors)
        recorded = self._recorded.get(kind)
        if recorded is None and self._worth(kind):
            recorded = self._record(kind, tensors)
        return (recorded or self._work)(*tensors)

    def _worth(self, kind: Any) -> bool:
        if self.problem is not None or len(self._recorded) >= MOST or not torch.is_grad_enabled():
            return False
        self._seen[kind] += 1
        return self._seen[kind] >= SEEN

    def _record(self, kind: Any, tensors: Sequence[Tensor]) -> Work | None:
        """Record a kind of step; None, and a line that says why, where it cannot be."""
        free, _ = torch.cuda.mem_get_info()
        free += torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        needed = BYTES_PER_SAMPLE * len(tensors[0])
        if free < 2 * needed:
            self._give_up(f"that takes {needed >> 20} MB and {free >> 20} MB of the GPU's memory are free")
            return None
        # Its own memory: what a step brings is gone after it.
        own = tuple(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in tensors)
        caches = torch.is_autocast_cache_enabled()
        # Weights that were rounded outside of the recording would be rounded in it once and for all.
        torch.clear_autocast_cache()
        torch.set_autocast_cache_enabled(False)
        try:
            part = _Part(self._work, self._parameters)
            recorded = cast(Work, torch.cuda.make_graphed_callables(part, own, allow_unused_input=True))
            agrees = self._agrees(recorded, tensors)
        except RuntimeError as error:
            self._give_up((str(error).strip() or type(error).__name__).splitlines()[0])
            return None
        finally:
            torch.set_autocast_cache_enabled(caches)
        if not agrees:
            self._give_up("what it computes is not what a step computes")
            return None
        self._recorded[kind] = recorded
        return recorded

    def _agrees(self, recorded: Work, tensors: Sequence[Tensor]) -> bool:
        """Whether a recording gives the results and the gradients of the work; sums in another order are no matter."""

        def found(work: Work) -> list[Tensor]:
            own = [tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in tensors]
            learned = [*(tensor for tensor in own if tensor.requires_grad), *self._parameters]
            results = work(*own)
            graded = [result for result in results if result.requires_grad]
            ones = [torch.ones_like(result) for result in graded]
            gradients = torch.autograd.grad(graded, learned, ones, allow_unused=True) if graded else ()
            # A replay overwrites what it gave before.
            return [value.detach().clone().float() for value in (*results, *gradients) if value is not None]

        pairs = zip(found(self._work), found(recorded), strict=True)
        apart = [(one - other).norm() - (TOLERANCE * one.norm() + 1e-6) for one, other in pairs]
        return bool((torch.stack(apart) <= 0).all())

    def _give_up(self, why: str) -> None:
        CONSOLE.log(
            f"[yellow]Training steps are not recorded as a CUDA graph ({escape(why)}); they go on without, slower."
        )
        self.problem, self._recorded = why, {}


class _Part(nn.Module):
    """The work as the module that `make_graphed_callables` takes parameters from."""

    def __init__(self, work: Work, parameters: Sequence[nn.Parameter]):
        super().__init__()
        self._work, self.learned = work, nn.ParameterList(parameters)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return self._work(*tensors)
