"""Jobs as a Slurm job array: a script and a manifest that anybody can read, and a result a job beside them."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from data_tools.batch.config import BatchConfig, BatchError
from data_tools.batch.engines import Told
from data_tools.batch.jobs import Job, JobResult, Step, python_module
from flame_nerf.runtime.door import read_json
from flame_nerf.runtime.files import whole

POLL_SECONDS = 5.0
"""How often Slurm is asked. Its controller serves a whole cluster."""
PATIENCE = 6
"""Times that a job may be gone from Slurm's queue without a result: folders that machines share show files late."""
NAME = "flame-nerf-batch"


def on_slurm(jobs: Sequence[Job], config: BatchConfig, told: Told) -> Iterator[JobResult]:
    """Jobs as tasks of one Slurm array, at most `workers` at a time; all machines must see the folders by these names.

    What is done already is not submitted. Tasks that end without a result (a machine that died, a time limit) are
    submitted again, `retries` times. Interrupted, the array is cancelled, and its commands put their things in order.

    Raises:
        BatchError: there is no Slurm here, or it refuses the array.
    """
    folder = jobs[0].steps[0].log.parent / "slurm"
    waiting = []
    for job in jobs:
        before = [step.seconds_before() for step in job.steps]
        if None in before:
            waiting.append(job)
        else:
            yield JobResult(job.name, "done before", sum(filter(None, before)) / 60, job.frames())
    for tries_left in range(config.retries, -1, -1):
        if not waiting:
            return
        again = []
        for job, result in _array(folder, waiting, config, told):
            if tries_left and (result is None or result.status == "interrupted"):
                again.append(job)
            else:
                yield result or JobResult(job.name, "failed", 0.0, job.frames(), _lost(folder))
        waiting = again


def write_script(folder: Path, jobs: Sequence[Job], config: BatchConfig) -> Path:
    """The array's script, and beside it the manifest that its tasks read. Returns the script's path."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole(manifest := folder / "manifest.json") as spare:
        spare.write_text(json.dumps([_as_json(job) for job in jobs], indent=1))
    options = [f"--job-name={NAME}", f"--array=0-{len(jobs) - 1}%{config.workers}"]
    options += [f"--output={folder}/%A_%a.log", "--signal=B:TERM@60", "--requeue"]
    if config.gpus:
        options.append("--gres=gpu:1")
    task = [*python_module("data_tools.batch.task"), str(manifest), str(config.retries)]
    lines = ["#!/bin/bash", *(f"#SBATCH {shlex.quote(option)}" for option in options)]
    lines.append(f'exec {shlex.join(task)} "$SLURM_ARRAY_TASK_ID"')
    with whole(script := folder / "batch.sbatch") as spare:
        spare.write_text("\n".join(lines) + "\n")
    return script


def read_manifest(path: Path) -> list[Job]:
    """The jobs of a manifest."""
    return [_from_json(entry) for entry in read_json(path, BatchError)]


def result_path(manifest: Path, name: str) -> Path:
    """Where a job's result goes."""
    return manifest.parent / "results" / f"{name}.json"


def _array(
    folder: Path, jobs: Sequence[Job], config: BatchConfig, told: Told
) -> Iterator[tuple[Job, JobResult | None]]:
    """Submits an array; each job with its result as it comes, None where its task ended without one."""
    script = write_script(folder, jobs, config)
    manifest = folder / "manifest.json"
    for job in jobs:
        result_path(manifest, job.name).unlink(missing_ok=True)
    number = _submit(script, shlex.split(config.slurm_options))
    rest, missed = dict(enumerate(jobs)), dict.fromkeys(range(len(jobs)), 0)
    try:
        while rest:
            states = _states(number)
            for index, job in list(rest.items()):
                result = _result(result_path(manifest, job.name))
                if states is not None and result is None:
                    missed[index] = 0 if index in states else missed[index] + 1
                    told(job.name, states.get(index, "gone").lower())
                if result is not None or missed[index] > PATIENCE:
                    del rest[index]
                    yield job, result
            if rest:
                time.sleep(POLL_SECONDS)
    except BaseException:
        _slurm("scancel", number)
        raise


def _submit(script: Path, options: Sequence[str]) -> str:
    done = _slurm("sbatch", "--parsable", *options, str(script))
    if done.returncode:
        raise BatchError(f"sbatch refuses the batch: {done.stderr.strip() or done.stdout.strip()}. See {script}.")
    return done.stdout.strip().split(";")[0]


def _states(number: str) -> Mapping[int, str] | None:
    """What Slurm says of each task that it still has; None where it does not answer."""
    done = _slurm("squeue", "--noheader", "--array", "--jobs", number, "--format=%K %T")
    if done.returncode:
        # Slurm forgets an array some minutes after its end.
        return {} if "Invalid job id" in done.stderr else None
    words = (line.split() for line in done.stdout.splitlines())
    return {int(entry[0]): entry[1] for entry in words if len(entry) == 2 and entry[0].isdigit()}


def _slurm(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BatchError(
            f"--engine slurm needs Slurm's {command[0]}, which is not on the path ({error.strerror}). Give the command "
            "on a machine from which jobs are submitted, or use --engine local."
        ) from error


def _result(path: Path) -> JobResult | None:
    try:
        return JobResult(**read_json(path, ValueError))
    except (ValueError, TypeError):
        return None


def _lost(folder: Path) -> str:
    return f"Slurm ended its task without a result: a machine that died, too little memory or time? See {folder}."


def _as_json(job: Job) -> dict:
    return json.loads(json.dumps(asdict(job), default=str))


def _from_json(entry: dict) -> Job:
    steps = []
    for step in entry["steps"]:
        paths = {
            name: None if step[name] is None else Path(step[name])
            for name in ("folder", "log", "resumable_run", "source")
        }
        steps.append(Step(**{**step, **paths, "command": tuple(step["command"])}))
    return Job(entry["name"], tuple(steps), Path(entry["subject"]), entry["environment"])
