"""Chromium without a window, driven by selenium, for tests that look at a page as a visitor does."""

import shutil
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
PATIENCE = 240.0
"""Seconds to wait for anything: a busy machine is not a failure."""


def start_browser(profile: Path, *flags: str):
    """A driver of a browser with its settings in this new folder; its page's messages are kept. The caller quits it."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs chromium and chromedriver (apt: chromium-driver)")
    selenium = pytest.importorskip("selenium.webdriver")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, *flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
