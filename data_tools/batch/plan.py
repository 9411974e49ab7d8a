"""From folders to jobs."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from data_tools.batch.config import BatchConfig, BatchError
from data_tools.batch.jobs import Job, Step, python_module

VIDEO_ENDINGS = (
    *(".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"),
    *(".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".3gp"),
)
"""Files that are taken for videos."""
LOGS, OUTPUTS = "logs", "outputs"
"""Folders beside the subjects, which no subject can be called."""
TIMESTAMP = "batch"
"""Name of each training's run folder: always the same, so that a later batch finds it."""


def plan(source: Path, subjects: Path, config: BatchConfig) -> list[Job]:
    """A job for each video of a folder, and with training for each subject in it that has no video there.

    Raises:
        BatchError: there is nothing to do, or two things would go by one name.
    """
    if config.workers < 1 or config.retries < 0 or config.gpus < 0:
        raise BatchError("--workers must be at least 1, --retries and --gpus at least 0.")
    _words(config.slurm_options)
    if not source.is_dir():
        raise BatchError(f"{source} is no folder. Give the folder that the videos, or the subjects, lie in.")
    videos = sorted(path for path in source.iterdir() if path.suffix.lower() in VIDEO_ENDINGS and path.is_file())
    made = sorted(path.parent for path in source.glob("*/transforms.json")) if config.train else []
    found: dict[str, Path] = {}
    for path in videos:
        if path.stem in found:
            raise BatchError(f"{found[path.stem]} and {path} would both become the subject {path.stem}. Rename one.")
        if path.stem in (LOGS, OUTPUTS):
            raise BatchError(f"{path}: a subject cannot be called {path.stem}, that folder is used here. Rename it.")
        found[path.stem] = path
    jobs = [_job(name, video, subjects / name, subjects, config) for name, video in found.items()]
    jobs += [_job(path.name, None, path, subjects, config) for path in made if path.name not in found]
    if not jobs:
        also = " and no subject" if config.train else ""
        raise BatchError(f"{source} holds no video{also} ({', '.join(ending[1:] for ending in VIDEO_ENDINGS)}).")
    return jobs


def _job(name: str, video: Path | None, subject: Path, subjects: Path, config: BatchConfig) -> Job:
    steps = []
    if video is not None:
        track = (*python_module("data_tools.cli"), "track", str(video), str(subject), *_words(config.track_options))
        steps.append(Step("track", track, subject, "transforms.json", _log(subjects, name, "track"), source=video))
    if config.train is not None:
        steps.append(_training(name, subject, subjects, config))
    environment = {}
    if config.workers > 1 and "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // config.workers))
    return Job(name, tuple(steps), subject, environment)


def _training(name: str, subject: Path, subjects: Path, config: BatchConfig) -> Step:
    outputs = (config.outputs or subjects / OUTPUTS).absolute()
    run = outputs / name / config.train / TIMESTAMP
    command = (
        *python_module("nerfstudio.scripts.train"),
        config.train,
        *("--data", str(subject), "--output-dir", str(outputs), "--experiment-name", name, "--timestamp", TIMESTAMP),
        *("--vis", "tensorboard", "--viewer.quit-on-train-completion", "True"),
        *_words(config.train_options),
    )
    log, source = _log(subjects, name, "train"), subject / "transforms.json"
    return Step("train", command, run / "nerfstudio_models", "*.ckpt", log, run, source)


def _words(options: str) -> list[str]:
    try:
        return shlex.split(options)
    except ValueError as error:
        raise BatchError(f"options {options!r}: {error}.") from error


def _log(subjects: Path, name: str, title: str) -> Path:
    return subjects / LOGS / f"{name}.{title}.log"
