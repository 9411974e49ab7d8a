"""Loss terms against their formulas written out."""

import math

import pytest
import torch

from flame_nerf.losses.functions import color_loss, mask_loss, opacity_entropy_loss
from flame_nerf.losses.weights import LossStarts, LossWeights, objective


def huber(error: float, delta: float) -> float:
    return 0.5 * error**2 if abs(error) <= delta else delta * (abs(error) - 0.5 * delta)


def test_color_loss_is_huber_on_both_sides_of_delta():
    predicted = torch.tensor([[0.5, 0.5, 0.5], [0.2, 0.9, 0.0]])
    target = torch.tensor([[0.45, 0.5, 0.9], [0.2, 0.1, 0.3]])
    want = sum(huber(float(p - t), 0.1) for p, t in zip(predicted.flatten(), target.flatten(), strict=True)) / 6
    assert float(color_loss(predicted, target)) == pytest.approx(want, rel=1e-6)


def test_color_loss_weights_rays():
    predicted, target = torch.rand(4, 3), torch.rand(4, 3)
    only_third = torch.tensor([[0.0], [0.0], [2.5], [0.0]])
    assert torch.isclose(color_loss(predicted, target, weight=only_third), color_loss(predicted[2:3], target[2:3]))
    assert torch.isclose(color_loss(predicted, target, weight=torch.full((4, 1), 3.0)), color_loss(predicted, target))
    assert color_loss(predicted, target, weight=torch.zeros(4, 1)) == 0


def test_color_gradient_is_bounded_by_delta():
    predicted = torch.tensor([[5.0, 0.0, 0.05]], requires_grad=True)
    (grad,) = torch.autograd.grad(color_loss(predicted, torch.zeros(1, 3)), predicted)
    assert torch.allclose(grad * 3, torch.tensor([[0.1, 0.0, 0.05]]))


def test_mask_loss():
    assert float(mask_loss(torch.tensor([[1.0], [0.2]]), torch.tensor([[0.5], [0.3]]))) == pytest.approx(0.3)


def test_entropy_is_largest_for_haze_and_finite_at_the_ends():
    haze, ends = torch.full((3, 1), 0.5), torch.tensor([[0.0], [1.0]], requires_grad=True)
    assert float(opacity_entropy_loss(haze)) == pytest.approx(math.log(2))
    loss = opacity_entropy_loss(ends)
    assert float(loss) < 1e-3
    assert torch.isfinite(torch.autograd.grad(loss, ends)[0]).all()


def test_the_objective_is_the_terms_that_have_begun_times_their_weights():
    weights, starts = LossWeights(color_loss=0.5, mask_loss=0.0, depth_loss=2.0), LossStarts(depth_loss=100)
    asked = []

    def term(name, value):
        return lambda: asked.append(name) or value

    terms = {"color_loss": term("color", 2.0), "mask_loss": term("mask", 3.0), "depth_loss": term("depth", None)}
    assert objective(terms, 99, weights, starts) == {"color_loss": 1.0}
    assert asked == ["color"], "a term that does not count was computed"
    assert objective(terms, 100, weights, starts) == {"color_loss": 1.0}
    terms["depth_loss"] = term("depth", 0.25)
    assert objective(terms, 100, weights, starts) == {"color_loss": 1.0, "depth_loss": 0.5}


def test_every_term_needs_a_weight():
    with pytest.raises(AttributeError, match="other"):
        objective({"other": lambda: 1.0}, 0, LossWeights(), LossStarts())
