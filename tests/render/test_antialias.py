"""Anti-aliased pictures against dense supersampling of a shape whose edge is known."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras

from flame_nerf.render.picture import render_picture
from flame_nerf.render.renderer import Renderer
from flame_nerf.render.step_rays import Moments
from flame_nerf.viewer import HeadPanel

HEIGHT, WIDTH, RADIUS, DISTANCE = 24, 40, 0.31, 2.0
WHITE = torch.ones(3)
NOBODY = SimpleNamespace(centre=torch.zeros(3))
MOMENTS = Moments([None], torch.zeros(1, 1))


class Disc(Renderer):
    """A disc across the z axis, red to the left and green to the right, as opaque as it is told to be."""

    def __init__(self, opacity: float = 1.0, softness: float = 1e-6):
        super().__init__()
        self.opacity, self.softness, self.asked = opacity, softness, 0

    def forward(self, rays, condition, step=0, box=None):
        self.asked += len(rays)
        depth = -rays.origins[:, 2:] / rays.directions[:, 2:]
        x, y = (rays.origins + depth * rays.directions)[:, :2].unbind(dim=1)
        inside = ((RADIUS - (x**2 + y**2).sqrt()) / self.softness).clamp(0, 1)[:, None] * self.opacity
        colour = torch.stack([x < 0, x >= 0, torch.zeros_like(x) > 0], dim=1).float()
        rgb = colour * inside + rays.background * (1 - inside)
        return {"rgb": rgb, "accumulation": inside, "depth": depth * (inside > 0), "num_samples": torch.tensor(1.0)}


def camera(times: int = 1) -> Cameras:
    """Looks at the disc a little from beside; `times` as many pixels along each side."""
    c2w = torch.tensor([[1.0, 0, 0, 0.013], [0, 1, 0, 0.021], [0, 0, 1, DISTANCE]])
    size = {"width": WIDTH * times, "height": HEIGHT * times}
    return Cameras(c2w[None], 60.0 * times, 60.0 * times, 0.5 * size["width"], 0.5 * size["height"], **size)


def picture(renderer, background=WHITE, times=1, **options):
    condition = torch.zeros(1, 1)
    outputs = render_picture(renderer, camera(times), MOMENTS, NOBODY, background, condition, 1 << 20, **options)
    return {name: values.view(HEIGHT * times, WIDTH * times, -1).numpy() for name, values in outputs.items()}


def supersampled(renderer, times=16):
    """The mean over times x times rays of each pixel."""
    whole = picture(renderer, times=times, smooth=False)
    return {name: x.reshape(HEIGHT, times, WIDTH, times, -1).mean(axis=(1, 3)) for name, x in whole.items()}


@pytest.mark.parametrize(("opacity", "softness"), [(1.0, 1e-6), (0.6, 1e-6), (1.0, 0.02)])
def test_edges_are_nearer_to_dense_supersampling(opacity, softness):
    disc = Disc(opacity, softness)
    truth, smooth, plain = supersampled(disc), picture(disc), picture(disc, smooth=False)
    edge = (truth["accumulation"] > 1e-6) & (truth["accumulation"] < opacity - 1e-6)
    assert edge.sum() > 40
    for name in ("accumulation", "rgb"):
        wrong = [np.sqrt(((shown[name] - truth[name])[edge[..., 0]] ** 2).mean()) for shown in (plain, smooth)]
        assert wrong[1] < 0.55 * wrong[0], (name, wrong)
    # A pixel half of which shows the disc is as far as the disc, and one that nothing is met in is nowhere.
    met = smooth["accumulation"] > 0
    np.testing.assert_allclose(smooth["depth"][met], DISTANCE, rtol=0.02)
    assert (smooth["depth"][~met] == 0).all()


def test_rays_are_added_only_where_opacity_varies():
    disc = Disc()
    plain = picture(disc, smooth=False)
    disc.asked = 0
    smooth = picture(disc)
    added = disc.asked - HEIGHT * WIDTH
    assert 0 < added < HEIGHT * WIDTH and added % 4 == 0
    changed = (smooth["rgb"] != plain["rgb"]).any(axis=-1)
    # The border between red and green is not an outline.
    opaque = (plain["accumulation"][..., 0] > 0.5).astype(np.uint8)
    near = np.zeros_like(changed)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            near[1:-1, 1:-1] |= (np.roll(opaque, (down, right), (0, 1)) != opaque)[1:-1, 1:-1]
    assert changed.any() and not changed[~near].any() and added == 4 * near.sum()


@pytest.mark.parametrize("opacity", [0.0, 0.04])
def test_a_picture_without_outlines_is_left_alone(opacity):
    disc = Disc(opacity)
    smooth, asked = picture(disc), disc.asked
    assert asked == HEIGHT * WIDTH
    np.testing.assert_array_equal(smooth["rgb"], picture(disc, smooth=False)["rgb"])


def test_each_pixel_keeps_its_own_background():
    plate = torch.rand(HEIGHT * WIDTH, 3, generator=torch.Generator().manual_seed(0))
    shown = picture(Disc(), background=plate)
    outside = shown["accumulation"][..., 0] == 0
    np.testing.assert_allclose(shown["rgb"][outside], plate.view(HEIGHT, WIDTH, 3).numpy()[outside], atol=1e-6)
    # What is not background is black, red or green: none of the plate's blue but its share.
    blue = plate.view(HEIGHT, WIDTH, 3).numpy()[..., 2] * (1 - shown["accumulation"][..., 0])
    np.testing.assert_allclose(shown["rgb"][..., 2], blue, atol=1e-6)


def test_only_the_viewers_settled_picture_is_smooth():
    panel = HeadPanel(SimpleNamespace())
    assert not panel.is_moving
    said = {}

    class Machine(threading.Thread):
        state = "low_move"

        def run(self):
            said[self.state] = panel.is_moving

    for state in ("low_move", "low_static", "high"):
        machine = Machine()
        machine.state = state
        panel.viewer = SimpleNamespace(render_statemachines={0: machine})
        machine.start()
        machine.join()
        # A film made meanwhile is no picture of the viewer's.
        assert not panel.is_moving
    assert said == {"low_move": True, "low_static": True, "high": False}
