"""Where along a ray the field is queried."""

from __future__ import annotations

from dataclasses import dataclass, field

from tyro.conf import Fixed

from flame_nerf.render.observed.occupancy import OccupancyConfig
from flame_nerf.render.shell_config import ShellConfig
from flame_nerf.runtime.old_runs import StoredConfig


@dataclass
class SamplingConfig(StoredConfig):
    """Where along a ray the field is queried. Lengths in metres."""

    shell: ShellConfig = field(default_factory=ShellConfig)
    """How far from the mesh there may be density."""
    falloff: float = 0.0
    """Density bias towards the mesh: before training it falls by exp(-falloff) from the mesh to the
    shell's edge, with the same total; not over the scalp and fur, where hair stands off the mesh. Larger values keep
    smooth skin from being learned in the air in front of the mesh and close sides that are seen only at a grazing
    angle; too large, glasses and loose clothes come out thin. 0: no bias."""
    step: float = 3**0.5 / 1024
    """Length of a sample along the ray (by default sqrt(3)/1024, the method's). A larger step has fewer samples and is
    faster in proportion; surfaces become softer and thin structures are missed."""
    behind: float = 0.02
    """Depth below the mesh, where it hits it first, that a ray goes to; inf: through the whole head. Larger values
    tolerate a mesh that lies too far out, and cost samples in proportion."""
    grazing: float = 0.05
    """Distance after that hit at which a ray ends though it is not `behind` deep yet. Smaller has fewer samples and
    specks along the outline of hair, where rays end in the middle of the surface; 0: every ray ends `behind` after its
    hit, as older versions had it."""
    occupancy: OccupancyConfig = field(default_factory=OccupancyConfig)
    """Skipping of space that is known to be empty."""
    observed_directions_only: bool = True
    """Views from outside the training cameras' directions use the nearest observed direction for the colour. Without,
    view-dependent colour is extrapolated, which can tint whole sides of the face. Costs a look-up per sample of a
    picture, nothing in training."""
    observed_expressions_only: bool = True
    """An expression far from all of the training video conditions the field as the nearest observed one; the mesh
    follows it fully. Without, unobserved expressions end in specks in the air and false colours."""
    observed_clothes_only: bool = True
    """Collars, shoulders and hair on them, which stand off the neck, are shown from the training cameras' directions;
    beyond, they end softly within millimetres of the neck, over 6 degrees. Without, clothes that were filmed from the
    front alone come apart as one turns around the head; hair that hangs down is shown from everywhere."""
    observed_sides_only: Fixed[bool] = True
    """Views from outside the training cameras' directions show skin no farther off the mesh than outlines of the video
    do, and the mesh's colours where it was filmed at a slant. Without, noses have thorns and cheeks speckle there."""
    mesh_memory: int = 1024**3
    """Bytes of posed meshes and search structures that are kept between steps, about 2 MB a frame. More saves posing
    them again, which matters for long videos; it is taken from main memory, or on CUDA from the GPU's."""
