"""The field and the compositing as compiled CPU kernels; what they compute is defined by their torch versions.

Import the modules of kernels only where they are used: they import numba.
"""
