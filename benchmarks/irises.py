"""Gaze of an avatar: how far its irises lie from the video's in frames that it never trained on.

    python benchmarks/held_out.py SUBJECT --split spread --steps 9000
    python benchmarks/irises.py outputs/held_out/spread/held_out/flame-nerf-cpu/with/config.yml

Finds the irises in each held-out picture and in the avatar's by the same detector, and prints their distances in shares
of the eye's width: in the picture, and against the eye's corners, which is the gaze alone. Beside them stands what the
detector itself differs by when it is shown the video's picture at twice the size.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from held_out import read_truth
from jaxtyping import Float
from numpy import ndarray

from flame_nerf.avatar.loading import open_avatar

EYES = ((468, 33, 133), (473, 362, 263))
"""Iris and corners of each eye in mediapipe's scheme."""
SIDE = 1024
"""Pixels that pictures are shown to the detector at."""


def find_points(detector, picture: Float[ndarray, "h w 3"]) -> Float[ndarray, "478 2"] | None:
    """Landmarks of the face in a square picture, in its units of 1/SIDE; None where none is found."""
    shown = np.clip(picture * 255, 0, 255).astype(np.uint8)
    faces = detector.process(cv2.resize(shown, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)).multi_face_landmarks
    return np.array([(point.x, point.y) for point in faces[0].landmark]) * SIDE if faces else None


def distances(found: Float[ndarray, "478 2"], true: Float[ndarray, "478 2"]) -> Float[ndarray, "2 2"]:
    """For each eye the distance of the irises, and of the irises in their eyes, in widths of the true eye."""
    return np.array(
        [
            (
                np.linalg.norm(found[iris] - true[iris]) / np.linalg.norm(true[right] - true[left]),
                np.linalg.norm(_in_eye(found, iris, left, right) - _in_eye(true, iris, left, right)),
            )
            for iris, left, right in EYES
        ]
    )


def _in_eye(points: Float[ndarray, "478 2"], iris: int, left: int, right: int) -> Float[ndarray, "2"]:
    """An iris from the middle between the corners, along and across the line between them, in the eye's widths."""
    along = points[right] - points[left]
    from_middle = points[iris] - (points[left] + points[right]) / 2
    across = np.array([-along[1], along[0]])
    return np.array([from_middle @ along, from_middle @ across]) / (along @ along)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="config.yml of a run; its held-out frames are judged")
    parser.add_argument("--downscale", type=int, default=2, help="what the run was trained at")
    args = parser.parse_args()
    import mediapipe

    rows, noise = [], []
    detector = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=True)
    with detector, open_avatar(args.config) as avatar:
        pipeline = avatar.load()
        dataset = pipeline.datamanager.eval_dataset
        subject = dataset.metadata["subject"]
        by_path = {frame.file_path.resolve(): frame for frame in subject.frames}
        for index, name in enumerate(dataset.image_filenames):
            frame = by_path[Path(name).resolve()]
            with torch.no_grad():
                shown = pipeline.model.get_outputs_for_camera(dataset.cameras[index : index + 1])["rgb"].cpu().numpy()
            fine = read_truth(subject, frame, max(1, args.downscale // 2)).picture
            pictures = (shown, read_truth(subject, frame, args.downscale).picture, fine)
            found, true, again = (find_points(detector, picture) for picture in pictures)
            if found is None or true is None:
                print(f"timestep {frame.timestep}: no face found in the {'avatar' if found is None else 'video'}")
                continue
            rows.append(distances(found, true))
            if again is not None:
                noise.append(distances(again, true))
    print("\n| iris, % of the eye's width | in the picture | in the eye |\n|---|---|---|")
    for label, values in (("avatar", rows), ("the video at twice the size", noise)):
        shares = 100 * np.concatenate(values)
        median, worst = np.median(shares, axis=0), shares.max(axis=0)
        print(f"| {label}, median / worst of {len(shares)} eyes | " + " | ".join(
            f"{middle:.1f} / {most:.1f}" for middle, most in zip(median, worst, strict=True)) + " |")  # fmt: skip


if __name__ == "__main__":
    main()
