"""The field and the compositing as compiled CPU kernels; what they compute is defined by their torch versions.

Import the modules of kernels only where they are used: they import numba.

numba looks at a kernel's own file alone to see whether its compiled version on disk is old. Kernels of this package
that take functions or constants from other files therefore carry a checksum of those, `COMPILED_WITH`: after a change
there the tests say what to write, and nobody who upgrades runs old ones.
"""
