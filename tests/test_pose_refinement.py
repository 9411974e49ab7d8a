"""Corrections of tracked head poses."""

from __future__ import annotations

import math

import numpy as np
import torch
from nerfstudio.cameras.rays import RayBundle
from scipy.spatial.transform import Rotation

from flame_nerf.pose_refinement import PoseRefinement, PoseRefinementConfig, rotation_vector


def cameras(turns: np.ndarray) -> torch.Tensor:
    """Cameras half a metre before the head, turned about it by rotation vectors [N, 3], radians."""
    rotation = Rotation.from_rotvec(turns).as_matrix()
    return torch.from_numpy(np.concatenate([rotation, 0.5 * rotation[:, :, 2:]], axis=2)).float()


def refinement(turns: np.ndarray, **options) -> PoseRefinement:
    module = PoseRefinementConfig(**options).setup(num_cameras=len(turns), device="cpu")
    module.set_frames(cameras(turns), torch.zeros(3))
    return module


def rays(count: int) -> RayBundle:
    origins = torch.randn(count, 3)
    directions = torch.nn.functional.normalize(torch.randn(count, 3), dim=-1)
    return RayBundle(origins, directions, torch.ones(count, 1), camera_indices=torch.arange(count)[:, None])


def test_rotation_vector_against_scipy():
    vectors = np.random.default_rng(0).normal(size=(200, 3))
    vectors *= np.linspace(0, 3.0, 200)[:, None] / np.linalg.norm(vectors, axis=1, keepdims=True)
    matrices = torch.from_numpy(Rotation.from_rotvec(vectors).as_matrix())
    np.testing.assert_allclose(rotation_vector(matrices).numpy(), vectors, atol=1e-6)


def test_features_are_centred_and_scaled_over_training():
    turns = np.random.default_rng(1).normal(scale=[0.2, 0.4, 0.05], size=(300, 3))
    features = refinement(turns).train_features
    assert features.mean(0).abs().max() < 1e-4
    assert (features.std(0, correction=0) - 1).abs().max() < 1e-3


def test_nothing_moves_before_anything_is_learned():
    module, bundle = refinement(np.random.default_rng(2).normal(scale=0.3, size=(8, 3))), rays(8)
    origins, directions = bundle.origins.clone(), bundle.directions.clone()
    module.correct_training_rays(bundle, 10_000)
    torch.testing.assert_close(bundle.origins, origins)
    torch.testing.assert_close(bundle.directions, directions)


def test_a_tracker_that_turns_the_head_too_little_is_found_out():
    """Points seen by true cameras, tracked at 0.8 of their turn: the calibration learns the gain, and it extends."""
    generator = np.random.default_rng(3)
    true_turns = generator.uniform(-0.3, 0.3, size=(60, 3)) * [1, 1, 0.1]
    module = refinement(0.8 * true_turns)
    points = torch.from_numpy(generator.uniform(-0.1, 0.1, size=(40, 3))).float()
    optimizer = torch.optim.Adam([module.calibration], lr=1e-3)

    def distance(tracked: torch.Tensor, true: torch.Tensor, corrected: bool) -> torch.Tensor:
        """Mean distance of the points from the rays that should meet them, metres."""
        error = []
        for tracked_c2w, true_c2w in zip(tracked, true, strict=True):
            seen = (points - true_c2w[:, 3]) @ true_c2w[:, :3]
            directions = torch.nn.functional.normalize(seen @ tracked_c2w[:, :3].T, dim=-1)
            origins = tracked_c2w[:, 3].expand_as(directions)
            if corrected:
                origins, directions = module.correct_tracked_camera(tracked_c2w, origins, directions)
            error.append(torch.linalg.cross(points - origins, directions).norm(dim=-1).mean())
        return torch.stack(error).mean()

    tracked, true = cameras(0.8 * true_turns), cameras(true_turns)
    for _ in range(150):
        optimizer.zero_grad()
        distance(tracked, true, True).backward()
        optimizer.step()
    unseen = np.array([[0.35, -0.1, 0.0], [-0.2, 0.35, 0.0], [0.0, -0.4, 0.02]])
    before = distance(cameras(0.8 * unseen), cameras(unseen), False)
    after = distance(cameras(0.8 * unseen), cameras(unseen), True)
    assert after < 0.25 * before, (float(before), float(after))


def test_switched_off_it_has_nothing_to_learn():
    groups: dict = {}
    refinement(np.zeros((4, 3)), calibrate=False).get_param_groups(groups)
    assert groups == {}


def test_frames_own_corrections_have_no_common_part():
    module, bundle = refinement(np.zeros((6, 3)), mode="SO3xR3", calibrate=False), rays(6)
    origins = bundle.origins.clone()
    with torch.no_grad():
        module.pose_adjustment[:] = torch.tensor([0.01, 0.0, 0.0, 0.0, math.radians(3), 0.0])
    module.correct_training_rays(bundle, 10_000)
    torch.testing.assert_close(bundle.origins, origins)
