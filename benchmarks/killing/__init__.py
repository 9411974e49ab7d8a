"""What `benchmarks/kills.py` kills, and how it compares what came of it."""

import os

# Before any of the libraries is loaded that heed them.
for name, value in {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}.items():
    os.environ.setdefault(name, value)
