"""Long videos: what lies on disk instead of in memory, and that a step costs the same however long the video is."""

import errno
import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from synthetic import make_subject

from flame_nerf.data.pixel_sampler import HeadPixelSamplerConfig
from flame_nerf.motion import SubjectMotion
from flame_nerf.runtime import scratch
from flame_nerf.runtime.door import arrays
from flame_nerf.runtime.scratch import ScratchError, scratch_array, scratch_folder
from flame_nerf.subject import SubjectError, load_subject, reading, stabilised
from flame_nerf.subject.stabilised import stabilize_head

# ------------------------------------------------------------------------------------------- the track, mapped


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_subject(tmp_path_factory.mktemp("scale") / "subject", size=32, count=10).root


@pytest.fixture
def mapped(monkeypatch):
    """Every array of a track is large."""
    monkeypatch.setattr(reading, "MAPPED_FROM", 0)


def test_large_arrays_are_mapped_and_the_same(root, mapped, monkeypatch):
    on_disk = load_subject(root).track
    assert isinstance(on_disk.vertices, np.memmap) and not on_disk.vertices.flags.writeable
    monkeypatch.setattr(reading, "MAPPED_FROM", 1 << 40)
    in_memory = load_subject(root).track
    assert not isinstance(in_memory.vertices, np.memmap)
    for name in ("vertices", "faces", "canonical_vertices", "expression", "pose", "region"):
        assert np.array_equal(getattr(on_disk, name), getattr(in_memory, name)), name
    assert on_disk.expression_names == in_memory.expression_names


def test_a_track_that_is_edited_while_it_is_used_stays_as_it_was_read(root, mapped, tmp_path, monkeypatch):
    import shutil

    track_file = shutil.copytree(root, tmp_path / "subject") / "head.npz"
    used = load_subject(track_file.parent).track.vertices
    wanted = np.array(used)
    # As `np.savez` and `cp` write: into the same file. Cut short, it would end the process with a bus error.
    with track_file.open("r+b") as file:
        file.write(bytes(track_file.stat().st_size))
    assert np.array_equal(used, wanted)

    def full(shape, dtype, memory_limit):
        if memory_limit == 0:
            raise ScratchError("no room")
        return np.empty(shape, dtype)

    shutil.copyfile(root / "head.npz", track_file)
    monkeypatch.setattr(arrays, "scratch_array", full)
    without_room = load_subject(track_file.parent).track.vertices
    assert isinstance(without_room, np.memmap) and np.array_equal(without_room, wanted)


def test_mapped_meshes_are_read_row_by_row(root, mapped):
    subject = load_subject(root)
    motion, wanted = SubjectMotion(subject.track), np.array(subject.track.vertices)
    assert torch.equal(motion.at_timestep(3).vertices, torch.from_numpy(wanted[3]))
    between = motion.at_time(2.5 / 9).vertices
    assert torch.allclose(between, torch.from_numpy((wanted[2] + wanted[3]) / 2), atol=1e-6)
    assert motion.conditions.shape == (10, motion.condition_dim)
    assert torch.equal(motion.conditions[4], motion.at_timestep(4).condition)


def test_compressed_archives_and_damaged_ones(root, mapped, tmp_path):
    import shutil

    copy = shutil.copytree(root, tmp_path / "subject")
    with np.load(root / "head.npz") as archive:
        arrays = dict(archive)
    np.savez_compressed(copy / "head.npz", **arrays)
    assert np.array_equal(load_subject(copy).track.vertices, arrays["vertices"])
    whole = (root / "head.npz").read_bytes()
    (copy / "head.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SubjectError, match="cannot be read as an npz file"):
        load_subject(copy)
    # As Fortran order would be read wrongly if it were mapped like the other.
    np.savez(copy / "head.npz", **{**arrays, "vertices": np.asfortranarray(arrays["vertices"])})
    assert np.array_equal(load_subject(copy).track.vertices, arrays["vertices"])


def test_stabilising_in_blocks_changes_nothing(tmp_path, monkeypatch):
    subject = make_subject(tmp_path / "moving", size=16, count=9, moving_head=True)
    whole = stabilize_head(subject)
    assert whole is not subject
    monkeypatch.setattr(stabilised, "ROWS_AT_ONCE", 4)
    monkeypatch.setattr(stabilised, "TURNED_MEMORY", 0)
    parts = stabilize_head(subject)
    assert isinstance(parts.track.vertices, np.memmap)
    assert np.allclose(parts.track.vertices, whole.track.vertices, atol=1e-7)
    assert all(np.allclose(a.c2w, b.c2w) for a, b in zip(parts.frames, whole.frames, strict=True))


# ------------------------------------------------------------------------------------------- temporary files


def test_temporary_files_go_to_a_disk(monkeypatch, tmp_path):
    monkeypatch.delenv("TMPDIR", raising=False)
    if Path("/var/tmp").is_dir() and os.access("/var/tmp", os.W_OK):
        assert scratch_folder() == Path("/var/tmp"), "/tmp may lie in memory"
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert scratch_folder() == tmp_path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into Linux's /proc")
def test_large_array_is_an_unnamed_file_with_its_blocks_reserved(monkeypatch, tmp_path):
    monkeypatch.setattr(scratch, "scratch_folder", lambda: tmp_path)
    free = os.statvfs(tmp_path).f_bavail
    array = scratch_array((64, 1024, 1024), np.uint8, memory_limit=10)
    assert free - os.statvfs(tmp_path).f_bavail > 0.9 * array.nbytes / os.statvfs(tmp_path).f_frsize
    array[3, 4, 5] = 7
    assert array[3, 4, 5] == 7 and list(tmp_path.iterdir()) == []
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    del array
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_small_arrays_stay_in_memory():
    assert not isinstance(scratch_array((3, 4), np.float32, memory_limit=48), np.memmap)


def test_full_disk_is_one_clear_error(monkeypatch, root):
    import shutil

    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    words = r"no room for a temporary file of 16\.8 MB.* 1\.0 kB are free.*TMPDIR.*downscale"
    with pytest.raises(ScratchError, match=words):
        scratch_array((4096, 4096), np.uint8, memory_limit=10)
    monkeypatch.undo()

    def full(descriptor, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    if sys.platform.startswith("linux"):
        with pytest.raises(ScratchError, match="the disk is full"):
            scratch_array((4096, 4096), np.uint8, memory_limit=10)


# ------------------------------------------------------------------------------------------- frames at hand


class BlankPictures(SimpleNamespace):
    """As many pictures of 4 x 4 pixels with nothing in them, as an `ImageCache` holds them."""

    def __init__(self, count: int):
        super().__init__(
            width=4, height=4, block=4, pictures=torch.zeros(count, 4, 4, 4, dtype=torch.uint8),
            boxes=torch.tensor([0, 0, 4, 4]).expand(count, 4, 4), blocks=torch.zeros(1, 2, dtype=torch.int16),
            block_start=torch.zeros(count, dtype=torch.long), block_count=torch.ones(count, dtype=torch.long),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.pictures)

    def fill(self) -> "BlankPictures":
        return self


def drawn(count: int, steps: int, **options) -> list[set[int]]:
    """Pictures that each step draws its rays from; the step's number is the seed."""
    sampler = HeadPixelSamplerConfig(**options).setup(num_rays_per_batch=64)
    batch, found = {"cache": BlankPictures(count)}, []
    for step in range(steps):
        picture = sampler.sample(batch, generator=torch.Generator().manual_seed(step))["indices"][:, 0]
        assert len(picture) == 64
        found.append(set(picture.tolist()))
    return found


def test_short_videos_are_drawn_from_as_a_whole():
    steps = drawn(50, 20, frames_at_hand=50, frames_per_batch=8)
    shuffled = (torch.randperm(50, generator=torch.Generator().manual_seed(step)) for step in range(20))
    assert steps == [set(order[:8].tolist()) for order in shuffled]


def test_long_videos_come_round_a_few_frames_at_a_time():
    # Steps that draw from all that is at hand show what is.
    hands = drawn(200, 1000, frames_at_hand=40, frames_per_batch=40)
    assert all(len(hand) == 40 for hand in hands)
    assert max(len(after - before) for before, after in itertools.pairwise(hands)) == 2
    seen = torch.zeros(200)
    for pictures in drawn(200, 1000, frames_at_hand=40, frames_per_batch=8):
        assert len(pictures) == 8
        seen[list(pictures)] += 1
    assert (seen > 0).all()
    # 8000 draws over 200 frames: 40 each; a stay of 20 steps brings about four, and a frame has about ten stays.
    assert seen.std() < 0.35 * seen.mean()
    again = drawn(41, 100, frames_at_hand=40, frames_per_batch=8)
    assert set().union(*again) == set(range(41)), "also where only one frame waits"


# ------------------------------------------------------------------------------------------- memory, measured

MEASURE = """
import sys
from pathlib import Path
from flame_nerf import methods
from flame_nerf.subject import reading

reading.MAPPED_FROM = 1 << 16

def anonymous():
    # Without mapped files: what is written to disk and mapped can always be given back.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

def train(subject):
    config = methods.with_steps(methods.flame_nerf_cpu.config, 4).pipeline
    config.datamanager.data = Path(subject)
    config.datamanager.image_memory = 1 << 16
    config.datamanager.train_num_rays_per_batch = 64
    config.datamanager.pixel_sampler.frames_at_hand = 20
    config.model.sampling.mesh_memory = 1 << 22
    pipeline = config.setup(device="cpu", test_mode="val")
    for step in range(4):
        pipeline.get_train_loss_dict(step)
    return pipeline

few = train(sys.argv[1])
start = anonymous()
many = train(sys.argv[2])
print(start, anonymous(), len(many.datamanager.train_dataset) - len(few.datamanager.train_dataset))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_memory_grows_by_little_more_than_where_the_matte_is(tmp_path):
    """A frame here: 16 kB of picture and 9 kB of mesh, both on disk; matte blocks (up to 16 kB), cameras and names."""
    from long_subject import long_subject

    long_subject(tmp_path / "few", size=64, count=60)
    long_subject(tmp_path / "many", size=64, count=2000)
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "few"), str(tmp_path / "many")],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert measured.returncode == 0, measured.stderr[-3000:]
    before, after, more = map(int, measured.stdout.split()[-3:])
    # Measured 25 kB; 25 kB more where pictures and meshes are held.
    assert (after - before) / more < 35, f"{(after - before) / more:.1f} kB a frame"
