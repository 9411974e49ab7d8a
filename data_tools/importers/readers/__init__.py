"""One reader a format: from somebody's files to a capture."""
