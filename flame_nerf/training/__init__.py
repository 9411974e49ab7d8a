"""The trainer, and what it measures."""
