"""What pretrained networks know: the meaning of a picture. Networks are loaded where they are used, never on import."""

from flame_nerf.losses.semantic import SemanticPrior
from flame_nerf.losses.view_geometry import crop_picture, nearest_view, perturb_camera, square_window, window_rays
from flame_nerf.priors.image_encoder import ImageEncoder, ImageEncoderConfig, PriorUnavailable, load_image_encoder

__all__ = [
    "ImageEncoder",
    "ImageEncoderConfig",
    "PriorUnavailable",
    "SemanticPrior",
    "crop_picture",
    "load_image_encoder",
    "nearest_view",
    "perturb_camera",
    "square_window",
    "window_rays",
]
