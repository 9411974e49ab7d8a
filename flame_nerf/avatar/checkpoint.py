"""A checkpoint's step and tensors, and nothing else of it."""

from __future__ import annotations

from pathlib import Path

from flame_nerf.runtime.errors import AvatarError


def read_checkpoint(path: Path) -> tuple[int, dict]:
    """Step and state of a checkpoint; nothing but tensors and plain values is ever made from it.

    Raises:
        AvatarError: it is damaged, or not a checkpoint.
    """
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        step, state = loaded["step"], loaded["pipeline"]
        if not isinstance(step, int) or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise ValueError("it holds other things than a step and tensors")
    except Exception as error:  # noqa: BLE001 -- torch raises many kinds for a damaged file
        raise AvatarError(f"{path}: no usable checkpoint ({first_line(error)}); copy it again, or train") from None
    return step, state


def first_line(error: Exception) -> str:
    """What an error says, at most 200 characters of it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
