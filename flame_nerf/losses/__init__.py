"""Every term of the loss, and how much each counts."""
