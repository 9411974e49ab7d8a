"""Fitting the head to what is seen in the pictures."""
