"""An avatar's page in a browser: what it says and shows, and hands on its sliders, fields and buttons."""

import contextlib
import io
import json
import re
import time
from pathlib import Path

import numpy as np
from browsers import PATIENCE
from PIL import Image

from flame_nerf.viewer.panel import CPU_RESOLUTION


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
