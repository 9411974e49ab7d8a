"""Options of a page; apart from what makes it, so that a command line can show them without loading torch."""

from __future__ import annotations

from dataclasses import dataclass

from flame_nerf.runtime.errors import UserError

LEAST_COSINE, FADE = 0.02, 0.001
"""Of the angle between a surface and the eye: how obliquely a layer's opacity is still taken to be looked through, and
below what cosine it fades away. The page's shader and what textures are fitted with have them alike."""


@dataclass
class WebConfig:
    """What a page is made of."""

    layers: int = 5
    """Copies of the head's mesh that are drawn over each other. More show hair and outlines better, make the page
    larger and slower."""
    texture_size: int = 512
    """Texels along a texture's side."""
    bases: int = 3
    """Textures that are added to follow the face: how lips, teeth and creases change their look. 0: none."""
    views: int = 96
    """The avatar's own pictures that textures are fitted to. More take longer; 0: textures are baked from the field
    alone, which takes a minute and is a draft."""
    view_size: int = 256
    """Pixels along the side of those pictures."""
    steps: int = 480
    """Steps of the fit, one picture each."""

    def check(self) -> None:
        """UserError, in one line, where a number is none that a page can have."""
        ranges = {
            "layers": (1, 16),
            "texture_size": (64, 2048),
            "bases": (0, 12),
            "views": (0, 2000),
            "view_size": (32, 1024),
            "steps": (1, 100_000),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise UserError(f"--{name.replace('_', '-')} is {value}; give {least} to {most}")
