"""Live driving: what somebody's face does right now, from a phone or a camera, on an avatar's page."""
