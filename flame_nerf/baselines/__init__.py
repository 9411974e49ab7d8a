"""Published methods on the same subjects, films and metrics, for comparison. Each file holds what differs, no more."""

from flame_nerf.baselines.insta import InstaModel, InstaModelConfig
from flame_nerf.baselines.nerface import NerfaceModel, NerfaceModelConfig
from flame_nerf.baselines.nha import NhaModel, NhaModelConfig

__all__ = ["InstaModel", "InstaModelConfig", "NerfaceModel", "NerfaceModelConfig", "NhaModel", "NhaModelConfig"]
