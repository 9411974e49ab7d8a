"""Runs on a GPU that is not there: nothing that one would refuse, and a training step that it is not waited for."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "support/rehearsal.py"
PER_STEP = {"tolist search_warp.py:march", "_local_scalar_dense shell.py:_require_finite"}
"""What a step waits for: how many samples its march found, and, when it has waited anyway, whether rays are numbers."""
MOST_LAUNCHES = 120
"""Of a recorded step, the graph's own two among them."""
RECORDING = {"synchronize recorded_steps.py:_record", "_local_scalar_dense recorded_steps.py:_agrees"}
"""Before and after a graph is recorded, and where its results are compared with a step's."""
ONCE_A_FRAME = RECORDING | {
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


RECORDED, AS_EVER = "flame-nerf, colour and matte", "flame-nerf, colour and matte, without a graph"


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, dict]:
    """What became of each method's parts. A process of its own: what it changes of PyTorch cannot be changed back."""
    # Films and exports are rehearsed by the script alone: they take minutes.
    folder = tmp_path_factory.mktemp("rehearsal")
    methods, parts = ("flame-nerf", "flame-nerf-insta", "nha", RECORDED, AS_EVER), ("train", "evaluate", "panel")
    options = ["--steps", "6", "--cpu-steps", "30", "--result", folder / "found.json", "--methods", *methods]
    command = [sys.executable, SCRIPT, folder, *options, "--parts", *parts]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "found.json").read_text())


@pytest.mark.slow
def test_runs_forward_and_backward_with_all_terms(found):
    faults = [
        f"{method}, {part}: {outcome}"
        for method, run in found.items()
        for part, outcome in run.get("parts", {}).items()
        if outcome.startswith("FAULT")
    ]
    assert not faults
    for method in ("flame-nerf", "flame-nerf-insta"):
        assert set(found[method]["waits a step"]) <= PER_STEP | ONCE_A_FRAME | ONCE_A_CLOSE_UP
        # A march for the batch, and for each view of a term.
        assert found[method]["waits a step"]["tolist search_warp.py:march"] <= 3


@pytest.mark.slow
def test_a_training_on_the_cpu_is_the_same_to_the_last_bit(found):
    before, again, with_a_gpu_pretended = found["cpu"]["runs"]
    assert before == again == with_a_gpu_pretended


@pytest.mark.slow
def test_a_recorded_step_is_the_same_step_in_fewer_launches(found):
    ours, theirs = found[RECORDED], found[AS_EVER]
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-6)
    # Steps 1 to 3 are of the kind for the first times; from the last of them on it is recorded.
    assert [inside > 150 for inside in ours["in graphs of each"]] == [False] * 3 + [True] * 3
    assert not any(theirs["in graphs of each"])
    assert max(ours["launches of each"][4:]) <= MOST_LAUNCHES < min(theirs["launches of each"][4:])
    for run in (ours, theirs):
        assert set(run["waits a step"]) <= PER_STEP | RECORDING, "nothing inside of a graph is waited for"


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
