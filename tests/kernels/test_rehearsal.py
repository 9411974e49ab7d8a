"""Runs on a GPU that is not there: nothing that one would refuse, and a training step that it is not waited for."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "support/rehearsal.py"
PER_STEP = {"tolist search_warp.py:march", "_local_scalar_dense shell.py:_require"}
"""What a step waits for: how many samples its march found, and, when it has waited anyway, whether rays are numbers."""
ONCE_A_FRAME = {
    # Once for all: where the frames' cameras stand.
    "download semantic.py:loss",
    "upload semantic.py:target_code",
    "upload subject_motion.py:at_timestep",
    "_local_scalar_dense search_warp.py:diagonal",
    "_local_scalar_dense mapping.py:_checked",
    "_local_scalar_dense mapping.py:pose",
}
ONCE_A_CLOSE_UP = {
    "download head_views.py:rays_towards",
    "upload subject_motion.py:pose",
    "download expression_hull.py:nearest",
    "upload expression_hull.py:nearest",
}
"""One step in 32, which looks into a mouth that is posed for it."""


def rehearse(folder: Path, *options: str) -> dict[str, dict]:
    """What became of each method's parts. A process of its own: what it changes of PyTorch cannot be changed back."""
    command = [sys.executable, str(SCRIPT), str(folder), "--steps", "4", "--result", str(folder / "found.json")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "found.json").read_text())


def faults(found: dict[str, dict]) -> list[str]:
    return [
        f"{method}, {part}: {outcome}"
        for method, run in found.items()
        for part, outcome in run["parts"].items()
        if outcome.startswith("FAULT")
    ]


@pytest.mark.slow
def test_runs_forward_and_backward_with_all_terms(tmp_path):
    # Films and exports are rehearsed by the script alone: they take minutes.
    methods = "flame-nerf", "flame-nerf-insta", "nha"
    found = rehearse(tmp_path, "--methods", *methods, "--parts", "train", "evaluate", "panel")
    assert not faults(found)
    for method in methods[:2]:
        assert set(found[method]["waits a step"]) <= PER_STEP | ONCE_A_FRAME | ONCE_A_CLOSE_UP
        # A march for the batch, and for each view of a term.
        assert found[method]["waits a step"]["tolist search_warp.py:march"] <= 3


def test_what_a_gpu_refuses_is_refused():
    code = f"""
import sys; sys.path.insert(0, {str(SCRIPT.parent)!r})
import torch
from pretended_gpu import DeviceFault, pretended_gpu
def refused(call):
    try:
        call()
    except (DeviceFault, TypeError):
        return True
    return False
with pretended_gpu() as record:
    there, here = torch.ones(3, device="cuda", requires_grad=True), torch.ones(3)
    assert there.is_cuda and there.device.type == "cuda" and not here.is_cuda
    assert refused(lambda: there + here), "both devices"
    assert refused(lambda: there.detach().numpy()), "numpy"
    assert refused(lambda: here[torch.zeros(1, dtype=torch.long, device="cuda")]), "indices"
    assert refused(lambda: torch.rand(3, device="cuda", generator=torch.Generator())), "generator"
    assert not refused(lambda: there + torch.tensor(2.0)), "a number is welcome on both"
    (2 * there[torch.tensor([True, False, True], device="cuda")].square().sum()).backward()
    assert there.grad.tolist() == [4, 0, 4] and there.grad.is_cuda
    assert float(there.sum()) == 3 and (there.cpu() == 1).all()
    waits = " ".join(record.waits)
    assert all(word in waits for word in ("mask index", "tolist", "_local_scalar_dense", "download")), waits
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
