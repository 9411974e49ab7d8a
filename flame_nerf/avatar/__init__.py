"""A trained avatar on disk: found where it was moved to, loaded, packed into one file, unpacked, trained on.

Nothing heavy is imported here: the trainer's config, which every ``ns-*`` command loads, asks this room where a run is.
"""

from flame_nerf.avatar.errors import AvatarError

__all__ = ["AvatarError"]
