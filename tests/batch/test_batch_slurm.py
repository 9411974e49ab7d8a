"""Batches as Slurm arrays: with a stand-in for Slurm on the path that starts tasks, loses some, and forgets them."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from batch_folders import STAND_IN, summary, videos

from data_tools.batch import BatchConfig
from data_tools.batch.command import batch

SBATCH = """
import json, os, pathlib, re, subprocess, sys
place = pathlib.Path(__file__).parent
calls = place / "calls.json"
told = json.loads(calls.read_text()) if calls.exists() else []
script = pathlib.Path(sys.argv[-1])
told.append({"arguments": sys.argv[1:], "script": script.read_text()})
calls.write_text(json.dumps(told))
if "--partition=none" in sys.argv:
    sys.exit("sbatch: error: invalid partition specified: none")
first, last = re.search(r"--array=(\\d+)-(\\d+)%\\d+", script.read_text()).groups()
for index in range(int(first), int(last) + 1):
    lost = place / f"lose-{index}"
    if lost.exists():
        lost.unlink()
        continue
    subprocess.run(["bash", str(script)], env={**os.environ, "SLURM_ARRAY_TASK_ID": str(index)}, check=True)
print(f"{len(told)};cluster")
"""
SQUEUE = """
import sys
sys.exit("slurm_load_jobs error: Invalid job id specified")
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder on the path with a Slurm that runs tasks at once. A file `lose-2` in it loses task 2, once."""
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr("data_tools.batch.plan.python_module", lambda module: (sys.executable, str(script), module))
    monkeypatch.setattr("data_tools.batch.slurm.POLL_SECONDS", 0.01)
    place = tmp_path / "bin"
    place.mkdir()
    (tmp_path / "videos").mkdir()
    for name, code in (("sbatch", SBATCH), ("squeue", SQUEUE), ("scancel", "")):
        (place / name).write_text(f"#!{sys.executable}\n{code}")
        (place / name).chmod(0o755 | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    return place


def test_good_bad_and_lost(slurm, tmp_path):
    source, subjects = tmp_path / "videos", tmp_path / "sub jects"
    videos(source, anna="good", ben="bad", cleo="good")
    (slurm / "lose-2").touch()
    config = BatchConfig(engine="slurm", workers=2, gpus=1, slurm_options="--partition gpu --time 1:00:00")
    assert batch(source, config, subjects) == 1
    told = summary(subjects)
    assert {name: entry["status"] for name, entry in told.items()} == {"anna": "done", "ben": "failed", "cleo": "done"}
    assert told["ben"]["error"] == "track: Error: ben.mp4: no face [yellow] in it" and told["anna"]["frames"] == 3
    first, second = json.loads((slurm / "calls.json").read_text())
    assert first["arguments"][:5] == ["--parsable", "--partition", "gpu", "--time", "1:00:00"]
    assert "#SBATCH --array=0-2%2\n" in first["script"] and "#SBATCH --gres=gpu:1\n" in first["script"]
    assert "--array=0-0%2\n" in second["script"], "the one that was lost, alone"
    # The same command again submits what failed, and nothing else.
    videos(source, ben="good")
    assert batch(source, config, subjects) == 0
    assert {entry["status"] for entry in summary(subjects).values()} == {"done", "done before"}
    (entry,) = json.loads((subjects / "logs/slurm/manifest.json").read_text())
    assert entry["name"] == "ben"


def test_a_task_that_is_lost_for_good_has_failed_and_says_where_to_look(slurm, tmp_path):
    videos(tmp_path / "videos", anna="good")
    (slurm / "lose-0").touch()
    assert batch(tmp_path / "videos", BatchConfig(engine="slurm", retries=0), tmp_path / "s") == 1
    assert "without a result" in summary(tmp_path / "s")["anna"]["error"]


@pytest.mark.parametrize(
    ("options", "path", "message"),
    [("--partition=none", None, "invalid partition specified"), ("", "/nowhere", "needs Slurm's sbatch")],
)
def test_no_slurm_or_one_that_refuses_ends_in_one_line(slurm, tmp_path, monkeypatch, capsys, options, path, message):
    videos(tmp_path / "videos", anna="good")
    if path is not None:
        monkeypatch.setenv("PATH", path)
    config = BatchConfig(engine="slurm", slurm_options=options)
    assert batch(tmp_path / "videos", config, tmp_path / "s") == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_a_task_that_slurm_stops_is_interrupted_and_goes_on_in_the_next_one(tmp_path, monkeypatch):
    """Slurm's TERM reaches the running command as an interrupt; the result says so."""
    import signal
    import subprocess
    import time

    from data_tools.batch.jobs import Job, Step
    from data_tools.batch.slurm import result_path, write_script

    log = tmp_path / "logs/a.track.log"
    code = (
        # A shell that runs the tests in the background has them ignore the interrupt.
        "import pathlib, signal, sys, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n    pathlib.Path('began').touch(); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    pathlib.Path('kept').touch(); sys.exit(130)"
    )
    monkeypatch.chdir(tmp_path)
    job = Job("a", (Step("track", (sys.executable, "-c", code), tmp_path, "made", log),), tmp_path, {})
    script = write_script(tmp_path / "slurm", [job], BatchConfig(retries=0))
    task = subprocess.Popen(["bash", str(script)], env={**os.environ, "SLURM_ARRAY_TASK_ID": "0"})
    deadline = time.monotonic() + 60
    while not Path("began").exists():
        assert time.monotonic() < deadline and task.poll() is None
        time.sleep(0.05)
    task.send_signal(signal.SIGTERM)
    assert task.wait(timeout=60) == 0 and Path("kept").exists()
    assert json.loads(result_path(tmp_path / "slurm/manifest.json", "a").read_text())["status"] == "interrupted"
