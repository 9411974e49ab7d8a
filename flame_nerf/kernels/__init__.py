"""Compiled kernels; what they compute is defined by their torch versions."""
