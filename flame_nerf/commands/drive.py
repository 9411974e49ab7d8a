"""``flame-nerf drive``: films of an avatar."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from flame_nerf.commands.performer import Performer
from flame_nerf.runtime.errors import UserError
from flame_nerf.runtime.film_options import LookConfig, TransferConfig

if TYPE_CHECKING:
    from flame_nerf.avatar.loading import Avatar
    from flame_nerf.film import CameraPath, Sound

AvatarPath = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CONFIG|AVATAR.zip")]


@dataclass
class Drive:
    """Film a trained avatar: expressions swept, its own performance, or another's with head and sound, from a still or
    moving camera.

    Examples:
      flame-nerf drive outputs/me/flame-nerf/2026-01-31_120000/config.yml --sweep jawOpen mouthSmileLeft
      flame-nerf drive avatar.zip --motion subjects/ada --side-by-side
      flame-nerf drive avatar.zip --motion take.csv --sound take.mov --background white
      flame-nerf drive avatar.zip --motion take.npz --background transparent --format mov --width 512
      flame-nerf drive avatar.zip --camera-path path.json --width 960

    An interrupted film is gone on with by the same command. Until it is whole its pictures lie as PNGs in a hidden
    folder beside it: some 0.1 MB each at 256x256, up to 12 MB at 3840x2160. Where the disk has no room for them that is
    said, and the film is made in one go.
    """

    config: AvatarPath
    """The config.yml of a training run, or a file that `flame-nerf pack` wrote."""
    output: Path = Path("outputs/films")
    """The film to write (.mp4, .webm, .mov), or a folder for it, where it is named after what it shows; a contact sheet
    goes beside it, and a table (.trust.csv) of how well training saw what each frame shows."""
    format: Literal["mp4", "webm", "mov", "png"] | None = None
    """Kind of film: H.264, VP9, ProRes, or a folder of numbered PNGs. Unless given: what --output ends in, else mp4, or
    webm where the background is transparent."""
    data: Path | None = None
    """The subject's folder, where it was moved and is not found beside or above the run."""
    sweep: tuple[str, ...] = ()
    """Sweep these expressions of the head model, one after the other, from nothing to a little more than the video
    showed, and back."""
    motion: Path | None = None
    """Perform this, as long and at the rate that it is: another subject's folder, a motion file, Live Link Face's or
    another CSV, LAM's JSON, or a video, which is tracked first."""
    orbit: bool = False
    """Turn the camera around the head instead of keeping it still."""
    orbit_yaw: float | None = None
    """Degrees that --orbit turns to either side. Unless given, 10 beyond what the training frames saw of that side, at
    most 30: farther, sides come into view that no frame showed."""
    camera_path: Path | None = None
    """Film along this camera path, which the viewer writes under Render, Generate Command: the faces of its keyframes,
    or of its times in the avatar's own performance, as long and at the rate that the page showed; or --motion's or
    --sweep's. The picture has the path's shape, and its longer side 256 pixels unless --width or --height say more."""
    path_timing: Literal["stretch", "hold"] = "stretch"
    """How --camera-path goes with --motion or --sweep. stretch: from its first camera to its last over the whole film.
    hold: at its own rate, then it stands at its last camera (a looped path starts over)."""
    frames: int | None = None
    """Pictures in the film. By default the whole performance, its own or --motion's, and 100 for each sweep. --motion
    gives as many as it has at most; the avatar's own performance goes back again and on where more are asked for."""
    side_by_side: bool = False
    """Show the performer's pictures left of the avatar's, where --motion is a subject or a video."""
    sound: Path | None = None
    """Video or sound file that is heard. Unless given, that of --motion's video, where it lies beside the motion."""
    head_units: Literal["radians", "degrees", "quarter-turns"] | None = None
    """What the angles in a CSV are in. Unless given, their range tells, and what was taken for granted is said."""
    look: tyro.conf.OmitArgPrefixes[LookConfig] = field(default_factory=LookConfig)
    transfer: tyro.conf.OmitArgPrefixes[TransferConfig] = field(default_factory=TransferConfig)

    def run(self) -> None:
        from flame_nerf.avatar.loading import open_avatar
        from flame_nerf.film.destinations import sheet_beside

        if self.sweep and self.motion:
            raise UserError("--sweep and --motion both say what the face does; give one of them")
        if self.frames is not None and self.frames < 1:
            raise UserError(f"--frames is {self.frames}; give at least 1")
        if self.format is not None and self.output.suffix and not self.output.is_dir():
            raise UserError(f"--format and the name {self.output} both say what to write; give only one")
        if self.orbit_yaw is not None and not 0 < self.orbit_yaw <= 180:
            raise UserError(f"--orbit-yaw is {self.orbit_yaw:g}; give degrees above 0 and up to 180")
        if self.camera_path and (self.orbit or self.orbit_yaw is not None):
            raise UserError("--camera-path and --orbit both say where the camera goes; give one of them")
        self.look.check()
        self.transfer.check()
        along = self._along()
        # What cannot be read is said before the avatar is loaded.
        performer = Performer.of(self.motion, self.head_units, self.side_by_side) if self.motion else None
        if self.side_by_side and (performer is None or performer.subject is None):
            raise UserError("--side-by-side shows a performer's pictures: give --motion a subject's folder or a video")
        sound = self._sound(performer)
        with open_avatar(self.config, self.data) as avatar:
            self._film(avatar, performer, along, sound)
        print(f"film: {self.film}\nsheet: {sheet_beside(self.film)}")

    def _along(self) -> CameraPath | None:
        from flame_nerf.film import read_camera_path

        along = None if self.camera_path is None else read_camera_path(self.camera_path, self.path_timing)
        if along is not None and along.times is None and not self.sweep and not self.motion:
            raise UserError(along.without_times)
        if along is not None and along.cropped:
            print(f"{along.file}: its crop box is left out; a film shows the whole head (ns-render crops)")
        return along

    def _film(self, avatar: Avatar, performer: Performer | None, along: CameraPath | None, sound: Sound | None) -> None:
        from flame_nerf.film import film_motion, film_orbit, film_path, film_sweep
        from flame_nerf.runtime.contents import named_by_contents
        from flame_nerf.training.records import subject_hash

        pipeline, film = avatar.load(), self.film
        model = pipeline.model
        if along is not None:
            along.check_avatar(model.motion, model.subject.root.name, motion_given=bool(self.sweep or performer))
        beside = performer.subject if performer is not None and self.side_by_side else None
        motion = None if performer is None else performer.motion
        shown = self.sweep, motion, self.transfer, None if beside is None else subject_hash(beside)
        made_of = named_by_contents(avatar.contents, *shown)
        options: dict[str, Any] = {"look": self.look, "sound": sound, "made_of": made_of}
        yaw_deg = self.orbit_yaw if self.orbit or self.orbit_yaw is not None else 0.0
        camera: dict[str, Any] = {"yaw_deg": yaw_deg, "along": along}
        if self.sweep:
            film_sweep(pipeline, self.sweep, film, self.frames, **camera, **options)
        elif performer is not None:
            more = {"transfer": self.transfer, "beside": beside}
            film_motion(pipeline, performer.motion, film, self.frames, **more, **camera, **options)
        elif along is not None:
            film_path(pipeline, along, film, self.frames, **options)
        else:
            film_orbit(pipeline, film, self.frames, **camera, **options)

    def _sound(self, performer: Performer | None) -> Sound | None:
        """What is heard: what was asked for, or the performer's own where its file is found and has any."""
        from flame_nerf.film import Sound, has_sound

        start = 0.0 if performer is None else performer.motion.provenance.sound_start
        if self.sound is not None:
            if not self.sound.is_file() or not has_sound(self.sound):
                raise UserError(f"--sound {self.sound}: {'no sound in it' if self.sound.is_file() else 'no such file'}")
            return Sound(self.sound, start)
        if performer is None or performer.sound is None or self.kind == "png" or not has_sound(performer.sound):
            return None
        print(f"sound: {performer.sound}")
        return Sound(performer.sound, start)

    @property
    def kind(self) -> str:
        """mp4, webm, mov, or png for a folder of pictures."""
        if self.format is not None:
            return self.format
        if self.output.suffix and not self.output.is_dir():
            return self.output.suffix[1:].lower()
        return "webm" if self.look.transparent else "mp4"

    @property
    def film(self) -> Path:
        """The film's own name: `output` where that is a film's, else a file, or a folder of PNGs, in that folder."""
        if self.output.suffix and not self.output.is_dir():
            return self.output
        along = self.camera_path.stem if self.camera_path else ""
        shown = "-".join(self.sweep) or (self.motion.resolve().stem if self.motion else "" if along else "performance")
        camera = "orbit" if self.orbit or self.orbit_yaw is not None else along
        name = "-".join(filter(None, (shown, camera)))
        return self.output / (name if self.kind == "png" else f"{name}.{self.kind}")
