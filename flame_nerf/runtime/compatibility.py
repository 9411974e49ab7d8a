"""Faults of packages that Nerfstudio 1.1.5 depends on, mended in this process where the installed versions have them.

Versions cannot be asked for instead: Nerfstudio pins splines, and newer wheels of pymeshlab need a newer system than
many clusters have.
"""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import Any


def mend_two_keyframes() -> bool:
    """Let the viewer make a camera path of two keyframes.

    `splines` 0.3.0 asks for the truth of an empty array there, which numpy takes for an error since 2.2. Two rotations
    are joined along the shorter arc, as `splines` does it itself.

    Returns:
        whether something had to be mended.
    """
    import splines.quaternion as rotations

    faulty: Any = rotations.KochanekBartels
    ends = [rotations.UnitQuaternion.from_axis_angle((0.0, 0.0, 1.0), angle) for angle in (0.0, 1.0)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            faulty(ends)
        return False
    except ValueError:
        pass

    class KochanekBartels(faulty):
        def __init__(self, quaternions: Any, grid: Any = None, **options: Any) -> None:
            keys = list(quaternions)
            if len(keys) != 2 or options.get("endconditions") == "closed" or options.get("alpha") is not None:
                super().__init__(keys, grid, **options)
            else:
                rotations.DeCasteljau.__init__(self, [list(rotations.canonicalized(keys))], grid)

    rotations.KochanekBartels = KochanekBartels
    return True


def mend_tsdf_export() -> bool:
    """Let `ns-export tsdf` write its mesh.

    pymeshlab before 2025 ends the process when it is given an array of numpy 2, so the file is written by trimesh.

    Returns:
        whether something had to be mended.
    """
    import numpy as np

    try:
        if int(version("pymeshlab").split(".")[0]) >= 2025 or int(np.__version__.split(".")[0]) < 2:
            return False
        from nerfstudio.exporter.tsdf_utils import TSDF
    except ImportError:
        # No pymeshlab for this machine: Nerfstudio has no exports there.
        return False

    def export_mesh(cls: type, mesh: Any, filename: str) -> None:
        import trimesh

        colors = (mesh.colors.clamp(0, 1) * 255).round().byte().cpu().numpy()
        arrays = {"vertices": mesh.vertices, "faces": mesh.faces, "vertex_normals": mesh.normals}
        arrays = {name: values.cpu().numpy() for name, values in arrays.items()}
        trimesh.Trimesh(**arrays, vertex_colors=colors, process=False).export(filename, vertex_normal=True)

    TSDF.export_mesh = classmethod(export_mesh)
    return True
