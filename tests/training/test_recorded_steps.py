"""Steps filled up to sizes that recordings have, and what becomes of them on GPUs that cannot record."""

import pytest
import torch
from one_thread import one_thread  # noqa: F401
from torch import nn

from flame_nerf.canonical import ShellSamples
from flame_nerf.render.compositing import render_packed
from flame_nerf.training import recorded_steps
from flame_nerf.training.recorded_steps import MULTIPLE, PATIENCE, SEEN, SPARE, StepRecorder

GB = 1 << 30


def packed(rays: int, seed: int) -> ShellSamples:
    """Samples of rays of different lengths, some without any."""
    random = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, 6, (rays,), generator=random)
    count, ray = int(counts.sum()), torch.arange(rays).repeat_interleave(counts)
    start = torch.rand(count, generator=random)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
    face = torch.randint(9, (count,), generator=random)
    return ShellSamples(ray, start, start + 0.01, offsets, face, ray % 2, torch.rand(count, generator=random))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_filled_up_lies_at_the_same_places_and_changes_no_pixel_and_no_gradient(seed):
    rays, samples = 40, packed(40, seed)
    filled = samples.filled_up(len(samples) + 1 + 7 * seed)
    spare = len(filled) - len(samples)
    assert torch.equal(filled.middle[-spare:], samples.middle[:spare]) and torch.equal(filled.offsets, samples.offsets)
    # In torch, as on CUDA: the CPU's kernels are for float32.
    sigma, rgb = 30 * torch.rand(len(filled)).double(), torch.rand(len(filled), 3).double()
    background = torch.rand(rays, 3).double()

    def rendered(of: ShellSamples):
        given = sigma[: len(of)].clone().requires_grad_(), rgb[: len(of)].clone().requires_grad_()
        out = render_packed(*given, of, rays, background)
        return out, torch.autograd.grad(out.rgb.square().sum() + out.depth.sum() + out.accumulation.sum(), given)

    (ours, to_ours), (theirs, to_theirs) = rendered(filled), rendered(samples)
    for name in ("rgb", "accumulation", "depth"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))
    for gradient, expected in zip(to_ours, to_theirs, strict=True):
        assert torch.equal(gradient[:-spare], expected) and not gradient[-spare:].any()


def test_no_more_than_twice_the_samples():
    with pytest.raises(ValueError, match="filled up"):
        packed(8, 0).filled_up(1000)


def test_room_for_steps_grows_at_once_and_shrinks_with_patience():
    recorder = StepRecorder(lambda *tensors: tensors, [])
    room = recorder.room(64, 10_000)
    assert room % MULTIPLE == 0 and 10_000 * (1 + SPARE) <= room < 10_000 * (1 + SPARE) + MULTIPLE
    assert {recorder.room(64, count) for count in range(8_000, room, 500)} == {room}
    assert recorder.room(64, 2 * room) > 2 * room and recorder.room(65, 500) < 1000
    small = [recorder.room(64, 3_000) for _ in range(PATIENCE + 1)]
    assert small[:-1] == [3_000] * PATIENCE and 3_000 < small[-1] < 4_000
    assert recorder.room(64, 0) == 0


@pytest.fixture
def said(monkeypatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(recorded_steps.CONSOLE, "log", lambda text: lines.append(str(text)))
    return lines


def gpu(monkeypatch, free: int, total: int, record) -> None:
    """A GPU of these bytes; `record` in the place of `make_graphed_callables`."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (free, total))
    for name in ("memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: 0)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)


def refuses(*_, **__):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate")


@pytest.mark.parametrize(
    "free, record, why",
    [
        # 400 000 samples of 4 KB beside all that a GPU of 4 GB holds already.
        (3 * GB // 2, lambda *_, **__: pytest.fail("there is no memory for it"), "takes 1562 MB and 1536 MB"),
        (20 * GB, refuses, "CUDA out of memory."),
    ],
)
def test_a_gpu_that_cannot_record_says_so_once_and_goes_on(monkeypatch, said, free, record, why):
    gpu(monkeypatch, free, 4 * GB, record)
    weight = nn.Parameter(torch.tensor([2.0]))
    recorder = StepRecorder(lambda values: (values * weight,), [weight])
    values = torch.ones(400_000)
    for _ in range(SEEN + 3):
        (out,) = recorder(values)
        assert torch.equal(out.detach(), 2 * values) and out.requires_grad
    (line,) = said
    assert why in line and "they go on without" in line and recorder.problem is not None
    assert recorder.room(64, 1000) == 1000, "nothing is filled up any more"


def recording(made: list, replays: list):
    """A stand-in that records nothing: it does the work again, and says when."""

    def record(part, own, **_):
        made.append(own)

        def replay(*tensors):
            replays.append(len(tensors[0]))
            return part(*tensors)

        return replay

    return record


def test_one_recording_a_kind_and_none_without_gradients(monkeypatch, said):
    made, replays = [], []
    gpu(monkeypatch, 100 * GB, 100 * GB, recording(made, replays))
    recorder = StepRecorder(lambda values: (values * 2,), [])
    plain, learning = torch.ones(8), torch.ones(8, requires_grad=True)
    with torch.no_grad():
        assert all(float(recorder(plain)[0][0]) == 2 for _ in range(SEEN + 1))
    assert not made and not replays
    assert all(float(recorder(values)[0][0]) == 2 for values in [plain, learning] * (SEEN + 1))
    assert [own[0].requires_grad for own in made] == [False, True] and not said
    # Each is compared once, and then used in two steps.
    assert len(replays) == 2 * (1 + 2)


def test_what_is_recorded_is_dropped_with_its_room_alone(monkeypatch):
    made, replays = [], []
    gpu(monkeypatch, 100 * GB, 100 * GB, recording(made, replays))
    recorder = StepRecorder(lambda values: (values * 2,), [])
    plain, patches = recorder.room(64, 1_000), recorder.room(80, 3_000)

    def is_replayed(rows: int) -> bool:
        before = len(replays)
        recorder(torch.ones(rows) * 5)
        return len(replays) > before

    assert [is_replayed(rows) for rows in (plain, patches) * SEEN][-2:] == [True, True]
    larger = recorder.room(64, 2_000)
    assert larger > plain and not is_replayed(larger) and not is_replayed(plain) and is_replayed(patches)


@pytest.mark.parametrize("part", ["results", "gradients"])
def test_a_recording_that_computes_something_else_is_not_used(monkeypatch, said, part):
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values):
            return values * (3 if part == "results" else 2)

        @staticmethod
        def backward(ctx, gradient):
            return gradient * (2 if part == "results" else 3)

    gpu(monkeypatch, 100 * GB, 100 * GB, lambda *_, **__: lambda values: (Doubled.apply(values),))
    recorder = StepRecorder(lambda values: (values * 2,), [])
    values = torch.ones(8, requires_grad=True)
    for _ in range(SEEN + 2):
        (out,) = recorder(values)
        assert torch.equal(out, 2 * values)
        assert torch.equal(torch.autograd.grad(out.sum(), values)[0], torch.full((8,), 2.0))
    (line,) = said
    assert "not what a step computes" in line and recorder.problem is not None
