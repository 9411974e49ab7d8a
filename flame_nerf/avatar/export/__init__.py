"""An avatar as files for other programs: web pages, meshes that move."""
