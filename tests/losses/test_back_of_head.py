"""A trained head is closed all around, though its video shows the front alone."""

import copy

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from synthetic import RADII, look_at_origin, make_subject

from flame_nerf.methods import flame_nerf_cpu, with_steps

SIZE, FOCAL = 64, 110.0
HAIR, SKIN = np.array([0.25, 0.15, 0.1]), np.array([0.75, 0.5, 0.35])
"""What the synthetic head's back is painted with, and the middle of what its face is."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The synthetic head, filmed to 23 degrees to either side and trained for half a minute."""
    folder = tmp_path_factory.mktemp("back")
    config = with_steps(copy.deepcopy(flame_nerf_cpu.config), 650)
    config.data = config.pipeline.datamanager.data = make_subject(folder / "subject", size=SIZE, count=12).root
    config.output_dir, config.experiment_name, config.timestamp = folder / "runs", "back", "t"
    config.machine.seed, config.vis = 0, "tensorboard"
    # As many views of unseen sides as a run of half the usual length has.
    config.pipeline.model.unseen.every, config.pipeline.model.loss_starts.unseen_loss = 1, 100
    config.pipeline.datamanager.train_num_rays_per_batch = 256
    config.pipeline.model.field.n_levels, config.pipeline.model.field.log2_hashmap_size = 5, 14
    torch.manual_seed(0)
    np.random.seed(0)
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    # What training itself closes: a picture would have the mesh behind it.
    trainer.pipeline.model.renderer.backing.surface.zero_()
    return trainer.pipeline.model.eval()


def seen_from(model, yaw_deg: float):
    """Colour and opacity of the head from a turn around it, and the pixels whose rays surely meet it."""
    c2w = look_at_origin(np.radians(yaw_deg), 0.0)
    camera = Cameras(torch.from_numpy(c2w[None, :3]).float(), FOCAL, FOCAL, SIZE / 2, SIZE / 2, SIZE, SIZE)
    with torch.no_grad():
        shown = model.get_outputs_for_camera(camera)
    # The ellipsoid's own formula: a ray meets it where the discriminant of its quadratic is positive, here by a margin.
    x, y = np.meshgrid(*[(np.arange(SIZE) + 0.5 - SIZE / 2) / FOCAL] * 2)
    along = np.stack([x, -y, -np.ones_like(x)], axis=-1) @ c2w[:3, :3].T / (0.9 * RADII)
    start = c2w[:3, 3] / (0.9 * RADII)
    b, a, c = along @ start, (along**2).sum(axis=-1), start @ start - 1
    return shown["rgb"].numpy(), shown["accumulation"][..., 0].numpy(), b**2 > a * c


@pytest.mark.slow
@pytest.mark.parametrize("yaw", [0, 60, 110, 150, 180, 225, 270])
def test_no_view_sees_through_the_head(model, yaw):
    _, opacity, inside = seen_from(model, yaw)
    through = 1 - opacity[inside]
    assert inside.sum() > 500 and through.mean() <= 0.03 and np.quantile(through, 0.99) < 0.3, (
        yaw,
        through.mean(),
        np.quantile(through, 0.99),
    )


@pytest.mark.slow
def test_the_back_looks_like_hair_and_not_like_skin(model):
    colour, _, inside = seen_from(model, 180)
    # The nape has the colour of the neck.
    inside[2 * SIZE // 3 :] = False
    mean = colour[inside].mean(axis=0)
    assert np.abs(mean - HAIR).max() < 0.15 and np.linalg.norm(mean - HAIR) < 0.3 * np.linalg.norm(mean - SKIN)
