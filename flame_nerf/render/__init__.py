"""From rays to pixels: where samples lie, which of them are empty, what they add up to."""
