"""The viewer in a real browser: a trained head appears, moves with the sliders, and is filmed along keyframes."""

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import commands
import numpy as np
import pytest
from browsers import PATIENCE, start_browser
from page import (
    clear_keyframes,
    difference,
    films,
    is_head,
    press,
    says,
    settled,
    slider,
    square,
    turn,
    unlike,
    whole_view,
    words,
    write,
)
from PIL import Image
from trained_run import OPEN_FRAME, RUN, trained_folder  # noqa: F401

from flame_nerf.motion import load_motion

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(browser, trained_folder, tmp_path_factory) -> Path:  # noqa: F811
    """The config.yml of a trained run. Without a browser nothing is trained."""
    return shutil.copytree(trained_folder, tmp_path_factory.mktemp("browser") / "run") / RUN / "config.yml"


@pytest.fixture(scope="module")
def address(config, tmp_path_factory):
    """A running ns-viewer's address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("viewer") / "viewer.log"
    command = ["ns-viewer", "--load-config", str(config), "--viewer.websocket-port", str(port)]
    with log.open("w") as stream:
        viewer = commands.start(command, stream.fileno(), stream.fileno(), cwd=config.parents[4])
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


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One browser for all tests: starting one takes longer than most of them."""
    profile = tmp_path_factory.mktemp("browser") / "profile"
    driver = start_browser(profile, "--disable-gpu", "--window-size=1000,800")
    yield driver
    driver.quit()


@pytest.fixture
def page(address, browser):
    """The avatar's page, newly opened, with its head on it."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(address)
    WebDriverWait(browser, PATIENCE).until(lambda driver: driver.find_elements("xpath", "//label[.='Frame']"))
    WebDriverWait(browser, PATIENCE).until(lambda driver: "Connected" in words(driver))
    return browser


def test_the_head_appears_and_moves_with_the_sliders(page):
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    shut = settled(page, is_head, "no head on white appeared")
    assert "Step:" not in words(page) and "Pause Training" not in words(page), "nothing trains here"
    assert re.search(r"Trust \d\.\d\d", words(page)), "how far the picture is to be trusted"

    slider(page, "Frame").send_keys(Keys.HOME + Keys.ARROW_RIGHT * OPEN_FRAME)
    opened = settled(page, unlike(shut), "the frame slider changed nothing")

    slider(page, "Open").send_keys(Keys.ARROW_RIGHT + Keys.HOME)
    shut_by_slider = settled(page, unlike(opened), "the expression slider shut nothing")
    slider(page, "Open").send_keys(Keys.END)
    opened_by_slider = settled(page, unlike(shut_by_slider), "the expression slider opened nothing")

    assert difference(shut_by_slider, shut) < 0.5 * difference(shut_by_slider, opened), "shut is shut, either way"
    # That frame turns the jaw joint too, which the slider leaves at rest: alike, not the same.
    assert difference(opened_by_slider, opened) < difference(opened_by_slider, shut), "open is open, either way"

    box = page.find_element("xpath", "//label[.='Play']/ancestor::*[.//input[@type='checkbox']][1]//input")
    box.click()
    WebDriverWait(page, PATIENCE).until(
        lambda driver: slider(driver, "Frame").get_attribute("aria-valuenow") not in ("0", str(OPEN_FRAME))
    )
    box.click()


def test_a_take_is_recorded_saved_loaded_and_filmed(page, config, tmp_path):
    """Three faces of it at three keyframes: the mouth shut, open and half open; through Nerfstudio's own player."""
    from selenium.webdriver.common.keys import Keys

    slider(page, "Open").send_keys(Keys.HOME)
    shut = settled(page, is_head, "no head on white appeared")
    press(page, "Motion")
    press(page, "Record")
    says(page, "Recording")
    press(page, "Face")
    slider(page, "Open").send_keys(Keys.END)
    time.sleep(1.5)
    opened = settled(page, unlike(shut), "the expression slider opened nothing")
    press(page, "Motion")
    press(page, "Stop recording")
    says(page, "Name it, and save it")
    write(page, "Name", "wide open")
    press(page, "save")
    says(page, "Saved:")
    saved = config.parent / "motions" / "wide open.npz"
    motion = load_motion(saved)
    assert motion.column("jawOpen")[0] == 0 and motion.column("jawOpen")[-1] == 1 and motion.seconds > 1.4

    wrong = tmp_path / "wrong.csv"
    wrong.write_text("time,jawOpen\n0,nothing\n")
    page.find_element("css selector", "input[type=file]").send_keys(str(wrong))
    says(page, "Not done. wrong.csv")

    # It comes back as another browser's file, and plays what was recorded.
    page.find_element("css selector", "input[type=file]").send_keys(str(shutil.copy(saved, tmp_path / "again.npz")))
    says(page, f"again.npz: {len(motion)} moments")
    press(page, "Render")
    clear_keyframes(page)
    shown = []

    def keyframe(looks_right, complaint: str) -> None:
        settled(page, looks_right, complaint)
        shown.append(square(whole_view(page)))
        press(page, "Add Keyframe")
        time.sleep(0.5)

    keyframe(lambda view: difference(view, shut) < 0.3 * difference(opened, shut), "its first moment is shut")
    slider(page, "Frame").send_keys(Keys.END)
    keyframe(lambda view: difference(view, opened) < 0.3 * difference(opened, shut), "its last one is open")
    press(page, "Face")
    write(page, "Search", "Open")
    says(page, "1 found")
    # Written and not slid: every step of a slider is a picture of its own.
    number = "//*[normalize-space()='1 found']/following::input[not(@type='hidden')][1]"
    page.find_element("xpath", number).send_keys(Keys.CONTROL + "a" + Keys.NULL + "0.5" + Keys.ENTER)
    keyframe(unlike(opened), "the expression slider shut nothing")
    _film_shows(page, config, tmp_path, shown)


def _film_shows(page, config: Path, folder: Path, shown: list[np.ndarray]) -> None:
    """A film along the page's three keyframes has the pictures that the page showed at them."""
    from selenium.webdriver.support.ui import WebDriverWait

    paths = config.parents[4] / "subject" / "camera_paths"
    write(page, "Render name", "three faces")
    press(page, "Generate Command")
    path = paths / "three faces.json"
    WebDriverWait(page, PATIENCE).until(lambda driver: path in [film["path"] for film in films(paths)])
    press(page, "Close")

    film = json.loads(path.read_text())
    entries = film["camera_path"]
    assert (path.parent / film["motion"]).is_file() and len(entries) > 10
    # A film of three pictures shows what is at the keyframes.
    film["camera_path"] = [entries[0], entries[len(entries) // 2], entries[-1]]
    path.write_text(json.dumps(film | {"render_width": 144, "render_height": 96, "seconds": 1.0}))
    command = ["ns-render", "camera-path", "--load-config", str(config), "--camera-path-filename", str(path)]
    command += ["--output-path", str(folder / "film"), "--output-format", "images", "--image-format", "png"]
    done = commands.run(*command, cwd=config.parents[4])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    pictures = sorted((folder / "film").glob("*.png"))
    filmed = [square(np.asarray(Image.open(name).convert("RGB"), dtype=float) / 255) for name in pictures]
    apart = np.array([[difference(one, other) for other in shown] for one in filmed])
    assert (apart.argmin(axis=1) == np.arange(3)).all(), apart
    between = np.array([[difference(one, other) for other in shown] for one in shown])
    # A film's outlines are smoother than a page's, which tells in pictures as small as these.
    assert (apart.diagonal() < 0.7 * between[between > 0].min()).all(), (apart, between)


def test_two_browsers_share_the_face_and_say_so(page, address):
    page.execute_script(f"window.open('{address}')")
    first, second = page.window_handles
    # A page that nobody looks at is not drawn anew.
    for window in (second, first):
        page.switch_to.window(window)
        says(page, "2 browsers show this head")
    page.switch_to.window(second)
    page.close()
    page.switch_to.window(first)


def test_camera_paths_of_two_and_of_three_keyframes(page, config):
    from nerfstudio.cameras.camera_paths import get_path_from_json
    from selenium.webdriver.support.ui import WebDriverWait

    folder = config.parents[4] / "subject" / "camera_paths"
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
        return next((film for film in films(folder) if len(film["keyframes"]) == count), None)

    clear_keyframes(page)
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
