"""Runs that break off: full memory, full disks, GPUs that cannot be used; and runs that are taken up again."""

import copy
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import make_subject

from flame_nerf import methods
from flame_nerf.data import image_cache
from flame_nerf.runtime.scratch import ScratchError
from flame_nerf.training.out_of_memory import advice, is_out_of_memory
from flame_nerf.training.records import read_record
from flame_nerf.training.trainer import cuda_problem

CPU_TEXT = "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"


@pytest.fixture(scope="module")
def subject(tmp_path_factory) -> Path:
    return make_subject(tmp_path_factory.mktemp("trainer") / "subject", size=24, count=8).root


def trainer_of(subject: Path, outputs: Path, steps: int = 4, **options):
    config = methods.with_steps(methods.flame_nerf_cpu.config, steps)
    config.data = config.pipeline.datamanager.data = subject
    config.pipeline.datamanager.train_num_rays_per_batch = 64
    config.pipeline.model.field.log2_hashmap_size = 10
    config.output_dir, config.timestamp, config.vis = outputs, "t", "tensorboard"
    config.steps_per_eval_batch = config.steps_per_eval_image = 10_000
    config.viewer.quit_on_train_completion = True
    for name, value in options.items():
        setattr(config, name, value)
    trainer = config.setup()
    trainer.setup()
    return trainer


def numpy_out_of_memory() -> MemoryError:
    """What numpy raises of an array that no machine holds."""
    with pytest.raises(MemoryError) as raised:
        np.empty(1 << 55)
    return raised.value


@pytest.mark.parametrize(
    "error, full",
    [
        (MemoryError(), True),
        (numpy_out_of_memory(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError(CPU_TEXT), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_forms_of_full_memory(error, full):
    assert is_out_of_memory(error) is full


def test_advice_names_settings_that_the_method_has(tmp_path):
    config = copy.deepcopy(methods.flame_nerf.config)
    on_gpu, on_cpu = (advice(config, where, tmp_path / "none") for where in (True, False))
    assert "--pipeline.datamanager.train-num-rays-per-batch (now 8192)" in on_gpu
    assert "--pipeline.model.field.log2-hashmap-size (now 19)" in on_gpu and "Nothing was saved yet" in on_gpu
    assert on_cpu.startswith("This machine's memory is full. Lower --pipeline.datamanager.image-memory")
    without_grid = advice(copy.deepcopy(methods.nerface.config), True, tmp_path)
    assert "train-num-rays-per-batch" in without_grid and "log2-hashmap-size" not in without_grid


@pytest.mark.slow
def test_full_memory_ends_with_advice_and_a_whole_checkpoint(subject, tmp_path, capsys):
    trainer = trainer_of(subject, tmp_path, steps=6, steps_per_save=2)
    whole = trainer.train_iteration

    def fails(step: int):
        if step == 3:
            raise RuntimeError(CPU_TEXT)
        return whole(step)

    trainer.train_iteration = fails
    with pytest.raises(SystemExit, match=r"(?s)image-memory.*step-000000002\.ckpt is whole: --load-dir"):
        trainer.train()
    saved = list(trainer.checkpoint_dir.iterdir())
    assert [path.name for path in saved] == ["step-000000002.ckpt"]
    assert torch.load(saved[0], weights_only=True)["step"] == 2
    assert "Error" in capsys.readouterr().out

    def broken(step: int):
        raise RuntimeError("something else")

    trainer.train_iteration = broken
    with pytest.raises(RuntimeError, match="something else"):
        trainer.train()


@pytest.mark.slow
def test_full_disk_leaves_earlier_checkpoints_alone(subject, tmp_path):
    trainer = trainer_of(subject, tmp_path, steps=2)
    trainer.save_checkpoint(7)
    words = r"9\.ckpt could not be written \(files .*20\.0 kB here .*-f\): it needs more.*--output-dir\. .*are whole"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(SystemExit, match=words):
            trainer.save_checkpoint(9)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in trainer.checkpoint_dir.iterdir()] == ["step-000000007.ckpt"]
    assert torch.load(trainer.checkpoint_dir / "step-000000007.ckpt", weights_only=True)["step"] == 7
    assert not list(trainer.base_dir.glob("**/*.part"))
    trainer.save_checkpoint(9)
    trainer.save_checkpoint(11)
    kept = ["step-000000009.ckpt", "step-000000011.ckpt"]
    assert [path.name for path in sorted(trainer.checkpoint_dir.iterdir())] == kept, "the last, and the one before"
    trainer.config.save_only_latest_checkpoint = False
    trainer.save_checkpoint(13)
    assert len(list(trainer.checkpoint_dir.iterdir())) == 3


@pytest.mark.slow
def test_a_checkpoint_is_never_there_without_its_record(subject, tmp_path, monkeypatch):
    trainer = trainer_of(subject, tmp_path, steps=2)
    replace, killed = os.replace, []

    def dies(source, target):
        replace(source, target)
        if Path(target).suffix == ".ckpt":
            killed.append(Path(target))
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        trainer.save_checkpoint(7)
    assert killed[0].is_file()
    assert read_record(killed[0])["checkpoint"] == killed[0].name


@pytest.mark.slow
def test_a_picture_deleted_while_training_is_one_line(subject, tmp_path):
    own = shutil.copytree(subject, tmp_path / "subject")
    trainer = trainer_of(own, tmp_path, steps=4, steps_per_eval_image=2)
    for path in (own / "images").iterdir():
        path.unlink()
    with pytest.raises(SystemExit, match=r"^/.*images/0000\d\.png[^\n]*Put the picture back[^\n]*$"):
        trainer.train()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    config = methods.with_steps(methods.flame_nerf_cpu.config, 2)
    (tmp_path / "taken").write_text("a file")
    config.output_dir, config.timestamp, config.data = tmp_path / "taken", "t", tmp_path
    with pytest.raises(SystemExit, match=r"^/.*config\.yml: Not a directory\. .*--output-dir\.$"):
        config.save_config()


@pytest.mark.slow
def test_no_room_for_mapped_pictures_ends_with_the_message_alone(subject, tmp_path, monkeypatch):
    trainer = trainer_of(subject, tmp_path)

    def full(*args):
        raise ScratchError("/var/tmp: no room for a temporary file")

    monkeypatch.setattr(image_cache, "scratch_array", full)
    with pytest.raises(SystemExit, match="^/var/tmp: no room"):
        trainer.train()


@pytest.mark.slow
def test_taken_up_again_a_run_ends_where_it_was_to_end(subject, tmp_path):
    """Interrupted after 6 of 10 steps and taken up: the same steps, learning rates and losses as in one go."""

    def losses_of(trainer) -> tuple[dict[int, float], dict[int, float]]:
        losses, rates = {}, {}
        iteration = trainer.train_iteration
        # Each step is to draw its own rays, from its own seed: what is compared here is what the checkpoint holds.
        trainer.pipeline.model.training_rays.prefetch(None)

        def seeded(step: int):
            torch.manual_seed(step)
            rates[step] = trainer.optimizers.optimizers["encoding"].param_groups[0]["lr"]
            result = iteration(step)
            losses[step] = float(result[0].detach())
            if step == trainer.stop_after:
                trainer.stop_training = True
            return result

        trainer.train_iteration = seeded
        trainer.train()
        return losses, rates

    torch.manual_seed(0)
    one = trainer_of(subject, tmp_path / "one", total_steps=10, steps=10)
    one.stop_after = None
    losses, rates = losses_of(one)
    assert sorted(losses) == list(range(10))

    torch.manual_seed(0)
    first = trainer_of(subject, tmp_path / "two", total_steps=10, steps=10, steps_per_save=5)
    first.stop_after = 5
    begun, _ = losses_of(first)
    assert sorted(begun) == list(range(6))
    kept = ["step-000000005.ckpt", "step-000000006.ckpt"]
    assert [path.name for path in sorted(first.checkpoint_dir.iterdir())] == kept
    shutil.copytree(first.checkpoint_dir, tmp_path / "load")
    # Nerfstudio saves with the number of the step that it no longer took.
    saved = torch.load(tmp_path / "load/step-000000006.ckpt", weights_only=True)
    saved["step"] = 5
    torch.save(saved, tmp_path / "load/step-000000006.ckpt")
    second = trainer_of(subject, tmp_path / "three", total_steps=10, steps=10, load_dir=tmp_path / "load")
    second.stop_after = None
    gone_on, gone_rates = losses_of(second)
    assert sorted(gone_on) == list(range(6, 10))
    assert gone_rates == {step: pytest.approx(rates[step]) for step in gone_on}
    for step in gone_on:
        assert gone_on[step] == pytest.approx(losses[step], rel=1e-3)

    done = trainer_of(subject, tmp_path / "four", total_steps=6, load_dir=tmp_path / "load")
    done.stop_after = None
    assert losses_of(done) == ({}, {}) and not done.checkpoint_dir.exists()


def test_gpu_without_kernels_is_not_used(subject, tmp_path, monkeypatch, capsys):
    assert torch.cuda.is_available() or cuda_problem() == "No CUDA device"
    ones = torch.ones

    def no_kernels(*args, **options):
        if "cuda" in str(options.get("device")):
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")
        return ones(*args, **options)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", no_kernels)
    assert cuda_problem().startswith("The GPU cannot be used with this PyTorch (CUDA error: no kernel image")
    config = methods.with_steps(methods.flame_nerf.config, 1)
    config.output_dir = tmp_path
    trainer = config.setup()
    assert trainer.device == "cpu"
    assert capsys.readouterr().out.count("training on the CPU") == 1
    config = methods.with_steps(methods.flame_nerf.config, 1)
    with pytest.raises(SystemExit, match="num-devices"):
        config.setup(world_size=2)


def test_broken_tinycudann_falls_back_once(monkeypatch, caplog):
    """It is there, and fails to import: built for another GPU, another torch, or not at all."""
    import sys

    from flame_nerf.encodings import hash_grid, tcnn_grid

    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "tinycudann":
                raise OSError("Unknown compute capability. Ensure PyTorch with CUDA support is installed.")

    # On a machine whose GPU Warp can use, that is what it falls back to, without a word.
    monkeypatch.setattr(hash_grid, "warp_cuda_problem", lambda: "no warp")
    caches = [f for f in vars(tcnn_grid).values() if hasattr(f, "cache_clear")]
    caches += [f for f in vars(hash_grid).values() if hasattr(f, "cache_clear")]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "tinycudann", raising=False)
    for cached in caches:
        cached.cache_clear()
    try:
        assert "Unknown compute capability" in tcnn_grid.tcnn_problem()
        for _ in range(3):
            assert hash_grid.cuda_backend() == "torch"
        assert len([line for line in caplog.messages if "tinycudann" in line]) == 1
    finally:
        for cached in caches:
            cached.cache_clear()
