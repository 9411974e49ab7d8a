"""Corrections of a track, learned with the field."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from scipy.spatial.transform import Rotation
from synthetic import make_subject

from flame_nerf.canonical import CanonicalMapping
from flame_nerf.dataparser import FlameNerfDataParserConfig
from flame_nerf.heads import load_head
from flame_nerf.methods import flame_nerf_cpu
from flame_nerf.refinement import PoseRefinement, PoseRefinementConfig, TrackRefinement, TrackRefinementConfig
from flame_nerf.refinement.pose import LEARN_EVERY
from flame_nerf.refinement.time_spline import TimeSpline
from flame_nerf.subject import HeadTrack, Registration, Subject, load_subject, write_subject


def cameras(turns: np.ndarray) -> torch.Tensor:
    """Cameras half a metre before the head, turned about it by rotation vectors [N, 3], radians."""
    rotation = Rotation.from_rotvec(turns).as_matrix()
    return torch.from_numpy(np.concatenate([rotation, 0.5 * rotation[:, :, 2:]], axis=2)).float()


def refinement(turns: np.ndarray, **options) -> PoseRefinement:
    rows = torch.arange(len(turns))
    registered = options.pop("registered", False)
    config = PoseRefinementConfig(**options)
    return PoseRefinement(config, cameras(turns), rows, len(turns), torch.zeros(3), registered)


def rays(count: int) -> RayBundle:
    origins = torch.randn(count, 3)
    directions = torch.nn.functional.normalize(torch.randn(count, 3), dim=-1)
    return RayBundle(origins, directions, torch.ones(count, 1), camera_indices=torch.arange(count)[:, None])


def test_features_are_centred_and_scaled_over_training():
    turns = np.random.default_rng(1).normal(scale=[0.2, 0.4, 0.05], size=(300, 3))
    features = refinement(turns).train_features
    assert features.mean(0).abs().max() < 1e-4
    assert (features.std(0, correction=0) - 1).abs().max() < 1e-3


def test_nothing_moves_before_anything_is_learned():
    module, bundle = refinement(np.random.default_rng(2).normal(scale=0.3, size=(8, 3))), rays(8)
    origins, directions = bundle.origins.clone(), bundle.directions.clone()
    bundle.origins, bundle.directions = module.training_rays(bundle, 10_000)
    torch.testing.assert_close(bundle.origins, origins)
    torch.testing.assert_close(bundle.directions, directions)


def test_steps_between_take_their_rays_as_corrected_and_learn_nothing():
    module, bundle = refinement(np.random.default_rng(2).normal(scale=0.3, size=(8, 3))), rays(8)
    with torch.no_grad():
        module.calibration += 1e-3
    every = LEARN_EVERY
    assert every > 1
    learning, between = (module.training_rays(bundle, step) for step in (1000 * every, 1000 * every + 1))
    for a, b in zip(learning, between, strict=True):
        assert a.requires_grad and not b.requires_grad
        torch.testing.assert_close(a, b)


def test_where_nothing_is_to_be_learned_no_step_learns():
    still = refinement(np.zeros((4, 3)), calibrate=False)
    assert not any(still.learns(step) for step in range(100))
    assert any(refinement(np.zeros((4, 3)), calibrate=False, over_time=True).learns(step) for step in range(100))


def test_poses_laid_against_the_pictures_are_calibrated_only_if_asked():
    turns = np.random.default_rng(2).normal(scale=0.3, size=(8, 3))
    resting = refinement(turns, registered=True)
    assert resting.parameters_by_group() == {} and not any(resting.learns(step) for step in range(100))
    for module in (refinement(turns), refinement(turns, registered=True, calibrate=True)):
        assert set(module.parameters_by_group()) == {"camera_opt"} and any(module.learns(step) for step in range(100))


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
                origins, directions = module.correct_tracked_camera(tracked_c2w, 0, origins, directions)
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


def test_corrected_cameras_see_what_corrected_rays_see():
    """`corrected` and `correct_tracked_camera` are two ways to the same camera."""
    generator = np.random.default_rng(4)
    c2w = cameras(generator.uniform(-0.3, 0.3, size=(5, 3)))
    module = refinement(generator.uniform(-0.3, 0.3, size=(20, 3)), over_time=True, knot_spacing=3.0)
    with torch.no_grad():
        module.calibration.normal_(std=0.01)
        module.over_time.knots.normal_(std=0.01)
    directions = torch.nn.functional.normalize(torch.randn(7, 3), dim=-1)
    for index, row in enumerate([0, 3, 4, 11, 19]):
        moved = module.corrected(c2w[index : index + 1], torch.tensor([row]))[0]
        in_camera = directions @ c2w[index, :, :3]
        origins = c2w[index, :, 3].expand(7, 3)
        origin, direction = module.correct_tracked_camera(c2w[index], row, origins, directions)
        torch.testing.assert_close(origin, moved[:, 3].expand(7, 3), atol=1e-6, rtol=0)
        torch.testing.assert_close(direction, in_camera @ moved[:, :3].T, atol=1e-6, rtol=0)


def test_switched_off_it_has_nothing_to_learn():
    assert refinement(np.zeros((4, 3)), calibrate=False).parameters_by_group() == {}


def test_corrections_over_time_have_no_common_part():
    module, bundle = refinement(np.zeros((6, 3)), calibrate=False, over_time=True, knot_spacing=1.0), rays(6)
    origins = bundle.origins.clone()
    with torch.no_grad():
        module.over_time.knots[:] = torch.tensor([0.01, 0.0, 0.0, 0.0, math.radians(3), 0.0])
    bundle.origins, bundle.directions = module.training_rays(bundle, 10_000)
    torch.testing.assert_close(bundle.origins, origins)


@pytest.mark.parametrize("spacing", [1.0, 2.5, 8.0, 100.0])
def test_spline_against_numpy(spacing):
    train = torch.tensor([0, 1, 2, 3, 10, 11, 25, 29])
    spline = TimeSpline(train, 30, spacing, 2)
    torch.nn.init.normal_(spline.knots)
    at = np.arange(len(spline.knots)) * spacing
    knots = spline.knots.detach().numpy()
    expected = np.stack([np.interp(np.arange(30), at, knots[:, axis]) for axis in range(2)], axis=1)
    expected -= expected[train.numpy()].mean(axis=0)
    np.testing.assert_allclose(spline(torch.arange(30)).detach().numpy(), expected, atol=1e-5)
    assert spline.over_training().mean(dim=0).abs().max() < 1e-5


def test_a_spline_has_no_linear_part_of_its_features_over_training():
    train, features = torch.arange(5, 45), torch.randn(40, 3)
    spline = TimeSpline(train, 60, 6.0, 2, features)
    torch.nn.init.normal_(spline.knots)
    values = spline.over_training()
    assert values.abs().max() > 0.1
    assert (features.T @ values).abs().max() < 1e-3
    assert values.mean(dim=0).abs().max() < 1e-4


def test_rows_outside_of_training_are_not_corrected():
    spline = TimeSpline(torch.arange(10, 20), 40, 4.0, 2)
    torch.nn.init.normal_(spline.knots)
    outside = spline(torch.tensor([0, 9, 20, 39]))
    assert torch.equal(outside, torch.zeros(4, 2))
    assert spline(torch.tensor([10, 19])).abs().max() > 0


def test_a_frame_between_training_frames_learns_from_them():
    """A drift that grows and shrinks over the video, seen at the training rows only, is known at the others too."""
    rows = torch.arange(60)
    train = rows[(rows % 20 < 8) | (rows % 20 > 12)]
    truth = torch.sin(rows / 9.0)[:, None]
    truth = truth - truth[train].mean()
    spline = TimeSpline(train, 60, 6.0, 1)
    truth = truth * ((rows >= train.min()) & (rows <= train.max()))[:, None]
    optimizer = torch.optim.Adam(spline.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        (spline(train) - truth[train]).square().mean().backward()
        optimizer.step()
    assert (spline(rows) - truth).abs().max() < 0.1


def test_knots_closer_than_frames_are_refused():
    with pytest.raises(ValueError, match="at least one frame apart"):
        TimeSpline(torch.arange(5), 5, 0.5, 6)


@pytest.fixture(scope="module")
def posed():
    """The open head at a few expressions: head model and track."""
    head = load_head()
    expression = torch.zeros(6, len(head.expression_names))
    names = list(head.expression_names)
    expression[:, names.index("jawOpen")] = torch.linspace(0, 0.5, 6)
    expression[:, names.index("mouthSmileLeft")] = torch.linspace(0.3, 0, 6)
    pose = torch.zeros(6, len(head.joint_names), 3)
    identity = torch.zeros(head.shapedirs.shape[2])
    track = HeadTrack(
        faces=head.faces.numpy().astype(np.int32),
        canonical_vertices=head.vertices(identity, expression[0], pose[0]).numpy(),
        vertices=head.vertices(identity, expression, pose).numpy(),
        expression=expression.numpy(),
        expression_names=head.expression_names,
        pose=pose.numpy(),
        joint_names=head.joint_names,
        identity=identity.numpy(),
        region=head.region.numpy().astype(np.int8),
        region_names=head.region_names,
    )
    return head, track


def of_track(head, track, **enabled) -> TrackRefinement:
    config = TrackRefinementConfig(pose=PoseRefinementConfig(over_time=True))
    for name in enabled:
        setattr(config, name, dataclasses.replace(getattr(config, name), enabled=True))
    rows = torch.arange(track.num_timesteps)
    subject = Subject(Path(), 1.0, 1.0, 0.0, 0.0, 1, 1, frames=(), track=track)
    return TrackRefinement(config, subject, head, cameras(np.zeros((len(rows), 3))), rows)


def test_an_expression_offset_moves_points_as_reposing_does(posed):
    """Points on the re-posed skin, moved back by the shift, lie where the tracked mesh carries them from."""
    head, track = posed
    module = of_track(head, track, expression=True)
    names = list(track.expression_names)
    with torch.no_grad():
        knots = module.expression.spline.knots
        knots.zero_()
        knots[0, names.index("jawOpen")] = 0.2 / module.expression.scale[names.index("jawOpen")]
    row = torch.tensor([0])
    condition, shift = module.corrected(row, torch.zeros(1, len(names) + 9))
    offset = condition[0, : len(names)]
    reposed = head.vertices(torch.from_numpy(track.identity), torch.from_numpy(track.expression[0]) + offset,
                            torch.from_numpy(track.pose[0]))  # fmt: skip
    middle = reposed[head.faces].mean(dim=1)
    mapping = CanonicalMapping(head.faces, torch.from_numpy(track.canonical_vertices))
    meshes = [mapping.pose(reposed), mapping.pose(torch.from_numpy(track.vertices[0]))]
    faces, which = torch.arange(len(middle)), torch.zeros(len(middle), dtype=torch.long)
    exact = mapping.to_canonical(meshes, which, middle, faces).points
    shifted = mapping.to_canonical(meshes, which + 1, middle - shift.posed[0], faces).points
    moved = (reposed - torch.from_numpy(track.vertices[0])).norm(dim=1).max()
    error = (exact - shifted).norm(dim=1)
    assert moved > 1e-3
    assert error.quantile(0.99) < 0.1 * moved, (error.quantile(0.99), moved)


def test_an_identity_offset_leaves_points_of_the_skin_where_they_are_on_it(posed):
    head, track = posed
    module = of_track(head, track, identity=True)
    with torch.no_grad():
        module.identity.offset[:5] = 0.5
    _, shift = module.corrected(torch.tensor([3]), torch.zeros(1, 61))
    identity = torch.from_numpy(track.identity) + module.identity.offset.detach()
    both = [head.vertices(identity, torch.from_numpy(track.expression[r]), torch.from_numpy(track.pose[r]))
            for r in (0, 3)]  # fmt: skip
    canonical, at_row = (mesh[head.faces].mean(dim=1) for mesh in both)
    mapping = CanonicalMapping(head.faces, torch.from_numpy(track.canonical_vertices))
    mesh = mapping.pose(torch.from_numpy(track.vertices[3]))
    faces, which = torch.arange(len(at_row)), torch.zeros(len(at_row), dtype=torch.long)
    carried = mapping.to_canonical([mesh], which, at_row - shift.posed[0], faces).points + shift.canonical
    moved = shift.canonical.norm(dim=1).max()
    assert moved > 1e-3
    assert (carried - canonical).norm(dim=1).quantile(0.95) < 0.1 * moved


def test_what_has_not_begun_changes_nothing(posed):
    head, track = posed
    module = of_track(head, track, expression=True, identity=True)
    condition = torch.randn(2, 61)
    same, shift = module.corrected(torch.tensor([1, 2]), condition, step=10)
    assert shift is None
    assert torch.equal(same, condition)
    assert module.penalties(10) == {}
    assert set(module.penalties(10_000)) == {"pose_regularizer", "expression_regularizer", "identity_regularizer"}
    assert set(module.parameters_by_group()) == {"camera_opt", "expression_opt", "identity_opt"}


def test_without_a_head_model_expressions_cannot_be_refined(posed):
    with pytest.raises(ValueError, match="needs the head model"):
        of_track(None, posed[1], expression=True)


def test_a_model_asks_the_subject_whether_its_poses_were_registered(tmp_path):
    plain = make_subject(tmp_path / "subject", size=16, count=6)
    for registration, groups in ((None, {"camera_opt"}), (Registration("photometric", 2.0), set())):
        write_subject(dataclasses.replace(load_subject(plain.root), registration=registration), plain.root)
        config = copy.deepcopy(flame_nerf_cpu.config.pipeline)
        config.datamanager.data = plain.root
        config.datamanager.dataparser = FlameNerfDataParserConfig(data=plain.root)
        model = config.setup(device="cpu", test_mode="test", world_size=1, local_rank=0).model
        assert set(model.get_param_groups()) & {"camera_opt"} == groups
