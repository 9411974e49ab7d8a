"""What pretrained networks know: the meaning of a picture. Networks are loaded where they are used, never on import."""

from flame_nerf.priors.image_encoder import ImageEncoder, ImageEncoderConfig, PriorUnavailable, load_image_encoder

__all__ = [
    "ImageEncoder",
    "ImageEncoderConfig",
    "PriorUnavailable",
    "load_image_encoder",
]
