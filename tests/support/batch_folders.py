"""Videos of a batch, what stands in for the commands, and its summary."""

from __future__ import annotations

import json
from pathlib import Path

STAND_IN = """
import json, pathlib, sys, time
module, arguments = sys.argv[1], sys.argv[2:]
def option(name):
    return arguments[arguments.index(name) + 1]
if module == "data_tools.cli":
    assert arguments[0] == "track"
    video, subject = map(pathlib.Path, arguments[1:3])
    text = video.read_text()
    tries = subject.parent / f"{video.stem}.tries"
    tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
    if text == "bad" or (text == "shaky" and tries.read_text() == "x"):
        print("Warning: dark picture")
        print(f"Error: {video.name}: no face [yellow] in it")
        print("bye")
        sys.exit(1)
    if text == "slow":
        time.sleep(60)
    while text == "waits" and not (subject.parent / "open").exists():
        time.sleep(0.1)
    subject.mkdir(parents=True, exist_ok=True)
    (subject / "transforms.json").write_text(json.dumps({"frames": [1, 2, 3]}))
else:
    assert module == "nerfstudio.scripts.train"
    run = pathlib.Path(option("--output-dir")) / option("--experiment-name") / arguments[0] / option("--timestamp")
    (run / "nerfstudio_models").mkdir(parents=True, exist_ok=True)
    (run / "config.yml").write_text("max_num_iterations: 500\\ntotal_steps: null\\n")
    print("trained with", " ".join(arguments))
    if "--load-dir" not in arguments and "--die" in arguments:
        (run / "nerfstudio_models" / "step-000000199.ckpt").touch()
        print("Traceback (most recent call last):")
        print("RuntimeError: half way")
        sys.exit(3)
    (run / "nerfstudio_models" / "step-000000499.ckpt").touch()
"""
"""A program in the place of `track` and `ns-train`: what becomes of a video is what it says."""


def videos(folder: Path, **contents: str) -> None:
    """Write videos of these names; `STAND_IN` reads what they hold."""
    for name, text in contents.items():
        (folder / f"{name}.mp4").write_text(text)


def summary(subjects: Path) -> dict[str, dict]:
    """What the batch wrote of each subject, by name."""
    return {entry["name"]: entry for entry in json.loads((subjects / "summary.json").read_text())}
