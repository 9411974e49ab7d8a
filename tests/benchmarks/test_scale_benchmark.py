"""The speed benchmarks' own arithmetic."""

import math
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))


def test_time_to_a_quality_is_read_off_the_curve():
    from learning_curve import reached
    from speed import per_second

    curve = [[4.0, 20.0], [8.0, 24.0], [16.0, 23.0], [32.0, 26.0]]
    assert reached(curve, 22.0) == pytest.approx(6.0)
    assert reached(curve, 24.0) == pytest.approx(8.0)
    assert reached(curve, 25.0) == pytest.approx(16.0 + 16.0 * 2 / 3)
    assert reached(curve, 10.0) == 4.0, "nothing is known before the first look"
    assert math.isinf(reached(curve, 26.5))
    assert [per_second(value) for value in (2.5e6, 1200.0, 3.0)] == ["2.50 M/s", "1.20 k/s", "3.0 /s"]


def test_stock_method_is_set_up_without_a_gpu():
    from learning_curve import NERFACTO_CPU_RAYS, method_config

    config = method_config("nerfacto", "cpu")
    assert config.machine.device_type == "cpu" and not config.mixed_precision
    assert config.pipeline.model.implementation == "torch"
    assert config.pipeline.datamanager.train_num_rays_per_batch == NERFACTO_CPU_RAYS
    assert method_config("nerface", "cpu").pipeline.datamanager.train_num_rays_per_batch == 2048, "its own settings"
