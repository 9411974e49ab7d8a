"""Films: camera paths around the head, rendered pictures, mp4 files, and comparisons with the truth."""

from flame_nerf.film.encoder import FilmWriter, find_ffmpeg, provide_ffmpeg
from flame_nerf.film.files import FilmError
from flame_nerf.film.paths import mean_camera, orbit_cameras, play_times, write_camera_path
from flame_nerf.film.pictures import contact_sheet, write_png
from flame_nerf.film.rendering import render_film, render_pictures, side_by_side
from flame_nerf.film.takes import film_held_out, film_motion, film_orbit, film_sweep

__all__ = [
    "FilmError",
    "FilmWriter",
    "contact_sheet",
    "film_held_out",
    "film_motion",
    "film_orbit",
    "film_sweep",
    "find_ffmpeg",
    "mean_camera",
    "orbit_cameras",
    "play_times",
    "provide_ffmpeg",
    "render_film",
    "render_pictures",
    "side_by_side",
    "write_camera_path",
    "write_png",
]
