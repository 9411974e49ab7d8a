"""The canonical mapping: posed meshes, the way from them to the canonical mesh, and samples of rays around them."""

from flame_nerf.canonical.backends import make_search
from flame_nerf.canonical.cache import PosedMeshCache
from flame_nerf.canonical.mapping import CanonicalMapping, MappingConfig
from flame_nerf.canonical.mesh_shift import MeshShift
from flame_nerf.canonical.posed import CanonicalPoints, PosedMesh
from flame_nerf.canonical.search import CoarseSpace, EmptySpace, MeshSearch, ShellSamples
from flame_nerf.canonical.search_numba import NumbaSearch
from flame_nerf.canonical.shell import region_shell

__all__ = [
    "CanonicalMapping",
    "CanonicalPoints",
    "CoarseSpace",
    "EmptySpace",
    "MappingConfig",
    "MeshSearch",
    "MeshShift",
    "NumbaSearch",
    "PosedMesh",
    "PosedMeshCache",
    "ShellSamples",
    "make_search",
    "region_shell",
]
