"""A recorded head (`import_truth`) written the way other tools write theirs.

The writers are made from those tools' documented conventions alone and share nothing with the importers.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import torch
from flame_like import SHAPES
from import_truth import BACKDROP, FLIP, Truth, View, picture, silhouette
from scipy.spatial.transform import Rotation


def save(path: Path, rgb: np.ndarray, alpha: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = rgb if rgb.ndim == 2 else rgb[..., ::-1]
    cv2.imwrite(str(path), bgr if alpha is None else np.dstack([bgr, alpha]))


def write_obj(path: Path, vertices: np.ndarray, faces: np.ndarray, newline: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["# a mesh", *(f"v {x:.8f} {y:.8f} {z:.8f}" for x, y, z in vertices)]
    lines += [f"f {a}//{a} {b}//{b} {c}//{c}" for a, b, c in faces + 1]
    path.write_bytes((newline.join(lines) + newline).encode())


def write_ply(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\nproperty float x\nproperty float y\n"
        f"property float z\nelement face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.zeros(len(faces), dtype=[("n", "u1"), ("v", "<i4", (3,))])
    rows["n"], rows["v"] = 3, faces
    path.write_bytes(header.encode() + vertices.astype("<f4").tobytes() + rows.tobytes())


def opengl_c2w(view: View) -> np.ndarray:
    return np.linalg.inv(view.w2c) @ FLIP


def write_insta(root: Path, truth: Truth, newline: str = "\n") -> None:
    """transforms_{train,val,test}.json, RGBA pictures, OBJ meshes, OpenCV c2w; val is part of test."""
    frames = []
    for row, view in enumerate(truth.views):
        matte = silhouette(truth, view)
        name = f"{row:05d}"
        save(root / "images" / f"{name}.png", picture(matte), matte)
        write_obj(root / "meshes" / f"{name}.obj", truth.vertices[view.timestep], truth.faces, newline)
        coefficients = np.zeros(100)
        coefficients[: truth.expr.shape[1]] = truth.expr[view.timestep]
        path = root / "flame" / "exp" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(newline.join(f"{value:.8f}" for value in coefficients).encode())
        segmentation = np.zeros((*matte.shape, 3), np.uint8)
        segmentation[matte > 127] = (250, 10, 10)
        save(root / "seg_mask" / f"{name}.png", segmentation)
        frames.append({
            "transform_matrix": np.linalg.inv(view.w2c).tolist(),
            "file_path": f"images/{name}.png",
            "mesh_path": f"meshes/{name}.obj",
            "exp_path": f"flame/exp/{name}.txt",
            "depth_path": f"depth/{name}.png",
            "seg_mask_path": f"seg_mask/{name}.png",
        })  # fmt: skip
    fl_x, fl_y, cx, cy = truth.views[0].intrinsics
    top = {"w": float(truth.size[0]), "h": float(truth.size[1]), "cx": cx, "cy": cy, "fl_x": fl_x, "fl_y": fl_y,
           "integer_depth_scale": 0.001}  # fmt: skip
    for name, part in (("train", frames[:-2]), ("test", frames[-2:]), ("val", frames[-1:])):
        (root / f"transforms_{name}.json").write_bytes(
            json.dumps(top | {"frames": part}, indent=4).replace("\n", newline).encode()
        )
    write_obj(root / "canonical.obj", truth.neutral(math.radians(12)), truth.faces, newline)


def six(rotvec: np.ndarray) -> np.ndarray:
    """First two rows of rotation matrices, flat."""
    return Rotation.from_rotvec(rotvec).as_matrix()[:, :2].reshape(1, -1).astype(np.float32)


def write_metrical(root: Path, truth: Truth) -> None:
    """checkpoint/*.frame, mesh/*.ply, canonical.obj, input/*.png and mattes."""
    (root / "checkpoint").mkdir(parents=True)
    for row, view in enumerate(truth.views):
        matte, name, t = silhouette(truth, view), f"{row:05d}", view.timestep
        save(root / "input" / f"{name}.png", picture(matte))
        save(root / "matte" / f"{name}.png", matte)
        write_ply(root / "mesh" / f"{name}.ply", truth.vertices[t], truth.faces)
        fl_x, fl_y, cx, cy = view.intrinsics
        expression, shape = np.zeros((1, 100), np.float32), np.zeros((1, 300), np.float32)
        expression[0, : truth.expr.shape[1]] = truth.expr[t]
        shape[0, : len(truth.shape)] = truth.shape
        torch.save(
            {
                "flame": {
                    "exp": expression, "shape": shape, "tex": np.zeros((1, 140), np.float32),
                    "sh": np.zeros((1, 9, 3), np.float32), "eyes": six(truth.pose[t, 3:5]),
                    "eyelids": np.zeros((1, 2), np.float32), "jaw": six(truth.pose[t, 2:3]),
                },
                "camera": {
                    "R": six(np.zeros((1, 3))), "t": view.w2c[None, :3, 3].astype(np.float32),
                    "fl": np.array([[2.0]], np.float32), "pp": np.zeros((1, 2), np.float32),
                },
                "opencv": {
                    "R": view.w2c[None, :3, :3], "t": view.w2c[None, :3, 3],
                    "K": np.array([[[fl_x, 0, cx], [0, fl_y, cy], [0, 0, 1]]]),
                },
                "img_size": np.array(truth.size[::-1]), "frame_id": name, "global_step": 100 * row,
            },
            root / "checkpoint" / f"{name}.frame",
        )  # fmt: skip
    write_obj(root / "canonical.obj", truth.neutral(math.radians(12)), truth.faces)


def write_imavatar(
    root: Path, truth: Truth, *, pixels: bool = False, mirrored: bool = False, position: int = 1
) -> None:
    """flame_params.json: FLAME times four, OpenGL world_mat, signed fractions (or pixels at 512) as intrinsics.

    Args:
        mirrored: the x axis turned over in intrinsics and world_mat both: the same cameras in other signs.
    """
    fl_x, fl_y, cx, cy = truth.views[0].intrinsics
    width, height = truth.size
    intrinsics = np.array([-fl_x / width, fl_y / height, cx / width, cy / height]) * (512 if pixels else 1)
    frames = []
    for row, view in enumerate(truth.views):
        matte, t = silhouette(truth, view), view.timestep
        name = str(position + row)
        save(root / "image" / f"{name}.png", picture(matte))
        save(root / "mask" / f"{name}.png", matte)
        w2c = FLIP @ view.w2c
        w2c[:3, 3] *= 4
        if mirrored:
            w2c[0] *= -1
        expression = np.zeros(50)
        expression[: truth.expr.shape[1]] = truth.expr[t]
        frames.append({
            "file_path": f"./image/{name}", "world_mat": w2c[:3].tolist(), "expression": expression.tolist(),
            "pose": truth.pose[t].reshape(-1).tolist(), "bbox": [-0.5, -0.5, 0.5, 0.5],
            "flame_keypoints": np.zeros((68, 2)).tolist(),
        })  # fmt: skip
    if mirrored:
        intrinsics[0] *= -1
    shape = np.zeros(100)
    shape[: len(truth.shape)] = truth.shape
    content = {"frames": frames, "intrinsics": intrinsics.tolist(), "shape_params": shape.tolist()}
    (root / "flame_params.json").write_text(json.dumps(content))


NHA_LIMITS = {1: ((-90, 90), (-60, 60), (-80, 80)), 2: ((-5, 60), (-0.1, 0.1), (-0.1, 0.1)),
              3: ((-50, 50), (-50, 50), (-0.1, 0.1)), 4: ((-50, 50), (-50, 50), (-0.1, 0.1))}  # fmt: skip


def unbounded(rotvec: np.ndarray, joint: int) -> np.ndarray:
    """What the tracker stores for an axis-angle within the joint's limits."""
    low, high = np.radians(np.array(NHA_LIMITS[joint], float)).T
    return np.arctanh(np.clip((rotvec - low) / (high - low) * 2 - 1, -1 + 1e-12, 1 - 1e-12))


def write_nha(root: Path, truth: Truth, tracked_size: tuple[int, int] | None = None) -> None:
    """tracked_flame_params.npz and frame_%04d/; FLAME's root joint at the origin, PyTorch3D's axes, cy from below.

    Args:
        tracked_size: width and height of the pictures when they were tracked, if they were resized since.
    """
    width, height = truth.size
    tracked = tracked_size or truth.size
    fl_x, _, cx, cy = truth.views[0].intrinsics
    shaped = truth.model["v_template"] + truth.model["shapedirs"][..., : len(truth.shape)] @ truth.shape
    expressions = truth.model["shapedirs"][..., SHAPES : SHAPES + truth.expr.shape[1]]
    root_joints = np.stack([truth.model["J_regressor"][0] @ (shaped + expressions @ e) for e in truth.expr])
    for row, view in enumerate(truth.views):
        matte = silhouette(truth, view)
        place = root / f"frame_{row:04d}"
        save(place / "image_0000.png", picture(matte))
        save(place / "seg_0000.png", matte)
        save(place / "parsing_0000.png", np.where(matte > 127, 1, 0).astype(np.uint8))
    # x_camera = X R + T for points as rows, x left, y up, z forward.
    w2c = np.diag([-1.0, -1.0, 1.0, 1.0]) @ truth.views[0].w2c
    matrix = np.concatenate([w2c[:3, :3].T, w2c[:3, 3:]], axis=1)
    expression = np.zeros((len(truth.expr), 100))
    expression[:, : truth.expr.shape[1]] = truth.expr
    shape = np.zeros(300)
    shape[: len(truth.shape)] = truth.shape
    pose = truth.pose
    np.savez(
        root / "tracked_flame_params.npz",
        rotation=pose[:, 0], neck_pose=unbounded(pose[:, 1], 1), jaw_pose=unbounded(pose[:, 2], 2),
        eyes_pose=np.concatenate([unbounded(pose[:, 3], 3), unbounded(pose[:, 4], 4)], axis=1),
        translation=truth.translation + root_joints, shape=shape, expr=expression,
        texture=np.zeros(100), light=np.zeros((len(pose), 9, 3)), frame=np.arange(len(pose)),
        n_processed=np.array(len(pose)), image_size=np.array(tracked[::-1]),
        K=np.array([fl_x * tracked[0] / width / max(tracked), cx / width, 1 - cy / height]), RT=matrix,
    )  # fmt: skip


def write_vhap(
    root: Path, truth: Truth, *, offset: np.ndarray | None = None, prefix: str = "", split: bool = True
) -> list[dict]:
    """transforms*.json, flame_param/*.npz, images and fg_masks; OpenGL c2w and intrinsics a frame.

    Args:
        offset: [5143, 3] static offset, teeth included.
    """
    frames = []
    for view in truth.views:
        matte, t = silhouette(truth, view), view.timestep
        name = f"{t:05d}_{view.camera:02d}"
        save(root / "images" / f"{name}.png", picture(matte))
        save(root / "fg_masks" / f"{name}.png", matte)
        fl_x, fl_y, cx, cy = view.intrinsics
        width, height = truth.size
        frames.append({
            "timestep_index": t, "timestep_index_original": t, "timestep_id": f"frame_{t:05d}",
            "camera_index": view.camera, "camera_id": str(view.camera),
            "cx": cx, "cy": cy, "fl_x": fl_x, "fl_y": fl_y, "h": height, "w": width,
            "camera_angle_x": 2 * math.atan(width / fl_x / 2), "camera_angle_y": 2 * math.atan(height / fl_y / 2),
            "transform_matrix": opengl_c2w(view).tolist(),
            "file_path": f"{prefix}images/{name}.png", "fg_mask_path": f"{prefix}fg_masks/{name}.png",
            "flame_param_path": f"{prefix}flame_param/{t:05d}.npz",
        })  # fmt: skip
    (root / "flame_param").mkdir(parents=True, exist_ok=True)
    expression, shape = np.zeros((len(truth.expr), 100), np.float32), np.zeros(300, np.float32)
    expression[:, : truth.expr.shape[1]] = truth.expr
    shape[: len(truth.shape)] = truth.shape
    for t in range(len(truth.expr)):
        arrays = {
            "translation": truth.translation[t : t + 1], "rotation": truth.pose[t, 0:1],
            "neck_pose": truth.pose[t, 1:2], "jaw_pose": truth.pose[t, 2:3],
            "eyes_pose": truth.pose[t, 3:5].reshape(1, 6), "shape": shape, "expr": expression[t : t + 1],
        }  # fmt: skip
        if offset is not None:
            arrays["static_offset"] = offset[None].astype(np.float32)
        np.savez(root / "flame_param" / f"{t:05d}.npz", **arrays)
    cameras = sorted({view.camera for view in truth.views})
    top = {"timestep_indices": list(range(len(truth.expr))), "camera_indices": cameras}
    last = len(truth.expr) - 1
    (root / "transforms.json").write_text(json.dumps(top | {"frames": frames}))
    if split:
        parts = {"train": [f for f in frames if (f["timestep_index"] < last and f["camera_index"] == 0) or
                           (f["timestep_index"] < last and f["camera_index"] != cameras[-1])],
                 "val": [f for f in frames if f["timestep_index"] < last and f["camera_index"] == cameras[-1] != 0],
                 "test": [f for f in frames if f["timestep_index"] == last]}  # fmt: skip
        for name, part in parts.items():
            (root / f"transforms_{name}.json").write_text(json.dumps(top | {"frames": part}))
    return frames


def write_deca(root: Path, truth: Truth, *, tform: bool = False, landmarks: np.ndarray | None = None) -> None:
    """code.json, image/, mask/ and keypoint.json; each picture with a square crop of its own.

    Args:
        tform: write DECA's similarity to a crop of 224 pixels instead of the crop's corner and side.
        landmarks: [T, 478, 2] pixels.
    """
    codes, points = {}, {}
    for row, view in enumerate(truth.views):
        name, matte, t = str(row + 1), silhouette(truth, view), view.timestep
        save(root / "image" / f"{name}.png", picture(matte))
        save(root / "mask" / f"{name}.png", matte)
        focal, _, cx, cy = view.intrinsics
        x, y, z = view.w2c[:3, 3]
        left, top, side = 5.0 + row, 9.0, 71.0 + row
        scale = 2 * focal / (z * side)
        # The origin is seen at (focal x / z + cx, ...), which the crop's -1..1 must give back.
        tx = (focal * x / z + cx - (left + side / 2)) / (scale * side / 2)
        ty = -(focal * y / z + cy - (top + side / 2)) / (scale * side / 2)
        entry = {
            "shape": [np.pad(truth.shape, (0, 100 - len(truth.shape))).tolist()],
            "exp": [np.pad(truth.expr[t], (0, 50 - truth.expr.shape[1])).tolist()],
            "pose": [truth.pose[t, [0, 2]].reshape(-1).tolist()],
            "cam": [[scale, tx, ty]],
        }
        ratio = 224 / side
        codes[name] = entry | (
            {"tform": [[ratio, 0, -left * ratio], [0, ratio, -top * ratio], [0, 0, 1]]}
            if tform
            else {"crop": [left, top, side]}
        )
        if landmarks is not None:
            points[f"{name}.png"] = landmarks[row].tolist()
    (root / "code.json").write_text(json.dumps(codes))
    if landmarks is not None:
        (root / "keypoint.json").write_text(json.dumps(points))


def write_nerface(root: Path, truth: Truth, *, unit: float = 1.0, negative: bool = True) -> None:
    """transforms_{train,val,test}.json: OpenGL c2w in the head frame, centre as fractions, bg/00050.png.

    Args:
        unit: the data's unit in metres' place: positions are multiplied by it.
        negative: fl_x negative and the poses' first column turned over, as published data have them.
    """
    frames = []
    for row, view in enumerate(truth.views):
        name = f"f_{row:04d}"
        save(root / "images" / f"{name}.png", picture(silhouette(truth, view)))
        c2w = opengl_c2w(view)
        c2w[:3, 3] *= unit
        if negative:
            c2w[:, 0] *= -1
        expression = np.zeros(76)
        expression[: truth.expr.shape[1]] = truth.expr[view.timestep]
        frames.append({
            "file_path": f"./images/{name}", "transform_matrix": c2w.tolist(), "expression": expression.tolist(),
            "bbox": [0.1, 0.9, 0.2, 0.8],
        })  # fmt: skip
    (width, height), (fl_x, fl_y, cx, cy) = truth.size, truth.views[0].intrinsics
    sign = -1 if negative else 1
    top = {"camera_angle_x": sign * 2 * math.atan(width / 2 / fl_x),
           "intrinsics": [sign * fl_x, fl_y, cx / width, cy / height]}  # fmt: skip
    for name, part in (("train", frames[:-2]), ("val", frames[-2:-1]), ("test", frames[-1:])):
        (root / f"transforms_{name}.json").write_text(json.dumps(top | {"frames": part}))
    save(root / "bg" / "00050.png", np.broadcast_to(BACKDROP.astype(np.uint8), (height, width, 3)))
