"""Pictures and meshes of all kinds that other tools write, read by the importers."""

import cv2
import numpy as np
import pytest
from PIL import Image

from data_tools.importers import ImportingError
from data_tools.importers.inputs.mesh_files import read_mesh
from data_tools.runs.picture_files import read_picture


@pytest.mark.parametrize("kind", ["16-bit RGB", "16-bit grey", "RGBA", "grey", "grey with alpha", "palette", "CMYK"])
def test_pictures_of_all_kinds_become_8_bit_rgb(tmp_path, kind):
    gradient = np.linspace(0, 255, 48 * 40 * 3).reshape(48, 40, 3).astype(np.uint8)
    grey = gradient[..., 1]
    path = tmp_path / ("p.jpg" if kind == "CMYK" else "p.png")
    wanted, alpha = gradient, None
    if kind == "16-bit RGB":
        cv2.imwrite(str(path), (gradient[..., ::-1].astype(np.uint16) * 257))
    elif kind == "16-bit grey":
        cv2.imwrite(str(path), grey.astype(np.uint16) * 257)
    elif kind == "RGBA":
        alpha = grey
        Image.fromarray(np.dstack([gradient, alpha])).save(path)
    elif kind == "grey":
        Image.fromarray(grey).save(path)
    elif kind == "grey with alpha":
        alpha = 255 - grey
        Image.fromarray(np.dstack([grey, alpha]), mode="LA").save(path)
    elif kind == "palette":
        image = Image.fromarray(gradient).quantize(64)
        wanted = np.asarray(image.convert("RGB"))
        image.save(path)
    else:
        Image.fromarray(gradient).convert("CMYK").save(path, quality=100)
    if "grey" in kind:
        wanted = np.repeat(grey[..., None], 3, axis=2)
    found = read_picture(path, ImportingError)
    assert found.rgb.dtype == np.uint8
    assert np.abs(found.rgb.astype(int) - wanted).max() <= (8 if kind == "CMYK" else 0)
    assert (found.alpha is None) == (alpha is None) and (alpha is None or np.array_equal(found.alpha, alpha))
    assert not found.plain


@pytest.mark.parametrize("layout", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_files_of_all_kinds(tmp_path, layout):
    vertices = np.array([[0, 0, 0], [1, 0, 0.25], [0, 2, 0], [1, 1, -3]], np.float64)
    faces = np.array([[0, 1, 2], [1, 3, 2]])
    header = (
        f"ply\nformat {layout} 1.0\ncomment made by a test\nelement vertex 4\nproperty double x\nproperty double y\n"
        "property double z\nproperty uchar red\nelement face 2\nproperty list uchar uint vertex_indices\nend_header\n"
    )
    order = ">" if "big" in layout else "<"
    if layout == "ascii":
        body = "".join(f"{x} {y} {z} 7\r\n" for x, y, z in vertices) + "".join(
            f"3 {a} {b} {c}\r\n" for a, b, c in faces
        )
        data = body.encode()
    else:
        rows = np.zeros(4, dtype=[("p", f"{order}f8", (3,)), ("r", "u1")])
        rows["p"] = vertices
        polygons = np.zeros(2, dtype=[("n", "u1"), ("v", f"{order}u4", (3,))])
        polygons["n"], polygons["v"] = 3, faces
        data = rows.tobytes() + polygons.tobytes()
    (tmp_path / "m.ply").write_bytes(header.encode() + data)
    found, topology = read_mesh(tmp_path / "m.ply")
    assert np.array_equal(found, vertices) and np.array_equal(topology.faces, faces)
    (tmp_path / "m.ply").write_bytes((header.encode() + data)[:-9])
    with pytest.raises(ImportingError, match="no readable mesh"):
        read_mesh(tmp_path / "m.ply")


def test_obj_files_with_quads_negative_numbers_and_colours(tmp_path):
    text = "v 0 0 0 0.5 0.5 0.5\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nf 1/1 2/1 3/1 4/1\nf -4 -3 -2\n"
    (tmp_path / "m.obj").write_text(text)
    vertices, topology = read_mesh(tmp_path / "m.obj")
    assert np.array_equal(vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    assert topology.faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]


@pytest.mark.parametrize("corner", [9, -9, 0])
def test_a_face_that_names_no_vertex_is_named(tmp_path, corner):
    (tmp_path / "m.obj").write_text(f"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 {corner}\n")
    index = corner - 1 if corner > 0 else corner + 3 if corner < 0 else -1
    with pytest.raises(ImportingError, match=rf"m.obj: a face names vertex {index} .*but there are 3"):
        read_mesh(tmp_path / "m.obj")
