"""Films: camera paths around the head, rendered pictures, mp4 files, and comparisons with the truth."""

from flame_nerf.film.camera_path import CameraPath, read_camera_path
from flame_nerf.film.encoder import FilmWriter, Sound, find_ffmpeg, has_sound, provide_ffmpeg
from flame_nerf.film.filming import Take, film_take
from flame_nerf.film.paths import mean_camera, orbit_cameras, play_times, write_camera_path
from flame_nerf.film.pictures import contact_sheet, write_png
from flame_nerf.film.rendering import render_film, render_images, side_by_side
from flame_nerf.film.takes import film_held_out, film_motion, film_orbit, film_path, film_sweep
from flame_nerf.runtime.errors import FilmError
from flame_nerf.runtime.film_options import LookConfig

__all__ = [
    "CameraPath",
    "FilmError",
    "FilmWriter",
    "LookConfig",
    "Sound",
    "Take",
    "contact_sheet",
    "film_held_out",
    "film_motion",
    "film_orbit",
    "film_path",
    "film_sweep",
    "film_take",
    "find_ffmpeg",
    "has_sound",
    "mean_camera",
    "orbit_cameras",
    "play_times",
    "provide_ffmpeg",
    "read_camera_path",
    "render_film",
    "render_images",
    "side_by_side",
    "write_camera_path",
    "write_png",
]
