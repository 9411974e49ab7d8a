"""What `benchmarks/fuzz.py` reads and how it damages it."""
