"""Hash grid on CUDA through tiny-cuda-nn, where it is installed."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from flame_nerf.kernels.grid_layout import GridLayout


@lru_cache(maxsize=1)
def tcnn_problem() -> str | None:
    """Why tiny-cuda-nn cannot be used here; None when it can."""
    if not torch.cuda.is_available():
        return "no CUDA device"
    try:
        import tinycudann  # noqa: F401
    except Exception as error:  # its loader raises several kinds: not built, wrong architecture, wrong torch
        return f"tinycudann does not import ({type(error).__name__}: {error})"
    return None


@lru_cache(maxsize=8)
def _encoding(layout: GridLayout, device_index: int) -> torch.nn.Module:
    import tinycudann

    with torch.cuda.device(device_index):
        encoding = tinycudann.Encoding(
            n_input_dims=3,
            encoding_config={
                "otype": "HashGrid",
                "n_levels": layout.n_levels,
                "n_features_per_level": layout.features_per_level,
                "log2_hashmap_size": layout.log2_hashmap_size,
                "base_resolution": layout.base_resolution,
                "per_level_scale": layout.growth,
                "interpolation": "Linear",
            },
        )
    expected = layout.n_rows * layout.features_per_level
    if encoding.params.numel() != expected:
        raise RuntimeError(
            f"tiny-cuda-nn lays this grid out in {encoding.params.numel()} numbers, this project in {expected}: "
            'their tables cannot be exchanged. Choose implementation="torch" or another max_resolution.'
        )
    # The numbers come from the caller's table at each call.
    del encoding.params
    return encoding


def encode_tcnn(x: Float[Tensor, "N 3"], table: Float[Tensor, "rows F"], layout: GridLayout) -> Float[Tensor, "N LF"]:
    """Same as `encode_torch` in half precision on CUDA; the table stays float32 outside.

    Note:
        Differentiable with respect to `table` and `x`.

    Raises:
        RuntimeError: the installed tiny-cuda-nn orders its table differently.
    """
    encoding = _encoding(layout, x.device.index if x.device.index is not None else torch.cuda.current_device())
    encoding.params = table.reshape(-1)
    try:
        return encoding(x).float()
    finally:
        del encoding.params
