"""Packed compositing against a loop over rays, written down from the formula."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flame_nerf.render.compositing import render_packed


@dataclass
class Samples:
    ray_index: Tensor
    t_start: Tensor
    t_end: Tensor
    offsets: Tensor


def make_samples(counts: list[int], seed: int = 0, dtype: torch.dtype = torch.float64) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    count = torch.tensor(counts, dtype=torch.long)
    edges = [torch.rand(2 * n, generator=generator, dtype=dtype).sort().values + 0.5 for n in counts]
    starts = torch.cat([e[::2] for e in edges]) if counts else torch.zeros(0, dtype=dtype)
    ends = torch.cat([e[1::2] for e in edges]) if counts else torch.zeros(0, dtype=dtype)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), count.cumsum(0)])
    return Samples(torch.repeat_interleave(torch.arange(len(counts)), count), starts, ends, offsets)


def render_slowly(sigma: Tensor, rgb: Tensor, samples: Samples, n_rays: int, background: Tensor):
    """One ray and one sample at a time, T as a product of (1 − α)."""
    colors, opacities, depths, weights = [], [], [], []
    for ray in range(n_rays):
        transmittance = torch.ones((), dtype=sigma.dtype)
        color, depth = torch.zeros(3, dtype=sigma.dtype), torch.zeros((), dtype=sigma.dtype)
        for i in range(int(samples.offsets[ray]), int(samples.offsets[ray + 1])):
            alpha = 1 - torch.exp(-sigma[i] * (samples.t_end[i] - samples.t_start[i]))
            weight = transmittance * alpha
            color = color + weight * rgb[i]
            depth = depth + weight * (samples.t_start[i] + samples.t_end[i]) / 2
            transmittance = transmittance * (1 - alpha)
            weights.append(weight)
        colors.append(color + transmittance * (background[ray] if background.dim() == 2 else background))
        opacities.append(1 - transmittance)
        depths.append(depth / opacities[-1].clamp(min=1e-10))
    return torch.stack(colors), torch.stack(opacities)[:, None], torch.stack(depths)[:, None], torch.stack(weights)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 7), min_size=1, max_size=6).filter(sum),
    log_density=st.floats(-3, 4),
    per_ray=st.booleans(),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_values_and_gradients_against_loop(
    counts: list[int], log_density: float, per_ray: bool, seed: int, dtype: torch.dtype
) -> None:
    """float64 runs in torch, float32 in the compiled kernels."""
    generator = torch.Generator().manual_seed(seed)
    samples, n_rays = make_samples(counts, seed), len(counts)
    n = sum(counts)
    sigma = (torch.randn(n, generator=generator, dtype=torch.float64) + log_density).exp()
    rgb = torch.rand(n, 3, generator=generator, dtype=torch.float64)
    background = torch.rand((n_rays, 3) if per_ray else (3,), generator=generator, dtype=torch.float64)
    upstream = None
    results = []
    for function, precision in ((render_slowly, torch.float64), (render_packed, dtype)):
        inputs = [value.to(precision, copy=True).requires_grad_() for value in (sigma, rgb, background)]
        moved = Samples(samples.ray_index, samples.t_start.to(precision), samples.t_end.to(precision), samples.offsets)
        outputs = function(inputs[0], inputs[1], moved, n_rays, inputs[2])
        if upstream is None:
            upstream = [torch.randn(o.shape, generator=generator, dtype=torch.float64) for o in outputs]
        gradients = torch.autograd.grad(outputs, inputs, [value.to(precision) for value in upstream])
        results.append([*outputs, *gradients])
    digits = {torch.float64: 1e-10, torch.float32: 3e-5}[dtype]
    for expected, actual in zip(*results, strict=True):
        size = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(actual.double(), expected, rtol=10 * digits, atol=digits * size)


def test_gradcheck() -> None:
    samples = make_samples([3, 0, 1, 4])
    sigma = torch.rand(8, dtype=torch.float64) * 5
    rgb, background = torch.rand(8, 3, dtype=torch.float64), torch.rand(4, 3, dtype=torch.float64)

    def call(sigma: Tensor, rgb: Tensor, background: Tensor, t_start: Tensor, t_end: Tensor) -> tuple[Tensor, ...]:
        moved = Samples(samples.ray_index, t_start, t_end, samples.offsets)
        out = render_packed(sigma, rgb, moved, 4, background)
        return *out[:3], out.weights

    inputs = (sigma, rgb, background, samples.t_start, samples.t_end)
    assert torch.autograd.gradcheck(call, tuple(value.clone().requires_grad_() for value in inputs))


def test_rays_without_samples_show_the_background() -> None:
    samples = make_samples([0, 2, 0])
    background = torch.rand(3, 3, dtype=torch.float64)
    out = render_packed(torch.ones(2).double(), torch.rand(2, 3).double(), samples, 3, background)
    for ray in (0, 2):
        assert torch.equal(out.rgb[ray], background[ray])
        assert out.accumulation[ray] == 0 and out.depth[ray] == 0


@pytest.mark.parametrize("n_rays", [0, 5])
def test_no_samples_at_all(n_rays: int) -> None:
    sigma, rgb = torch.zeros(0, requires_grad=True), torch.zeros(0, 3, requires_grad=True)
    out = render_packed(sigma, rgb, make_samples([0] * n_rays, dtype=torch.float32), n_rays, torch.rand(n_rays, 3))
    assert out.rgb.shape == (n_rays, 3) and out.depth.shape == (n_rays, 1) and out.weights.shape == (0,)
    (out.rgb.sum() + out.depth.sum()).backward()
    assert sigma.grad is not None and sigma.grad.shape == (0,)


@pytest.mark.parametrize("huge", [1e8, 1e30, 3e38])
def test_huge_density_hides_only_what_is_behind_it(huge: float) -> None:
    samples = make_samples([3, 2], dtype=torch.float32)
    sigma = torch.tensor([0.1, huge, 5.0, 0.3, 0.2], requires_grad=True)
    rgb = torch.rand(5, 3, requires_grad=True)
    out = render_packed(sigma, rgb, samples, 2, torch.ones(3))
    mild = torch.tensor([0.1, 1e4, 5.0, 0.3, 0.2])
    torch.testing.assert_close(
        out.rgb, render_slowly(mild.double(), rgb.double(), samples, 2, torch.ones(3))[0].float()
    )
    assert out.weights[2] < 1e-20
    (out.rgb.sum() + out.depth.sum()).backward()
    assert sigma.grad.isfinite().all() and rgb.grad.isfinite().all()


def test_faint_haze_keeps_its_depth() -> None:
    samples = make_samples([3], dtype=torch.float32)
    middle = (samples.t_start + samples.t_end) / 2
    out = render_packed(torch.full((3,), 1e-7), torch.ones(3, 3), samples, 1)
    assert 0 < out.accumulation.item() < 1e-6
    assert middle.min() < out.depth.item() < middle.max()


def test_late_rays_keep_their_precision() -> None:
    # A running sum in float32 over this many opaque samples would lose the last rays altogether.
    counts = [24] * 5000
    samples = make_samples(counts, dtype=torch.float32)
    sigma = torch.full((sum(counts),), 1e5)
    sigma[-24:] = 0.5
    rgb = torch.rand(len(sigma), 3)
    out = render_packed(sigma, rgb, samples, len(counts))
    last = Samples(torch.zeros(24, dtype=torch.long), samples.t_start[-24:], samples.t_end[-24:], torch.tensor([0, 24]))
    alone = render_packed(sigma[-24:], rgb[-24:], last, 1)
    torch.testing.assert_close(out.rgb[-1:], alone.rgb, atol=1e-6, rtol=1e-6)


def test_constant_medium_is_beer_lambert() -> None:
    n = 50
    edges = torch.linspace(1.0, 2.0, n + 1, dtype=torch.float64)
    samples = Samples(torch.zeros(n, dtype=torch.long), edges[:-1], edges[1:], torch.tensor([0, n]))
    out = render_packed(torch.full((n,), 3.0).double(), torch.ones(n, 3).double(), samples, 1)
    assert out.accumulation.item() == pytest.approx(1 - math.exp(-3.0), rel=1e-12)


def test_arrays_of_other_lengths_are_refused() -> None:
    samples = make_samples([2, 2])
    with pytest.raises(ValueError, match="4 offsets"):
        render_packed(torch.ones(4), torch.ones(4, 3), samples, 3)
    with pytest.raises(ValueError, match="3 densities"):
        render_packed(torch.ones(3), torch.ones(3, 3), samples, 2)
