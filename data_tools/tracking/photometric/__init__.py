"""The head laid against the look of the person's own skin, in all frames."""
