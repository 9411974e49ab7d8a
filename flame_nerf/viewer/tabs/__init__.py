"""Tabs of the viewer's panel."""
