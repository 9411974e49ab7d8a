"""From the host's memory to the GPU's without waiting."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on a device. What comes from the host goes through pinned memory, which torch holds back until the copy
    is done: a copy from pageable memory waits for everything that was asked of the GPU before."""
    if tensor.device.type == "cpu" and torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
