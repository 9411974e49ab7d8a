"""The demo goes on where it was: its training from the last checkpoint, its films where they are missing."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from avatar_runs import small_config, subject_with_head

from flame_nerf.avatar.training import train
from flame_nerf.training.trainer import FlameNerfTrainer

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {support!r})
from avatar_runs import small_config
from flame_nerf.avatar.training import train
config = small_config(Path("me"), Path("out").absolute(), "avatar")
config.max_num_iterations = config.total_steps = {steps}
config.steps_per_save, config.vis = 10, "tensorboard"
config.pipeline.datamanager.train_num_rays_per_batch = 64
train(config)
"""
"""The demo's training, small."""


@pytest.mark.slow
def test_killed_training_goes_on_from_the_last_checkpoint(tmp_path, monkeypatch):
    subject_with_head(tmp_path / "me")
    script = SCRIPT.format(support=str(Path(__file__).parents[1] / "support"), steps=100_000)
    folder = tmp_path / "out/avatar/flame-nerf-cpu/t/nerfstudio_models"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}

    def steps() -> list[int]:
        return sorted(int(path.stem.split("-")[1]) for path in folder.glob("*.ckpt"))

    first = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=environment)
    deadline = time.monotonic() + 400
    while not steps() and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.02)
    first.kill()
    first.wait()
    killed_at = steps()
    assert killed_at and all(step % 10 == 0 for step in killed_at)

    begun = []

    def first_step(trainer, step):
        begun.append(step)
        raise KeyboardInterrupt

    monkeypatch.setattr(FlameNerfTrainer, "train_iteration", first_step)
    monkeypatch.chdir(tmp_path)
    for rays in ("= 64", "= 63", "= 63"):
        with pytest.raises(KeyboardInterrupt):
            exec(script.replace("= 64", rays), {})
    assert begun == [killed_at[-1] + 1, 0, 0], "other settings are another run, which starts anew"
    kept = [path.name for path in folder.with_name("nerfstudio_models_before").glob("*.ckpt")]
    assert kept == [f"step-{killed_at[-1]:09d}.ckpt"], "until a newer one is whole, what was there stays"


@pytest.mark.slow
def test_training_ends_at_the_same_step_whether_interrupted_or_not(tmp_path, monkeypatch, capsys):
    subject_with_head(tmp_path / "me")
    config = small_config(tmp_path / "me", tmp_path / "out", "avatar")
    config.max_num_iterations = config.total_steps = 24
    config.steps_per_save, config.vis = 10, "tensorboard"
    config.pipeline.datamanager.train_num_rays_per_batch = 64
    folder, taken, real = config.get_checkpoint_dir(), [], FlameNerfTrainer.train_iteration

    def counted(trainer, step):
        taken.append(step)
        if len(taken) == 16:
            raise KeyboardInterrupt
        return real(trainer, step)

    monkeypatch.setattr(FlameNerfTrainer, "train_iteration", counted)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    assert [path.name for path in folder.iterdir()] == ["step-000000010.ckpt"]
    # The folder may be carried elsewhere meanwhile.
    shutil.copytree(tmp_path / "out", tmp_path / "new")
    config.output_dir = tmp_path / "new"
    folder = config.get_checkpoint_dir()
    taken.clear()
    taken += [-1] * 16
    train(config)
    assert taken[16:] == list(range(11, 24)), "the remaining steps, no others"
    assert [path.name for path in sorted(folder.iterdir())] == ["step-000000020.ckpt", "step-000000023.ckpt"]
    saved = torch.load(folder / "step-000000023.ckpt", weights_only=True)
    rate = next(group["lr"] for group in saved["optimizers"]["encoding"]["param_groups"])
    assert rate == pytest.approx(0.05 * config.optimizers["encoding"]["optimizer"].lr, rel=0.1), (
        "decayed over the whole"
    )
    taken.clear()
    train(config)
    assert taken == [] and "already trained" in capsys.readouterr().out
    # A track made anew is another subject: nothing of the old run is shown for it.
    shutil.rmtree(tmp_path / "me")
    subject_with_head(tmp_path / "me", seed=2)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    assert taken[0] == 0


def test_films_are_made_where_they_are_missing_or_of_something_else(tmp_path, capsys):
    from flame_nerf.film.film_folder import FilmFolder

    made = []

    def make(path: Path) -> None:
        made.append(path.name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("film")

    for of in ("75 pictures", "75 pictures", "9 pictures"):
        FilmFolder(tmp_path / "films", of).provide("a.mp4", make)
    assert made == ["a.mp4", "a.mp4"] and "already filmed" in capsys.readouterr().out
    (tmp_path / "films/a.mp4").unlink()
    FilmFolder(tmp_path / "films", "9 pictures").provide("a.mp4", make)
    (tmp_path / "films/.films.json").write_text("[")
    FilmFolder(tmp_path / "films", "9 pictures").provide("a.mp4", make)
    assert len(made) == 4


def test_only_this_project_s_commands_say_how_many_workers_torch_compiles_with():
    probe = "import os; os.environ.pop('TORCHINDUCTOR_COMPILE_THREADS', None); import flame_nerf; "
    probe += "print('AFTER', os.environ.get('TORCHINDUCTOR_COMPILE_THREADS')); import sys; sys.argv[1:] = ['--help']\n"
    probe += "from flame_nerf.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    probe += "print('COMMAND', os.environ.get('TORCHINDUCTOR_COMPILE_THREADS'))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=240)
    assert "AFTER None" in done.stdout and "COMMAND 1" in done.stdout, done.stdout[-500:] + done.stderr[-1000:]
