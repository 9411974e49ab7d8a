"""The head model fitted to what was observed."""
