"""Depth and semantic terms against their formulas written out pair by pair, in double precision."""

import math

import pytest
import torch

from flame_nerf.losses.functions import (
    DepthPairs,
    depth_hinge_loss,
    depth_ranking_loss,
    depth_smoothness_loss,
    draw_depth_pairs,
    semantic_loss,
)

P, K = 3, 5


@pytest.fixture
def random():
    return torch.Generator().manual_seed(7)


@pytest.fixture
def patches(random):
    """Depth in metres, a prior with some equal neighbours, weights with some zeros, and pairs; float64."""
    depth = 0.6 + 0.01 * torch.randn(P, K, K, generator=random, dtype=torch.float64)
    prior = (8 * torch.rand(P, K, K, generator=random, dtype=torch.float64)).round() / 8
    weight = torch.rand(P, K, K, generator=random, dtype=torch.float64).sub(0.3).clamp_min(0)
    return depth, prior, weight, draw_depth_pairs(P, K, 200, window=3, generator=random)


def pair_by_pair(depth, prior, weight, pairs, term):
    total = amount = 0.0
    for p in range(len(depth)):
        for i, j in zip(pairs.first[p].tolist(), pairs.second[p].tolist(), strict=True):
            if i == j:
                continue
            d, q, w = (values[p].flatten().tolist() for values in (depth, prior, weight))
            # The prior is larger for what is nearer: i is farther (r = 1) where its value is smaller.
            r = 0 if abs(q[i] - q[j]) <= 0.01 else (1 if q[i] < q[j] else -1)
            value = term(r, d[i] - d[j])
            if value is not None:
                total, amount = total + w[i] * w[j] * value, amount + w[i] * w[j]
    return total / amount


def test_pairs_are_half_neighbours_and_inside_the_window(random):
    pairs = draw_depth_pairs(40, 9, 100, window=3, generator=random)
    row, column = ((pairs.first // 9) - (pairs.second // 9)).abs(), ((pairs.first % 9) - (pairs.second % 9)).abs()
    assert pairs.first.shape == (40, 100)
    assert ((pairs.second >= 0) & (pairs.second < 81)).all()
    assert (row + column)[:, :50].eq(1).all()
    assert torch.maximum(row, column).max() == 3
    # Every pixel and, among neighbours, both directions take part.
    assert len(torch.unique(pairs.first)) == 81
    assert 0.3 < row[:, :50].float().mean() < 0.7
    smallest = draw_depth_pairs(1, 2, 50, generator=random)
    assert smallest.second.max() <= 3


def test_ranking_is_the_formula(patches):
    depth, prior, weight, pairs = patches
    tau = 0.004
    want = pair_by_pair(
        depth, prior, weight, pairs,
        lambda r, apart: math.log(1 + math.exp(-r * apart / tau)) if r else (apart / tau) ** 2,
    )  # fmt: skip
    got = depth_ranking_loss(depth, prior, pairs, weight, tau=tau, equal_threshold=0.01)
    assert float(got) == pytest.approx(want, rel=1e-9)
    assert torch.autograd.gradcheck(
        lambda d: depth_ranking_loss(d, prior, pairs, weight, tau=tau, equal_threshold=0.01), depth.requires_grad_()
    )


def test_hinge_is_the_formula(patches):
    depth, prior, weight, pairs = patches
    want = pair_by_pair(
        depth, prior, weight, pairs, lambda r, apart: max(0.01 - r * apart / 0.2, 0.0) if r else None
    )  # fmt: skip
    got = depth_hinge_loss(depth, prior, pairs, weight, head_size=0.2, margin=0.01, equal_threshold=0.01)
    assert float(got) == pytest.approx(want, rel=1e-9)


def test_smoothness_is_the_formula(patches, random):
    depth, _, weight, _ = patches
    image = torch.rand(P, K, K, 3, generator=random, dtype=torch.float64)
    total = amount = 0.0
    for p in range(P):
        for y in range(K):
            for x in range(K):
                for v, u in ((y + 1, x), (y, x + 1)):
                    if v < K and u < K:
                        w = float(weight[p, y, x] * weight[p, v, u])
                        edge = float((image[p, y, x] - image[p, v, u]).abs().mean())
                        total += w * abs(float(depth[p, y, x] - depth[p, v, u])) / 0.2 * math.exp(-10 * edge)
                        amount += w
    assert float(depth_smoothness_loss(depth, image, weight)) == pytest.approx(total / amount, rel=1e-9)
    ramp = torch.arange(4.0).view(1, 1, 4).expand(1, 4, 4)
    step = (ramp > 1.5).float()[..., None].expand(1, 4, 4, 3)
    assert depth_smoothness_loss(ramp * 0.01, step) < depth_smoothness_loss(ramp * 0.01, torch.zeros(1, 4, 4, 3))


@pytest.mark.parametrize("loss", [depth_ranking_loss, depth_hinge_loss])
def test_descent_moves_the_nearer_pixel_nearer(loss):
    """The sign, which is easily wrong: a prior is larger for what is nearer, depth larger for what is farther."""
    depth = torch.full((1, 2, 2), 0.6, requires_grad=True)
    prior = torch.tensor([[[0.9, 0.1], [0.9, 0.1]]])
    pairs = DepthPairs(torch.tensor([[0]]), torch.tensor([[1]]))
    (gradient,) = torch.autograd.grad(loss(depth, prior, pairs), depth)
    assert gradient[0, 0, 0] > 0 > gradient[0, 0, 1]
    assert gradient[0, 1].eq(0).all()
    right = torch.tensor([[[0.5, 0.7], [0.5, 0.7]]])
    assert loss(right, prior, pairs) < 1e-6 < loss(1.2 - right, prior, pairs)


def test_ranking_sees_nothing_but_order(patches):
    depth, prior, weight, pairs = patches
    plain = depth_ranking_loss(depth, prior, pairs, weight, equal_threshold=0.0)
    for grown in (prior.exp(), prior**3 * 1e3 - 5, -1 / (prior + 0.1)):
        assert torch.equal(depth_ranking_loss(depth, grown, pairs, weight, equal_threshold=0.0), plain)
    assert not torch.isclose(depth_ranking_loss(depth, -prior, pairs, weight, equal_threshold=0.0), plain)


@pytest.mark.parametrize("loss", [depth_ranking_loss, depth_hinge_loss])
@pytest.mark.parametrize("prior", [math.nan, math.inf, 0.5])
def test_a_prior_that_says_nothing_counts_for_nothing(loss, prior, patches):
    depth, _, weight, pairs = patches
    depth.requires_grad_()
    value = loss(depth, torch.full((P, K, K), prior, dtype=torch.float64), pairs, weight)
    assert value == 0
    assert torch.autograd.grad(value, depth)[0].eq(0).all()


@pytest.mark.parametrize("loss", [depth_ranking_loss, depth_hinge_loss])
def test_unknown_and_unweighted_pixels_are_left_out(loss, patches):
    depth, prior, weight, pairs = patches
    holes = torch.zeros(P, K, K, dtype=torch.bool)
    holes[:, 1, 1:4] = True
    unknown = prior.masked_fill(holes, math.nan)
    as_weight = weight * ~holes
    assert torch.isclose(loss(depth, unknown, pairs, weight), loss(depth, prior, pairs, as_weight))
    depth.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(depth, unknown, pairs, weight), depth)
    assert gradient.isfinite().all() and gradient[holes].eq(0).all()
    assert loss(depth, prior, pairs, torch.zeros_like(weight)) == 0


def test_semantic_loss_is_one_minus_the_cosine_of_code_and_pose(random):
    code = torch.randn(2, 2, 8, generator=random, dtype=torch.float64)
    pose = torch.randn(2, 2, 3, generator=random, dtype=torch.float64)
    want = 0.0
    for b in range(2):
        v = []
        for k in range(2):
            phi = [float(x) / float(code[k, b].norm()) for x in code[k, b]]
            joined = phi + [0.3 * float(x) for x in pose[k, b]]
            length = math.sqrt(sum(x * x for x in joined))
            v.append([x / length for x in joined])
        want += (1 - sum(a * c for a, c in zip(*v, strict=True))) / 2
    assert float(semantic_loss(code[0], pose[0], code[1], pose[1], gamma=0.3)) == pytest.approx(want, rel=1e-12)
    assert float(semantic_loss(5 * code[0], pose[0], code[0], pose[0])) == pytest.approx(0, abs=1e-12)
    assert semantic_loss(code[0], pose[0], code[0], pose[1], gamma=0.0) < 1e-12
