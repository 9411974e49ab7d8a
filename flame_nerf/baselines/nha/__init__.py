"""Neural Head Avatars (Grassal et al., "Neural Head Avatars from Monocular RGB Videos", CVPR 2022).

The posed mesh of the head model, moved vertex by vertex by one network and coloured by another: what a ray sees is the
first surface that it hits, so there is nothing to sample along it. `surface` holds the mesh, `networks` what is
learned, `visibility` what each ray sees and how much of its pixel, `renderer` and `model` what Nerfstudio needs.

Where it had to be carried over rather than set: training draws rays and not pictures, so the texture network is told
the normal of the point alone, where the paper encodes those of a window around the pixel; the paper's terms on
segmented ears, eyes and mouth, and its perceptual term, need whole pictures and networks that are not at hand; normals
are held to the tracked mesh's own, where the paper has an estimator's.
"""

from flame_nerf.baselines.nha.model import NhaModel, NhaModelConfig

__all__ = ["NhaModel", "NhaModelConfig"]
