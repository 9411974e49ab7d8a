"""Runs of the synthetic head as training leaves them, without training: what is on disk is the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from synthetic import make_subject
from synthetic_head import make_head

from flame_nerf import methods
from flame_nerf.heads import save_head
from flame_nerf.subject import Subject, write_subject


def subject_with_head(
    root: Path, *, licence: str = "CC0 1.0", seed: int = 0, fps: float = 10.0, count: int = 6
) -> Subject:
    """A small subject with its head model inside, under that licence."""
    subject = make_subject(root, size=32, count=count)
    # Heads of other seeds have other faces: the canonical head of each is its own.
    moved = subject.track.canonical_vertices + (0.001 * seed, 0, 0)
    track = dataclasses.replace(subject.track, canonical_vertices=moved.astype("float32"))
    save_head(dataclasses.replace(make_head(), licence=licence), root / "head_model.npz")
    subject = dataclasses.replace(subject, head_model="head_model.npz", fps=fps, track=track, source="/home/me/v.mp4")
    write_subject(subject)
    return subject


def small_config(subject: Path, output: Path, experiment: str = "me"):
    """flame-nerf-cpu, small, on a subject."""
    config = methods.with_steps(methods.flame_nerf_cpu.config, 10)
    config.data = config.pipeline.datamanager.data = subject.absolute()
    config.output_dir, config.experiment_name, config.timestamp = output, experiment, "t"
    field = config.pipeline.model.field
    field.n_levels, field.log2_hashmap_size, field.hidden_dim = 2, 10, 16
    config.pipeline.model.sampling.occupancy.resolution = 16
    config.pipeline.model.field.compiled = False
    return config


def untrained_run(subject: Path, output: Path, experiment: str = "me") -> Path:
    """A run's config.yml, with a checkpoint beside it; weights are where they begin."""
    torch.manual_seed(0)
    config = small_config(subject, output, experiment)
    # Before anything is set up, as ns-train does.
    config.save_config()
    pipeline = config.pipeline.setup(device="cpu", test_mode="test")
    folder = config.get_checkpoint_dir()
    folder.mkdir(parents=True)
    state = {"step": 9, "pipeline": pipeline.state_dict(), "optimizers": {"encoding": {"state": {}}}, "scalers": {}}
    torch.save(state, folder / "step-000000009.ckpt")
    return config.get_base_dir() / "config.yml"
