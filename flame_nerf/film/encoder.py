"""Writing films through the ffmpeg that comes as a Python wheel: mp4, and with transparency webm and mov."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8

from flame_nerf.runtime.errors import FilmError
from flame_nerf.runtime.files import cache_folder, whole


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
        folder = cache_folder() / "bin"
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


@dataclass(frozen=True)
class Container:
    """How one kind of film is encoded."""

    encoder: str
    format: str
    opaque: tuple[str, ...]
    """ffmpeg's options of a film of RGB pictures; `{crf}` stands for the quality."""
    transparent: tuple[str, ...] | None
    """Those of RGBA pictures; None: it has no transparency."""
    sound: str
    """Encoder of its sound."""


CONTAINERS = {
    ".mp4": Container(
        "libx264",
        "mp4",
        ("-preset", "medium", "-crf", "{crf}", "-pix_fmt", "yuv420p", "-movflags", "+faststart"),
        None,
        "aac",
    ),
    ".webm": Container(
        "libvpx-vp9",
        "webm",
        ("-crf", "{crf}", "-b:v", "0", "-row-mt", "1", "-pix_fmt", "yuv420p"),
        ("-crf", "{crf}", "-b:v", "0", "-row-mt", "1", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0"),
        "libopus",
    ),
    ".mov": Container(
        "prores_ks",
        "mov",
        ("-profile:v", "hq", "-pix_fmt", "yuv422p10le"),
        ("-profile:v", "4444", "-alpha_bits", "16", "-pix_fmt", "yuva444p10le"),
        "aac",
    ),
}
"""Films by the suffix of their name: H.264, VP9, ProRes."""


@dataclass(frozen=True)
class Sound:
    """The sound track of a film."""

    path: Path
    """A sound file, or a video whose sound is taken."""
    start: float = 0.0
    """Seconds into it at which the film begins."""
    seconds: float | None = None
    """Length of the film: longer sound is cut, shorter goes on in silence. None: all of the sound, as long as it is."""


def has_sound(path: Path) -> bool:
    """Whether a file has a sound track that ffmpeg can read.

    Raises:
        FilmError: there is no ffmpeg.
    """
    about = subprocess.run([find_ffmpeg(), "-hide_banner", "-i", str(path)], capture_output=True, check=False)
    return b"Audio:" in about.stderr


class FilmWriter:
    """A film, frame by frame: ``with FilmWriter(path, fps) as film: film.add(picture)``.

    The file appears under its name only when it is complete; on an error nothing is left behind. Odd sizes are
    extended by repeating the last row or column, as yuv420p needs even ones.
    """

    def __init__(self, path: Path | str, fps: float, crf: int = 16, sound: Sound | None = None) -> None:
        """
        Args:
            path: the film to write, of one of the kinds in `CONTAINERS` (mp4 unless its suffix says another); its
                folder is made.
            fps: frames a second.
            crf: constant rate factor of x264 or VP9, smaller is better and larger.
            sound: what is heard.
        """
        if not fps > 0:
            raise FilmError(f"{path}: {fps} frames a second; give a number above 0")
        self._path = Path(path)
        self._kind = CONTAINERS.get(self._path.suffix.lower(), CONTAINERS[".mp4"])
        self._fps = fps
        self._crf = crf
        self._sound = sound
        self._shape: tuple[int, ...] | None = None
        self._process: subprocess.Popen | None = None
        self.count = 0
        """Frames written so far."""

    def __enter__(self) -> FilmWriter:
        self._ffmpeg = find_ffmpeg()
        with contextlib.ExitStack() as stack, self._refusals_in_words():
            # One name for all runs: what a killed one left goes; its encoder, if still at it, writes to nowhere.
            self._spare = stack.enter_context(whole(self._path, alone=True))
            self._spare.unlink(missing_ok=True)
            self._log = stack.enter_context(tempfile.TemporaryFile())
            stack.callback(self._stop)
            self._closing = stack.pop_all()
        return self

    def add(self, picture: UInt8[np.ndarray, "H W C"]) -> None:
        """Appends one picture, RGB, or RGBA (not premultiplied) where the kind of film has transparency; all of a film
        have one shape.

        Raises:
            FilmError: another size than before, or the encoder has stopped (a full disk, say).
        """
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (3, 4):
            raise FilmError(f"{self._path}: frame {self.count} is {picture.dtype} {picture.shape}, not uint8 [H, W, 3]")
        if picture.shape[2] == 4 and self._kind.transparent is None:
            raise FilmError(f"{self._path}: {self._path.suffix} films are opaque; name it .webm or .mov, or a folder")
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
        transparent = self._shape[2] == 4
        options = self._kind.transparent if transparent else self._kind.opaque
        command = [self._ffmpeg, "-y", "-loglevel", "error", "-f", "rawvideo"]
        command += ["-pix_fmt", "rgba" if transparent else "rgb24"]
        command += ["-s", f"{width}x{height}", "-r", f"{self._fps:g}", "-i", "-"]
        if self._sound is None:
            command += ["-an"]
        else:
            command += [
                "-ss",
                f"{self._sound.start:.6f}",
                "-i",
                str(self._sound.path),
                "-map",
                "0:v:0",
                "-map",
                "1:a:0",
            ]
            command += ["-c:a", self._kind.sound]
            # ffmpeg's -shortest ends some films with a false "no space left" while the padding runs on.
            command += [] if self._sound.seconds is None else ["-af", "apad", "-t", f"{self._sound.seconds:.6f}"]
        command += ["-c:v", self._kind.encoder, *(option.format(crf=self._crf) for option in options)]
        command += ["-f", self._kind.format, str(self._spare)]
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
        if "Unknown encoder" in words:
            words += "; `pip install imageio-ffmpeg` brings an ffmpeg that has it, or give the film another suffix"
        free = shutil.disk_usage(self._path.parent).free
        if "No space left" in words or "Disk quota" in words or free < 1 << 20:
            raise FilmError(
                f"{self._path}: the disk is full after {self.count} frames ({free >> 20} MiB free); make room or "
                "choose another output folder. No film was written"
            )
        raise FilmError(
            f"{self._path}: ffmpeg stopped after {self.count} frames with code {code}: {words or 'no message'}"
        )
