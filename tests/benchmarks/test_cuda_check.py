"""The check of a machine with a GPU, run where there is none: parts end in time, and each says what it could not do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def cuda_check(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return pytest.importorskip("cuda_check")


def test_a_part_is_ended_when_its_time_is_over_and_tells_why_it_failed(cuda_check):
    with pytest.raises(cuda_check.NotHereError, match="more than 0 s"):
        cuda_check.run([sys.executable, "-c", "import time; time.sleep(60)"], 0.3)
    with pytest.raises(cuda_check.NotHereError, match="exit 3: no memory"):
        cuda_check.run([sys.executable, "-c", "print('no memory'); raise SystemExit(3)"], 30)


def test_all_parts_together_take_ten_minutes(cuda_check):
    seconds = cuda_check.SECONDS
    others = sum(limit for name, limit in seconds.items() if name != "methods")
    assert others + len(cuda_check.METHODS) * seconds["methods"] + 60 <= 600


def test_a_failing_part_costs_no_other(cuda_check, monkeypatch, tmp_path, capsys):
    parts = [("one", lambda: 1 / 0), ("two", lambda: {"rows": {"speed": "5 ms"}})]
    monkeypatch.setattr(cuda_check, "plan", lambda args: parts)
    monkeypatch.setattr(cuda_check, "machine", lambda: "a machine")
    monkeypatch.setattr(sys, "argv", ["cuda_check.py", "--output", str(tmp_path)])
    cuda_check.main()
    table = (tmp_path / "table.md").read_text()
    assert "| one | not done | division by zero |" in table and "| two | speed | 5 ms |" in table
    assert json.loads((tmp_path / "result.json").read_text())["two"]["rows"] == {"speed": "5 ms"}
    assert table.splitlines()[0] in capsys.readouterr().out


@pytest.mark.slow
def test_tiny_runs_through_on_the_cpu(tmp_path):
    command = [sys.executable, str(FOLDER / "cuda_check.py"), "--tiny", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "result.json").read_text())
    if "no GPU" in found["machine"]:
        assert {name for name, part in found.items() if "not done" in part} == {"tests", "two GPUs"}
        assert found["step"]["rays_per_s"] > 0 and found["flame-nerf-cpu"]["steps"] > 0
