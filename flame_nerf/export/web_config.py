"""Options of a page."""

from dataclasses import dataclass


@dataclass
class WebConfig:
    """What a page is made of."""

    layers: int = 6
    """Copies of the head's mesh that are drawn over each other. More show hair and outlines better, make the page
    larger and slower."""
    texture_size: int = 512
    """Texels along a texture's side."""
