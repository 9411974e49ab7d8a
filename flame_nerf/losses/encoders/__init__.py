"""Pretrained image encoders. Networks are loaded where they are used, never on import."""

from flame_nerf.losses.encoders.image_encoder import (
    ImageEncoder,
    ImageEncoderConfig,
    PriorUnavailable,
    load_image_encoder,
)

__all__ = [
    "ImageEncoder",
    "ImageEncoderConfig",
    "PriorUnavailable",
    "load_image_encoder",
]
