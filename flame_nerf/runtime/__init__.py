"""What every part of a running program uses: files written whole, scratch memory, transfers."""
