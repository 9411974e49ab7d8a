"""How well a video shows a head: what a subject's frames cover, what they lack, and what to film next."""
