"""Kernels through Warp, for CUDA devices. Imported only where they are used: they import warp."""
