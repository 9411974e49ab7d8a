"""GPUs that are old, small or unlike each other, by what they say of themselves."""

import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from flame_nerf import field, methods
from flame_nerf.training.out_of_memory import advice, is_out_of_memory

GPUS = {
    "a 1080": (8, (6, 1), False),
    "a 4090": (24, (8, 9), True),
    "an H100": (80, (9, 0), True),
}
"""Memory in GiB, compute capability, and whether it multiplies bfloat16 itself."""


@pytest.fixture
def has(monkeypatch):
    """Pretends that GPUs are there."""

    def pretend(*names: str) -> None:
        about = [
            SimpleNamespace(total_memory=GPUS[name][0] << 30, major=GPUS[name][1][0], minor=GPUS[name][1][1], name=name)
            for name in names
        ]
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(about))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: about[index])
        monkeypatch.setattr(
            torch.cuda, "get_device_capability", lambda index=0: (about[index].major, about[index].minor)
        )
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index=0: about[index].name)
        field.cuda_has_bfloat16.cache_clear()

    yield pretend
    field.cuda_has_bfloat16.cache_clear()


@pytest.mark.parametrize("name", GPUS)
def test_networks_are_computed_in_what_the_gpu_multiplies_itself(has, monkeypatch, name):
    has(name)
    # To make one asks the driver.
    monkeypatch.setattr(torch, "autocast", lambda device, dtype: (device, dtype))
    found = field.arithmetic("cuda", "auto")
    assert found == ("cuda", torch.bfloat16) if GPUS[name][2] else isinstance(found, contextlib.nullcontext)


def test_two_that_differ_compute_alike(has):
    has("a 4090", "a 1080")
    assert isinstance(field.arithmetic("cuda", "auto"), contextlib.nullcontext)


def test_the_check_names_each(has, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    cuda_check = pytest.importorskip("cuda_check")
    has("a 4090", "a 1080")
    assert "2 GPUs: memory and compute capability 24 GiB and 8.9, 8 GiB and 6.1" in cuda_check.machine()


def test_a_full_one_is_told_of_in_one_line_that_says_what_to_lower(tmp_path):
    error = torch.cuda.OutOfMemoryError("CUDA out of memory. GPU 1 has a total capacity of 3.94 GiB")
    assert is_out_of_memory(error)
    text = advice(methods.flame_nerf.config, True, tmp_path)
    for option in ("train-num-rays-per-batch (now 8192)", "log2-hashmap-size (now 19)", "downscale-factor 2"):
        assert option in text
    assert "\n" not in text
