"""What a training step on CUDA computes with, run on the CPU: the same losses, and nothing that a GPU is waited for."""

import copy
import traceback
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from nerfstudio.engine.callbacks import TrainingCallbackAttributes
from synthetic import make_subject
from torch.utils._python_dispatch import TorchDispatchMode

from flame_nerf.dataparser import FlameNerfDataParserConfig
from flame_nerf.kernels import availability
from flame_nerf.methods import flame_nerf
from flame_nerf.render.falloff import log_falloff

WAITS = {"_local_scalar_dense", "nonzero", "_unique2", "masked_select", "equal"}
"""Operators whose result the host needs; indexing by a mask is one of them."""
HOST_ONLY = {
    "moments.py:of_rays",  # which rows of the track a batch has: indices that stay on the host
    "pose.py:_training_rays",  # which cameras: likewise
    "posed.py:checked_index",  # on the CPU only
    "shell.py:_require_finite",  # on CUDA once, after the march has waited
    "throughput.py:metrics",  # numbers that the host made
}


class Watch(TorchDispatchMode):
    """Counts operators that wait, by where this package calls them."""

    def __init__(self):
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator.overloadpacket.__name__
        masked = name.startswith("index") and isinstance(args[1], (list, tuple))
        masked = masked and any(index is not None and index.dtype == torch.bool for index in args[1])
        if name in WAITS or masked:
            ours = [frame for frame in traceback.extract_stack() if "/flame_nerf/" in frame.filename]
            where = next(frame for frame in reversed(ours) if not frame.name.startswith("<"))
            self.seen[f"{Path(where.filename).name}:{where.name}"] += 1
        return operator(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_subject(tmp_path_factory.mktemp("cuda") / "subject", size=48, count=12).root


def losses(root: Path, kernels: str, steps: tuple[int, ...], watch: Watch) -> list[dict[str, float]]:
    """Losses of training steps through one kind of kernels."""
    torch.manual_seed(0)
    config = copy.deepcopy(flame_nerf.config.pipeline)
    config.datamanager.data = root
    config.datamanager.dataparser = FlameNerfDataParserConfig(data=root)
    config.datamanager.train_num_rays_per_batch = 256
    model = config.model
    model.mapping.backend = model.field.implementation = kernels
    model.field.compiled, model.field.precision = kernels == "numba", "float32"
    pipeline = config.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)
    begin, *_ = pipeline.get_training_callbacks(TrainingCallbackAttributes(None, None, pipeline, None))
    pipeline.model.training_rays.prefetch(None)  # there is none on CUDA
    # Of one thickness: which of two equally near triangles a sample belongs to is the search structure's choice.
    renderer = pipeline.model.renderer
    renderer.shell_thickness.fill_(0.015)
    renderer.falloff.by_face[:] = log_falloff(model.sampling.falloff, renderer.shell_thickness)
    # Adam would make as much of a gradient that is rounding alone as of any other.
    optimizers = [torch.optim.SGD(group, lr=1e-2) for group in pipeline.get_param_groups().values()]
    # What is made once, for the subject and for each of its frames, is waited for.
    pipeline.model.renderer.meshes.get_many(range(pipeline.model.motion.num_timesteps))
    found = []
    for step in steps:
        begin.run_callback(step)
        torch.manual_seed(step)
        with watch if step else nullcontext():
            terms = pipeline.get_train_loss_dict(step)[1]
            sum(terms.values()).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        found.append({name: float(value.detach()) for name, value in terms.items()})
    return found


def test_a_step_through_warp_is_one_through_numba_and_waits_for_nothing(root, monkeypatch) -> None:
    # From 200 on poses are calibrated and empty space is skipped; 204 explores.
    steps = 0, 1, 2, 203, 204, 205
    expected = losses(root, "numba", steps, Watch())
    monkeypatch.setattr(availability, "numba_problem", lambda: "not on CUDA")
    watch = Watch()
    actual = losses(root, "warp", steps, watch)
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert set(watch.seen) <= HOST_ONLY, watch.seen
