"""Files of motions: the project's own, and those that other tools write."""
