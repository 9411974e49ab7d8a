"""Pictures and views: the rays of a camera or of anybody's bundle, and their rendering."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor

from flame_nerf.motion import PosedFrame
from flame_nerf.refinement import PoseRefinement
from flame_nerf.render.antialias import averaged, outline_pixels, places_within
from flame_nerf.render.compositing import lit
from flame_nerf.render.conditioning import Conditioning
from flame_nerf.render.moments import Timeline
from flame_nerf.render.renderer import Renderer
from flame_nerf.render.step_rays import Moments, StepRays
from flame_nerf.render.surface_outputs import Outputs, surface_outputs


def camera_rays(
    camera: Cameras,
    moments: Moments,
    pose: PoseRefinement,
    background: Float[Tensor, "HW 3"] | Float[Tensor, " 3"],
    correction: Float[Tensor, " 6"] | None = None,
    places: Float[Tensor, "R 2"] | None = None,
) -> StepRays:
    """Rays of a camera's pixels, row by row, or of places in its picture, the track's error corrected.

    Args:
        camera: one camera. Only a dataset's own ("frame_idx" in its metadata) is corrected, and with "as_tracked"
            there not even that.
        moments: the one that it shows.
        pose: corrects it.
        background: behind each ray, or behind all.
        correction: a further one of the dataset's camera, as `PoseRefinement.correct_tracked_camera` takes it; by
            default "pose_correction" of its metadata. Differentiable in it.
        places: rows and columns in the picture, pixels; the middle of the first pixel is 0.5, 0.5. None: the middles of
            all.
    """
    metadata = camera.metadata or {}
    correction = metadata.get("pose_correction") if correction is None else correction
    origins, directions = _pinhole_rays(camera.to(pose.centre.device), places)
    if "frame_idx" in metadata and "as_tracked" not in metadata:
        timestep = int(torch.as_tensor(metadata["frame_idx"]).flatten()[0])
        c2w = camera.camera_to_worlds.reshape(3, 4)
        origins, directions = pose.correct_tracked_camera(c2w, timestep, origins, directions, correction)
    mesh_index = torch.zeros(len(origins), dtype=torch.long, device=origins.device)
    return StepRays(moments, mesh_index, origins, directions, background)


def _pinhole_rays(
    camera: Cameras, places: Float[Tensor, "R 2"] | None
) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
    """Origins and unit directions of one camera's rays.

    Nerfstudio's own, which knows all kinds of cameras, takes a sixth of a picture's time on the CPU: it does what there
    is nothing to be done for here, and several times.
    """
    perspective = int(camera.camera_type.reshape(-1)[0]) == CameraType.PERSPECTIVE.value
    if not perspective or camera.distortion_params is not None:
        rays = camera.generate_rays(camera_indices=0, coords=places, keep_shape=True)
        return rays.origins.reshape(-1, 3), rays.directions.reshape(-1, 3)
    c2w = camera.camera_to_worlds.reshape(3, 4)
    fx, fy, cx, cy = (value.reshape(()) for value in (camera.fx, camera.fy, camera.cx, camera.cy))
    if places is None:
        rows = torch.arange(int(camera.height), device=c2w.device) + 0.5
        columns = torch.arange(int(camera.width), device=c2w.device) + 0.5
        down, right = torch.meshgrid(rows, columns, indexing="ij")
    else:
        down, right = places.unbind(dim=-1)
    x, y = (right.reshape(-1, 1) - cx) / fx, (down.reshape(-1, 1) - cy) / -fy
    directions = torch.nn.functional.normalize(x * c2w[:, 0] + y * c2w[:, 1] - c2w[:, 2], dim=1)
    return c2w[:, 3].expand(len(directions), 3), directions


def unit_rays(
    bundle: RayBundle,
    moments: Moments,
    mesh_index: Int[Tensor, " R"],
    background: Float[Tensor, "R 3"] | Float[Tensor, " 3"],
) -> tuple[StepRays, Float[Tensor, "R 1"]]:
    """Rays of any bundle, which need not be of unit length, and how long they were.

    Rays that are not finite or have no direction stand in the origin, looking forward; their length is 0.
    """
    length = bundle.directions.norm(dim=-1, keepdim=True)
    usable = (bundle.origins.isfinite() & length.isfinite()).all(dim=-1, keepdim=True) & (length > 0)
    forward = torch.tensor([0.0, 0.0, 1.0], device=length.device)
    origins, directions = bundle.origins.where(usable, 0.0), (bundle.directions / length).where(usable, forward)
    rays = StepRays(moments, mesh_index, origins, directions, background.expand(len(origins), 3))
    return rays, length.where(usable, 0.0)


def render_in_parts(
    renderer: Renderer,
    rays: StepRays,
    condition: Float[Tensor, "B D"],
    size: int,
    box: OrientedBox | None = None,
) -> dict[str, Tensor]:
    """What a renderer gives of each ray, `size` of them at a time; what it counts is left out."""
    parts = []
    for start in range(0, max(1, len(rays)), size):
        part = renderer.prepare(rays.part(slice(start, start + size)), renderer.known_empty())
        parts.append(lit(renderer(part, condition, box=box), part.mesh_index, part.moments.gains))
    of_rays = [name for name, values in parts[0].items() if values.ndim == 2]
    return {name: torch.cat([part[name] for part in parts]) for name in of_rays}


def render_picture(
    renderer: Renderer,
    camera: Cameras,
    moments: Moments,
    pose: PoseRefinement,
    background: Float[Tensor, "HW 3"] | Float[Tensor, " 3"],
    condition: Float[Tensor, "B D"],
    size: int,
    box: OrientedBox | None = None,
    smooth: bool = True,
) -> Outputs:
    """A whole picture of a camera.

    Args:
        camera, moments, pose, background: as of :func:`camera_rays`.
        condition, size, box: as of :func:`render_in_parts`.
        smooth: anti-alias the outlines, which takes half as long again.

    Returns:
        on the camera's device, [H, W, ...]: rgb, accumulation, depth and background of :func:`render_in_parts`, and
        those of :func:`surface_outputs`.
    """
    shape = int(camera.height), int(camera.width)
    rays = camera_rays(camera, moments, pose, background)
    outputs = render_in_parts(renderer, rays, condition, size, box)
    surface = surface_outputs(renderer, rays, outputs, shape)
    if smooth:
        outputs |= _finer(renderer, camera, moments, pose, background, condition, size, box, outputs)
    shown = [name for name in ("rgb", "accumulation", "depth", "background") if name in outputs]
    return Outputs({name: outputs[name].view(*shape, -1).to(camera.device) for name in shown} | surface)


def _finer(
    renderer: Renderer,
    camera: Cameras,
    moments: Moments,
    pose: PoseRefinement,
    background: Float[Tensor, "HW 3"] | Float[Tensor, " 3"],
    condition: Float[Tensor, "B D"],
    size: int,
    box: OrientedBox | None,
    outputs: dict[str, Tensor],
) -> dict[str, Tensor]:
    """A picture's outputs with more rays at its outlines; empty where it has none."""
    width = int(camera.width)
    pixels = outline_pixels(outputs["accumulation"].view(-1, width))
    if len(pixels) == 0:
        return {}
    places = places_within(pixels, width)
    if background.ndim == 2:
        background = background[pixels.repeat_interleave(len(places) // len(pixels))]
    rays = camera_rays(camera, moments, pose, background, places=places)
    finer = averaged(render_in_parts(renderer, rays, condition, size, box))
    return {name: outputs[name].index_copy(0, pixels, values) for name, values in finer.items()}


def along_bundle(
    outputs: dict[str, Tensor], renderer: Renderer, rays: StepRays, length: Float[Tensor, "R 1"]
) -> dict[str, Tensor]:
    """Outputs of :func:`unit_rays` for the bundle as it was given.

    Args:
        outputs: of each ray.
        renderer: knows the surface.
        rays, length: of :func:`unit_rays`.

    Returns:
        The outputs, depth in lengths of the bundle's directions, and with normals [R, 3] from 0 to 1 where the method
        has a mesh, 0.5 where nothing is hit. Rays of length 0 meet nothing.
    """
    normals = renderer.normals(rays, outputs["depth"])
    if normals is not None:
        normals = (0.5 + 0.5 * normals.where(outputs["accumulation"] > 0, 0.0)).clamp(0, 1)
        outputs = outputs | {"normals": normals}
    outputs = outputs | {"depth": outputs["depth"] / length}
    nothing = {name: outputs[name].where(length > 0, 0.0) for name in ("accumulation", "depth")}
    behind = 0.0 if rays.background is None else rays.background
    return outputs | nothing | {"rgb": torch.where(length > 0, outputs["rgb"], behind)}


class TrainingViews:
    """Renders the moments of training frames from anywhere on the plain background, for losses on whole views.

    Terms on whole views are rare and steep. In the networks, which all of the head shares, they would fill Adam's
    second moments, and slow down what the pictures teach: of a field with a hash grid they reach that alone.
    """

    def __init__(
        self,
        timeline: Timeline,
        renderer: Renderer,
        conditioning: Conditioning,
        pose: PoseRefinement,
        c2w: Float[Tensor, "N 3 4"],
        background: Float[Tensor, " 3"],
    ):
        """
        Args:
            timeline, renderer, conditioning, pose: the model's.
            c2w: cameras of the training frames, head frame, OpenGL axes.
            background: colour behind the head.
        """
        self.c2w = c2w
        self._timeline, self._renderer, self._conditioning = timeline, renderer, conditioning
        self._pose, self._background = pose, background

    def render(
        self,
        step: int,
        frame: int,
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        shown: PosedFrame | None = None,
    ) -> dict[str, Tensor]:
        """Outputs of the renderer, with the rays (origins, directions) after correction. Differentiable in the field
        alone; of one with a hash grid, in that alone.

        Args:
            step: of the training.
            frame: index of the training frame.
            origins, directions: of the view's rays as tracked.
            shown: a face to show instead of the frame's, with the condition that a picture of it would have.
        """
        timestep = int(self._timeline.train_timesteps[frame])
        with torch.no_grad():
            rays = self._pose.correct_tracked_camera(self.c2w[frame], timestep, origins, directions)
        moments = self._timeline.at([timestep], step) if shown is None else self._timeline.of_frame(shown)
        condition = self._conditioning(moments).detach()
        moments = replace(moments, shift=moments.shift and moments.shift.detach())
        mesh_index = torch.zeros(len(origins), dtype=torch.long, device=origins.device)
        with self._renderer.networks_held():
            view = StepRays(moments, mesh_index, *rays, self._background, novel=True)
            view = self._renderer.prepare(view, self._renderer.known_empty(step))
            outputs = self._renderer(view, condition, step)
        return outputs | dict(zip(("origins", "directions"), rays, strict=True))
