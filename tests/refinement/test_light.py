"""The frames' light: what it does to pictures, to which, and that a field does not learn what it explains."""

import copy

import cv2
import numpy as np
import pytest
import torch
from synthetic import make_subject

from flame_nerf.avatar.plain_config import config_of
from flame_nerf.methods import flame_nerf_cpu
from flame_nerf.refinement.light import FrameGains
from flame_nerf.render.compositing import lit

FRAMES = 40


def test_the_geometric_mean_of_the_training_frames_gains_is_one():
    train = torch.arange(3, 50, 2)
    gains = FrameGains(train, 60)
    assert bool((gains(train) == 1).all())
    torch.nn.init.normal_(gains.spline.knots)
    assert gains(train).log().mean(dim=0).abs().max() < 1e-6
    assert gains(train).log().abs().max() > 0.1
    # A light goes on where training ends.
    torch.testing.assert_close(gains(torch.tensor([0, 2, 50, 59])), gains(torch.tensor([3, 3, 49, 49])))


def test_a_frame_that_is_held_out_has_its_neighbours_gain():
    train = torch.tensor([row for row in range(40) if row != 21])
    gains = FrameGains(train, 40)
    torch.nn.init.normal_(gains.spline.knots)
    before, held_out, after = gains(torch.tensor([20, 21, 22])).log()
    torch.testing.assert_close(held_out, (before + after) / 2)


def test_gains_are_to_be_small_and_slow():
    def cost(values: torch.Tensor) -> float:
        gains = FrameGains(torch.arange(81), 81)
        gains.spline.knots.data = values[:, None].expand(-1, 3).contiguous()
        return float(gains.penalty().detach())

    slow = torch.sin(torch.linspace(0, 2 * np.pi, 21))
    shuffled = slow[torch.randperm(21, generator=torch.Generator().manual_seed(0))]
    assert 0 == cost(0 * slow) < cost(slow) < cost(2 * slow) and cost(slow) < cost(shuffled)


def test_the_head_is_lit_and_what_is_behind_it_is_not():
    rng = np.random.default_rng(1)
    head, opacity, behind, gains = rng.random((6, 3)), rng.random((6, 1)), rng.random((6, 3)), rng.random((2, 3)) + 0.5
    which = np.array([0, 1, 1, 0, 0, 1])
    given = {"rgb": opacity * head + (1 - opacity) * behind, "accumulation": opacity, "background": behind}
    shown = lit({name: torch.from_numpy(value) for name, value in given.items()}, torch.from_numpy(which), None)["rgb"]
    np.testing.assert_array_equal(shown, given["rgb"])
    outputs = {name: torch.from_numpy(value) for name, value in given.items()}
    shown = lit(outputs, torch.from_numpy(which), torch.from_numpy(gains))["rgb"]
    np.testing.assert_allclose(shown, opacity * head * gains[which] + (1 - opacity) * behind)


def test_packed_avatars_of_before_keep_what_they_were_trained_with():
    packed = {"method": "flame-nerf-cpu", "model": {"sampling": {"step": 0.0025}}}
    assert config_of(packed, "old.zip").pipeline.model.sampling.grazing == 0.0
    packed["model"]["sampling"]["grazing"] = 0.03
    assert config_of(packed, "new.zip").pipeline.model.sampling.grazing == 0.03


def test_a_checkpoint_of_before_is_gone_on_with():
    gains = FrameGains(torch.arange(20), 20)
    torch.nn.init.normal_(gains.spline.knots)
    gains.load_state_dict({})
    assert bool((gains.spline.knots == 0).all())


@pytest.fixture(scope="module")
def drifting(tmp_path_factory):
    """A short training on a subject whose lamp turns red and blue: its pipeline, and the frames' log gains."""
    folder = tmp_path_factory.mktemp("light")
    subject = make_subject(folder / "subject", size=48, count=FRAMES)
    log_gain = np.array([0.2, 0.0, -0.2]) * np.sin(np.arange(FRAMES)[:, None] / 4.3)
    for frame in subject.frames:
        picture = cv2.imread(str(frame.file_path)) * np.exp(log_gain[frame.timestep, ::-1]) * 0.8
        cv2.imwrite(str(frame.file_path), picture.clip(0, 255))
    config = copy.deepcopy(flame_nerf_cpu.config)
    config.pipeline.model.refinement.light = True
    config.data = config.pipeline.datamanager.data = subject.root
    config.output_dir, config.experiment_name, config.timestamp = folder, "light", "t"
    config.vis, config.max_num_iterations = "tensorboard", 300
    config.logging.local_writer.enable = False
    config.pipeline.datamanager.train_num_rays_per_batch = 256
    torch.manual_seed(0)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    return trainer.pipeline.eval(), log_gain


@pytest.mark.slow
def test_a_light_that_drifts_is_learned_as_light(drifting):
    pipeline, log_gain = drifting
    model = pipeline.model
    rows = model.train_timesteps
    learned = model.refinement.gains(rows).log().detach().numpy()
    true = log_gain[rows] - log_gain[rows].mean(axis=0)
    assert np.corrcoef(learned[:, 0], true[:, 0])[0, 1] > 0.85
    assert np.corrcoef(learned[:, 2], true[:, 2])[0, 1] > 0.85
    assert np.abs(learned - true).mean() < 0.5 * np.abs(true).mean()


@pytest.mark.slow
def test_only_the_frames_own_pictures_are_lit(drifting):
    model = drifting[0].model
    dataset = drifting[0].datamanager.train_dataset
    camera = dataset.cameras[4:5]
    own = model.timeline.of_camera(camera)
    assert own.gains is not None
    camera.metadata["as_tracked"] = True
    assert model.timeline.of_camera(camera).gains is None
    del camera.metadata["as_tracked"]
    shown = model.get_outputs_for_camera(camera)["rgb"]
    gains, model.refinement.gains = model.refinement.gains, None
    unlit = model.get_outputs_for_camera(camera)["rgb"]
    model.refinement.gains = gains
    inside = model.get_outputs_for_camera(camera)["accumulation"][..., 0] > 0.999
    torch.testing.assert_close(shown[inside], unlit[inside] * own.gains[0], atol=2e-4, rtol=1e-3)
    elsewhere = copy.deepcopy(camera)
    elsewhere.metadata = {"cam_idx": 4}
    assert model.timeline.of_camera(elsewhere).gains is None
