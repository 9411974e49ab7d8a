"""The demo goes on where it was: its training from the last checkpoint, its films where they are missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from avatar_runs import small_config, subject_with_head

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
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
def test_interrupted_training_goes_on_from_the_last_checkpoint(tmp_path):
    import signal
    import time

    subject_with_head(tmp_path / "me")
    script = SCRIPT.format(tests=str(Path(__file__).parent), steps=100_000)
    folder = tmp_path / "out/avatar/flame-nerf-cpu/t/nerfstudio_models"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}

    def start(text: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", text], cwd=tmp_path, env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip

    def steps() -> list[int]:
        return sorted(int(path.stem.split("-")[1]) for path in folder.glob("*.ckpt"))

    first = start(script)
    deadline = time.monotonic() + 240
    while not steps() and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    killed_at = steps()
    assert killed_at and all(step % 10 == 0 for step in killed_at), first.stdout.read()[-2000:]

    # Other settings are another run: it starts anew, and until it has saved, what was there stays.
    other = start(script.replace("= 64", "= 63"))
    assert any("training from scratch" in line for line in other.stdout), "another run starts anew"
    assert steps()[-1] >= killed_at[-1]
    other.kill()
    other.wait()


@pytest.mark.slow
def test_training_ends_at_the_same_step_whether_interrupted_or_not(tmp_path, monkeypatch, capsys):
    from flame_nerf.avatar.training import train
    from flame_nerf.trainer import FlameNerfTrainer

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
    (tmp_path / "out").rename(tmp_path / "new")
    config.output_dir = tmp_path / "new"
    folder = config.get_checkpoint_dir()
    taken.clear()
    taken += [-1] * 16
    train(config)
    assert taken[16:] == list(range(11, 24)), "the remaining steps, no others"
    assert [path.name for path in folder.iterdir()] == ["step-000000023.ckpt"]
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
    from flame_nerf.film.kept import FilmFolder

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
    probe = "import os; os.environ.pop('TORCHINDUCTOR_COMPILE_THREADS', None); import flame_nerf.methods; "
    probe += "print('AFTER', os.environ.get('TORCHINDUCTOR_COMPILE_THREADS')); import sys; sys.argv[1:] = ['--help']\n"
    probe += "from flame_nerf.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    probe += "print('COMMAND', os.environ.get('TORCHINDUCTOR_COMPILE_THREADS'))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=240)
    assert "AFTER None" in done.stdout and "COMMAND 1" in done.stdout, done.stdout[-500:] + done.stderr[-1000:]
