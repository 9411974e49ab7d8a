"""A trained avatar on disk: loaded, packed into one file, unpacked, trained on. Nothing heavy is imported here."""

from flame_nerf.runtime.errors import AvatarError

__all__ = ["AvatarError"]
