"""Writing mp4 files through the ffmpeg that comes as a Python wheel."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8

from flame_nerf.film.files import FilmError
from flame_nerf.runtime.files import whole


def find_ffmpeg() -> str:
    """Path of an ffmpeg program: the one `imageio-ffmpeg` carries, else the one on PATH.

    Raises:
        FilmError: neither is there.
    """
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        # No wheel, or one without a program for this machine: the system's does as well.
        found = shutil.which("ffmpeg")
    if found is None:
        raise FilmError(
            "no ffmpeg to write films with: `pip install imageio-ffmpeg` brings one (or install ffmpeg from your "
            "system's packages, so that it is on PATH)"
        )
    return found


def provide_ffmpeg() -> None:
    """Makes programs that look for an `ffmpeg` on PATH (Nerfstudio's renderer does) find the wheel's one.

    Does nothing where PATH has one or no wheel is installed. Otherwise links the wheel's program under its usual name
    in the user's cache folder and appends that to this process's PATH.
    """
    if shutil.which("ffmpeg") is not None:
        return
    try:
        program = find_ffmpeg()
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flame_nerf" / "bin"
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / ("ffmpeg.exe" if os.name == "nt" else "ffmpeg")
        if not (link.exists() and link.samefile(program)):
            _link(Path(program), link)
    except (FilmError, OSError, RuntimeError):
        # Nerfstudio has its own message for a missing ffmpeg, and not every command needs one.
        return
    os.environ["PATH"] = os.environ.get("PATH", "") + os.pathsep + str(folder)


def _link(program: Path, link: Path) -> None:
    """Puts `program` at `link`, replacing what is there in one step; a copy where links are not allowed."""
    with whole(link, synced=False) as spare:
        try:
            spare.symlink_to(program)
        except OSError:
            shutil.copy2(program, spare)


class FilmWriter:
    """An H.264 film, frame by frame: ``with FilmWriter(path, fps) as film: film.add(picture)``.

    The file appears under its name only when it is complete; on an error nothing is left behind. Odd sizes are
    extended by repeating the last row or column, as yuv420p needs even ones.
    """

    def __init__(self, path: Path | str, fps: float, crf: int = 16) -> None:
        """
        Args:
            path: the .mp4 to write; its folder is made.
            fps: frames a second.
            crf: x264's constant rate factor, smaller is better and larger.
        """
        if not fps > 0:
            raise FilmError(f"{path}: {fps} frames a second; give a number above 0")
        self._path = Path(path)
        self._fps = fps
        self._crf = crf
        self._shape: tuple[int, ...] | None = None
        self._process: subprocess.Popen | None = None
        self.count = 0
        """Frames written so far."""

    def __enter__(self) -> FilmWriter:
        self._ffmpeg = find_ffmpeg()
        with contextlib.ExitStack() as stack, self._refusals_in_words():
            self._spare = stack.enter_context(whole(self._path))
            self._log = stack.enter_context(tempfile.TemporaryFile())
            stack.callback(self._stop)
            self._closing = stack.pop_all()
        return self

    def add(self, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        """Appends one picture (RGB); all of a film have one size.

        Raises:
            FilmError: another size than before, or the encoder has stopped (a full disk, say).
        """
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise FilmError(f"{self._path}: frame {self.count} is {picture.dtype} {picture.shape}, not uint8 [H, W, 3]")
        if self._shape is None:
            self._shape = picture.shape
            self._start()
        if picture.shape != self._shape:
            raise FilmError(f"{self._path}: frame {self.count} is {picture.shape}, the ones before {self._shape}")
        height, width = picture.shape[:2]
        if height % 2 or width % 2:
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        try:
            self._process.stdin.write(np.ascontiguousarray(picture).data)
        except OSError:
            self._fail()
        self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._closing.__exit__(kind, error, trace)
            return
        with self._refusals_in_words(), self._closing:
            self._finish()

    @contextlib.contextmanager
    def _refusals_in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FilmError(f"{self._path}: the film cannot be put there ({error.strerror or error})") from error

    def _stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        height, width = (size + size % 2 for size in self._shape[:2])
        command = [self._ffmpeg, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
        command += ["-s", f"{width}x{height}", "-r", f"{self._fps:g}", "-i", "-", "-an", "-c:v", "libx264"]
        command += ["-preset", "medium", "-crf", str(self._crf), "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
        command += ["-f", "mp4", str(self._spare)]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._log
            )
        except OSError as error:
            raise FilmError(
                f"{self._path}: ffmpeg at {self._ffmpeg} does not start ({error.strerror}); "
                "`pip install --force-reinstall imageio-ffmpeg`"
            ) from error

    def _finish(self) -> None:
        if self._process is None:
            raise FilmError(f"{self._path}: a film without frames; nothing was written")
        try:
            self._process.stdin.close()
        except OSError:
            self._fail()
        if self._process.wait() != 0:
            self._fail()

    def _fail(self) -> None:
        """Raises with the encoder's own words; says so when they mean a full disk."""
        code = self._process.wait()
        self._log.seek(0)
        words = self._log.read().decode(errors="replace").strip()
        free = shutil.disk_usage(self._path.parent).free
        if "No space left" in words or "Disk quota" in words or free < 1 << 20:
            raise FilmError(
                f"{self._path}: the disk is full after {self.count} frames ({free >> 20} MiB free); make room or "
                "choose another output folder. No film was written"
            )
        raise FilmError(
            f"{self._path}: ffmpeg stopped after {self.count} frames with code {code}: {words or 'no message'}"
        )
