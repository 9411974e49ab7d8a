"""The viewer in a real browser: a trained head appears, moves with the sliders, and is filmed along keyframes."""

import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic import make_subject
from synthetic_head import make_head

from flame_nerf.heads import save_head
from flame_nerf.subject import write_subject
from flame_nerf.viewer.panel import CPU_RESOLUTION

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1000,800"
)
STEPS, RAYS = 100, 1024
OPEN_FRAME = 10
"""The synthetic head's mouth is shut in frame 0 and wide open in this one."""
PATIENCE = 240.0
"""Seconds to wait for anything: a busy machine is not a failure."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (apt: chromium-driver)"),
]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """A short training run of the synthetic head, with its head model; the path of its config.yml."""
    root = tmp_path_factory.mktemp("browser")
    subject = make_subject(root / "subject", size=48, count=20)
    save_head(make_head(), subject.root / "head_model.npz")
    write_subject(dataclasses.replace(subject, head_model="head_model.npz"))
    command = [program("ns-train"), "flame-nerf-cpu", "--data", str(subject.root), "--output-dir", str(root / "out")]
    command += ["--max-num-iterations", str(STEPS), "--vis", "tensorboard", "--timestamp", "run"]
    command += ["--pipeline.datamanager.train-num-rays-per-batch", str(RAYS)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return next((root / "out").rglob("config.yml"))


@pytest.fixture(scope="module")
def address(config, tmp_path_factory):
    """A running ns-viewer's address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("viewer") / "viewer.log"
    command = [program("ns-viewer"), "--load-config", str(config), "--viewer.websocket-port", str(port)]
    with log.open("w") as stream:
        viewer = subprocess.Popen(
            [*command, "--viewer.websocket-host", "127.0.0.1"], env=environment(), stdout=stream, stderr=stream
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            assert viewer.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.3)
        yield f"http://127.0.0.1:{port}"
    finally:
        viewer.send_signal(signal.SIGINT)
        try:
            viewer.wait(timeout=10)
        except subprocess.TimeoutExpired:
            viewer.kill()


@pytest.fixture
def page(address, tmp_path):
    selenium = pytest.importorskip("selenium.webdriver")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    try:
        driver.get(address)
        yield driver
    finally:
        driver.quit()


def picture(page) -> np.ndarray:
    """The middle of the page's 3D view [H, W, 3], 0 to 1."""
    shot = np.asarray(Image.open(io.BytesIO(page.get_screenshot_as_png())).convert("RGB"), dtype=float) / 255
    # One canvas reaches under the control panel, the one with the picture ends beside it.
    view = min((canvas.rect for canvas in page.find_elements("css selector", "canvas")), key=lambda r: r["width"])
    left, top, width, height = (int(view[side]) for side in ("x", "y", "width", "height"))
    return shot[top + height // 8 : top + height - height // 8, left + width // 8 : left + width - width // 8]


def slider(page, label: str):
    """The handle of the slider with this label."""
    row = f"//label[normalize-space()='{label}']/ancestor::*[.//*[@role='slider']][1]"
    return page.find_element("xpath", f"{row}//*[@role='slider']")


def full_size(page) -> bool:
    """Whether the picture on show is the sharp one, that follows the coarse ones of a moving view."""
    # Read in one go: the page writes this line anew with every picture, and an element held is soon a stale one.
    words = page.execute_script("return document.body.innerText")
    size = re.search(r"Resolution: (\d+)x(\d+)px", words)
    return size is not None and max(map(int, size.groups())) == CPU_RESOLUTION


def settled(page, looks_right, complaint: str) -> np.ndarray:
    """Waits until the view is sharp, has stopped changing and looks right."""
    deadline, last = time.monotonic() + PATIENCE, None
    while time.monotonic() < deadline:
        now = picture(page)
        if last is not None and difference(now, last) < 1e-3 and full_size(page) and looks_right(now):
            return now
        last = now
        time.sleep(0.7)
    raise AssertionError(f"{complaint}; corner {last[0, 0]}, middle {last[last.shape[0] // 2, last.shape[1] // 2]}")


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def is_head(view: np.ndarray) -> bool:
    """White corners, and skin (redder than blue) in the middle."""
    height, width = view.shape[:2]
    middle = view[height // 2 - 5 : height // 2 + 5, width // 2 - 5 : width // 2 + 5].mean(axis=(0, 1))
    return min(view[0, 0].min(), view[-1, -1].min()) > 0.9 and middle[0] > middle[2] + 0.1


def unlike(other: np.ndarray):
    return lambda view: difference(view, other) > 4e-3


def test_the_head_appears_and_moves_with_the_sliders(page):
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(page, PATIENCE).until(lambda driver: driver.find_elements("xpath", "//label[.='Frame']"))
    WebDriverWait(page, PATIENCE).until(lambda driver: "Connected" in driver.find_element("tag name", "body").text)

    shut = settled(page, is_head, "no head on white appeared")

    slider(page, "Frame").send_keys(Keys.HOME + Keys.ARROW_RIGHT * OPEN_FRAME)
    opened = settled(page, unlike(shut), "the frame slider changed nothing")

    slider(page, "jawOpen").send_keys(Keys.ARROW_RIGHT + Keys.HOME)
    shut_by_slider = settled(page, unlike(opened), "the expression slider shut nothing")
    slider(page, "jawOpen").send_keys(Keys.END)
    opened_by_slider = settled(page, unlike(shut_by_slider), "the expression slider opened nothing")

    assert difference(shut_by_slider, shut) < 0.5 * difference(shut_by_slider, opened), "shut is shut, either way"
    # Frame 10 turns the jaw joint too, which the slider leaves at rest: alike, not the same.
    assert difference(opened_by_slider, opened) < difference(opened_by_slider, shut), "open is open, either way"

    page.find_element("xpath", "//label[.='Play']/ancestor::*[.//input[@type='checkbox']][1]//input").click()
    WebDriverWait(page, PATIENCE).until(
        lambda driver: slider(driver, "Frame").get_attribute("aria-valuenow") != str(OPEN_FRAME)
    )


def press(page, words: str) -> None:
    """Press the button with these words, wherever on the page it is."""
    from selenium.webdriver.support.ui import WebDriverWait

    found = f"//button[contains(normalize-space(), '{words}')]"
    button = WebDriverWait(page, PATIENCE).until(lambda driver: driver.find_element("xpath", found))
    page.execute_script("arguments[0].click()", button)


def turn(page) -> None:
    """Turn the head a little with the mouse."""
    from selenium.webdriver.common.action_chains import ActionChains

    view = min(page.find_elements("css selector", "canvas"), key=lambda canvas: canvas.rect["width"])
    ActionChains(page).move_to_element(view).click_and_hold().move_by_offset(60, 10).pause(0.3).release().perform()


def test_camera_paths_of_two_and_of_three_keyframes(page, config):
    from nerfstudio.cameras.camera_paths import get_path_from_json
    from selenium.webdriver.support.ui import WebDriverWait

    folder = config.parents[4] / "subject" / "camera_paths"
    WebDriverWait(page, PATIENCE).until(lambda driver: driver.find_elements("xpath", "//label[.='Frame']"))
    settled(page, is_head, "no head on white appeared")
    press(page, "Render")
    # The synthetic pictures' focal length is 1.7 times their height.
    degrees = 2 * np.degrees(np.arctan(0.5 / 1.7))
    WebDriverWait(page, PATIENCE).until(
        lambda driver: (
            float(slider(driver, "Default FOV").get_attribute("aria-valuenow")) == pytest.approx(degrees, abs=0.1)
        )
    )

    def written(count: int) -> dict | None:
        for path in folder.glob("*.json"):
            with contextlib.suppress(json.JSONDecodeError):
                film = json.loads(path.read_text())
                if len(film["keyframes"]) == count:
                    return film
        return None

    press(page, "Add Keyframe")
    for count in (2, 3):
        turn(page)
        press(page, "Add Keyframe")
        time.sleep(1.0)
        press(page, "Generate Command")
        film = WebDriverWait(page, PATIENCE).until(lambda driver, count=count: written(count))
        WebDriverWait(page, PATIENCE).until(lambda driver: "ns-render camera-path" in driver.page_source)
        press(page, "Close")
        cameras = get_path_from_json(film)
        assert len(cameras) > 10 and film["camera_path"][0]["fov"] == pytest.approx(degrees, abs=0.1)
        places, turned = cameras.camera_to_worlds[:, :, 3], cameras.camera_to_worlds[:, :, 2]
        assert float((places[0] - places[-1]).norm()) > 0.02 and float(turned.std(dim=0).max()) > 0.01
        steps = places.diff(dim=0).norm(dim=1)
        assert float(steps.max()) < 4 * float(steps.mean()), "the camera moves on, it does not jump"
