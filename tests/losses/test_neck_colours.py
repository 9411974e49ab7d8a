"""The neck's hidden side takes what was seen at its height."""

import numpy as np
import torch

from flame_nerf.losses.colours.neck import around_the_neck

SKIN, SUIT = torch.tensor([0.8, 0.6, 0.5]), torch.tensor([0.1, 0.1, 0.2])


def test_a_collar_goes_around_the_neck():
    angle, height = np.meshgrid(np.linspace(0, 2 * np.pi, 24, endpoint=False), np.linspace(-0.2, -0.1, 11))
    tube = np.stack([0.06 * np.sin(angle), height, 0.06 * np.cos(angle)], axis=-1).reshape(-1, 3).astype(np.float32)
    truth = torch.where(torch.from_numpy(tube[:, 1:2] > -0.151), SKIN, SUIT)
    seen = torch.from_numpy(np.abs(tube[:, 2]) < 0.02)
    hidden = torch.from_numpy(tube[:, 2] < -0.02)
    colours = around_the_neck(torch.where(seen[:, None], truth, 1.0), seen, hidden, tube)
    assert (colours[~hidden & ~seen] == 1.0).all(), "what was not asked for is as it was"
    assert (colours[seen] == truth[seen]).all()
    # A row away from the edge: the one colour or the other.
    away = hidden & torch.from_numpy(np.abs(tube[:, 1] + 0.15) > 0.015)
    assert (colours[away] - truth[away]).abs().max() < 0.15
