"""Marching ahead: the same samples as without, the same in every run, and threads are shared with it."""

import copy
import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from synthetic import make_subject

from flame_nerf.data.step_plan import StepPlan
from flame_nerf.dataparser import FlameNerfDataParserConfig
from flame_nerf.kernels.cpu import threads
from flame_nerf.methods import flame_nerf_cpu
from flame_nerf.render.prefetch import TrainingRays
from flame_nerf.render.step_rays import StepRays


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    root = make_subject(tmp_path_factory.mktemp("ahead") / "subject", size=48, count=12).root
    config = copy.deepcopy(flame_nerf_cpu.config.pipeline)
    config.datamanager.data = root
    config.datamanager.dataparser = FlameNerfDataParserConfig(data=root)
    config.datamanager.train_num_rays_per_batch = 256
    return config.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)


def look(data, step: int) -> RayBundle:
    """Look ahead, all on one thread."""
    return data.look_ahead(step)()


def test_the_next_steps_rays_are_those_that_were_looked_at(pipeline):
    data = pipeline.datamanager
    ahead = look(data, 5)
    assert data.next_train(5)[0] is ahead
    assert data.next_train(6)[0] is not ahead
    # Another step than was looked at, as after a checkpoint was loaded, draws anew.
    ahead = look(data, 7)
    assert data.next_train(20)[0] is not ahead


def test_the_next_step_waits_for_what_another_thread_draws(pipeline):
    data = pipeline.datamanager
    draw = data.look_ahead(5)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(data.next_train, 5)
        with pytest.raises(TimeoutError):
            waiting.result(0.05)
        ahead = draw()
        assert waiting.result(10)[0] is ahead


def test_rays_do_not_depend_on_when_they_are_drawn(pipeline):
    data, drawn = pipeline.datamanager, []
    for disturb in (False, True):
        torch.manual_seed(4)
        draw = data.look_ahead(5)
        if disturb:
            torch.rand(100)
        drawn.append(draw())
        data.next_train(5)
    assert torch.equal(drawn[0].directions, drawn[1].directions) and torch.equal(
        drawn[0].metadata["frame_idx"], drawn[1].metadata["frame_idx"]
    )


def test_what_fails_while_drawing_is_raised_where_the_rays_are_wanted(pipeline):
    data = pipeline.datamanager

    def broken(step):
        raise OSError("disk gone")

    data.schedule = broken
    try:
        with pytest.raises(OSError, match="disk gone"):
            look(data, 3)
        with pytest.raises(OSError, match="disk gone"):
            data.next_train(3)
    finally:
        del data.schedule


def test_patches_come_at_the_steps_that_want_them(pipeline):
    data = pipeline.datamanager
    data.schedule = lambda step: StepPlan(step, patches=step == 3)
    try:
        look(data, 3)
        assert "num_patches" in data.next_train(3)[1] and "num_patches" not in data.next_train(4)[1]
    finally:
        del data.schedule


def rays_of(pipeline) -> TrainingRays:
    """A model's way from bundles to rays, on a white background, with nothing ahead."""
    model = pipeline.model.train()
    return TrainingRays(model.timeline, model.renderer, model.refinement.pose, lambda bundle: torch.ones(3))


def ahead_of(pipeline, bundle: RayBundle, step: int, meanwhile=lambda: None) -> StepRays:
    """A bundle's rays, prepared beside the step before; `meanwhile` happens after the worker was started."""
    rays = rays_of(pipeline)
    rays.prefetch(lambda coming: lambda: bundle)
    other = pipeline.datamanager.next_train(step - 1)[0]
    torch.manual_seed(3)
    rays.prepare(other, step - 1)
    meanwhile()
    return rays.prepare(bundle, step)


SAMPLED = ("ray_index", "t_start", "face", "mesh_index", "distance")


@pytest.mark.parametrize("step", [304, 305])
def test_what_was_done_ahead_is_what_would_be_done_now(pipeline, step):
    """Samples, and their places in the canonical head, whether a step learns corrections (304) or not (305)."""
    model, bundle = pipeline.model.train(), pipeline.datamanager.next_train(0)[0]
    pose, renderer = model.refinement.pose, model.renderer
    with torch.no_grad():
        pose.calibration.fill_(2e-3)

    def learn() -> None:
        # What training learns in the meantime is no part of what was prepared.
        with torch.no_grad():
            pose.calibration.fill_(1e-1)

    found = ahead_of(pipeline, bundle, step, learn)

    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    moments, which = model.timeline.of_rays(bundle, step=step)
    corrections = []
    with torch.no_grad():
        for size in (2e-3, 1e-1):
            pose.calibration.fill_(size)
            corrections.append(pose.training_rays(bundle, step))
        pose.calibration.zero_()
    before, after = (StepRays(moments, which, *rays) for rays in corrections)
    assert not torch.equal(before.origins, bundle.origins)
    expected = renderer.march(before, renderer.known_empty(step), generator)
    assert len(found.samples) > 500
    assert torch.equal(found.moments.timesteps, moments.timesteps) and torch.equal(found.mesh_index, which)
    for name in SAMPLED:
        assert torch.equal(getattr(found.samples, name), getattr(expected.samples, name)), name
    # A step that learns corrections corrects its rays anew, and is differentiable in them.
    assert pose.learns(step) == found.origins.requires_grad == found.canonical.points.requires_grad == (step == 304)
    rays = after if step == 304 else before
    placed = renderer.carry(dataclasses.replace(rays, samples=expected.samples))
    for name in ("origins", "directions", "density_factor"):
        torch.testing.assert_close(getattr(found, name), getattr(placed, name), atol=1e-7, rtol=0)
    for name in ("points", "directions"):
        torch.testing.assert_close(getattr(found.canonical, name), getattr(placed.canonical, name), atol=1e-6, rtol=0)


@pytest.mark.parametrize("step", [304, 305])
def test_a_step_looks_the_same_whether_it_was_prepared_ahead_or_now(pipeline, step, monkeypatch):
    model, bundle = pipeline.model.train(), pipeline.datamanager.next_train(0)[0]
    sample_shell = model.renderer.mapping.sample_shell

    def sampled(*args, **options):
        return sample_shell(*args, **options | {"generator": torch.Generator().manual_seed(1)})

    monkeypatch.setattr(model.renderer.mapping, "sample_shell", sampled)
    pictures = []
    for rays in (ahead_of(pipeline, bundle, step), rays_of(pipeline).prepare(bundle, step)):
        pictures.append(model.renderer(rays, model.conditioning(rays.moments), step))
    assert float(pictures[0]["accumulation"].detach().max()) > 0.1
    for name in ("rgb", "accumulation", "depth"):
        assert torch.equal(pictures[0][name], pictures[1][name]), name
    assert pictures[0]["rgb"].requires_grad


def test_what_was_learned_meanwhile_does_not_change_a_march(pipeline):
    renderer, bundle = pipeline.model.train().renderer, pipeline.datamanager.next_train(0)[0]
    highest, step = renderer.occupancy.highest, 10_001
    assert renderer.known_empty(step) is not None
    highest.fill_(1e4)
    assert len(ahead_of(pipeline, bundle, step, lambda: highest.zero_()).samples) > 500
    highest.fill_(torch.inf)


def test_another_bundle_is_prepared_now_and_errors_are_raised(pipeline):
    bundle, other = (pipeline.datamanager.next_train(0)[0] for _ in range(2))
    rays = rays_of(pipeline)
    rays.prefetch(lambda coming: lambda: bundle)
    rays.prepare(other, 0)
    assert torch.equal(rays.prepare(other, 1).directions, other.directions)
    broken = pipeline.datamanager.next_train(0)[0]
    broken.origins = broken.origins * torch.nan
    with pytest.raises(ValueError, match="not finite"):
        ahead_of(pipeline, broken, 1)


def test_two_runs_with_one_seed_are_the_same(pipeline):
    weights = []
    for _ in range(2):
        torch.manual_seed(0)
        again = pipeline.config.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)
        weights.append(trained(again, steps=12))
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def trained(pipeline, steps: int) -> list[torch.Tensor]:
    """All parameters after some steps, as Nerfstudio's trainer takes them."""
    from nerfstudio.engine.callbacks import TrainingCallbackAttributes
    from nerfstudio.engine.callbacks import TrainingCallbackLocation as Location

    callbacks = pipeline.get_training_callbacks(TrainingCallbackAttributes(None, None, pipeline, None))
    parameters = [value for group in pipeline.get_param_groups().values() for value in group]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    pipeline.train()
    for step in range(steps):
        for callback in callbacks:
            callback.run_callback_at_location(step, Location.BEFORE_TRAIN_ITERATION)
        optimizer.zero_grad()
        sum(pipeline.get_train_loss_dict(step)[1].values()).backward()
        optimizer.step()
    assert pipeline.model.training_rays.prefetches
    return [parameter.detach().clone() for parameter in parameters]


def test_background_work_and_the_rest_share_the_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)

    def spread_over(alone: bool = False) -> int:
        """Threads that four parts run on; which they are must not change what comes back."""
        together = threading.Barrier(4) if alone else None

        def part(begin: int, end: int) -> tuple[int, int, int]:
            if together is not None:
                together.wait(10)
            return begin, end, threading.get_ident()

        found = threads.run_in_chunks(part, 400, 1)
        assert [row[:2] for row in found] == [(0, 100), (100, 200), (200, 300), (300, 400)]
        return len({row[2] for row in found})

    started, done, found = threading.Event(), threading.Event(), []

    def work():
        with threads.background_work():
            found.append(spread_over())
            started.set()
            done.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    started.wait(10)
    assert spread_over() <= 2 and found[0] <= 2
    done.set()
    thread.join()
    monkeypatch.setattr(threads, "pool_of", lambda pid: pool)
    with ThreadPoolExecutor(4) as pool:
        assert spread_over(alone=True) == 4


@pytest.mark.parametrize("failing", [None, 0, 5])
def test_whoever_waits_for_background_work_takes_part_in_it(monkeypatch, failing):
    """All jobs but the one at hand; what fails in a job is raised where the work was begun, and not where it helped."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    begun, helped = threading.Event(), threading.Event()

    def part(begin: int, end: int) -> tuple[int, int]:
        if begin == 0:
            begun.set()
            assert helped.wait(10)
        if begin == failing:
            raise OSError(f"job {begin}")
        return begin, threading.get_ident()

    def work() -> list[tuple[int, int]]:
        with threads.background_work():
            return threads.run_in_chunks(part, 8, 1, chunks_per_thread=4)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        assert begun.wait(10)
        threads.help_background_work()
        helped.set()
        if failing is not None:
            with pytest.raises(OSError, match=f"job {failing}"):
                running.result(10)
        else:
            found = running.result(10)
            assert [begin for begin, _ in found] == list(range(8))
            assert [thread == threading.get_ident() for _, thread in found] == [False] + 7 * [True]
    # Nothing is left of it to take part in, after an error neither.
    threads.help_background_work()


def test_torch_leaves_its_threads_to_kernels_and_gets_them_back():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with threads.threads_for_kernels():
            assert torch.get_num_threads() == 1 and threads.num_threads() == 3
            assert threads.parts_of(300, 1) == 3
            with threads.threads_for_kernels():
                assert torch.get_num_threads() == 1 and threads.num_threads() == 3
            assert torch.get_num_threads() == 1 and threads.num_threads() == 3
        with pytest.raises(KeyError), threads.threads_for_kernels():
            raise KeyError
        assert torch.get_num_threads() == threads.num_threads() == 3
    finally:
        torch.set_num_threads(before)
