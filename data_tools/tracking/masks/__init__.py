"""Which pixels are the head: the collar, the silhouette."""
