"""From a phone's packet to a changed picture on the page, the rate and size of pictures while the face moves, and how
soon the sharp one is there once it rests: seen from inside the page of `flame-nerf live`, which is the viewer's.

    python benchmarks/live_delay.py outputs/…/config.yml

Starts the page and a headless Chromium (apt: chromium-driver; selenium from the development dependencies), sends Live
Link Face's packets 30 times a second over loopback and moves the jaw in steps. Counted from the packet with the new jaw
to the moment at which the page hands the first picture that shows it to its graphics: no picture is taken of the page,
which would itself take a while. Everything shares this machine's cores.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from flame_nerf.viewer.live.packets import PACKET_NAMES
from flame_nerf.viewer.panel import CPU_RESOLUTION

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))

RATE = 30
"""Packets a second."""
STILL, FOLLOWED = 2.5, 2.5
"""Seconds that the face stands before a step, and that the page is looked at after it."""
WIDTH = 24
"""Side of the thumbnails that pictures are told apart by."""
WATCH = """
window.seenPictures = [];
const small = document.createElement("canvas");
small.width = small.height = WIDTH;
const pen = small.getContext("2d", { willReadFrequently: true });
for (const name of ["texImage2D", "texSubImage2D"]) {
  const plain = WebGL2RenderingContext.prototype[name];
  WebGL2RenderingContext.prototype[name] = function (...given) {
    const picture = given.find((x) => x instanceof HTMLImageElement || x instanceof ImageBitmap);
    if (picture && picture.width > 20) {
      const at = performance.timeOrigin + performance.now();
      pen.drawImage(picture, 0, 0, small.width, small.height);
      const values = pen.getImageData(0, 0, small.width, small.height).data;
      window.seenPictures.push([at / 1000, picture.width, picture.height, [...values].filter((_, i) => i % 4 < 3)]);
    }
    return plain.apply(this, given);
  };
}
""".replace("WIDTH", str(WIDTH))


def packet(number: int, jaw: float) -> bytes:
    """A packet of version 6, as the app sends it."""
    row = [jaw if name == "jawOpen" else 0.0 for name in PACKET_NAMES] + [0.0] * 9
    text = b"".join(struct.pack(">i", len(word)) + word.encode() for word in ("7A1B", "phone"))
    return (
        b"\x06"
        + text
        + struct.pack(">ifii", number, 0.0, 60, 1)
        + bytes([len(row)])
        + struct.pack(f">{len(row)}f", *row)
    )


class Phone:
    """Sends packets at a steady rate in a thread of its own."""

    def __init__(self, port: int) -> None:
        self.jaw, self._port, self._stopped = 0.0, port, threading.Event()
        self.changed = threading.Event()
        self.sent = 0.0
        """When the first packet with the present jaw went."""
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def step(self, jaw: float) -> float:
        """Another jaw from the next packet on; answers when that went."""
        self.changed.clear()
        self.jaw = jaw
        self.changed.wait()
        return self.sent

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _send(self) -> None:
        number, last = 0, None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            while not self._stopped.wait(1 / RATE):
                number, jaw = number + 1, self.jaw
                if jaw != last:
                    self.sent = time.time()
                out.sendto(packet(number, jaw), ("127.0.0.1", self._port))
                if jaw != last:
                    last = jaw
                    self.changed.set()


def pictures(page) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, widths and thumbnails of the pictures shown since the last call; without those of the depth."""
    seen = page.execute_script("return window.seenPictures.splice(0)")
    # The head stands on white; a depth picture has noise there.
    seen = [entry for entry in seen if min(entry[3][:3]) > 200]
    times, widths = (np.array([entry[column] for entry in seen]) for column in (0, 1))
    return times, widths, np.array([entry[3] for entry in seen], float).reshape(len(seen), 3 * WIDTH**2)


def delays(page, phone: Phone, steps: int) -> tuple[list[float], float, float]:
    """Seconds from each step's packet to its picture; pictures a second; and their median width."""
    found, widths, count = [], [], 0
    for step in range(steps):
        time.sleep(STILL)
        before = pictures(page)[2][-1]
        sent = phone.step(0.9 if step % 2 == 0 else 0.0)
        time.sleep(FOLLOWED)
        times, wide, thumbnails = pictures(page)
        after = times > sent
        apart = np.abs(thumbnails - before).mean(axis=1)
        changed = after & (apart > 0.5 * np.median(apart[-3:]))
        if not changed.any():
            raise SystemExit("the page showed no other picture: is something else looked at there?")
        found.append(float(times[changed.argmax()] - sent))
        widths += wide[after].tolist()
        count += int(after.sum())
    return found, count / (steps * FOLLOWED), float(np.median(widths))


def settling(page, since: float) -> float:
    """Seconds until the sharp picture of a face that rests."""
    while time.time() < since + 30:
        times, widths, _ = pictures(page)
        sharp = widths >= CPU_RESOLUTION
        if sharp.any():
            return float(times[sharp.argmax()] - since)
        time.sleep(0.1)
    raise SystemExit("no sharp picture came")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--port", type=int, default=7117, help="of the page; the packets' is one higher")
    args = parser.parse_args()
    from browsers import start_browser
    from selenium.webdriver.support.ui import WebDriverWait

    command = [Path(sys.executable).with_name("flame-nerf"), "live", args.config, "--port", args.port]
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "live.log").open("w") as log:
        live = subprocess.Popen([*map(str, command), "--udp-port", str(args.port + 1)], stdout=log, stderr=log)
        phone = page = None
        try:
            while live.poll() is None:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", args.port), timeout=1):
                    break
                time.sleep(0.3)
            else:
                raise SystemExit((Path(folder) / "live.log").read_text()[-1000:])
            page = start_browser(Path(folder) / "profile", "--disable-gpu", "--window-size=1000,800")
            page.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
            page.get(f"http://127.0.0.1:{args.port}")
            phone = Phone(args.port + 1)
            wait = WebDriverWait(page, 240)
            wait.until(lambda driver: driver.execute_script("return window.seenPictures.length") > 5)
            time.sleep(5)
            found, rate, width = delays(page, phone, args.steps)
            phone.stop()
            settled = settling(page, time.time())
        finally:
            if phone is not None:
                phone.stop()
            if page is not None:
                page.quit()
            live.terminate()
            live.wait()
    print("| steps | median, s | largest, s | pictures a second | pixels wide | sharp after, s |\n" + 6 * "|---" + "|")
    print(f"| {len(found)} | {np.median(found):.2f} | {max(found):.2f} | {rate:.1f} | {width:.0f} | {settled:.1f} |")


if __name__ == "__main__":
    main()
