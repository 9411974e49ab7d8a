"""Everybody's cameras as ours, and other ways in which they could have been meant."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from data_tools.importers.config import ImportingError
from flame_nerf.geometry import in_front, perspective, polar_rotation

Axes = Literal["opengl", "opencv", "pytorch3d"]
AXES = {
    "opengl": np.diag([1.0, 1.0, 1.0, 1.0]),
    "opencv": np.diag([1.0, -1.0, -1.0, 1.0]),
    "pytorch3d": np.diag([-1.0, 1.0, -1.0, 1.0]),
}
"""Camera axes against OpenGL's (x right, y up, z backward): OpenCV's are x right, y down, z forward; PyTorch3D's x
left, y up, z forward. Each is its own inverse."""
AXES_WORDS = {
    "opengl": "OpenGL (x right, y up, looking along -z)",
    "opencv": "OpenCV (x right, y down, looking along z)",
    "pytorch3d": "PyTorch3D (x left, y up, looking along z)",
}
LOOSE = 0.02
"""Largest |R Rt - I| that is taken for rounding and mended; more is scale or shear."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera as subjects store it."""

    fl_x: float
    fl_y: float
    cx: float
    cy: float
    """Pixels, 0 at the left and upper edge."""
    width: int
    height: int
    c2w: Float[np.ndarray, "4 4"]
    """Camera-to-world, OpenGL axes, metres."""

    def project(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 2"]:
        """World points to pixels; NaN behind the camera."""
        # Not by `geometry.project`: a camera on trial may be no rigid motion.
        camera = (points - self.c2w[:3, 3]) @ np.linalg.inv(self.c2w[:3, :3]).T @ AXES["opencv"][:3, :3]
        return perspective(in_front(camera), self.intrinsics[:2], self.intrinsics[2:])

    def resized(self, size: tuple[int, int]) -> Camera:
        """The same camera for its picture at width x height."""
        x, y = size[0] / self.width, size[1] / self.height
        return Camera(self.fl_x * x, self.fl_y * y, self.cx * x, self.cy * y, *size, self.c2w)

    def in_world(self, new_from_old: Float[np.ndarray, "4 4"]) -> Camera:
        """The same camera after the world was carried elsewhere."""
        return dataclasses.replace(self, c2w=new_from_old @ self.c2w)

    @property
    def intrinsics(self) -> tuple[float, float, float, float]:
        return self.fl_x, self.fl_y, self.cx, self.cy


def camera_of(
    intrinsics: tuple[float, float, float, float],
    size: tuple[int, int],
    w2c: Float[np.ndarray, "4 4"],
    axes: Axes,
    where: str,
) -> tuple[Camera, tuple[str, ...]]:
    """A camera from world-to-camera in some axes, with focal lengths of either sign.

    With x_c, y_c along the stated axes and depth d along the view, u = fl_x x / d + cx and v = fl_y y / d + cy hold for
    OpenCV's axes; for the others x and y are first turned into OpenCV's. A negative focal length is the same camera as
    a positive one whose pose is mirrored along that axis.

    Args:
        intrinsics: fl_x, fl_y, cx, cy in pixels, signed as they act on OpenCV's x and y.
        w2c: may be mirrored where a focal length is negative.

    Returns:
        The camera, and what signs were turned.

    Raises:
        ImportingError: no rigid pose, or a mirrored one that no sign explains.
    """
    fl_x, fl_y, cx, cy = intrinsics
    opencv_from_world = AXES["opencv"] @ AXES[axes] @ w2c
    turned = []
    for row, (name, focal) in enumerate((("fl_x", fl_x), ("fl_y", fl_y))):
        if focal < 0:
            opencv_from_world[row] *= -1
            turned.append(f"{name} negative")
    rotation = opencv_from_world[:3, :3]
    off = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if not off < LOOSE:
        raise ImportingError(
            f"{where}: the camera's rotation is off by {off:.2g}, so it holds scale or shear. Divide the scale out."
        )
    if np.linalg.det(rotation) < 0:
        raise ImportingError(
            f"{where}: the camera's pose is mirrored (its determinant is -1) and no sign of the focal lengths "
            f"({fl_x:g}, {fl_y:g}) accounts for it. One axis or one focal length lost its sign: negate it in the data."
        )
    if not (fl_x and fl_y and np.isfinite(intrinsics).all()):
        raise ImportingError(f"{where}: focal lengths and centre are {intrinsics}; focal lengths must not be zero.")
    c2w = np.eye(4)
    c2w[:3, :3] = polar_rotation(rotation).T
    c2w[:3, 3] = -c2w[:3, :3] @ opencv_from_world[:3, 3]
    return Camera(abs(fl_x), abs(fl_y), cx, cy, *size, c2w @ AXES["opencv"]), tuple(turned)


@dataclass(frozen=True)
class Reading:
    """Another way in which cameras could have been meant."""

    name: str
    """For `--camera-fix`, if `usable`."""
    words: str
    apply: Callable[[Camera], Camera]
    usable: bool = True
    """Whether a subject can be written this way: not where pictures and mesh are each other's mirror image."""


def _posed(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Camera], Camera]:
    return lambda camera: dataclasses.replace(camera, c2w=change(camera.c2w))


def _scaled(scale: float) -> Callable[[Camera], Camera]:
    # A mesh `scale` times as large seen from there is the mesh as it is seen from a `scale` times nearer place.
    return _posed(lambda c2w: np.concatenate([c2w[:, :3], c2w[:, 3:] / [[scale], [scale], [scale], [1.0]]], axis=1))


def _transposed(c2w: np.ndarray) -> np.ndarray:
    result = c2w.copy()
    result[:3, :3] = c2w[:3, :3].T
    return result


_CV, _P3D, _MIRROR = AXES["opencv"], AXES["pytorch3d"], np.diag([-1.0, 1.0, 1.0, 1.0])

READINGS = (
    Reading("opencv-axes", "y and z of the camera turned over (OpenCV's axes taken for OpenGL's, or the other way "
            "round)", _posed(lambda m: m @ _CV)),
    Reading("pytorch3d-axes", "x and z of the camera turned over (PyTorch3D's axes)", _posed(lambda m: m @ _P3D)),
    Reading("x-y-axes", "x and y of the camera turned over (the picture upside down)",
            _posed(lambda m: m @ _CV @ _P3D)),
    Reading("inverse", "world-to-camera and camera-to-world exchanged", _posed(np.linalg.inv)),
    Reading("inverse-opencv", "world-to-camera and camera-to-world exchanged, in OpenCV's axes",
            _posed(lambda m: _CV @ np.linalg.inv(m) @ _CV)),
    Reading("inverse-pytorch3d", "world-to-camera and camera-to-world exchanged, in PyTorch3D's axes",
            _posed(lambda m: _P3D @ np.linalg.inv(m) @ _P3D)),
    Reading("transposed", "the rotation transposed", _posed(_transposed)),
    Reading("transposed-opencv", "the rotation transposed, in OpenCV's axes",
            _posed(lambda m: _transposed(m @ _CV) @ _CV)),
    Reading("transposed-w2c", "the rotation of world-to-camera transposed",
            _posed(lambda m: np.linalg.inv(_transposed(np.linalg.inv(m))))),
    Reading("transposed-w2c-opencv", "the rotation of world-to-camera transposed, in OpenCV's axes",
            _posed(lambda m: np.linalg.inv(_transposed(np.linalg.inv(m @ _CV))) @ _CV)),
    *(Reading(f"scale-{scale:g}", f"the mesh {scale:g} times as large against the camera's distance", _scaled(scale))
      for scale in (4.0, 0.25, 10.0, 0.1, 100.0, 0.01, 1000.0, 0.001)),
    Reading("mirror-x", "the picture mirrored left to right (fl_x or the camera's x lost its sign)",
            lambda c: dataclasses.replace(c, fl_x=-c.fl_x), usable=False),
    Reading("mirror-y", "the picture mirrored top to bottom (fl_y or the camera's y lost its sign)",
            lambda c: dataclasses.replace(c, fl_y=-c.fl_y), usable=False),
    Reading("mirror-mesh", "the mesh mirrored left to right", _posed(lambda m: _MIRROR @ m), usable=False),
    Reading("cx-from-right", "the principal point's x counted from the right edge",
            lambda c: dataclasses.replace(c, cx=c.width - c.cx)),
    Reading("cy-from-below", "the principal point's y counted from the lower edge",
            lambda c: dataclasses.replace(c, cy=c.height - c.cy)),
    Reading("centre", "the principal point in the picture's middle",
            lambda c: dataclasses.replace(c, cx=c.width / 2, cy=c.height / 2)),
    Reading("focal-2", "focal length and centre given for pictures half as large",
            lambda c: dataclasses.replace(c, fl_x=2 * c.fl_x, fl_y=2 * c.fl_y, cx=2 * c.cx, cy=2 * c.cy)),
    Reading("focal-0.5", "focal length and centre given for pictures twice as large",
            lambda c: dataclasses.replace(c, fl_x=c.fl_x / 2, fl_y=c.fl_y / 2, cx=c.cx / 2, cy=c.cy / 2)),
    Reading("swapped", "x and y of focal length and centre exchanged",
            lambda c: dataclasses.replace(c, fl_x=c.fl_y, fl_y=c.fl_x, cx=c.cy, cy=c.cx)),
)  # fmt: skip
"""The usual mistakes."""


def reading_of(name: str) -> Reading:
    """A reading by its name.

    Raises:
        ImportingError: there is none of that name.
    """
    usable = [reading for reading in READINGS if reading.usable]
    for reading in usable:
        if reading.name == name:
            return reading
    raise ImportingError(f"--camera-fix {name}: expected one of {', '.join(reading.name for reading in usable)}.")
