"""The quality benchmark, as a user runs it on a subject of their own, which has no films from other cameras."""

import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from synthetic import make_subject

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "quality.py"
sys.path.append(str(SCRIPT.parent))

import quality  # noqa: E402


@pytest.mark.slow
def test_table_and_sheet_of_a_subject_without_other_films(tmp_path, monkeypatch, capsys):
    subject, output = make_subject(tmp_path / "subject", size=64, count=8).root, tmp_path / "out"
    command = [sys.executable, str(SCRIPT), str(subject), "--output", str(output), "--steps", "30", "--seeds", "0"]
    done = subprocess.run([*command, "--variants", "default", "color"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [
        line for line in (output / "table.md").read_text().splitlines() if line.startswith(("| default", "| color"))
    ]
    assert len(rows) == 2 and all("| held out | " in row for row in rows)
    sheet = cv2.imread(str(output / "sheet.png"))
    # Truth once, then a row for each variant.
    assert sheet.shape[0] == 3 * 64 and sheet[:64].std() > 10
    # A second call finds the runs and only writes the table anew.
    monkeypatch.setattr(sys, "argv", [*command[1:], "--variants", "default", "color"])
    quality.main()
    assert "steps," not in capsys.readouterr().out
