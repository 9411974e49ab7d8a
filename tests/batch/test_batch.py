"""Many videos at once: what is done, tried again, left out and told; with stand-ins for the real commands."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from batch_folders import summary, videos
from track_clips import carphone

from data_tools.batch import BatchConfig, BatchError, jobs
from data_tools.batch.command import batch
from data_tools.batch.engines import local
from data_tools.batch.jobs import Job, Step, run_job
from data_tools.batch.plan import plan


def test_good_bad_and_shaky(folders, capsys):
    source, subjects = folders
    videos(source, anna="good", ben="bad", cleo="shaky")
    (source / "notes.txt").write_text("no video")
    assert batch(source, BatchConfig(workers=2), subjects) == 1
    told = summary(subjects)
    assert {name: entry["status"] for name, entry in told.items()} == {"anna": "done", "ben": "failed", "cleo": "done"}
    assert told["ben"]["error"] == "track: Error: ben.mp4: no face [yellow] in it"
    assert told["anna"]["frames"] == 3 and told["ben"]["frames"] is None
    assert {p.name: p.read_text() for p in subjects.glob("*.tries")} == {
        "anna.tries": "x", "ben.tries": "xx", "cleo.tries": "xx"
    }  # fmt: skip
    assert (subjects / "logs/ben.track.log").read_text().count("dark picture") == 2
    shown = capsys.readouterr()
    assert "no face [yellow] in it" in shown.out and "3 subjects, 1 failed" in shown.out
    assert "anna: done" in shown.err


def test_finished_work_is_not_done_again_unless_its_source_changed(folders):
    source, subjects = folders
    videos(source, anna="good", ben="bad")
    assert batch(source, BatchConfig(retries=0), subjects) == 1
    videos(source, ben="good")
    assert batch(source, BatchConfig(retries=0), subjects) == 0
    told = {name: entry["status"] for name, entry in summary(subjects).items()}
    assert told == {"anna": "done before", "ben": "done"}
    assert (subjects / "anna.tries").read_text() == "x"
    assert batch(source, BatchConfig(track_options="--fps 12"), subjects) == 0, "other options are other work"
    assert (subjects / "anna.tries").read_text() == "xx"
    (subjects / "anna" / "transforms.json").unlink()
    batch(source, BatchConfig(track_options="--fps 12"), subjects)
    assert (subjects / "anna.tries").read_text() == "xxx" and (subjects / "ben.tries").read_text() == "xxx"


def test_training_goes_on_from_its_checkpoint(folders):
    source, subjects = folders
    videos(source, anna="good")
    config = BatchConfig(train="some-method", train_options="--die '--x y'")
    assert batch(source, config, subjects) == 0
    first, second = (
        line for line in (subjects / "logs/anna.train.log").read_text().splitlines() if "trained with" in line
    )
    models = subjects / "outputs/anna/some-method/batch/nerfstudio_models"
    assert "--load-dir" not in first and first.endswith("--die --x y")
    assert second.endswith(f"--load-dir {models} --total-steps 500")
    assert summary(subjects)["anna"]["status"] == "done"


def test_a_folder_of_subjects_is_trained_on(folders):
    _, subjects = folders
    for name in ("one", "two"):
        (subjects / name).mkdir(parents=True)
        (subjects / name / "transforms.json").write_text('{"frames": []}')
    assert batch(subjects, BatchConfig(train="flame-nerf-cpu"), None) == 0
    assert [path.name for path in sorted((subjects / "outputs").iterdir())] == ["one", "two"]


def test_interrupted_batch_ends_its_commands_and_says_so(folders, monkeypatch, request):
    source, subjects = folders
    videos(source, anna="slow", ben="slow", cleo="slow")

    def interrupted(jobs, config, told):
        started = []

        def tell(name, step):
            told(name, step)
            started.append(name)

        results = local(jobs, config, tell)

        def press() -> None:
            while len(started) < 2:
                time.sleep(0.05)
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=press, daemon=True).start()
        yield from results

    monkeypatch.setattr("data_tools.batch.engines.local", interrupted)
    # A shell that runs the tests in the background has them ignore the interrupt.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    begin = time.monotonic()
    assert batch(source, BatchConfig(workers=2), subjects) == 130
    assert time.monotonic() - begin < 20
    assert {entry["status"] for entry in summary(subjects).values()} == {"interrupted"}
    assert not (subjects / "logs/anna.track.done.json").exists()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda source: None, "holds no video"),
        (lambda source: [(source / name).touch() for name in ("a.mp4", "a.mov")], "both become the subject a"),
        (lambda source: (source / "logs.mp4").touch(), "cannot be called logs"),
        (lambda source: source.rmdir(), "is no folder"),
    ],
)
def test_what_cannot_be_started(folders, make, message):
    source, subjects = folders
    make(source)
    with pytest.raises(BatchError, match=message):
        plan(source, subjects, BatchConfig())


def test_wrong_options(folders):
    source, subjects = folders
    videos(source, anna="good")
    for config in (BatchConfig(workers=0), BatchConfig(retries=-1), BatchConfig(track_options="'open")):
        with pytest.raises(BatchError):
            plan(source, subjects, config)


def test_workers_share_processor_and_gpus(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (tmp_path / "videos").mkdir()
    videos(tmp_path / "videos", **{f"v{index}": "good" for index in range(4)})
    code = "import os,time; print(*(os.environ[n] for n in ('CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS'))); time.sleep(1)"
    config = BatchConfig(workers=2, gpus=2)
    changed = {"command": (sys.executable, "-c", code), "folder": tmp_path, "product": "v*"}
    planned = [
        replace(job, steps=(replace(job.steps[0], **changed),)) for job in plan(tmp_path / "videos", tmp_path, config)
    ]
    assert [result.status for result in local(planned, config, lambda name, step: None)] == ["done"] * 4
    said = [path.read_text().splitlines()[-1].split() for path in (tmp_path / "logs").glob("*.log")]
    assert {line[0] for line in said} == {"0", "1"}
    assert {int(line[1]) for line in said} == {max(1, (os.cpu_count() or 1) // 2)}


def test_command_that_makes_nothing_or_is_killed_has_failed(tmp_path):
    def result(*command: str):
        step = Step("track", command, tmp_path, "nothing", tmp_path / "a.log")
        return run_job(Job("a", (step,), tmp_path, {}), retries=0)

    assert "nothing is not there" in result(sys.executable, "-c", "").error
    assert "out of memory?" in result(sys.executable, "-c", "import os; os.kill(os.getpid(), 9)").error
    assert "cannot be started" in result(str(tmp_path / "no-program")).error
    assert result(sys.executable, "-c", "1/0").error == "track: ZeroDivisionError: division by zero"


@pytest.mark.slow
def test_real_videos_are_tracked_and_trained_on(tmp_path):
    pytest.importorskip("mediapipe", reason="mediapipe is not installed: pip install 'flame-nerf[track]'")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "carphone.mp4").symlink_to(carphone())
    (tmp_path / "videos" / "text.mp4").write_text("no video")
    train = "--max-num-iterations 3 --pipeline.datamanager.train-num-rays-per-batch 64"
    command = [
        sys.executable, "-m", "data_tools.cli", "batch", "videos", "subjects", "--train", "flame-nerf-cpu",
        "--track-options=--max-frames 12 --no-photometric", f"--train-options={train}", "--retries", "0",
        "--workers", "2",
    ]  # fmt: skip
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | quiet, capture_output=True, text=True, timeout=280)
    subjects = tmp_path / "subjects"
    told = summary(subjects)
    logs = [path.read_text()[-1500:] for path in (subjects / "logs").glob("*.log")]
    assert done.returncode == 1 and told["carphone"]["status"] == "done", (told, logs, done.stderr[-2000:])
    assert told["carphone"]["frames"] == 12
    assert told["text"]["status"] == "failed" and "text.mp4" in told["text"]["error"]
    models = subjects / "outputs/carphone/flame-nerf-cpu/batch/nerfstudio_models"
    assert [path.name for path in models.iterdir()] == ["step-000000002.ckpt"]
    config = (models.parent / "config.yml").read_text()
    assert "\nmax_num_iterations: 3\n" in config and "\ntotal_steps: null\n" in config, "resuming reads these"


def test_help_teaches():
    done = subprocess.run(
        [sys.executable, "-m", "data_tools.cli", "batch", "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    for word in ("VIDEOS", "SUBJECTS", "--train", "--workers", "--engine {local,ray,slurm}", "summary.json"):
        assert word in done.stdout, word


def test_last_words_skip_rules_and_empty_lines(tmp_path):
    log = tmp_path / "x.log"
    log.write_text("old Error: before\n")
    begin = log.stat().st_size
    with open(log, "a") as file:
        file.write("────── Error ──────\n/data/me: no such subject\n\n╰──────╯\n")
    assert jobs.last_words(log, begin) == "/data/me: no such subject"
