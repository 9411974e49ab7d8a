"""Hash grid and spherical harmonics against slow, independent versions."""

from __future__ import annotations

import logging
import math
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flame_nerf.encodings import HashGrid
from flame_nerf.encodings import hash_grid as hash_grid_module
from flame_nerf.kernels.cpu.threads import run_shares
from flame_nerf.kernels.grid_layout import GridLayout

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
IMPLEMENTATIONS = [
    "torch",
    "numba",
    "warp",
    pytest.param("warp on cuda", marks=needs_cuda),
    pytest.param("tcnn on cuda", marks=needs_cuda),
]


def make_grid(implementation: str, features: int = 2, log2_size: int = 12, seed: int = 0) -> HashGrid:
    implementation, _, device = implementation.partition(" on ")
    if implementation == "tcnn":
        pytest.importorskip("tinycudann")
    torch.manual_seed(seed)
    grid = HashGrid(5, features, log2_size, base_resolution=4, max_resolution=90, implementation=implementation)
    torch.nn.init.uniform_(grid.table, -0.5, 0.5)
    return grid.to(device or "cpu")


def encode_slowly(x: np.ndarray, table: np.ndarray, grid: HashGrid) -> np.ndarray:
    """Instant-NGP section 3 in float64, one point and one corner at a time, with its own account of the layout."""
    layout = grid.layout
    growth = (layout.max_resolution / layout.base_resolution) ** (1 / (layout.n_levels - 1))
    out, first_row = [], 0
    for level in range(layout.n_levels):
        # tiny-cuda-nn rounds to float32 here; which side of an integer that falls on is the layout's to decide.
        scale = float(np.float32(round(layout.base_resolution * growth**level - 1, 4)))
        resolution = math.ceil(scale) + 1
        n_rows = min(-(-(resolution**3) // 8) * 8, 2**layout.log2_hashmap_size)
        is_dense = resolution**3 <= 2**layout.log2_hashmap_size
        values = np.zeros((len(x), table.shape[1]))
        for n, point in enumerate(x.astype(np.float64)):
            position = point * scale + 0.5
            cell = np.floor(position)
            for corner in np.ndindex(2, 2, 2):
                weight = np.prod(np.where(corner, position - cell, 1 - (position - cell)))
                i, j, k = (int(c) + o for c, o in zip(cell, corner, strict=True))
                if is_dense:
                    row = i + resolution * (j + resolution * k)
                else:
                    row = i ^ (j * 2654435761 & 0xFFFFFFFF) ^ (k * 805459861 & 0xFFFFFFFF)
                values[n] += weight * table[first_row + row % n_rows]
        out.append(values)
        first_row += n_rows
    assert first_row == len(table)
    return np.concatenate(out, axis=1)


def points(n: int, seed: int = 1) -> torch.Tensor:
    x = torch.rand(n, 3, generator=torch.Generator().manual_seed(seed))
    x[:3] = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.5]])[: len(x)]
    return x


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("features", [1, 2, 4, 8])
def test_values_against_slow_version(implementation: str, features: int) -> None:
    grid = make_grid(implementation, features)
    assert grid.layout.dense[0] and not grid.layout.dense[-1]
    x = points(60)
    expected = encode_slowly(x.numpy(), grid.table.detach().cpu().double().numpy(), grid)
    actual = grid(x.to(grid.table.device)).detach().cpu().numpy()
    tolerance = 2e-3 if "tcnn" in implementation else 2e-5
    np.testing.assert_allclose(actual, expected, atol=tolerance)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS[1:])
@pytest.mark.parametrize(
    ("features", "n"), [(2, 0), (2, 1), (2, 5000), (3, 5000), (2, 256), (4, 300), (8, 500), (1, 500)]
)
def test_gradients_against_reference(implementation: str, features: int, n: int) -> None:
    reference, grid = make_grid("torch", features), make_grid(implementation, features)
    upstream = torch.randn(n, grid.out_dim, generator=torch.Generator().manual_seed(2))
    x = points(n)
    gradients = []
    for module in (reference, grid):
        device = module.table.device
        position = x.to(device).requires_grad_()
        out = module(position)
        out.backward(upstream.to(device))
        gradients.append((out.detach().cpu(), module.table.grad.cpu(), position.grad.cpu()))
    scale = 100 if "tcnn" in implementation else 1
    for name, expected, actual in zip(("values", "table", "positions"), *gradients, strict=True):
        size = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
        error = (expected - actual).abs().max().item() if expected.numel() else 0.0
        assert error / size <= 1e-5 * scale, (name, error, size)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS[2:4])
def test_gradient_to_points_alone(implementation: str) -> None:
    reference, grid = make_grid("torch"), make_grid(implementation)
    gradients = []
    for module in (reference, grid):
        module.table.requires_grad_(False)
        x = points(100).to(module.table.device).requires_grad_()
        module(x).square().sum().backward()
        gradients.append(x.grad.cpu())
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
    assert grid.table.grad is None


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS[1:4])
@settings(max_examples=15, deadline=None)
@given(
    levels=st.integers(1, 6),
    features=st.sampled_from([1, 2, 4, 8]),
    log2_size=st.integers(3, 14),
    base=st.integers(2, 24),
    more=st.integers(0, 100),
    # On borders of cells (multiples of a level's spacing) and of the box, where neighbours wrap or disagree.
    numerators=st.lists(st.integers(0, 64), min_size=3, max_size=30),
)
def test_any_layout_against_reference(implementation, levels, features, log2_size, base, more, numerators) -> None:
    implementation, _, device = implementation.partition(" on ")
    reference = HashGrid(levels, features, log2_size, base, base + more, implementation="torch")
    torch.nn.init.uniform_(reference.table, -0.5, 0.5)
    grid = HashGrid(levels, features, log2_size, base, base + more, implementation=implementation)
    grid.load_state_dict(reference.state_dict())
    grid = grid.to(device or "cpu")
    x = torch.tensor(numerators[: len(numerators) // 3 * 3]).view(-1, 3) / 64
    upstream = torch.linspace(-1, 1, len(x) * grid.out_dim).view(len(x), -1)
    # Which cell a border belongs to is a matter of the last bit, and the slope there with it: values and table only.
    for module in (reference, grid):
        module(x.to(module.table.device)).backward(upstream.to(module.table.device))
    torch.testing.assert_close(
        grid(x.to(grid.table.device)).detach().cpu(), reference(x).detach(), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(grid.table.grad.cpu(), reference.table.grad, rtol=1e-4, atol=1e-4)


def test_reference_gradients_in_float64() -> None:
    grid = HashGrid(3, 2, 5, base_resolution=2, max_resolution=7, implementation="torch").double()
    torch.nn.init.normal_(grid.table)
    # Away from cell borders, where the derivative jumps.
    x = torch.tensor([[0.21, 0.33, 0.71], [0.83, 0.42, 0.11], [0.57, 0.93, 0.29]], dtype=torch.float64)
    call = lambda position, table: torch.func.functional_call(grid, {"table": table}, position)  # noqa: E731
    assert torch.autograd.gradcheck(call, (x.requires_grad_(), grid.table), eps=1e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS[1:])
def test_no_position_gradient_unless_asked(implementation: str) -> None:
    grid = make_grid(implementation)
    x = points(10).to(grid.table.device)
    grid(x).sum().backward()
    assert x.grad is None and grid.table.grad is not None
    with torch.no_grad():
        assert not grid(x).requires_grad


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS[:-1])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -5.0, 1e30])
def test_points_outside_never_leave_the_table(implementation: str, bad: float) -> None:
    grid = make_grid(implementation)
    x = torch.full((4, 3), bad, device=grid.table.device)
    grid(x).sum().backward()
    assert grid.table.grad.shape == grid.table.shape


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_agree_with_one(threads: int) -> None:
    def run() -> tuple[torch.Tensor, ...]:
        grid, x = make_grid("numba"), points(20_000).requires_grad_()
        out = grid(x)
        (out * torch.linspace(0, 1, grid.out_dim)).sum().backward()
        return out.detach(), grid.table.grad, x.grad

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = run()
        torch.set_num_threads(threads)
        actual = run()
    finally:
        torch.set_num_threads(before)
    assert torch.equal(expected[0], actual[0]) and torch.equal(expected[1], actual[1])
    # Threads have different levels, so a point's sum over levels is taken in another order.
    torch.testing.assert_close(expected[2], actual[2], rtol=1e-4, atol=1e-5)


def test_a_viewer_thread_may_render_while_the_trainer_trains() -> None:
    grid, x = make_grid("numba"), points(20_000)
    expected = grid(x).detach()
    results: list[bool] = []

    def work() -> None:
        for _ in range(20):
            results.append(torch.equal(grid(x).detach(), expected))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 60


def test_an_error_in_another_share_is_raised() -> None:
    def fails_on_second(share: int, shares: int) -> None:
        if share == 1:
            raise ValueError("second share")

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ValueError, match="second share"):
            run_shares(fails_on_second, shares=2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS[1:4])
def test_state_dict_moves_between_implementations(implementation: str) -> None:
    source, target = make_grid("torch", seed=3), make_grid(implementation, seed=4)
    target.load_state_dict(source.state_dict())
    found = target(points(50).to(target.table.device)).cpu()
    torch.testing.assert_close(found, source(points(50)), atol=1e-5, rtol=0)


def test_learns_under_fused_adam() -> None:
    grid = HashGrid(4, 2, 12, 8, 64, implementation="numba")
    x = points(2000)
    target = torch.sin(x * 9).sum(dim=-1)
    optimizer = torch.optim.Adam(grid.parameters(), lr=2e-2, fused=True)
    losses = []
    for _ in range(100):
        loss = (grid(x).sum(dim=-1) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.02 * losses[0]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 16), st.integers(1, 8), st.integers(3, 20), st.integers(2, 64), st.integers(0, 2000))
def test_layout_is_whole(levels: int, features: int, log2_size: int, base: int, more: int) -> None:
    layout = GridLayout(levels, features, log2_size, base, base + more)
    assert layout.n_rows == int(layout.offsets[-1]) + int(layout.sizes[-1])
    assert (layout.sizes <= 2**log2_size).all()
    assert (layout.sizes[~layout.dense] == 2**log2_size).all()
    assert (layout.sizes[layout.dense] >= layout.resolutions[layout.dense].astype(np.int64) ** 3).all()
    if levels > 1:
        assert base + more <= layout.resolutions[-1] <= base + more + 1


@pytest.mark.parametrize(
    "sizes", [(0, 2, 16, 16, 512), (8, 0, 16, 16, 512), (8, 2, 2, 16, 512), (8, 2, 29, 16, 512), (8, 2, 16, 64, 32)]
)
def test_sizes_that_make_no_grid_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        HashGrid(*sizes)


def test_unknown_implementation_is_refused() -> None:
    with pytest.raises(ValueError, match="cuda"):
        HashGrid(implementation="cuda")


def test_auto_falls_back_to_torch_with_one_line(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    import sys

    expected = make_grid("torch")(points(20))
    monkeypatch.setitem(sys.modules, "numba", None)
    hash_grid_module.numba_problem.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            grid = make_grid("auto")
            for _ in range(3):
                actual = grid(points(20))
    finally:
        hash_grid_module.numba_problem.cache_clear()
    assert torch.equal(actual, expected)
    assert len(caplog.records) == 1 and "plain torch" in caplog.text


@pytest.mark.parametrize(
    ("tcnn", "warp", "expected"),
    [(None, None, "tcnn"), ("no tcnn", None, "warp"), (None, "no warp", "tcnn"), ("no tcnn", "no warp", "torch")],
)
def test_auto_on_cuda_takes_the_fastest_there_is(tcnn, warp, expected, monkeypatch, caplog) -> None:
    monkeypatch.setattr(hash_grid_module, "tcnn_problem", lambda: tcnn)
    monkeypatch.setattr(hash_grid_module, "warp_cuda_problem", lambda: warp)
    hash_grid_module.cuda_backend.cache_clear()
    try:
        assert [hash_grid_module.cuda_backend() for _ in range(3)] == [expected] * 3
    finally:
        hash_grid_module.cuda_backend.cache_clear()
    assert len(caplog.records) == (expected == "torch")
    assert expected != "torch" or ("no tcnn" in caplog.text and "no warp" in caplog.text)


@pytest.mark.slow
@pytest.mark.parametrize("arch", [80, 90, 100])
@pytest.mark.parametrize("features", [1, 2, 4, 8])
def test_kernels_compile_for_cuda(features: int, arch: int, tmp_path) -> None:
    """Without a GPU, that the code generated for one compiles is what can be shown; and how it reads the table."""
    import warp as wp

    from flame_nerf.kernels.warp.hash_grid import kernels_for
    from flame_nerf.kernels.warp.launch import load_warp

    load_warp()
    kernels = kernels_for(features)
    for kernel in (kernels.encode, kernels.gradients):
        wp.compile_aot_module(kernel.module, device=None, arch=arch, module_dir=str(tmp_path), use_ptx=True)
    code = [path.read_text() for path in tmp_path.rglob("*.ptx")]
    assert len(code) == 2 and all("encode" in text or "gradients" in text for text in code)
    if features > 1:
        assert all("ld.global.v2" in text for text in code)
