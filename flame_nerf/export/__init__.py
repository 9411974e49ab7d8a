"""An avatar in formats that other programs open."""
