"""An avatar as one HTML page: layers of its mesh with textures baked from the field, drawn by WebGL."""
