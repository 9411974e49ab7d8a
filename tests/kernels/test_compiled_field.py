"""The compiled field against the torch one in float64: values, and gradients to everything that learns."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flame_nerf.field import FieldConfig, FlameNerfField
from flame_nerf.kernels.cpu.field_layout import make_plan

BOX = torch.tensor([[-0.15, -0.2, -0.1], [0.15, 0.2, 0.2]])
CONDITION = 5
ARCHITECTURES = [
    {},
    {"modulate_features": False},
    {"condition_color": True, "color_layers": 2},
    {"density_layers": 2, "direction_degree": 0, "hidden_dim": 16},
    {"direction_degree": 3, "hidden_dim": 30, "n_levels": 3},
    {"direction_degree": 1, "features_per_level": 3, "n_levels": 3},
    {"features_per_level": 4},
    {"direction_degree": 0},
    {"n_levels": 16, "hidden_dim": 64, "max_resolution": 256},
]


def make_pair(seed: int = 0, **changes) -> tuple[FlameNerfField, FlameNerfField]:
    """A compiled field, and a torch field in float64 with the same parameters."""
    torch.manual_seed(seed)
    sizes = {"log2_hashmap_size": 10, "n_levels": 4, "max_resolution": 64} | changes
    fast = FlameNerfField(BOX, CONDITION, FieldConfig(**sizes))
    for name, parameter in fast.named_parameters():
        if name == "grid.table":
            torch.nn.init.uniform_(parameter, -1.0, 1.0)
        elif name.startswith("condition_"):
            torch.nn.init.normal_(parameter, std=0.3)
    slow = copy.deepcopy(fast).double()
    slow.config.compiled, slow.config.precision, slow.grid.implementation = False, "float32", "torch"
    return fast, slow


def make_query(n: int, frames: int, seed: int = 1, is_sorted: bool = True) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points in and around the box, directions, conditions and their index."""
    generator = torch.Generator().manual_seed(seed)
    points = BOX[0] + (BOX[1] - BOX[0]) * (1.1 * torch.rand(n, 3, generator=generator) - 0.05)
    directions = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=-1)
    index = torch.randint(0, frames, (n,), generator=generator)
    condition = torch.rand(frames, CONDITION, generator=generator)
    return points, directions, condition, index.sort().values if is_sorted else index


def run(field: FlameNerfField, query: tuple[Tensor, ...], double: bool) -> dict[str, Tensor]:
    """Outputs, and gradients of a loss that reaches all of them in different measure."""
    points, index = query[0], query[3]
    dtype = torch.float64 if double else torch.float32
    inputs = [values.to(dtype, copy=True).requires_grad_() for values in query[:3]]
    sigma, rgb = field.canonical(*inputs, index)
    assert sigma.requires_grad
    generator = torch.Generator().manual_seed(3)
    loss = (sigma * torch.randn(len(points), generator=generator) * 0.01).sum()
    loss = loss + (rgb * torch.randn(len(points), 3, generator=generator)).sum()
    loss.backward()
    results = {"sigma": sigma, "rgb": rgb}
    results |= {f"d {name}": x.grad for name, x in zip(("points", "directions", "condition"), inputs, strict=True)}
    return results | {f"d {name}": parameter.grad for name, parameter in field.named_parameters()}


def check(fast: FlameNerfField, slow: FlameNerfField, query: tuple[Tensor, ...]) -> None:
    actual, expected = run(fast, query, False), run(slow, query, True)
    for name, value in expected.items():
        if value is None:
            assert actual[name] is None or not actual[name].any(), name
            continue
        value, own = value.detach(), actual[name]
        own = torch.zeros_like(value) if own is None else own.detach().double()
        size = value.abs().max().clamp_min(1e-6) if value.numel() else 1.0
        # A point within rounding of a cell's border may take the neighbouring cell's slope, and a network's unit within
        # rounding of zero that of the other side.
        wrong = ((own - value).abs() > 1e-4 * size).double().mean() if value.numel() else 0.0
        most = 0.01 if name in ("d points", "d directions") else 0.0
        assert wrong <= most, (name, (own - value).abs().max() / size)


@pytest.mark.parametrize("changes", ARCHITECTURES)
def test_values_and_gradients_against_torch(changes: dict) -> None:
    fast, slow = make_pair(**changes)
    assert fast.is_compiled(BOX) and not slow.is_compiled(BOX.double())
    check(fast, slow, make_query(500, 3))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 400), st.integers(1, 5), st.booleans(), st.integers(0, 1000))
def test_any_number_and_order_of_points(n: int, frames: int, is_sorted: bool, seed: int) -> None:
    check(*make_pair(seed), make_query(n, frames, seed, is_sorted))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_agree(threads: int) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        check(*make_pair(), make_query(9000, 4))
    finally:
        torch.set_num_threads(before)


def test_huge_densities_are_cut_alike() -> None:
    fast, slow = make_pair()
    for field in (fast, slow):
        with torch.no_grad():
            field.density_network[-1].bias[0] = 14.0
    query = make_query(300, 2)
    actual, expected = run(fast, query, False), run(slow, query, True)
    # float32 leaves exp(15) that many digits.
    torch.testing.assert_close(actual["sigma"], expected["sigma"].float(), rtol=2e-4, atol=0.0)
    assert (expected["sigma"] > 3.2e6).any()


def test_only_what_is_wanted_is_computed() -> None:
    fast, _ = make_pair()
    points, directions, condition, index = make_query(50, 2)
    fast.canonical(points, directions, condition, index)[0].sum().backward()
    assert points.grad is None and fast.grid.table.grad.any()
    with torch.no_grad():
        assert not fast.canonical(points, directions, condition, index)[0].requires_grad


def test_torch_serves_what_the_kernels_do_not() -> None:
    for changes in ({"compiled": False}, {"precision": "bfloat16"}, {"implementation": "torch"}):
        assert not make_pair(**changes)[0].is_compiled(BOX)
    fast, _ = make_pair()
    assert not fast.double().is_compiled(BOX.double())


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 40), st.lists(st.integers(1, 40), min_size=2, max_size=4), st.sampled_from([0, 3, 8, 15]),
    st.lists(st.integers(1, 40), min_size=2, max_size=4), st.booleans(),
)  # fmt: skip
def test_no_layer_writes_where_another_reads(features, density, harmonics, color, shift) -> None:
    plan = make_plan(features, tuple(density), harmonics, tuple(color), shift)
    free = plan.layers[0, 2]
    assert free >= features
    for first_in, n_in, first_out, n_out, *_ in plan.layers:
        assert first_in + n_in <= max(first_out, plan.harmonics_row + harmonics + 4)
        assert first_out + n_out <= plan.n_rows
    colors = plan.layers[len(density) :]
    assert (colors[:, 2] >= plan.harmonics_row + harmonics).all() and plan.layers[-1, 2] == plan.color_row
    written = [(out, out + n) for _, _, out, n, *_ in plan.layers[1:]]
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(written))
