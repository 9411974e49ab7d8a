"""Colours of the mesh: what cameras saw, and what is taken for what none did."""
