"""Somebody's files: which belong together, and what is in them."""
