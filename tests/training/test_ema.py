"""The running average of the weights, and the moments' latent codes."""

from __future__ import annotations

import pytest
import torch

from flame_nerf.losses.functions import latent_loss
from flame_nerf.render.conditioning import LatentCodes
from flame_nerf.training.ema import WeightAverage


def test_average_is_the_corrected_exponential_mean():
    layer = torch.nn.Linear(3, 2)
    average = WeightAverage(layer.parameters(), decay=0.8)
    history = []
    for _ in range(7):
        with torch.no_grad():
            layer.weight.normal_()
        average.update()
        history.append(layer.weight.detach().clone())
        share = torch.tensor([0.8 ** (len(history) - 1 - i) for i in range(len(history))])
        expected = (share[:, None, None] * torch.stack(history)).sum(dim=0) / share.sum()
        torch.testing.assert_close(average.averages[0].data, expected)
    assert torch.equal(layer.weight, history[-1]), "the weights themselves are left alone"


def test_applied_exchanges_and_restores():
    layer = torch.nn.Linear(2, 2)
    average = WeightAverage(layer.parameters(), decay=0.5)
    own, mean = layer.weight.detach().clone(), torch.full((2, 2), 7.0)
    average.averages[0].data = mean.clone()
    with average.applied():
        assert torch.equal(layer.weight, mean)
        with average.applied():
            assert torch.equal(layer.weight, mean)
        assert torch.equal(layer.weight, mean)
    assert torch.equal(layer.weight, own) and torch.equal(average.averages[0], mean)
    with pytest.raises(RuntimeError, match="broken"), average.applied():
        raise RuntimeError("broken")
    assert torch.equal(layer.weight, own)


def test_training_goes_on_exactly_from_a_checkpoint(tmp_path):
    torch.manual_seed(0)
    data = torch.randn(20, 8, 3)

    def new() -> tuple[torch.nn.Module, WeightAverage, torch.optim.Optimizer]:
        layer = torch.nn.Linear(3, 1)
        return layer, WeightAverage(layer.parameters(), 0.9), torch.optim.Adam(layer.parameters(), lr=1e-2)

    def run(layer, average, optimizer, steps):
        for batch in data[steps]:
            layer(batch).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            average.update()
            with average.applied(), torch.no_grad():
                layer(batch)

    torch.manual_seed(1)
    through = new()
    torch.manual_seed(1)
    first = new()
    run(*through, slice(0, 20))
    run(*first, slice(0, 11))
    torch.save([part.state_dict() for part in first], tmp_path / "step.ckpt")
    second = new()
    for part, state in zip(second, torch.load(tmp_path / "step.ckpt", weights_only=True), strict=True):
        part.load_state_dict(state)
    run(*second, slice(11, 20))
    assert torch.equal(second[0].weight, through[0].weight)
    assert torch.equal(second[1].averages[0], through[1].averages[0])
    assert not torch.equal(second[0].weight, second[1].averages[0])


@pytest.mark.parametrize("decay", [-0.1, 1.0, 3.0])
def test_impossible_decay(decay):
    with pytest.raises(ValueError, match="ema_decay.*0 turns"):
        WeightAverage([], decay)


def test_codes_of_trained_rows_and_their_mean_elsewhere():
    codes = LatentCodes(6, 4, torch.tensor([1, 3, 3, 4]))
    mean = codes.codes[[1, 3, 4]].mean(dim=0)
    torch.testing.assert_close(codes.mean(), mean)
    got = codes(torch.tensor([0, 1, 4, 5]))
    torch.testing.assert_close(got, torch.stack([mean, codes.codes[1], codes.codes[4], mean]))
    codes(torch.tensor([1, 4])).sum().backward()
    assert torch.equal(codes.codes.grad.abs().sum(dim=1) > 0, torch.tensor([False, True, False, False, True, False]))


def test_latent_loss_is_the_mean_squared_length():
    torch.testing.assert_close(latent_loss(torch.tensor([[3.0, 4.0], [0.0, 1.0]])), torch.tensor(13.0))
