"""Runs on a GPU that is not there: nothing that one would refuse, and a training step that it is not waited for."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "support/rehearsal.py"
PER_STEP = {"tolist search_warp.py:march", "_local_scalar_dense shell.py:_require"}
"""What a step waits for: how many samples its march found, and, when it has waited anyway, whether rays are numbers."""
MOST_LAUNCHES = 150
"""Of a recorded step, the graph's own two among them."""
ONCE_A_FRAME = {
    # Once for all: where the frames' cameras stand.
    "download semantic.py:loss",
    "upload semantic.py:target_code",
    "upload subject_motion.py:at_timestep",
    "_local_scalar_dense search_warp.py:diagonal",
    "_local_scalar_dense mapping.py:_checked",
    "_local_scalar_dense mapping.py:pose",
}


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
    found = rehearse(tmp_path, "--methods", *methods, "--parts", "train", "evaluate", "panel", "--cpu-steps", "36")
    before, again, after = found.pop("cpu")["runs"]
    assert before == again == after, "a training on the CPU is the same to the last bit, and with a GPU pretended"
    assert not faults(found)
    for method in methods[:2]:
        assert set(found[method]["waits a step"]) <= PER_STEP | ONCE_A_FRAME
        # A march for the batch, and for each view of a term.
        assert found[method]["waits a step"]["tolist search_warp.py:march"] <= 3


@pytest.mark.slow
def test_a_recorded_step_is_the_same_step_in_fewer_launches(tmp_path):
    recorded, as_ever = "flame-nerf, colour and matte", "flame-nerf, colour and matte, without a graph"
    found = rehearse(tmp_path, "--methods", recorded, as_ever, "--steps", "8")
    assert not faults(found)
    ours, theirs = found[recorded], found[as_ever]
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-6)
    # Steps 2 to 4 are of the kind for the first times; from the last of them on it is recorded.
    assert [inside > 150 for inside in ours["in graphs of each"]] == [False] * 4 + [True] * 4
    assert not any(theirs["in graphs of each"])
    assert max(ours["launches of each"][5:]) <= MOST_LAUNCHES < min(theirs["launches of each"][5:])
    for run in (ours, theirs):
        once = {"synchronize recorded_steps.py:_record"}
        assert set(run["waits a step"]) <= PER_STEP | once, "nothing inside of a graph is waited for"


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
    def recorded(work):
        return torch.cuda.make_graphed_callables(work, (torch.ones(3, device="cuda", requires_grad=True),))
    doubled = recorded(lambda values: values * 2)
    assert doubled(torch.full((3,), 4.0, device="cuda")).tolist() == [8, 8, 8]
    assert record.launches["graph"] == 1 and record.inside == 1
    assert refused(lambda: recorded(lambda values: values * values.sum().item())), "a wait in a graph"
    assert refused(lambda: recorded(lambda values: values[values > 0])), "a mask in a graph"
    assert refused(lambda: recorded(lambda values: values * here.to("cuda", non_blocking=True))), "the host's numbers"
    waits = " ".join(record.waits)
    assert all(word in waits for word in ("mask index", "tolist", "_local_scalar_dense", "download")), waits
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
