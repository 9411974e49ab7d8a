"""Commands of ``flame-nerf`` that take a performance, and the tracking of whoever performs."""
