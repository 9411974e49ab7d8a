"""The pages' picture of an avatar: turned, its face moved, the panel in a browser, and driven by somebody else.

    python benchmarks/readme_pictures.py outputs/ada/flame-nerf-cpu/…/config.yml subjects/bob

The avatar is best one of a synthetic person (`flame-nerf-data synth`), so that the picture may be passed on. The panel
is left out where there is no Chromium.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image

from flame_nerf.avatar.loading import open_avatar
from flame_nerf.film import orbit_cameras, render_images
from flame_nerf.motion import SubjectMotion
from flame_nerf.subject import load_subject

YAWS_DEG = (-30.0, 0.0, 30.0)
EXPRESSION = "jawOpen"
SIZE = 256
HEADER = 52
"""Pixels of the page's header, which shows a logo from the net."""
PATIENCE = 300.0
"""Seconds to wait for the viewer."""
STILL = 4
"""Photographs, four seconds apart, that must be alike: a coarse picture stands for some seconds on a busy machine."""
CHROMIUM_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1000,720"
)


@dataclass
class Arguments:
    """What the pictures are made from."""

    config: tyro.conf.Positional[Path]
    """config.yml of the avatar's run."""
    performer: tyro.conf.Positional[Path]
    """Subject that drives the avatar."""
    output: Path = Path("docs/pictures/readme.jpg")
    """Picture to write."""


def turned(pipeline, expression: str | None = None) -> list[np.ndarray]:
    """The avatar from the sides of `YAWS_DEG`, neutral, or with an expression at full."""
    motion = pipeline.model.motion
    posed = motion.neutral() if expression is None else motion.pose({expression: 1.0})
    cameras = pipeline.datamanager.train_dataset.cameras
    pictures = []
    for yaw in YAWS_DEG:
        # The second of four stops of a full swing is the swing's end.
        around = orbit_cameras(cameras, motion.centre, 4, yaw_deg=abs(yaw), pitch_deg=0.0, width=SIZE)
        stop = 0 if yaw == 0 else (1 if yaw > 0 else 3)
        pictures += list(render_images(pipeline, around[stop : stop + 1], [posed], f"{expression} {yaw:+.0f}°"))
    return pictures


def driven(pipeline, source: Path) -> list[np.ndarray]:
    """The performer's picture with the widest mouth, and the avatar with its expression."""
    subject = load_subject(source)
    motion = SubjectMotion(subject.track, fps=subject.fps)
    jaw = [motion.coefficients(row)[0].get("jawOpen", 0.0) for row in range(motion.num_timesteps)]
    row = int(np.argmax(jaw))
    frame = next(frame for frame in subject.frames if frame.timestep == row)
    picture = Image.open(frame.file_path).convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    posed = pipeline.model.motion.pose(*motion.coefficients(row))
    camera = orbit_cameras(
        pipeline.datamanager.train_dataset.cameras, pipeline.model.motion.centre, 1, yaw_deg=0.0, width=SIZE
    )
    return [np.asarray(picture), *render_images(pipeline, camera, [posed], "driven")]


def panel(config: Path) -> np.ndarray | None:
    """A screenshot of ns-viewer's page with the avatar and the panel; None without a browser."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        print("no chromium and chromedriver: the panel is left out")
        return None
    from selenium import webdriver

    with _viewer(config) as address, tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (*CHROMIUM_FLAGS.split(), f"--user-data-dir={profile}"):
            options.add_argument(flag)
        page = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            page.get(address)
            deadline, last, still = time.monotonic() + PATIENCE, None, 0
            while time.monotonic() < deadline and still < STILL:
                time.sleep(4)
                shot = np.asarray(Image.open(io.BytesIO(page.get_screenshot_as_png())).convert("RGB"))
                view = shot[165:-100, 100:500]
                # Until the head is there and sharp, views differ from those before; the panel's numbers go on.
                still = still + 1 if last is not None and (view == last).all() and view.std() > 5 else 0
                last = view
            return shot[HEADER:]
        finally:
            page.quit()


@contextlib.contextmanager
def _viewer(config: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("ns-viewer")), "--load-config", str(config)]
    command += ["--viewer.websocket-port", str(port), "--viewer.websocket-host", "127.0.0.1"]
    viewer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while viewer.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        viewer.kill()
        viewer.wait()


def main(arguments: Arguments) -> None:
    torch.manual_seed(0)
    with open_avatar(arguments.config) as avatar:
        pipeline = avatar.load()
        rows = [turned(pipeline), turned(pipeline, EXPRESSION)]
        pair = driven(pipeline, arguments.performer)
    grid = np.concatenate([np.concatenate([*row, picture], axis=1) for row, picture in zip(rows, pair, strict=True)])
    shot = panel(arguments.config)
    if shot is not None:
        width = round(shot.shape[1] * grid.shape[0] / shot.shape[0])
        resized = Image.fromarray(shot).resize((width, grid.shape[0]), Image.Resampling.LANCZOS)
        grid = np.concatenate([grid, np.asarray(resized)], axis=1)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid).save(arguments.output, quality=88)
    print(f"{arguments.output}: {grid.shape[1]} x {grid.shape[0]}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
