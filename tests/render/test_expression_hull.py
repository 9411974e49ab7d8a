"""What the field is told of an expression stays near what the training frames showed."""

import copy
import dataclasses
import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from synthetic import make_subject

from flame_nerf.dataparser import FlameNerfDataParserConfig
from flame_nerf.methods import flame_nerf_cpu, flame_nerf_insta, nerface, nha
from flame_nerf.motion import PosedFrame
from flame_nerf.render.observed.expression_hull import MOST, SLACK, ExpressionHull

CUBE = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)))
CUBE_SLACK = SLACK * 0.75**0.5


@given(st.lists(st.floats(-4.0, 5.0), min_size=3, max_size=3))
def test_of_a_cube_the_nearest_point_is_the_clamped_one(values):
    seen = ExpressionHull(CUBE)
    condition = torch.tensor([values])
    clamped = condition.clamp(0.0, 1.0)
    away = condition - clamped
    expected = clamped + away * min(1.0, CUBE_SLACK / max(float(away.norm()), 1e-9))
    torch.testing.assert_close(seen.nearest(condition, torch.eye(3)), expected, atol=2e-3, rtol=0)
    # Turned about and one entry counting double: distances are what the field makes of them.
    turn = torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    stretched = ExpressionHull(CUBE / torch.tensor([1.0, 1.0, 2.0]))
    found = stretched.nearest(condition / torch.tensor([1.0, 1.0, 2.0]), turn)
    torch.testing.assert_close(found * torch.tensor([1.0, 1.0, 2.0]), expected, atol=2e-3, rtol=0)


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 60))
def test_what_was_seen_and_blends_of_it_stay(seed, count, size):
    generator = np.random.default_rng(seed)
    conditions = torch.from_numpy(generator.normal(size=(count, size))).float()
    weights = torch.from_numpy(generator.dirichlet(np.full(count, 0.3), size=3)).float()
    seen = ExpressionHull(conditions)
    effect = torch.from_numpy(generator.normal(size=(8, size))).float()
    for inside in (conditions[:3], weights @ conditions):
        assert torch.equal(seen.nearest(inside, effect), inside)


@given(st.integers(0, 2**32))
def test_what_does_nothing_stays_as_it_is(seed):
    generator = np.random.default_rng(seed)
    conditions = torch.from_numpy(generator.normal(size=(20, 5))).float()
    seen, effect = ExpressionHull(conditions), torch.from_numpy(generator.normal(size=(4, 5))).float()
    effect[:, 3] = 0
    condition = conditions[:2].clone()
    condition[:, 3] += 100.0
    assert torch.equal(seen.nearest(condition, effect), condition)
    assert torch.equal(seen.nearest(condition + 9, torch.zeros(4, 5)), condition + 9)


@given(st.integers(0, 2**32))
def test_what_is_moved_comes_to_lie_within_the_slack_and_stays_there(seed):
    generator = np.random.default_rng(seed)
    conditions = torch.from_numpy(0.2 * generator.normal(size=(30, 8))).float()
    seen, effect = ExpressionHull(conditions), torch.from_numpy(generator.normal(size=(12, 8))).float()
    far = torch.from_numpy(3.0 * generator.normal(size=(4, 8))).float()
    moved = seen.nearest(far, effect)
    torch.testing.assert_close(seen.nearest(moved, effect), moved, atol=1e-3, rtol=0)
    # In no direction do the moved ones act farther out than the farthest seen one and the slack.
    acts, mean = conditions @ effect.T, (conditions @ effect.T).mean(dim=0)
    towards = torch.nn.functional.normalize(far @ effect.T - mean, dim=1)
    allowed = (acts @ towards.T).amax(dim=0) + SLACK * (acts - mean).norm(dim=1).mean()
    assert ((moved @ effect.T * towards).sum(dim=1) <= allowed + 1e-2).all()


def test_a_static_head_and_a_long_video():
    assert ExpressionHull(torch.zeros(5, 0)).nearest(torch.zeros(2, 0), torch.zeros(4, 0)).shape == (2, 0)
    conditions = torch.rand(3 * MOST + 7, 2, generator=torch.Generator().manual_seed(0))
    seen = ExpressionHull(conditions)
    found = seen.nearest(torch.tensor([[0.5, 3.0]]), torch.eye(2))[0]
    reach = float((conditions - conditions.mean(dim=0)).norm(dim=1).mean())
    torch.testing.assert_close(found, torch.tensor([0.5, 1 + SLACK * reach]), atol=0.02, rtol=0)


def pipeline_of(folder, method=flame_nerf_cpu, **sampling):
    config = copy.deepcopy(method.config.pipeline)
    config.model.sampling = dataclasses.replace(config.model.sampling, **sampling)
    root = make_subject(folder, size=48, count=6).root
    config.datamanager.data, config.datamanager.train_num_rays_per_batch = root, 128
    config.datamanager.dataparser = FlameNerfDataParserConfig(data=root)
    return config.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)


def told(pipeline, value: float) -> torch.Tensor:
    """What the field is told of the first moment with every entry of its condition set to `value`."""
    model, camera = pipeline.model, pipeline.datamanager.eval_dataset.cameras[:1]
    camera.metadata = None
    frame = model.motion.at_timestep(0)
    model.override = PosedFrame(frame.vertices, torch.full_like(frame.condition, value))
    condition = model.conditioning(model.timeline.of_camera(camera, model.override))[0]
    model.override = None
    return condition


def test_pictures_of_a_wild_expression_are_told_the_nearest_seen_one(tmp_path):
    pipeline = pipeline_of(tmp_path / "subject")
    model = pipeline.model.eval()
    field, seen = model.renderer.field, model.motion.conditions[model.train_timesteps]
    # Untrained, a condition does nothing, and any will do.
    assert (told(pipeline, 20.0) == 20.0).all()
    torch.nn.init.normal_(field.condition_scale.weight, generator=torch.Generator().manual_seed(0))
    acts = seen @ field.condition_scale.weight.T
    wild = field.condition_scale(torch.stack([told(pipeline, value) for value in (20.0, 40.0)]))
    spread = (acts - acts.mean(dim=0)).norm(dim=1)
    assert (torch.cdist(wild, acts).amin(dim=1) < 2 * spread.max()).all()
    torch.testing.assert_close(wild[0], wild[1], atol=0.05 * float(spread.max()), rtol=0)


def test_a_trained_moment_is_told_what_it_was_trained_with_and_a_held_out_one_is_not(tmp_path):
    pipeline = pipeline_of(tmp_path / "subject")
    model, corrected = pipeline.model.eval(), torch.tensor([20.0])
    torch.nn.init.normal_(model.renderer.field.condition_scale.weight, generator=torch.Generator().manual_seed(0))
    # As a refined expression would be, far from where it was tracked.
    model.refinement.corrected = lambda rows, condition, step=None: (condition + corrected, None)
    data = pipeline.datamanager
    for cameras, kept in ((data.train_dataset.cameras[2:3], True), (data.eval_dataset.cameras[:1], False)):
        tracked = model.motion.conditions[int(cameras.metadata["frame_idx"])]
        shown = model.conditioning(model.timeline.of_camera(cameras))[0]
        assert torch.equal(shown, tracked + corrected) == kept


def test_not_in_training_nor_where_it_is_turned_off(tmp_path):
    pipeline = pipeline_of(tmp_path / "on")
    model, asked = pipeline.model, []
    model.renderer.expression_hull.nearest = lambda condition, effect: asked.append(len(condition)) or condition
    model.train()(pipeline.datamanager.next_train(0)[0])
    assert not asked
    model.eval().get_outputs_for_camera(pipeline.datamanager.eval_dataset.cameras[:1])
    assert asked == [1]
    pipeline = pipeline_of(tmp_path / "off", observed_expressions_only=False)
    torch.nn.init.normal_(pipeline.model.renderer.field.condition_scale.weight)
    pipeline.model.eval()
    assert (told(pipeline, 20.0) == 20.0).all()


def test_the_baselines_are_told_any_expression_and_insta_only_its_own(tmp_path):
    for method in (nerface, nha, flame_nerf_insta):
        assert not getattr(method.config.pipeline.model.sampling, "observed_expressions_only", False)
    pipeline = pipeline_of(tmp_path / "insta", flame_nerf_insta, observed_expressions_only=True)
    renderer = pipeline.model.renderer
    torch.nn.init.normal_(renderer.field.condition_shift.weight)
    effect = renderer.condition_effect()
    assert effect.shape[1] == pipeline.model.motion.condition_dim
    asked = pipeline.model.motion.conditions[:3]
    torch.testing.assert_close(asked @ effect.T, asked[:, renderer.columns] @ renderer.field.condition_effect().T)
    pipeline.model.eval().get_outputs_for_camera(pipeline.datamanager.eval_dataset.cameras[:1])
