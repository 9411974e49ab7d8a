"""The points of a face that a fit places: landmarks on the head, its jaw, and where lids meet."""
