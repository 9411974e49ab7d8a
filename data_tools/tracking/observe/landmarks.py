"""Where the face is in each picture: one person followed through the video, and 478 points on their face."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from data_tools.runs.pictures import load_picture
from data_tools.tracking.config import TrackingError
from data_tools.tracking.masks.smoothing import smooth_over_time
from data_tools.tracking.observe.framing import Framing
from data_tools.tracking.observe.video import Glimpse

NUM_POINTS = 478
"""MediaPipe's face mesh (468) and irises (10)."""
DETECTION_STRIDE = 5
"""Every n-th picture is searched for faces; between them the box is interpolated."""
ABOVE, BESIDE, BELOW = 1.3, 1.25, 1.4
"""How far from the middle of the detected face the head's surroundings reach, in its widths: hair that stands off by a
third of a face, the back of a head in profile, the neck to below the collar, the shoulders beside it. What the matte is
found in (`matte.REGION`) lies within."""
CROP = 2.0
"""Side of the picture given to the face mesh, in widths of the detected face."""
WARM_UP = 3
"""Pictures looked at before a run of them, because a face found afresh sits a little differently."""
CROP_PIXELS = (256, 640)
"""Smallest and largest side of that picture: small faces are enlarged, because the mesh is found from 192 pixels."""


@dataclass(frozen=True)
class FaceBoxes:
    """One face followed through the video."""

    centre: Float[np.ndarray, "T 2"]
    """Centre of the face in pixels of the stored pictures, x right, y down."""
    size: Float[np.ndarray, " T"]
    """Side of the detected box in pixels."""
    present: Bool[np.ndarray, " T"]
    """Whether the face can be in this picture at all."""


@dataclass(frozen=True)
class FoundFace:
    """Where one face was detected, in every few pictures of the video."""

    film: Int[np.ndarray, "2"]
    """Width and height of the video's pictures."""
    number: Int[np.ndarray, " K"]
    """Of the pictures among the video's own frames, increasing."""
    centre: Float[np.ndarray, "K 2"]
    """Pixels of the video."""
    size: Float[np.ndarray, " K"]
    """Side of the detected box in pixels of the video."""
    others: int
    """How many other faces of at least a quarter its size are in the video for a while."""

    def surroundings(self) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2"]]:
        """Corners of what the head with hair, neck and shoulders takes up over the whole video, pixels of the video."""
        size = self.size[:, None]
        low = (self.centre - size * [BESIDE, ABOVE]).min(axis=0)
        return low, (self.centre + size * [BESIDE, BELOW]).max(axis=0)

    def boxes(self, sources: Sequence[int], framing: Framing) -> FaceBoxes:
        """Where the face is in each of the stored pictures.

        Args:
            sources: number of each of them among the video's own frames, increasing.
        """
        known = np.interp(self.number, sources, np.arange(len(sources)))
        time = np.arange(len(sources), dtype=np.float64)
        centre, size = framing.to_stored(self.centre), self.size * framing.scale
        centre = np.stack([np.interp(time, known, centre[:, axis]) for axis in (0, 1)], axis=1)
        size = np.interp(time, known, size)
        # The mesh decides on pictures near a detection; far from any, the person is not there.
        after = np.searchsorted(known, time)
        behind, ahead = known[np.maximum(after - 1, 0)], known[np.minimum(after, len(known) - 1)]
        gap = np.minimum(np.abs(time - behind), np.abs(time - ahead))
        return FaceBoxes(
            centre=smooth_over_time(centre, time, sigma=DETECTION_STRIDE),
            size=smooth_over_time(size[:, None], time, sigma=5.0 * DETECTION_STRIDE)[:, 0],
            present=gap <= 2 * DETECTION_STRIDE,
        )


@dataclass(frozen=True)
class _Detection:
    centre: tuple[float, float]
    size: float


def no_face(where: str) -> str:
    """What to say where no face was found in any of some pictures."""
    return (
        f"no face was found in any of the {where}. Give a video in which one face looks towards the camera, at least a "
        "twentieth of the picture wide and well lit."
    )


def find_face(pictures: Iterable[Glimpse], person: int = 1) -> FoundFace:
    """Detect faces in every few pictures of a video and follow one of them.

    Args:
        person: which one: 1 the largest and most central, 2 the next of those that are seen at the same time.

    Raises:
        TrackingError: if there is no face in any picture, or not so many.
    """
    mediapipe = solutions()
    numbers: list[int] = []
    found: list[list[_Detection]] = []
    film = (1, 1)
    with mediapipe.face_detection.FaceDetection(model_selection=1, min_detection_confidence=0.5) as detector:
        for seen in pictures:
            numbers.append(seen.number)
            film, scale = seen.film, seen.film[0] / seen.picture.shape[1]
            faces = _detect(detector, seen.picture) or _detect_tiled(detector, seen.picture)
            found.append(
                [_Detection((x * scale, y * scale), one.size * scale) for one in faces for x, y in [one.centre]]
            )
    if not any(found):
        raise TrackingError(no_face(f"{len(numbers)} pictures that were looked at"))
    chains = _follow(found)
    # Whoever is seen for less than half as long as somebody else is cut in, or passes by, however close they come.
    longest = max(map(len, chains))
    chains.sort(key=lambda chain: (2 * len(chain) <= longest, -_prominence(chain, film)))
    chosen = chains[0]
    others = [
        chain
        for chain in chains
        if chain is not chosen and len(chain) >= 2 and _mean_size(chain) > 0.5 * _mean_size(chosen)
    ]
    # A chain that ends where another begins is the same person after a turn away, not a second one.
    simultaneous = [chain for chain in others if set(chain) & set(chosen)]
    people = [chosen, *simultaneous]
    if person > len(people):
        raise TrackingError(f"--person is {person}, and {_people(len(people))} in the video. Give 1 to {len(people)}.")
    chosen = people[person - 1]
    positions = sorted(chosen)
    return FoundFace(
        np.array(film),
        np.array([numbers[position] for position in positions]),
        np.array([chosen[position].centre for position in positions]),
        np.array([chosen[position].size for position in positions]),
        len(simultaneous),
    )


def _people(count: int) -> str:
    return "one face is" if count == 1 else f"{count} faces are"


def _detect(detector, picture: UInt8[np.ndarray, "H W 3"]) -> list[_Detection]:
    height, width = picture.shape[:2]
    detections = detector.process(np.ascontiguousarray(picture)).detections or []
    boxes = [detection.location_data.relative_bounding_box for detection in detections]
    return [
        _Detection(((b.xmin + b.width / 2) * width, (b.ymin + b.height / 2) * height), b.width * width) for b in boxes
    ]


def _detect_tiled(detector, picture: UInt8[np.ndarray, "H W 3"]) -> list[_Detection]:
    """Search overlapping quarters of the picture: finds faces too small for the detector's 192 pixels."""
    height, width = picture.shape[:2]
    side = int(0.6 * min(height, width))
    found: list[_Detection] = []
    for top in np.linspace(0, height - side, 3 if height > 1.2 * width else 2).astype(int):
        for left in np.linspace(0, width - side, 3 if width > 1.2 * height else 2).astype(int):
            for one in _detect(detector, picture[top : top + side, left : left + side]):
                moved = _Detection((one.centre[0] + left, one.centre[1] + top), one.size)
                if not any(_near(moved, other) for other in found):
                    found.append(moved)
    return found


def _near(a: _Detection, b: _Detection) -> bool:
    distance = np.hypot(a.centre[0] - b.centre[0], a.centre[1] - b.centre[1])
    return bool(distance < 0.75 * max(a.size, b.size) and 0.5 < a.size / b.size < 2.0)


def _follow(found: list[list[_Detection]]) -> list[dict[int, _Detection]]:
    """Link detections of successive searches into chains, position in the list of searches → detection."""
    chains: list[dict[int, _Detection]] = []
    for position, detections in enumerate(found):
        free = list(detections)
        for chain in sorted(chains, key=len, reverse=True):
            latest = chain[max(chain)]
            candidates = [one for one in free if _near(one, latest)]
            if candidates:
                nearest = min(candidates, key=lambda one: np.hypot(*np.subtract(one.centre, latest.centre)))
                chain[position] = nearest
                free.remove(nearest)
        chains.extend({position: one} for one in free)
    return chains


def _mean_size(chain: dict[int, _Detection]) -> float:
    return float(np.mean([one.size for one in chain.values()]))


def _prominence(chain: dict[int, _Detection], film: tuple[int, int]) -> float:
    """Area summed over time, halved at the picture's border: large, long and central wins."""
    centre = np.array(film) / 2
    reach = np.linalg.norm(centre)
    return sum(
        one.size**2 * (1 - 0.5 * np.linalg.norm(np.array(one.centre) - centre) / reach) for one in chain.values()
    )


def find_landmarks(
    pictures: Sequence[Path],
    boxes: FaceBoxes,
    frames: range,
    on_frame: Callable[[], None] = lambda: None,
    cuts: Collection[int] = (),
) -> Float[np.ndarray, "B 478 3"]:
    """Face mesh points of a run of pictures.

    Args:
        pictures: all pictures of the video.
        boxes: where the face is in each.
        frames: which to look at; one after the other, since each starts from the one before.
        cuts: pictures that show another scene than the one before. What was followed there is no start for them, and so
            they are looked at twice.

    Returns:
        x right, y down in pixels of the whole picture (0 is the left or upper edge of the first pixel), and z in the
        same unit, towards the camera negative; NaN where no face was found.
    """
    points = np.full((len(frames), NUM_POINTS, 3), np.nan)
    with face_mesh() as mesh:
        for index in range(max(0, frames.start - WARM_UP), frames.stop):
            found = None
            looks = 2 if index in cuts else 1
            for _ in range(looks if boxes.present[index] else 0):
                found = _points_in(mesh, load_picture(pictures[index]), boxes.centre[index], boxes.size[index])
            if index >= frames.start:
                if found is not None:
                    points[index - frames.start] = found
                on_frame()
    return points


def _points_in(
    mesh, picture: UInt8[np.ndarray, "H W 3"], centre: Float[np.ndarray, "2"], size: float
) -> Float[np.ndarray, "478 3"] | None:
    import cv2

    side = CROP * size
    pixels = int(np.clip(side, *CROP_PIXELS))
    scale = pixels / side
    corner = centre - side / 2
    # Pixel centres lie at half integers: hence the half pixel on both sides of the scale.
    offset = scale * (0.5 - corner) - 0.5
    to_crop = np.array([[scale, 0.0, offset[0]], [0.0, scale, offset[1]]])
    enlarge = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
    crop = cv2.warpAffine(picture, to_crop, (pixels, pixels), flags=enlarge, borderMode=cv2.BORDER_REPLICATE)
    faces = mesh.process(crop).multi_face_landmarks
    if not faces:
        return None
    points = np.array([(point.x, point.y, point.z) for point in faces[0].landmark]) * side
    points[:, :2] += corner
    if np.linalg.norm(points[:, :2].mean(axis=0) - centre) > 0.75 * size:
        # A second face in the crop.
        return None
    return points


def face_mesh():
    """MediaPipe's face mesh, which follows one face from picture to picture."""
    return solutions().face_mesh.FaceMesh(
        max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.5, min_tracking_confidence=0.5
    )


def load_models() -> None:
    """Load MediaPipe and its first model, without the lines that its C++ side writes through the progress bars.

    Raises:
        TrackingError: if it is not installed.
    """
    mediapipe = solutions()
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            with mediapipe.face_detection.FaceDetection(model_selection=1) as detector:
                detector.process(np.zeros((64, 64, 3), dtype=np.uint8))
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def solutions():
    """MediaPipe's models, imported when first needed.

    Raises:
        TrackingError: if it is not installed.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import mediapipe
    except ImportError as error:
        raise TrackingError(
            "mediapipe is not installed, and tracking needs it: pip install 'flame-nerf[track]' (Python 3.10 or 3.11)."
        ) from error
    return mediapipe.solutions
