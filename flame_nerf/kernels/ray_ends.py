"""Where rays end that go into a mesh: what the kernels of every device have in common.

A ray ends where it is ``behind`` deep below the plane of the face that it meets, or ``grazing`` metres after it if that
comes sooner, though never less than ``behind`` after it. Were it cut at a distance, rays that graze the mesh would end
in the middle of the surface.

In pictures a ray that leaves the mesh before its end, or is never ``behind`` deep in it, goes on to what it meets next:
an ear has the head behind it, and a ray that cuts a corner of the head meets hair, or the far side, after it. Ended
there, one would look past the head along straight edges. Training, where a third more samples would be had from it and
nothing else, does without.
"""

PAST = 1e-4
"""Metres past a surface from which the next is looked for."""
CHORD = 8.0
"""Length of a circle's chord, times the sum of the cosines at its ends, over its depth; for shallow ones."""
LAYERS = 4
"""Times that a ray may leave the mesh and meet it again."""
