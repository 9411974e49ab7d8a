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
from flame_nerf.motion import load_motion
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


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One browser for all tests: starting one takes longer than most of them."""
    selenium = pytest.importorskip("selenium.webdriver")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('browser') / 'profile'}"):
        options.add_argument(flag)
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
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


def words(page) -> str:
    """What the page says; read in one go, as it is written anew all the time."""
    return page.execute_script("return document.body.innerText")


def whole_view(page) -> np.ndarray:
    """The page's 3D view [H, W, 3], 0 to 1."""
    shot = np.asarray(Image.open(io.BytesIO(page.get_screenshot_as_png())).convert("RGB"), dtype=float) / 255
    # One canvas reaches under the control panel, the one with the picture ends beside it.
    view = min((canvas.rect for canvas in page.find_elements("css selector", "canvas")), key=lambda r: r["width"])
    left, top, width, height = (int(view[side]) for side in ("x", "y", "width", "height"))
    return shot[top : top + height, left : left + width]


def picture(page) -> np.ndarray:
    """The middle of the page's 3D view [H, W, 3], 0 to 1."""
    view = whole_view(page)
    height, width = view.shape[:2]
    return view[height // 8 : height - height // 8, width // 8 : width - width // 8]


def slider(page, label: str):
    """The handle of the slider with this label."""
    row = f"//label[normalize-space()='{label}']/ancestor::*[.//*[@role='slider']][1]"
    return page.find_element("xpath", f"{row}//*[@role='slider']")


def full_size(page) -> bool:
    """Whether the picture on show is the sharp one, that follows the coarse ones of a moving view."""
    size = re.search(r"Resolution: (\d+)x(\d+)px", words(page))
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
    # Frame 10 turns the jaw joint too, which the slider leaves at rest: alike, not the same.
    assert difference(opened_by_slider, opened) < difference(opened_by_slider, shut), "open is open, either way"

    box = page.find_element("xpath", "//label[.='Play']/ancestor::*[.//input[@type='checkbox']][1]//input")
    box.click()
    WebDriverWait(page, PATIENCE).until(
        lambda driver: slider(driver, "Frame").get_attribute("aria-valuenow") not in ("0", str(OPEN_FRAME))
    )
    box.click()


def field(page, label: str):
    """The text field with this label."""
    return page.find_element("xpath", f"//label[normalize-space()='{label}']/following::input[1]")


def write(page, label: str, text: str) -> None:
    """Set a text field."""
    from selenium.webdriver.common.keys import Keys

    # The null key lets go of Control.
    field(page, label).send_keys(Keys.CONTROL + "a" + Keys.NULL + Keys.DELETE + text)
    # The page sends what is written at most twenty times a second, and of several fields only the last.
    time.sleep(0.5)


def says(page, text: str) -> None:
    """Waits until the page says this."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(page, PATIENCE).until(lambda driver: text in words(driver), f"{text!r} is not in {words(page)!r}")


def test_a_take_is_recorded_saved_and_loaded(page, config, tmp_path):
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

    # It comes back as another browser's file, and plays what was recorded.
    page.find_element("css selector", "input[type=file]").send_keys(str(shutil.copy(saved, tmp_path / "again.npz")))
    says(page, f"again.npz: {len(motion)} moments")
    settled(page, lambda view: difference(view, shut) < 0.3 * difference(opened, shut), "its first moment is shut")
    slider(page, "Frame").send_keys(Keys.END)
    settled(page, lambda view: difference(view, opened) < 0.3 * difference(opened, shut), "its last one is open")

    wrong = tmp_path / "wrong.csv"
    wrong.write_text("time,jawOpen\n0,nothing\n")
    page.find_element("css selector", "input[type=file]").send_keys(str(wrong))
    says(page, "Not done. wrong.csv")


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


def films(folder: Path) -> list[dict]:
    """Camera paths that the page has written whole."""
    found = []
    for path in folder.glob("*.json"):
        with contextlib.suppress(json.JSONDecodeError):
            found.append(json.loads(path.read_text()) | {"path": path})
    return [film for film in found if "motion" in film]


def square(picture: np.ndarray) -> np.ndarray:
    """The middle of a picture, small: what films and pages of one field of view from top to bottom share."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = Image.fromarray((picture[top : top + side, left : left + side] * 255).astype(np.uint8))
    return np.asarray(middle.resize((48, 48), Image.Resampling.BOX), dtype=float) / 255


def clear_keyframes(page) -> None:
    """Take away the keyframes that another test has set."""
    press(page, "Clear Keyframes")
    press(page, "Yes")
    time.sleep(0.5)


def test_a_film_shows_the_faces_of_its_keyframes(page, config, tmp_path):
    """The mouth shut, open and half open; through Nerfstudio's own player."""
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    folder = config.parents[4] / "subject" / "camera_paths"
    press(page, "neutral")
    press(page, "Render")
    clear_keyframes(page)
    shown = []
    write(page, "Search", "Open")
    says(page, "1 found")
    # Written and not slid: every step of a slider is a picture of its own.
    number = "//*[normalize-space()='1 found']/following::input[not(@type='hidden')][1]"
    for value in ("0", "1", "0.5"):
        page.find_element("xpath", number).send_keys(Keys.CONTROL + "a" + Keys.NULL + value + Keys.ENTER)
        time.sleep(1.0)
        settled(page, is_head, "no head on white appeared")
        shown.append(square(whole_view(page)))
        press(page, "Add Keyframe")
        time.sleep(0.5)
    write(page, "Render name", "three faces")
    press(page, "Generate Command")
    path = folder / "three faces.json"
    WebDriverWait(page, PATIENCE).until(lambda driver: path in [film["path"] for film in films(folder)])
    press(page, "Close")

    film = json.loads(path.read_text())
    entries = film["camera_path"]
    assert (path.parent / film["motion"]).is_file() and len(entries) > 10
    # A film of three pictures shows what is at the keyframes.
    film["camera_path"] = [entries[0], entries[len(entries) // 2], entries[-1]]
    path.write_text(json.dumps(film | {"render_width": 144, "render_height": 96, "seconds": 1.0}))
    command = [program("ns-render"), "camera-path", "--load-config", str(config), "--camera-path-filename", str(path)]
    command += ["--output-path", str(tmp_path / "film"), "--output-format", "images", "--image-format", "png"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    pictures = sorted((tmp_path / "film").glob("*.png"))
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
