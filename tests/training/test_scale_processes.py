"""Several processes train one head: the same result as one process with all of their rays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from synthetic import make_subject

STEPS, RAYS = 14, 512
QUIET = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}


class SharedBatches:
    """The batches of one sampler, the same in all processes, of which each takes its share of the rays."""

    def __init__(self, sampler, rank: int, world: int):
        self.sampler, self.rank, self.world, self.step = sampler, rank, world, 0
        sampler.num_rays_per_batch = RAYS
        self.num_rays_per_batch = RAYS // world

    def sample(self, image_batch: dict, *plan) -> dict:
        torch.manual_seed(1000 + self.step)
        self.step += 1
        share = slice(self.rank * self.num_rays_per_batch, (self.rank + 1) * self.num_rays_per_batch)
        return {name: values[share] for name, values in self.sampler.sample(image_batch, *plan).items()}


def work(rank: int, world: int, folder: Path) -> None:
    """What one process does: Nerfstudio's pipeline and trainer, over gloo in place of NCCL."""
    import torch.distributed as dist
    from nerfstudio.pipelines import base_pipeline

    from flame_nerf import methods

    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
        barrier = dist.barrier

        class OnCpu(base_pipeline.DDP):
            """Device numbers are for GPUs alone."""

            def __init__(self, model, device_ids, **options):
                super().__init__(model, **options)

        base_pipeline.DDP = OnCpu
        dist.barrier = lambda device_ids=None: barrier()
    config = methods.with_steps(methods.flame_nerf_cpu.config, STEPS)
    config.data = config.pipeline.datamanager.data = folder / "subject"
    config.output_dir, config.timestamp, config.vis = folder / f"outputs-{world}", "t", "tensorboard"
    config.steps_per_eval_batch = config.steps_per_eval_image = 10_000
    model_config = config.pipeline.model
    model_config.random_background, model_config.ema_decay, model_config.depth.kind = False, 0.8, "none"
    model_config.refinement.pose.calibration_start_step = 4
    model_config.refinement.pose.over_time_start_step = 6
    model_config.sampling.occupancy.start_step, model_config.sampling.occupancy.explore_every = 6, 4
    if world > 1 and rank == 0:
        config.save_config()
    # As Nerfstudio does: each process starts differently, and the first one's weights must win.
    torch.manual_seed(rank)
    trainer = config.setup(local_rank=rank, world_size=world)
    trainer.setup()
    model, data = trainer.pipeline.model, trainer.pipeline.datamanager
    data.train_pixel_sampler = SharedBatches(data.train_pixel_sampler, rank, world)
    march = model.renderer.mapping.sample_shell
    model.renderer.mapping.sample_shell = lambda *args, **options: march(*args, **{**options, "jitter": False})
    iteration, losses, first = trainer.train_iteration, [], {}

    def recorded(step: int):
        result = iteration(step)
        losses.append(float(result[0].detach()))
        if step == 0:
            first.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        return result

    trainer.train_iteration = recorded
    trainer.config.viewer.quit_on_train_completion = True
    trainer.train()
    model.eval()
    picture = model.get_outputs_for_camera(data.eval_dataset.cameras[0:1])["rgb"]
    seen = {"losses": losses, "first": first, "state": model.state_dict(), "picture": picture}
    torch.save(seen, folder / f"seen-{world}-{rank}.pt")
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What each process saw, by (world, rank), and the folder."""
    folder = tmp_path_factory.mktemp("processes")
    make_subject(folder / "subject", size=40, count=12)
    for world in (1, 2):
        started = [
            subprocess.Popen(
                [sys.executable, __file__, str(rank), str(world), str(folder)],
                env=_environment(),
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for rank in range(world)
        ]  # fmt: skip
        for process in started:
            output = process.communicate(timeout=150)[0]
            assert process.returncode == 0, output[-3000:]
    found = {key: torch.load(folder / f"seen-{key[0]}-{key[1]}.pt") for key in ((1, 0), (2, 0), (2, 1))}
    return found, folder


@pytest.mark.slow
def test_processes_stay_the_same(seen):
    first, second = seen[0][2, 0], seen[0][2, 1]
    assert first["losses"] != second["losses"], "each process sees rays of its own"
    for name, values in first["state"].items():
        if name != "renderer.occupancy.highest":
            assert torch.equal(values, second["state"][name]), name
    grids = [one["state"]["renderer.occupancy.highest"] for one in (first, second)]
    # Between exploring steps each process notes what it meets by itself: a hundredth of what is known.
    assert (grids[0].isinf() != grids[1].isinf()).sum() < 0.05 * (~grids[0].isinf()).sum()
    assert (first["picture"] - second["picture"]).abs().mean() < 5e-3


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(seen):
    one, two = seen[0][1, 0], [seen[0][2, rank] for rank in (0, 1)]
    assert set(one["first"]) == set(two[0]["first"])
    for name, gradient in one["first"].items():
        assert torch.allclose(two[0]["first"][name], gradient, rtol=0, atol=1e-5 * float(gradient.abs().max())), name
    together = torch.tensor([run["losses"] for run in two]).mean(dim=0)
    assert torch.allclose(together, torch.tensor(one["losses"]), rtol=1e-3), (together, one["losses"])
    assert (two[0]["picture"] - one["picture"]).abs().mean() < 5e-3
    for name, alone in one["state"].items():
        if name != "renderer.occupancy.highest" and alone.is_floating_point():
            difference = (two[0]["state"][name] - alone).abs().sum()
            assert difference < 1e-2 * alone.abs().sum() or torch.equal(two[0]["state"][name], alone), name
    assert one["state"]["renderer.field.grid.table"].abs().mean() > 100 * 1e-4, "they did learn"
    grids = [run["state"]["renderer.occupancy.highest"] for run in (one, two[0])]
    assert (grids[0].isinf() != grids[1].isinf()).sum() < 0.05 * (~grids[0].isinf()).sum()


@pytest.mark.slow
def test_checkpoint_of_two_processes_loads_in_one(seen):
    found, folder = seen
    written = list(folder.glob("outputs-2/subject/flame-nerf-cpu/t/nerfstudio_models/*.ckpt"))
    assert [path.name for path in written] == [f"step-{STEPS - 1:09d}.ckpt"], "one process writes"
    # In a process of its own, as those that trained: what other tests left in this one is not their picture's.
    done = subprocess.run([sys.executable, __file__, "show", str(folder)], env=_environment(), timeout=150)
    assert done.returncode == 0
    picture = torch.load(folder / "shown.pt")
    assert torch.allclose(picture, found[2, 0]["picture"], atol=1e-4), (picture - found[2, 0]["picture"]).abs().max()


def show(folder: Path) -> None:
    """The picture of the checkpoint, as whoever loads the run sees it."""
    from nerfstudio.utils.eval_utils import eval_setup

    _, pipeline, _, _ = eval_setup(folder / "outputs-2/subject/flame-nerf-cpu/t/config.yml", test_mode="test")
    shown = pipeline.model.get_outputs_for_camera(pipeline.datamanager.eval_dataset.cameras[0:1])["rgb"]
    torch.save(shown, folder / "shown.pt")


def _environment() -> dict[str, str]:
    return os.environ | QUIET | {"PYTHONPATH": os.pathsep.join(sys.path)}


if __name__ == "__main__":
    if sys.argv[1] == "show":
        show(Path(sys.argv[2]))
    else:
        work(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
