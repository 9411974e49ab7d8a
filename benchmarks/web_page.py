"""How near a page of `flame-nerf export web` comes to its avatar, and what a picture costs.

    flame-nerf export web outputs/…/config.yml me.html --views 56 --view-size 192 --steps 240
    python benchmarks/web_page.py outputs/…/config.yml me.html

Opens the page from disk in headless Chromium (apt: chromium-driver; selenium from the development dependencies) with
its software renderer. PSNR in dB against the avatar's own pictures of 256 pixels on white, over the whole matte and
inside its rim of six pixels, as the page draws them on a slow machine while something moves and once it rests; and
processor time of all of the browser a picture of what moves, which other work on the machine does not change, with the
rate that two idle cores allow at most.
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from scipy.ndimage import minimum_filter

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))

SIZE, RIM = 256, 6
MOVING, RESTING = 1.125, 2
"""Pixels drawn for one of the page, along a side: the page's PLAIN and FINEST."""
SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
BLINK = {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}
SHOWN = {
    "front": ({}, 0.0),
    "20 degrees to the left": ({}, 20.0),
    "20 degrees to the right": ({}, -20.0),
    "`jawOpen` 0.8": ({"jawOpen": 0.8}, 0.0),
    "both eyes shut": (BLINK, 0.0),
}
"""Faces and yaws, degrees."""


def own_pictures(config: Path) -> dict[str, np.ndarray]:
    """The avatar's own pictures on white, from where the page's camera stands."""
    from nerfstudio.cameras.cameras import Cameras

    from flame_nerf.avatar.export.web.page import first_camera
    from flame_nerf.avatar.export.web.views import orbited
    from flame_nerf.avatar.loading import load_pipeline
    from flame_nerf.film.rendering import render_images

    pipeline = load_pipeline(config)
    model, camera = pipeline.model, first_camera(pipeline)
    centre, focal = model.motion.centre.double().cpu().numpy(), camera.focal * SIZE

    def on_white(outputs: dict[str, torch.Tensor]) -> np.ndarray:
        rgba = model.get_rgba_image(outputs).cpu()
        return (rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]).numpy()

    pictures = {}
    for name, (face, yaw) in SHOWN.items():
        c2w = torch.from_numpy(orbited(camera.c2w, centre, np.radians(yaw), 0.0, 0.0)[None]).float()
        cameras = Cameras(c2w, focal, focal, SIZE / 2, SIZE / 2, width=SIZE, height=SIZE)
        pictures[name] = next(render_images(model, cameras, [model.motion.pose(face)], name, on_white))
    return pictures


def shot(page, face: dict[str, float], yaw: float, size: int) -> np.ndarray:
    """The page's picture, SIZE pixels wide, drawn `size` pixels wide and scaled as a browser does."""
    page.execute_script("flameNerf.neutral(); flameNerf.straight(); flameNerf.orbit(arguments[0], 0)", np.radians(yaw))
    asked = {"expression": face, "width": size, "height": size}
    url = page.execute_script("return flameNerf.shot(arguments[0])", asked)
    drawn = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB")
    return np.asarray(drawn.resize((SIZE, SIZE), Image.Resampling.BILINEAR), float) / 255


def psnr(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    return float(-10 * np.log10(((one - other) ** 2)[where].mean()))


def compared(page, own: dict[str, np.ndarray], pictures: Path | None) -> list[str]:
    """Lines of the table; the avatar, the page and their difference side by side go to `pictures`."""
    lines, rows = [], []
    for name, (face, yaw) in SHOWN.items():
        head = (own[name] < 0.9).any(axis=2)
        inside = minimum_filter(head, 2 * RIM + 1)
        shots = [shot(page, face, yaw, size) for size in (round(MOVING * SIZE), RESTING * SIZE)]
        cells = [" / ".join(f"{psnr(drawn, own[name], where):.1f}" for where in (head, inside)) for drawn in shots]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        rows.append(np.hstack([own[name], shots[0], np.clip(0.5 + shots[0] - own[name], 0, 1)]))
    if pictures is not None:
        Image.fromarray(np.rint(255 * np.vstack(rows)).astype(np.uint8)).save(pictures)
    return lines


def cost(page, count: int, size: int) -> tuple[float, float]:
    """Core-seconds of the browser for a picture, and pictures a second as it is now."""
    browser = psutil.Process(page.service.process.pid).children(recursive=True)
    page.execute_script("flameNerf.rate(3, arguments[0])", size)

    def spent() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in browser if process.is_running())

    before = spent()
    rate = page.execute_script("return flameNerf.rate(arguments[0], arguments[1])", count, size)
    return (spent() - before) / count, rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("page", type=Path)
    parser.add_argument("--pictures", type=Path, help="also write the pictures beside each other to this .png")
    args = parser.parse_args()
    from browsers import start_browser

    own = own_pictures(args.config)
    with tempfile.TemporaryDirectory() as folder:
        page = start_browser(Path(folder) / "profile", *SOFTWARE_GL, "--window-size=900,600")
        try:
            page.get(args.page.resolve().as_uri())
            while not page.execute_script("return !!window.flameNerf"):
                time.sleep(0.2)
            print("| | while it moves, whole / inside the rim | at rest |\n|---|---|---|")
            print("\n".join(compared(page, own, args.pictures)))
            print(f"\nsize {args.page.stat().st_size / 1e6:.2f} MB")
            for size in (512, 256):
                seconds, rate = cost(page, 20, round(MOVING * size))
                print(f"{size}: {seconds:.3f} core-seconds a picture, {rate:.1f} a second as it is now, "
                      f"{2 / seconds:.1f} if two cores shared it evenly")  # fmt: skip
        finally:
            page.quit()


if __name__ == "__main__":
    main()
